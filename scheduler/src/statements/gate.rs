//! Counts running statements. A stopping primary accepts no more of them, and waits for those in progress.

use crate::errors::QueryError;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// A running statement, or one whose result is not where readers find it yet.
#[derive(Debug)]
pub(super) struct Inside(Gate);

impl Default for Gate {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }
}

impl Gate {
    pub(super) fn enter(&self) -> Result<Inside, QueryError> {
        let entered = self.state.send_if_modified(|state| {
            state.inside += usize::from(!state.closed);
            !state.closed
        });
        match entered {
            true => Ok(Inside(self.clone())),
            false => Err(QueryError::NotLeading(
                "the primary is stopping, and nothing was changed: run the statement again".to_string(),
            )),
        }
    }

    /// Waits until the primary accepts no statements any more.
    pub async fn closed(&self) {
        // This holds the sender, so the channel stays open.
        let _ = self.state.subscribe().wait_for(|state| state.closed).await;
    }

    /// Whether the primary accepts no statements any more.
    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Refuses further statements, and returns when the last one has left.
    pub async fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
        // This holds the sender, so the channel stays open.
        let _ = self.state.subscribe().wait_for(|state| state.inside == 0).await;
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_enters_a_closed_gate_and_it_waits_for_those_inside() {
        let gate = Gate::default();
        let inside = [gate.enter().unwrap(), gate.enter().unwrap()];
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close().await }
        });
        while gate.enter().is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished());
        drop(inside);
        closing.await.unwrap();
    }
}
