//! The rate of requests: a share of a table's capacity, less where the service says that it is too much.

use std::time::Duration;
use tokio::time::Instant;

/// A share of a table's provisioned capacity, more than 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(pub f64);

impl Share {
    /// Returns the units a second for each of `tasks`. `provisioned`: the table's; 0: it is paid by the request, and there is no bound, which is 0 here too.
    pub fn of(self, provisioned: i64, tasks: usize) -> f64 {
        provisioned.max(0) as f64 * self.0 / tasks.max(1) as f64
    }
}

/// A bucket of capacity units, which may be overdrawn by one request, as nobody knows what it costs before it has ended.
#[derive(Debug)]
pub(super) struct Pace {
    /// Units a second at most. Absent: any number.
    most: Option<f64>,
    /// Units a second.
    rate: f64,
    /// Units that were spent and have not yet flowed in.
    debt: f64,
    at: Instant,
}

/// Units a second below which no throttling brings the rate.
const LEAST: f64 = 0.5;

impl Pace {
    /// `most`: units a second; 0: any number.
    pub fn new(most: f64) -> Self {
        let most = (most > 0.0).then_some(most);
        Self { most, rate: most.unwrap_or(f64::INFINITY), debt: 0.0, at: Instant::now() }
    }

    pub fn is_bounded(&self) -> bool {
        self.most.is_some()
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    fn flow(&mut self) {
        let now = Instant::now();
        let flowed = now.duration_since(self.at).as_secs_f64() * self.rate;
        // What nobody spends is kept for a second, as a burst.
        self.debt = (self.debt - flowed).max(-self.rate);
        if self.most.is_none() {
            self.debt = 0.0;
        }
        self.at = now;
    }

    /// How long to wait before the next request.
    pub fn wait(&mut self) -> Duration {
        self.flow();
        if self.debt <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((self.debt / self.rate).min(3600.0)) }
    }

    pub async fn ready(&mut self) {
        let wait = self.wait();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// A request succeeded, and cost so many units.
    pub fn spent(&mut self, units: f64) {
        self.flow();
        self.debt += units;
        if let Some(most) = self.most {
            self.rate = (self.rate + most / 20.0).min(most);
        }
    }

    /// The service says that it is too much: half of the rate, for a while.
    pub fn throttled(&mut self) {
        self.flow();
        if let Some(most) = self.most {
            self.rate = (self.rate / 2.0).max(LEAST.min(most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_capacity() {
        assert_eq!(Share(0.5).of(100, 4), 12.5);
        assert_eq!(Share(0.5).of(0, 4), 0.0);
    }

    #[test]
    fn a_bucket_is_overdrawn_by_one_request() {
        let mut pace = Pace::new(10.0);
        assert_eq!(pace.wait(), Duration::ZERO);
        pace.spent(30.0);
        let wait = pace.wait().as_secs_f64();
        assert!((2.5..=3.0).contains(&wait), "{wait}");
        pace.throttled();
        assert!(pace.wait().as_secs_f64() > wait * 1.5);
        (0..50).for_each(|_| pace.throttled());
        assert_eq!(pace.rate(), LEAST);
        (0..50).for_each(|_| pace.spent(0.0));
        assert_eq!(pace.rate(), 10.0);
        let mut free = Pace::new(0.0);
        free.spent(1e9);
        free.throttled();
        assert_eq!(free.wait(), Duration::ZERO);
    }
}
