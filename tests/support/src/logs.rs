//! What a proxy in the test's own process logs.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

thread_local! {
    static COLLECTING: RefCell<Option<Text>> = const { RefCell::new(None) };
}

/// Collects what is logged by this thread, on which a test's tasks run too, until it is dropped.
pub struct Logs {
    text: Text,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub fn collect() -> Self {
        // One subscriber for all threads: with one for each, tracing now and then takes a line for
        // unwanted that another thread's did not want.
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

    /// The lines with `part` in them.
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

/// Writes to what this thread collects, if it does.
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
