//! A line on stderr that shows how far a log was read. It is drawn only on a terminal.

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::time::{Duration, Instant};

use crate::snapshot::words;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// The characters of the bar.
const WIDTH: usize = 20;

/// How far the files were read.
pub(super) struct Progress {
    /// None: stderr is no terminal.
    started: Option<Instant>,
    drawn: Duration,
    done: u64,
    /// 0: the size is not known, as of standard input.
    total: u64,
}

impl Progress {
    /// Starts at 0 of `total` bytes.
    pub(super) fn new(total: u64) -> Self {
        Self {
            started: io::stderr().is_terminal().then(Instant::now),
            drawn: Duration::ZERO,
            done: 0,
            total,
        }
    }

    /// A reader whose bytes count.
    pub(super) fn watch<R>(&mut self, input: R) -> Watched<'_, R> {
        Watched {
            input,
            progress: self,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let Some(started) = self.started else { return };
        let elapsed = started.elapsed();
        if elapsed - self.drawn >= EVERY {
            self.drawn = elapsed;
            // Nothing can be done when stderr is closed.
            let _ = write!(io::stderr(), "\r{}\x1b[K", self.line(elapsed));
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let per_second = u128::from(self.done) * 1000 / elapsed.as_millis().max(1);
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        let speed = format!("{}/s", words::bytes(per_second));
        let done = words::bytes(self.done);
        // A file can grow while it is read.
        let total = self.total.max(self.done);
        if self.total == 0 {
            return format!("{done}  {speed}");
        }
        let of = |whole: u64| u128::from(whole) * u128::from(self.done) / u128::from(total);
        let full = usize::try_from(of(WIDTH as u64)).unwrap_or(WIDTH);
        let bar = "█".repeat(full) + &"░".repeat(WIDTH - full);
        let left = (total - self.done) / per_second.max(1);
        let left = words::duration(Duration::from_secs(left));
        let (percent, total) = (of(100), words::bytes(total));
        format!("{bar} {percent:>3} %  {done} of {total}  {speed}  {left} left")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.drawn.is_zero() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Tells the progress what was read.
pub(super) struct Watched<'a, R> {
    input: R,
    progress: &'a mut Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.progress.add(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn the_line_has_what_is_known() {
        every(
            [
                (
                    1 << 10,
                    4 << 20,
                    "░░░░░░░░░░░░░░░░░░░░   0 %  1 KiB of 4 MiB  512 B/s  2 h 16 min left",
                ),
                (
                    3 << 20,
                    4 << 20,
                    "███████████████░░░░░  75 %  3 MiB of 4 MiB  1.5 MiB/s  0 ms left",
                ),
                (
                    5 << 20,
                    4 << 20,
                    "████████████████████ 100 %  5 MiB of 5 MiB  2.5 MiB/s  0 ms left",
                ),
                (5 << 30, 0, "5 GiB  2.5 GiB/s"),
            ],
            |(done, total, expected)| {
                let progress = Progress {
                    started: None,
                    drawn: Duration::ZERO,
                    done,
                    total,
                };
                assert_eq!(progress.line(Duration::from_secs(2)), expected);
            },
        );
    }

    #[test]
    fn what_is_read_counts() {
        let mut progress = Progress::new(3);
        let mut text = String::new();
        progress
            .watch(&b"abc"[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((text.as_str(), progress.done), ("abc", 3));
    }
}
