//! Remembers how the last creates ended and which creates are held now. `admin` shows them at
//! `/debug/decisions` and `/debug/held`.
//!
//! `create` keeps one [`Record`] for each create. When the record is dropped, the decision joins
//! the last ones; if the create had not ended, it says that the client disconnected. The memory is
//! bounded in number and in size. It has names, codes and classes, never tokens or bodies.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::status::ObjectMeta;
use crate::verdict::{Exceeded, Outcome};

mod hold;
mod json;
mod report;

pub use hold::Hold;
pub use json::rfc3339;
pub use report::Report;

/// The longest name that a Kubernetes object can have. The names here come from bodies and URLs
/// that the apiserver has not checked yet, so they can be longer.
const MAX_NAME: usize = 253;

/// The last creates, and the creates that are held now.
#[derive(Debug)]
pub struct Decisions {
    capacity: usize,
    recent: Mutex<VecDeque<Decision>>,
    held: Mutex<HashMap<u64, HeldCreate>>,
    next_id: AtomicU64,
    /// Receives what Events tell of, as long as it has room.
    reports: Option<mpsc::Sender<Report>>,
}

/// The attempts and the end of one create.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When the create arrived.
    #[serde(serialize_with = "json::time")]
    pub time: SystemTime,
    /// The namespace.
    pub namespace: Box<str>,
    /// The kind, as in `Pod`; empty if the body has none.
    #[serde(skip)]
    pub kind: Box<str>,
    /// As in `batch/v1`, if an Event may tell of this create; otherwise empty. It may if the create
    /// was given up and its caller was authorized: anybody could cause the other Events.
    #[serde(skip)]
    pub api_version: Box<str>,
    /// The name, or `generateName` followed by `*` if the apiserver completes the name; empty if
    /// neither the URL nor the body has one.
    pub name: Box<str>,
    /// The resource, as in `pods` or `jobs.batch`.
    pub resource: Box<str>,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptRecord>,
    /// How the create ended.
    #[serde(serialize_with = "json::outcome")]
    pub outcome: Outcome,
    /// Why it ended with this outcome, in words.
    pub why: Cow<'static, str>,
    /// How long it waited between attempts, all pauses together.
    #[serde(rename = "heldMs", serialize_with = "json::millis")]
    pub held: Duration,
}

/// One attempt of a create.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// The answer's status code, or the kind of the error if no answer came.
    #[serde(flatten, serialize_with = "json::answer")]
    pub answer: Result<u16, &'static str>,
    /// The class of the answer, or of the failure if no answer came.
    pub class: &'static str,
    /// How long the attempt took.
    #[serde(rename = "durationMs", serialize_with = "json::millis")]
    pub duration: Duration,
    /// The pause before the next attempt. None: this is the last attempt.
    #[serde(
        rename = "delayMs",
        serialize_with = "json::optional_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay: Option<Duration>,
    /// What lookups of the object found after the answer, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<&'static str>,
}

/// A create that has been held at least once and has not ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldCreate {
    /// The namespace.
    pub namespace: Box<str>,
    /// Like [`Decision::name`].
    pub name: Box<str>,
    /// Like [`Decision::resource`].
    pub resource: Box<str>,
    /// Attempts so far.
    pub attempts: usize,
    /// The class of the last answer.
    pub class: &'static str,
    /// What it waits for, as in `compute: requests.cpu: asked 2, free 500m of 40`, when a quota last
    /// refused it. Empty: it does not wait for a quota.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub waits_for: Box<str>,
    /// When its first pause began.
    #[serde(rename = "heldForMs", serialize_with = "json::since")]
    pub since: Instant,
    /// When the next attempt starts, or the wait for a quota ends. None: an attempt is in flight.
    #[serde(rename = "nextAttemptInMs", serialize_with = "json::until")]
    pub next_attempt: Option<Instant>,
}

