//! What a process takes of the processors.

use std::fs;

use anyhow::{Context, Result};

/// Seconds of processor time that all threads of process `pid` have taken so far (`proc(5)`: `utime` and `stime` of
/// `stat`, in hundredths of a second).
///
/// # Errors
/// When it has ended.
pub fn time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))
}

fn parse(stat: &str) -> Option<f64> {
    // a name may hold anything
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11).map(|ticks| ticks.parse::<u64>().ok());
    let (user, system) = (times.next()??, times.next()??);
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_user_and_kernel_is_added_up() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 2 3 4 5 150 25 7 8 20 0 1 0 99 100 200";
        assert_eq!(parse(stat), Some(1.75));
        assert_eq!(parse("42 (cut"), None);
    }
}
