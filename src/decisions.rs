//! What was decided about the last creates, and which are held now: `/debug/decisions` and
//! `/debug/held` of the admin port.
//!
//! `create` keeps one [`Record`] for each create and finishes it; a record that is dropped
//! unfinished says that the client left. Bounded in number and in size. No tokens and no bodies:
//! names, codes and classes only.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, request};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::status::ObjectMeta;
use crate::trace::{Trace, Tracer};
use crate::verdict::Outcome;

mod json;

pub use json::rfc3339;

/// The longest name of a Kubernetes object. Names come from bodies and URLs that nobody has checked
/// yet.
const MAX_NAME: usize = 253;

/// The last creates and those held now.
#[derive(Debug)]
pub struct Decisions {
    capacity: usize,
    recent: Mutex<VecDeque<Decision>>,
    held: Mutex<HashMap<u64, HeldCreate>>,
    next_id: AtomicU64,
    /// Gets every create that was given up, as long as there is room.
    given_up: Option<mpsc::Sender<Decision>>,
}

/// How one create went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When the create came.
    #[serde(serialize_with = "json::time")]
    pub time: SystemTime,
    /// The namespace, empty for an object in none.
    pub namespace: Box<str>,
    /// The kind, as in `Pod`; empty where the body did not say.
    #[serde(skip)]
    pub kind: Box<str>,
    /// The name; `generateName` with a `*` behind it where the apiserver makes the name; empty
    /// where the body did not say.
    pub name: Box<str>,
    /// The resource, as in `pods`.
    pub resource: Box<str>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// How it ended.
    #[serde(serialize_with = "json::outcome")]
    pub outcome: Outcome,
    /// Why it ended so, in words.
    pub why: Cow<'static, str>,
    /// How long it waited between attempts, altogether.
    #[serde(rename = "heldMs", serialize_with = "json::millis")]
    pub held: Duration,
}

/// One attempt of a create.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The answer's status code, or the kind of the error where there was no answer.
    #[serde(flatten, serialize_with = "json::answer")]
    pub answer: Result<u16, &'static str>,
    /// The class that the answer fell in.
    pub class: &'static str,
    /// How long the attempt took.
    #[serde(rename = "durationMs", serialize_with = "json::millis")]
    pub duration: Duration,
    /// The pause before the next attempt. None: there was no next one.
    #[serde(
        rename = "delayMs",
        serialize_with = "json::optional_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay: Option<Duration>,
}

/// A create that has been held and is not over.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldCreate {
    /// The namespace, empty for an object in none.
    pub namespace: Box<str>,
    /// As in [`Decision::name`].
    pub name: Box<str>,
    /// The resource, as in `pods`.
    pub resource: Box<str>,
    /// Attempts so far.
    pub attempts: usize,
    /// The class of the last answer.
    pub class: &'static str,
    /// When its first pause began.
    #[serde(rename = "heldForMs", serialize_with = "json::since")]
    pub since: Instant,
    /// When the next attempt starts. None: it is under way.
    #[serde(rename = "nextAttemptInMs", serialize_with = "json::until")]
    pub next_attempt: Option<Instant>,
}

impl Decisions {
    /// Keeps the last `capacity` creates; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            recent: Mutex::default(),
            held: Mutex::default(),
            next_id: AtomicU64::new(0),
            given_up: None,
        }
    }

    /// Hands over every create that is given up at a limit.
    #[must_use]
    pub fn telling(self, given_up: Option<mpsc::Sender<Decision>>) -> Self {
        Self { given_up, ..self }
    }

    /// Starts the record of a create that has just come.
    pub fn begin(self: &Arc<Self>, namespace: &str, resource: &str) -> Record {
        let decision = Decision {
            time: SystemTime::now(),
            namespace: bounded(namespace),
            kind: Box::default(),
            name: Box::default(),
            resource: bounded(resource),
            attempts: Vec::new(),
            outcome: Outcome::ClientGone,
            why: Cow::Borrowed("the client left before there was an answer"),
            held: Duration::ZERO,
        };
        Record {
            decisions: Arc::clone(self),
            id: None,
            decision: Some(decision),
            trace: None,
        }
    }

    /// The last creates, newest first: at most `limit`, and only those of `namespace` if one is
    /// given.
    #[must_use]
    pub fn recent(&self, namespace: Option<&str>, limit: usize) -> Vec<Decision> {
        let recent = lock(&self.recent);
        recent
            .iter()
            .rev()
            .filter(|each| namespace.is_none_or(|namespace| *each.namespace == *namespace))
            .take(limit)
            .cloned()
            .collect()
    }

    /// The creates held now, the longest first.
    #[must_use]
    pub fn held(&self) -> Vec<HeldCreate> {
        let mut held: Vec<_> = lock(&self.held).values().cloned().collect();
        held.sort_by_key(|each| each.since);
        held
    }

    fn push(&self, decision: Decision) {
        if let (Outcome::GaveUp, Some(given_up)) = (decision.outcome, &self.given_up) {
            // Best effort: where there is no room, others are being told of already.
            let _room = given_up.try_send(decision.clone());
        }
        if self.capacity == 0 {
            return;
        }
        let mut recent = lock(&self.recent);
        if recent.len() >= self.capacity {
            recent.pop_front();
        }
        recent.push_back(decision);
    }
}

