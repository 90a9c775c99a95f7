//! What benches ask the kernel of processes and ports.

use std::fs;
use std::net::TcpListener;

/// Bytes of an entry of a process's status, such as `VmRSS` or `VmHWM`. `None`: it has ended.
pub fn bytes(pid: u32, entry: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'))?;
    Some(kib.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port can be had").port()
}
