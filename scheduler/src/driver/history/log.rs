//! Log lines of a job, each with its time.

use super::Moment;
use std::collections::VecDeque;

/// Lines that a job's log keeps from its beginning. It keeps as many from its end.
pub(super) const LOG_LINES: usize = 500;

/// The first and the last lines of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    first: Vec<String>,
    last: VecDeque<String>,
    dropped: u64,
}

impl Log {
    pub fn push(&mut self, line: String) {
        if self.first.len() < LOG_LINES {
            return self.first.push(line);
        }
        if self.last.len() == LOG_LINES {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(line);
    }

    pub fn lines(&self) -> Vec<String> {
        let gap = (self.dropped > 0).then(|| format!("... {} lines are not kept ...", self.dropped));
        self.first.iter().cloned().chain(gap).chain(self.last.iter().cloned()).collect()
    }
}

/// Formats a line of a log.
pub(super) fn line(now: Moment, text: std::fmt::Arguments<'_>) -> String {
    format!("{} {text}", rfc3339(now.wall_ms))
}

/// Formats as `2013-01-31T12:00:00.123Z`. Days become a date as in Howard Hinnant's "chrono-compatible low-level date algorithms".
pub(super) fn rfc3339(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1_000)
}
