//! A record of everything that the upstreams received and answered. The proxy is judged by it.
//! Several upstreams may share one journal, which is then their common store, like etcd for
//! apiservers.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;

use crate::peers::name_of;

/// The number of a request in the journal. The answer has it in the header `lab-entry`.
pub type Entry = usize;

/// One request as an upstream saw it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub method: String,
    pub path: String,
    /// The value of `lab-number`, by which a client identifies its request.
    pub number: Option<usize>,
    /// The name in its body.
    pub name: Option<String>,
    /// The number of body bytes received, and whether the body ended. `None` if no body was read
    /// yet.
    pub body: Option<(usize, bool)>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Whether the answer was complete.
    pub ended: bool,
}

impl Record {
    /// Whether the body ended normally although its JSON text is truncated.
    pub fn is_cut_but_whole(&self) -> bool {
        matches!(self.body, Some((size, true)) if size > 0) && self.name.is_none()
    }
}

#[derive(Debug)]
pub struct Journal {
    records: Mutex<Vec<Record>>,
    stored: Mutex<HashMap<String, usize>>,
    attempts: Mutex<HashMap<usize, u64>>,
    /// The number of bytes that upstreams have sent to abusers.
    moved: AtomicUsize,
    /// The events for watches.
    pub events: broadcast::Sender<String>,
}

impl Journal {
    pub fn new() -> Self {
        Self {
            records: Mutex::default(),
            stored: Mutex::default(),
            attempts: Mutex::default(),
            moved: AtomicUsize::new(0),
            events: broadcast::channel(1000).0,
        }
    }

    pub fn received(&self, method: &str, path: &str, number: Option<usize>) -> Entry {
        let mut records = self.records.lock().unwrap();
        records.push(Record {
            method: method.to_owned(),
            path: path.to_owned(),
            number,
            ..Record::default()
        });
        records.len() - 1
    }

    pub fn read(&self, entry: Entry, body: &[u8], whole: bool) {
        let name = name_of(body);
        let mut records = self.records.lock().unwrap();
        records[entry].name = name;
        records[entry].body = Some((body.len(), whole));
    }

    pub fn began(&self, entry: Entry, status: u16) {
        self.records.lock().unwrap()[entry].status = Some(status);
    }

    pub fn ended(&self, entry: Entry) {
        self.records.lock().unwrap()[entry].ended = true;
    }

    /// Counts bytes that an upstream has sent.
    pub fn moves(&self, bytes: usize) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }

    /// How many requests with this number came earlier.
    pub fn attempt(&self, number: usize) -> u64 {
        let mut attempts = self.attempts.lock().unwrap();
        let attempts = attempts.entry(number).or_default();
        *attempts += 1;
        *attempts - 1
    }

    /// The numbers of the requests with complete bodies.
    pub fn numbers_of_whole_bodies(&self) -> HashSet<usize> {
        let records = self.records.lock().unwrap();
        records
            .iter()
            .filter(|record| matches!(record.body, Some((_, true))))
            .filter_map(|record| record.number)
            .collect()
    }

    /// Stores an object, and counts it again if it exists, which is a fault.
    pub fn store(&self, name: &str) {
        *self
            .stored
            .lock()
            .unwrap()
            .entry(name.to_owned())
            .or_default() += 1;
    }

    pub fn is_stored(&self, name: &str) -> bool {
        self.stored.lock().unwrap().contains_key(name)
    }

    /// The names that were stored more than once.
    pub fn stored_twice(&self) -> Vec<String> {
        self.stored
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub fn record(&self, entry: Entry) -> Record {
        self.records.lock().unwrap()[entry].clone()
    }

    /// The number of requests whose path contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.records
            .lock()
            .unwrap()
            .iter()
            .filter(|record| record.path.contains(part))
            .count()
    }

    /// The number of requests for which `is_so` is true, and the number of all requests.
    pub fn count_such(&self, is_so: fn(&Record) -> bool) -> (usize, usize) {
        let records = self.records.lock().unwrap();
        (
            records.iter().filter(|record| is_so(record)).count(),
            records.len(),
        )
    }
}
