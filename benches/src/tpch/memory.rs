//! Peak resident memory of groups of processes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(50);

/// Samples all processes while the benchmark runs.
pub struct Peaks<const N: usize> {
    ended: Arc<AtomicBool>,
    watch: JoinHandle<[u64; N]>,
}

impl<const N: usize> Peaks<N> {
    /// Watches groups of process ids.
    pub fn watch(groups: [Vec<u32>; N]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let watch = std::thread::spawn(move || {
            let mut peaks = [0; N];
            while !seen.load(Ordering::Relaxed) {
                for (peak, group) in peaks.iter_mut().zip(&groups) {
                    *peak = group.iter().map(|pid| proportional(*pid)).sum::<u64>().max(*peak);
                }
                std::thread::sleep(EVERY);
            }
            peaks
        });
        Self { ended, watch }
    }

    /// Returns the peak of each group, in bytes.
    pub fn end(self) -> [u64; N] {
        self.ended.store(true, Ordering::Relaxed);
        self.watch.join().expect("the watching thread does not fail")
    }
}

/// Resident bytes of a process, with its share of shared pages.
fn proportional(pid: u32) -> u64 {
    // A process that has ended has no file.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok());
    kib.unwrap_or(0u64) << 10
}