/// The record of one create under way. Kept when it is dropped, finished or not.
#[derive(Debug)]
pub struct Record {
    decisions: Arc<Decisions>,
    /// In the registry of held creates, from the first pause on.
    id: Option<u64>,
    /// Some until the drop.
    decision: Option<Decision>,
    /// Told the same, where the create is traced.
    trace: Option<Box<Trace>>,
}

impl Record {
    /// Has the create traced too, if the caller's own trace or chance says so. It came with this
    /// head at `received`.
    pub fn trace(&mut self, tracer: &Arc<Tracer>, head: &request::Parts, received: Instant) {
        if let Some(decision) = &self.decision {
            self.trace = tracer.begin(head, &decision.namespace, &decision.resource, received);
        }
    }

    /// An attempt is about to be sent with these headers, which a traced create has changed.
    pub fn sending(&mut self, headers: &mut HeaderMap) {
        if let Some(trace) = &mut self.trace {
            trace.sending(headers);
        }
    }

    /// The attempt is being answered by this server: its host and port.
    pub fn answered_by(&mut self, server: (&str, u16)) {
        if let Some(trace) = &mut self.trace {
            trace.answered_by(server);
        }
    }

    /// What the body says of its object. At most one of its names is kept.
    pub fn object(&mut self, meta: &ObjectMeta) {
        let ObjectMeta {
            kind,
            name,
            generate_name,
            ..
        } = meta;
        let name = if name.is_empty() && !generate_name.is_empty() {
            format!("{}*", bounded(generate_name)).into()
        } else {
            bounded(name)
        };
        if let Some(decision) = &mut self.decision {
            decision.kind = bounded(kind);
            decision.name = name;
        }
    }

    /// An attempt ended with an answer of this code, or with this kind of error.
    pub fn attempt(
        &mut self,
        answer: Result<u16, &'static str>,
        class: &'static str,
        duration: Duration,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.attempt(class, answer.ok());
        }
        if let Some(decision) = &mut self.decision {
            decision.attempts.push(Attempt {
                answer,
                class,
                duration,
                delay: None,
            });
        }
    }

    /// A pause before the next attempt begins, and ends when the guard is dropped.
    #[must_use = "the pause ends when the guard is dropped"]
    pub fn hold(&mut self, delay: Duration) -> Hold<'_> {
        let now = Instant::now();
        if let Some(decision) = &mut self.decision {
            if let Some(attempt) = decision.attempts.last_mut() {
                attempt.delay = Some(delay);
            }
            let id = *self
                .id
                .get_or_insert_with(|| self.decisions.next_id.fetch_add(1, Ordering::Relaxed));
            let mut held = lock(&self.decisions.held);
            let entry = held.entry(id).or_insert_with(|| HeldCreate {
                namespace: decision.namespace.clone(),
                name: decision.name.clone(),
                resource: decision.resource.clone(),
                attempts: 0,
                class: "",
                since: now,
                next_attempt: None,
            });
            entry.attempts = decision.attempts.len();
            entry.class = decision.attempts.last().map_or("", |attempt| attempt.class);
            entry.next_attempt = Some(now + delay);
        }
        Hold {
            record: self,
            since: now,
        }
    }

    /// The client gets an answer of this code.
    pub fn answer(&mut self, code: StatusCode) {
        if let Some(trace) = &mut self.trace {
            trace.answer(code);
        }
    }

    /// The create is over.
    pub fn finish(mut self, outcome: Outcome, why: impl Into<Cow<'static, str>>) {
        if let Some(decision) = &mut self.decision {
            decision.outcome = outcome;
            decision.why = why.into();
        }
    }

    /// How long it has waited between attempts so far, the current pause not included.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.decision
            .as_ref()
            .map_or(Duration::ZERO, |decision| decision.held)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.decisions.held).remove(&id);
        }
        if let Some(decision) = self.decision.take() {
            if let Some(trace) = self.trace.take() {
                trace.end(decision.outcome.as_str(), decision.held);
            }
            self.decisions.push(decision);
        }
    }
}

/// A pause between two attempts.
#[derive(Debug)]
pub struct Hold<'a> {
    record: &'a mut Record,
    since: Instant,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(decision) = &mut self.record.decision {
            decision.held += self.since.elapsed();
        }
        let mut held = lock(&self.record.decisions.held);
        if let Some(entry) = self.record.id.and_then(|id| held.get_mut(&id)) {
            entry.next_attempt = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy that is not longer than a name can be.
fn bounded(name: &str) -> Box<str> {
    name[..name.floor_char_boundary(MAX_NAME)].into()
}

#[cfg(test)]
mod tests;
