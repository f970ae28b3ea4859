//! The journal: every request as an apiserver saw it. Tests use it to prove that no create was lost
//! and none was stored twice.
//!
//! An entry is added when the head of a request arrives, and completed while the request is
//! handled. No entry is removed unless the settings limit the length of the journal.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::time::Instant;

/// The decision of the quota evaluator on a create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaOutcome {
    /// The request is not a create, or failed before the quota check.
    #[default]
    NotAsked,
    /// No quota limits the pod.
    Unlimited,
    /// Admitted and charged.
    Charged,
    /// Admitted. A dry run is not charged.
    DryRun,
    /// Denied: the evaluator lost the race to write the quota.
    Conflict,
    /// Denied: the pod does not fit into the quota.
    Exceeded,
    /// Denied for another reason.
    Denied,
}

/// One request as an apiserver saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The time since the start of the control plane.
    pub at: Duration,
    /// The index of the apiserver.
    pub apiserver: usize,
    /// The number of the connection, unique over all apiservers.
    pub connection: u64,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The HTTP method.
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// The query, if there is one.
    pub query: Option<String>,
    /// The headers except `Authorization`.
    pub headers: HeaderMap,
    /// The number of body bytes that arrived.
    pub body: usize,
    /// The trailers after the body.
    pub trailers: Option<HeaderMap>,
    /// The name in the posted object, or else its `generateName`. Empty if the request is not a create
    /// or failed before its body was parsed.
    pub name: String,
    /// The decision of the quota evaluator.
    pub quota: QuotaOutcome,
    /// The object that this attempt stored.
    pub stored: Option<Stored>,
    /// The status code of the answer. `None` if there was no answer.
    pub status: Option<StatusCode>,
    /// Whether the whole answer was handed to the connection.
    pub delivered: bool,
    /// Whether the client disconnected before the end of the answer.
    pub abandoned: bool,
}

/// A pod or another object that an attempt stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the pod, which may be generated; `RESOURCE/NAME` for another object.
    pub name: String,
    /// The uid of the object.
    pub uid: String,
}

impl Attempt {
    /// Whether this is a create of a pod and not of a subresource.
    pub fn is_create(&self) -> bool {
        self.method == Method::POST && self.path.ends_with("/pods")
    }
}

/// Every attempt so far.
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
    /// The number of attempts that were dropped from the front.
    forgotten: usize,
}

impl Journal {
    /// Creates an empty journal that keeps the last `kept` attempts. Its time starts now.
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

    /// A copy of every pod create, in the order of arrival.
    pub fn creates(&self) -> Vec<Attempt> {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create())
            .cloned()
            .collect()
    }

    /// Visits every pod create in the order of arrival, without copying. New requests wait
    /// meanwhile.
    pub fn for_each_create(&self, visit: impl FnMut(&Attempt)) {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create())
            .for_each(visit);
    }

    /// A pod that was stored more than once, with the number of times.
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

    /// The creates with this name or `generateName`, in the order of arrival.
    pub fn creates_of(&self, name: &str) -> Vec<Attempt> {
        self.lock()
            .kept
            .iter()
            .filter(|attempt| attempt.is_create() && attempt.name == name)
            .cloned()
            .collect()
    }

    /// The number of attempts.
    pub fn len(&self) -> usize {
        self.lock().kept.len()
    }

    /// Whether there are no attempts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a new connection.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records a request whose head has arrived.
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

/// An attempt that is still being handled. All clones refer to the same attempt.
#[derive(Clone, Debug)]
pub struct Entry {
    journal: Arc<Journal>,
    index: usize,
}

impl Entry {
    /// Changes the record of the attempt.
    pub(super) fn note(&self, change: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.journal.lock();
        let index = self.index.checked_sub(attempts.forgotten);
        if let Some(attempt) = index.and_then(|index| attempts.kept.get_mut(index)) {
            change(attempt);
        }
    }
}
