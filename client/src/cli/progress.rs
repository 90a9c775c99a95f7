//! The progress bar of a statement, on standard error.

use crate::config::units::{ByteSize, Span};
use crate::jobs::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Time before the bar appears: shorter statements show nothing.
const DELAY: Duration = Duration::from_millis(300);
const REDRAW: Duration = Duration::from_millis(100);

pub struct Display {
    started: Instant,
    latest: Progress,
    bar: Option<ProgressBar>,
    ticks: Option<tokio::time::Interval>,
}

impl Display {
    /// Creates a display. `show`: draw, if standard error is a terminal.
    pub fn new(show: bool) -> Display {
        let ticks = show.then(|| {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + DELAY, REDRAW);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            ticks
        });
        Display { started: Instant::now(), latest: Progress::default(), bar: None, ticks }
    }

    pub fn update(&mut self, progress: Progress) {
        self.latest = progress;
    }

    /// Redraws at most ten times a second.
    pub async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
                self.draw();
            }
            None => std::future::pending().await,
        }
    }

    fn draw(&mut self) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // The line does not fill the terminal: the echo of Ctrl-C must not wrap it, or clearing would miss the line. The default style is used if the
            // template were wrong.
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
            bar
        });
        bar.set_message(line(&self.latest, self.started.elapsed()));
        bar.tick();
    }

    /// Restores the terminal.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.ticks = None;
    }
}

const BAR: usize = 24;

fn line(progress: &Progress, elapsed: Duration) -> String {
    let time = Span::human(Duration::from_secs(elapsed.as_secs().max(1)).max(elapsed));
    if progress.tasks == 0 {
        let state = progress.state.map_or_else(|| "planning".to_owned(), |state| state.to_string());
        return format!("{state}  {time}");
    }
    let done = (BAR as u64 * u64::from(progress.tasks_done) / u64::from(progress.tasks)).min(BAR as u64) as usize;
    format!(
        "[{}{}] stages {}/{}  tasks {}/{}{}  {} rows ({}/s)  {}  {time}",
        "█".repeat(done),
        "░".repeat(BAR - done),
        progress.stages_done,
        progress.stages,
        progress.tasks_done,
        progress.tasks,
        if progress.tasks_running > 0 { format!(" ({} running)", progress.tasks_running) } else { String::new() },
        count(progress.rows),
        count((progress.rows as f64 / elapsed.as_secs_f64().max(0.001)) as u64),
        ByteSize::human(progress.bytes),
    )
}

/// Formats a number as 1,234,567.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_statement_is() {
        let progress = Progress {
            stages: 4,
            stages_done: 2,
            tasks: 8,
            tasks_done: 4,
            tasks_running: 2,
            rows: 1_234_567,
            bytes: 3 << 20,
            ..Progress::default()
        };
        assert_eq!(
            line(&progress, Duration::from_millis(2500)),
            "[████████████░░░░░░░░░░░░] stages 2/4  tasks 4/8 (2 running)  1,234,567 rows (493,826/s)  3.00 MiB  2.50 s"
        );
        assert_eq!(line(&Progress::default(), Duration::from_secs(2)), "planning  2.00 s");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([count(0), count(999), count(1000), count(1_000_000)], ["0", "999", "1,000", "1,000,000"]);
    }
}
