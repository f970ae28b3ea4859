//! The journal: every request as an apiserver saw it. It is the judge of "never twice, none lost".
//!
//! An entry is made when a request's head arrives and completed as the request goes on. Nothing is
//! removed, unless the journal was told to keep only so many.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::time::Instant;

/// What the quota evaluator said to a create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaOutcome {
    /// The request did not get as far, or is no create.
    #[default]
    NotAsked,
    /// No quota limits the pod.
    Unlimited,
    /// Admitted and charged.
    Charged,
    /// Admitted, a dry run is not charged.
    DryRun,
    /// Refused: the evaluator lost the race for the quota.
    Conflict,
    /// Refused: it does not fit.
    Exceeded,
    /// Refused for another reason.
    Denied,
}

/// One request as an apiserver saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Time since the control plane's start.
    pub at: Duration,
    /// Index of the apiserver.
    pub apiserver: usize,
    /// The connection, unique over all apiservers.
    pub connection: u64,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The request's method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, if there is one.
    pub query: Option<String>,
    /// The headers, without `Authorization`.
    pub headers: HeaderMap,
    /// Bytes of the body that arrived.
    pub body: usize,
    /// The trailers behind the body.
    pub trailers: Option<HeaderMap>,
    /// The name (or else `generateName`) in the posted pod; empty if the request is no create or
    /// did not get as far.
    pub name: String,
    /// What the quota evaluator said.
    pub quota: QuotaOutcome,
    /// The pod that this attempt stored.
    pub stored: Option<Stored>,
    /// The code answered; `None` if no answer was made.
    pub status: Option<StatusCode>,
    /// Whether the answer was handed to the connection completely.
    pub delivered: bool,
    /// Whether the client went away before the answer had ended.
    pub abandoned: bool,
}

/// A stored pod in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its namespace.
    pub namespace: String,
    /// Its name, generated or given.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Attempt {
    /// Whether this is a create of a pod (not of a subresource).
    pub fn is_create(&self) -> bool {
        self.method == Method::POST && self.path.ends_with("/pods")
    }
}

/// All attempts so far.
#[derive(Debug)]
pub struct Journal {
    start: Instant,
    kept: usize,
    attempts: Mutex<Attempts>,
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct Attempts {
    kept: VecDeque<Attempt>,
    /// How many came before the first that is kept.
    forgotten: usize,
}

impl Journal {
    /// An empty journal that starts now, and keeps the last `kept` attempts.
    pub fn new(kept: usize) -> Arc<Journal> {
        Arc::new(Journal {
            start: Instant::now(),
            kept,
            attempts: Mutex::default(),
            connections: AtomicU64::new(0),
        })
    }

    /// A copy of every attempt, in the order of arrival.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().kept.iter().cloned().collect()
    }

    /// A copy of every create of a pod, in the order of arrival.
    pub fn creates(&self) -> Vec<Attempt> {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create())
            .cloned()
            .collect()
    }

    /// Shows every create of a pod, in the order of arrival, without copying: nothing arrives
    /// meanwhile.
    pub fn for_each_create(&self, visit: impl FnMut(&Attempt)) {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create())
            .for_each(visit);
    }

    /// A pod that was stored more than once, and how often.
    pub fn stored_twice(&self) -> Option<(String, usize)> {
        let mut times: HashMap<(String, String), usize> = HashMap::new();
        self.for_each_create(|attempt| {
            if let Some(pod) = &attempt.stored {
                *times
                    .entry((pod.namespace.clone(), pod.name.clone()))
                    .or_default() += 1;
            }
        });
        times
            .into_iter()
            .find(|(_, times)| *times > 1)
            .map(|((_, name), times)| (name, times))
    }

    /// The creates of one name (or `generateName`), in the order of arrival.
    pub fn creates_of(&self, name: &str) -> Vec<Attempt> {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create() && attempt.name == name)
            .cloned()
            .collect()
    }

    /// How many attempts there are.
    pub fn len(&self) -> usize {
        self.lock().kept.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number for a new connection.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes a request whose head has arrived.
    pub(super) fn arrive(
        self: &Arc<Journal>,
        apiserver: usize,
        connection: u64,
        head: &http::request::Parts,
    ) -> Entry {
        let mut headers = head.headers.clone();
        headers.remove(AUTHORIZATION);
        let attempt = Attempt {
            at: self.start.elapsed(),
            apiserver,
            connection,
            version: head.version,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers,
            body: 0,
            trailers: None,
            name: String::new(),
            quota: QuotaOutcome::NotAsked,
            stored: None,
            status: None,
            delivered: false,
            abandoned: false,
        };
        let mut attempts = self.lock();
        if attempts.kept.len() >= self.kept {
            attempts.kept.pop_front();
            attempts.forgotten += 1;
        }
        attempts.kept.push_back(attempt);
        Entry {
            journal: self.clone(),
            index: attempts.forgotten + attempts.kept.len() - 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt that is still going on. Clones are the same attempt.
#[derive(Clone, Debug)]
pub struct Entry {
    journal: Arc<Journal>,
    index: usize,
}

impl Entry {
    /// Completes the attempt's record.
    pub(super) fn note(&self, change: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.journal.lock();
        let index = self.index.checked_sub(attempts.forgotten);
        if let Some(attempt) = index.and_then(|index| attempts.kept.get_mut(index)) {
            change(attempt);
        }
    }
}
