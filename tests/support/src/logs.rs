//! The log of a proxy that runs in the test's process.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

thread_local! {
    static COLLECTING: RefCell<Option<Text>> = const { RefCell::new(None) };
}

/// Collects the log lines of this thread until it is dropped. The tasks of a test run on the same
/// thread.
pub struct Logs {
    text: Text,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub fn collect() -> Self {
        // All threads share one subscriber. With one subscriber per thread, tracing sometimes
        // caches that a line is disabled in one thread and drops it in another.
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(|| OfThisThread)
                .init()
        });
        let text = Text::default();
        COLLECTING.set(Some(text.clone()));
        Self { text }
    }

    /// The collected lines that contain `part`.
    pub fn with(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains(part))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        COLLECTING.set(None);
    }
}

/// Writes to the collection of the current thread, if there is one.
struct OfThisThread;

impl Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        COLLECTING.with_borrow(|collecting| {
            collecting
                .as_ref()
                .map_or(Ok(bytes.len()), |text| text.0.lock().unwrap().write(bytes))
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
