//! The watch log: the changes of one kind of object, oldest first, the oldest forgotten
//! ("compacted") beyond a length.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Added,
    /// It was written again.
    Modified,
    /// It was removed.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event<T> {
    /// The store's revision that this change made.
    pub revision: u64,
    /// When it was stored.
    pub at: Instant,
    /// How many shared the processors then: the busier they are, the longer it is on its way.
    pub working: u32,
    /// What happened.
    pub change: Change,
    /// The object after the change, or the last state of a removed one.
    pub object: Arc<T>,
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Event<T> {
        Event {
            revision: self.revision,
            at: self.at,
            working: self.working,
            change: self.change,
            object: self.object.clone(),
        }
    }
}

/// The revision asked for is older than what the log still holds; the reader has to list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: the oldest kept is {oldest}")]
pub struct Compacted {
    /// The oldest revision after which the log is complete.
    pub oldest: u64,
}

/// A bounded log.
#[derive(Debug)]
pub struct Log<T> {
    events: VecDeque<Event<T>>,
    length: usize,
    /// The revision of the newest forgotten event.
    forgotten: u64,
}

impl<T> Default for Log<T> {
    fn default() -> Log<T> {
        Log::new(usize::MAX)
    }
}

impl<T> Log<T> {
    /// A log that keeps the newest `length` events.
    pub fn new(length: usize) -> Log<T> {
        Log {
            events: VecDeque::new(),
            length,
            forgotten: 0,
        }
    }

    /// Appends an event; its revision must be the highest so far.
    pub fn push(&mut self, event: Event<T>) {
        self.events.push_back(event);
        if self.events.len() > self.length
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }

    /// The events after `revision`, oldest first, at most `max`.
    pub fn after(&self, revision: u64, max: usize) -> Result<Vec<Event<T>>, Compacted> {
        if revision < self.forgotten {
            return Err(Compacted {
                oldest: self.forgotten,
            });
        }
        let start = self
            .events
            .partition_point(|event| event.revision <= revision);
        Ok(self.events.range(start..).take(max).cloned().collect())
    }
}
