//! What a process has used, from Linux's /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks per second. Linux always uses this value in /proc.
const HZ: f64 = 100.0;

/// The processor time of a process since its start in seconds: `utime + stime`, all threads.
pub(crate) fn processor_time(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may contain spaces. utime and stime are fields 14 and 15, see
    // proc_pid_stat(5).
    let (_, fields) = stat.rsplit_once(") ").context("a name in parentheses")?;
    seconds(fields.split_whitespace(), &[11, 12])
}

/// The processor time of the whole machine since its start, in seconds.
pub(crate) fn machine() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; see proc_stat(5).
    seconds(all.split_whitespace().skip(1), &[0, 1, 2, 5, 6])
}

fn seconds<'a>(fields: impl Iterator<Item = &'a str>, wanted: &[usize]) -> Result<f64> {
    let mut ticks = 0.0;
    for (_, field) in fields.enumerate().filter(|(at, _)| wanted.contains(at)) {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks / HZ)
}

/// The memory that a process occupies now, in KiB (`VmRSS`).
pub(crate) fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

/// How many files this process may have open.
pub(crate) fn open_files() -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("a limit of open files")?;
    let soft = line.split_whitespace().next().unwrap_or_default();
    Ok(soft.parse().unwrap_or(u64::MAX))
}
