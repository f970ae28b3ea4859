//! Processor time, from Linux's /proc.

use std::fs;

/// Ticks a second, which Linux promises to user space whatever its own clock does.
const HZ: f64 = 100.0;

/// Processor time spent so far, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors {
    /// By everything on this machine.
    pub(crate) machine: f64,
    /// By this process: the clients, the proxies, and the model.
    pub(crate) own: f64,
}

impl Processors {
    pub(crate) fn now() -> Processors {
        // Of all processors: user, nice, system, idle, iowait, irq, softirq, steal; see proc_stat(5).
        let machine = numbers("/proc/stat", |text| text.lines().next().unwrap_or_default().to_owned());
        // utime and stime are the 14th and 15th field, the 12th and 13th behind the name in parentheses; see proc_pid_stat(5).
        let own = numbers("/proc/self/stat", |text| text.rsplit_once(") ").unwrap_or_default().1.replace(char::is_alphabetic, "0"));
        let busy: i64 = machine.iter().take(3).chain(&machine[5..7]).sum();
        Processors { machine: busy as f64 / HZ, own: (own[11] + own[12]) as f64 / HZ }
    }

    /// What was spent since.
    pub(crate) fn elapsed(self) -> Processors {
        let now = Processors::now();
        Processors { machine: now.machine - self.machine, own: now.own - self.own }
    }
}

fn numbers(path: &str, line: impl Fn(String) -> String) -> Vec<i64> {
    let text = fs::read_to_string(path).expect("Linux's /proc");
    line(text).split_whitespace().filter_map(|number| number.parse().ok()).collect()
}
