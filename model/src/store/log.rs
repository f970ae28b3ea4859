//! The watch log: the latest changes of one kind of object, oldest first. Older changes are dropped
//! ("compacted").

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object was created.
    Added,
    /// The object was updated.
    Modified,
    /// The object was deleted.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event<T> {
    /// The store's revision after this change.
    pub revision: u64,
    /// The time of the change.
    pub at: Instant,
    /// The number of tasks that shared the CPUs at that time. Busy CPUs delay the event.
    pub working: u32,
    /// Whether the object was created, updated or deleted.
    pub change: Change,
    /// The object after the change, or the last state of a deleted object.
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

/// The log no longer has the requested revision. The reader has to list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: the oldest kept is {oldest}")]
pub struct Compacted {
    /// The oldest revision after which the log is complete.
    pub oldest: u64,
}

/// A log with a maximum length.
#[derive(Debug)]
pub struct Log<T> {
    events: VecDeque<Event<T>>,
    length: usize,
    /// The revision of the newest dropped event.
    forgotten: u64,
}

impl<T> Default for Log<T> {
    fn default() -> Log<T> {
        Log::new(usize::MAX)
    }
}

impl<T> Log<T> {
    /// Creates a log that keeps the newest `length` events.
    pub fn new(length: usize) -> Log<T> {
        Log {
            events: VecDeque::new(),
            length,
            forgotten: 0,
        }
    }

    /// Appends an event. Its revision must be higher than all before it.
    pub fn push(&mut self, event: Event<T>) {
        self.events.push_back(event);
        if self.events.len() > self.length
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }

    /// Up to `max` events after `revision`, oldest first.
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