impl Decisions {
    /// Remembers the last `capacity` creates; 0 remembers none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            recent: Mutex::default(),
            held: Mutex::default(),
            next_id: AtomicU64::new(0),
            reports: None,
        }
    }

    /// Also sends what Events tell of to this channel, as long as it has room.
    #[must_use]
    pub fn report_to(self, reports: Option<mpsc::Sender<Report>>) -> Self {
        Self { reports, ..self }
    }

    /// Starts the record of a create that has just arrived.
    pub fn begin(self: &Arc<Self>, namespace: &str, resource: &str) -> Record {
        Record {
            decisions: Arc::clone(self),
            held_id: None,
            waits_for: Box::default(),
            decision: Decision::new(SystemTime::now(), cut(namespace), cut(resource)),
        }
    }

    /// The last creates for which `wanted` holds, newest first: at most `limit`.
    #[must_use]
    pub fn recent(&self, limit: usize, wanted: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let recent = lock(&self.recent);
        recent
            .iter()
            .rev()
            .filter(|each| wanted(each))
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
        if !decision.api_version.is_empty() {
            self.report(Report::GaveUp(decision.clone()));
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

impl Decision {
    /// The decision of a create whose client disconnects now.
    fn new(time: SystemTime, namespace: Box<str>, resource: Box<str>) -> Self {
        Self {
            time,
            namespace,
            kind: Box::default(),
            api_version: Box::default(),
            name: Box::default(),
            resource,
            attempts: Vec::new(),
            outcome: Outcome::ClientGone,
            why: Cow::Borrowed("the client left before there was an answer"),
            held: Duration::ZERO,
        }
    }
}

/// The record of one create in progress. Dropping it adds the decision to the last ones.
#[derive(Debug)]
pub struct Record {
    decisions: Arc<Decisions>,
    /// Its key among the held creates, from the first pause on.
    held_id: Option<u64>,
    waits_for: Box<str>,
    decision: Decision,
}

impl Record {
    /// The namespace, no longer than a name can be.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.decision.namespace
    }

    /// The resource, no longer than a name can be.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.decision.resource
    }

    /// Notes the name of the object that the URL has.
    pub fn named(&mut self, name: &str) {
        self.decision.name = cut(name);
    }

    /// Notes what the body says about the object. Of a name and a `generateName` it keeps one. The
    /// name in the URL wins, because the apiserver uses that one.
    pub fn object(&mut self, meta: &ObjectMeta) {
        let ObjectMeta {
            kind,
            name,
            generate_name,
            ..
        } = meta;
        self.decision.kind = cut(kind);
        if !self.decision.name.is_empty() {
            return;
        }
        self.decision.name = if name.is_empty() && !generate_name.is_empty() {
            format!("{}*", cut(generate_name)).into()
        } else {
            cut(name)
        };
    }

    /// Notes an attempt that ended with an answer of this code, or with an error of this kind.
    pub fn attempt(
        &mut self,
        answer: Result<u16, &'static str>,
        class: &'static str,
        duration: Duration,
    ) {
        self.decision.attempts.push(AttemptRecord {
            answer,
            class,
            duration,
            delay: None,
            lookups: Vec::new(),
        });
    }

    /// Notes what a lookup found after the last attempt.
    pub fn lookup(&mut self, found: &'static str) {
        if let Some(attempt) = self.decision.attempts.last_mut() {
            attempt.lookups.push(found);
        }
    }

    /// Starts a pause before the next attempt. Dropping the guard ends the pause.
    #[must_use = "the pause ends when the guard is dropped"]
    pub fn hold(&mut self, delay: Duration) -> Hold<'_> {
        let now = Instant::now();
        let Decision {
            namespace,
            name,
            resource,
            attempts,
            ..
        } = &mut self.decision;
        let id = *self
            .held_id
            .get_or_insert_with(|| self.decisions.next_id.fetch_add(1, Ordering::Relaxed));
        if let Some(attempt) = attempts.last_mut() {
            attempt.delay = Some(delay);
        }
        let mut held = lock(&self.decisions.held);
        let create = held.entry(id).or_insert_with(|| HeldCreate {
            namespace: namespace.clone(),
            name: name.clone(),
            resource: resource.clone(),
            attempts: 0,
            class: "",
            waits_for: Box::default(),
            since: now,
            next_attempt: None,
        });
        create.attempts = attempts.len();
        create.class = attempts.last().map_or("", |attempt| attempt.class);
        create.waits_for.clone_from(&self.waits_for);
        create.next_attempt = Some(now + delay);
        drop(held);
        Hold {
            record: self,
            since: now,
            is_planned: true,
        }
    }

    /// Starts a wait whose end is not known, but which is over at this time.
    #[must_use = "the wait ends when the guard is dropped"]
    pub fn hold_until(&mut self, then: Instant) -> Hold<'_> {
        let mut hold = self.hold(then.saturating_duration_since(Instant::now()));
        hold.is_planned = false;
        hold
    }

    /// Notes the full quota that the create waits for. An Event tells of it once.
    pub fn waits_for(&mut self, quota: &Exceeded, api_version: &str) {
        let is_first = self.waits_for.is_empty();
        self.waits_for = quota.to_string().into();
        if is_first && self.decisions.reports.is_some() {
            let decision = Decision {
                api_version: cut(api_version),
                ..self.decision.clone()
            };
            self.decisions
                .report(Report::Waits(decision, self.waits_for.clone()));
        }
    }

    /// Notes the `apiVersion` of the object, so that an Event tells of it.
    pub fn api_version(&mut self, api_version: &str) {
        self.decision.api_version = cut(api_version);
    }

    /// Notes how the create ends. Without this call the create counts as ended by its client.
    pub fn end(&mut self, outcome: Outcome, why: impl Into<Cow<'static, str>>) {
        self.decision.outcome = outcome;
        self.decision.why = why.into();
    }

    /// How the create ended, or [`Outcome::ClientGone`] if it has not ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.decision.outcome
    }

    /// How long it has waited between attempts so far, without the current pause.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.decision.held
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(id) = self.held_id {
            lock(&self.decisions.held).remove(&id);
        }
        // `drop` cannot move the decision out, so it leaves an empty one in its place.
        let nothing = Decision::new(SystemTime::UNIX_EPOCH, Box::default(), Box::default());
        self.decisions
            .push(std::mem::replace(&mut self.decision, nothing));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy, cut to the length that a name can have.
fn cut(name: &str) -> Box<str> {
    name[..name.floor_char_boundary(MAX_NAME)].into()
}

#[cfg(test)]
mod tests;
