//! CPU time in seconds, from Linux's /proc.

use std::fs;

/// The clock ticks per second. In /proc Linux always uses this value.
const HZ: f64 = 100.0;

/// The CPU time of the whole machine since its start.
pub(crate) fn machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux's /proc");
    // The line for all CPUs: user, nice, system, idle, iowait, irq, softirq, steal; see
    // proc_stat(5).
    let all = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    seconds(all, &[0, 1, 2, 5, 6])
}

/// The CPU time of a process since its start, in user space and in the kernel.
pub(crate) fn process(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("a running process");
    // The process name in parentheses may contain spaces. utime and stime are fields 14 and 15; see
    // proc_pid_stat(5).
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    seconds(fields.split_whitespace(), &[11, 12])
}

fn seconds<'a>(fields: impl Iterator<Item = &'a str>, wanted: &[usize]) -> f64 {
    let spent = fields.enumerate().filter(|(at, _)| wanted.contains(at));
    spent
        .map(|(_, ticks)| ticks.parse::<f64>().expect("a count of ticks"))
        .sum::<f64>()
        / HZ
}
