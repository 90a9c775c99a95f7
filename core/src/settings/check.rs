//! Checks of values that have the right type and still cannot work: they are refused before anything starts. Errors begin with the name of the setting.

use super::units::ByteSize;

/// Minimum memory of an executor, in bytes: less does not hold the batches of one task.
const LEAST_MEMORY: u64 = 16 << 20;
/// Maximum slots: each slot is a thread with a stack.
const MOST_SLOTS: u32 = 4_096;

/// Checks the memory of an executor, in bytes, on a machine or in a container that has `there` bytes.
pub fn memory(setting: &str, bytes: u64, there: u64) -> Result<(), String> {
    let written = ByteSize(bytes);
    if bytes < LEAST_MEMORY {
        return Err(format!(
            "{setting}: {written} is too little for any task: give at least {}; a number without a unit is bytes",
            ByteSize(LEAST_MEMORY)
        ));
    }
    if bytes > there {
        let there = ByteSize::human(there);
        return Err(format!("{setting}: {written} is more than this machine or its container has, which is {there}"));
    }
    Ok(())
}

pub fn slots(setting: &str, slots: u32) -> Result<(), String> {
    match slots <= MOST_SLOTS {
        true => Ok(()),
        false => Err(format!("{setting}: {slots} are more than the {MOST_SLOTS} that one executor can have")),
    }
}

/// Checks a host, with or without a port.
pub fn host(setting: &str, text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '%');
    match text.chars().all(fits) {
        true => Ok(()),
        false => Err(format!("{setting}: {text:?} is not a host that others could reach: write HOST or HOST:PORT")),
    }
}

/// Checks a name that lists and logs show.
pub fn name(setting: &str, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{setting}: {text:?} has characters that end lines or cannot be seen"));
    }
    match text.len() <= 255 {
        true => Ok(()),
        false => Err(format!("{setting}: a name has at most 255 bytes, and this one {}", text.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_and_named() {
        for (checked, named) in [
            (memory("--memory", 10, 1 << 40), "10"),
            (memory("--memory", 0, 1 << 40), "too little"),
            (memory("--memory", 2 << 40, 1 << 40), "more than this machine"),
            (slots("--slots", 1_000_000), "4096"),
            (host("--advertise", "a b"), "\"a b\""),
            (host("--advertise", "a\nb"), "\\n"),
            (name("--name", "a\nb"), "\\n"),
            (name("--name", &"x".repeat(300)), "255"),
        ] {
            let error = checked.unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for checked in [
            memory("--memory", 64 << 20, 1 << 40),
            slots("--slots", 64),
            host("--advertise", "[fe80::1%eth0]:7077"),
            host("--advertise", "rechner-1.bücher.example:80"),
            name("--name", "the first, ü"),
        ] {
            assert_eq!(checked, Ok(()));
        }
    }
}
