//! What a process has used, from Linux's /proc.

use std::fs;

use anyhow::{Context as _, Result};

use crate::contestant::Running;

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
fn machine() -> Result<f64> {
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

/// What others used of the machine during a measurement.
pub(crate) struct Foreign {
    machine: f64,
    own: f64,
    begun: std::time::Instant,
}

impl Foreign {
    pub(crate) fn begin(running: &[Running]) -> Result<Self> {
        Ok(Self {
            machine: machine()?,
            own: own(running)?,
            begun: std::time::Instant::now(),
        })
    }

    pub(crate) fn end(&mut self, running: &[Running]) -> Result<String> {
        let all = machine()? - self.machine;
        let foreign = all - (own(running)? - self.own);
        let share = foreign / self.begun.elapsed().as_secs_f64();
        Ok(format!(
            "Other processes used {share:.2} of the two processors.\n"
        ))
    }
}

/// The processor time of this process and of all contestants.
fn own(running: &[Running]) -> Result<f64> {
    let contestants = running.iter().filter_map(Running::process);
    let mut sum = processor_time(std::process::id())?;
    for process in contestants {
        sum += processor_time(process)?;
    }
    Ok(sum)
}
