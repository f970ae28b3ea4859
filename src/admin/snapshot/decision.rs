//! One decision in the form that people read, made from what `/debug/decisions` shows or read from
//! it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::words::span;
use super::millis;
use crate::decisions;
use crate::metrics::Outcome;

/// How one create went, as `/debug/decisions` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it came, in RFC 3339 UTC.
    pub time: String,
    /// Empty for an object in none.
    pub namespace: String,
    /// The object's name, as far as it is known.
    pub name: String,
    /// As in `pods`.
    pub resource: String,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// The label of `outcomes_total`.
    pub outcome: String,
    /// Why it ended so, in words.
    pub why: String,
    /// How long it waited between attempts, altogether.
    pub held_ms: u64,
}

/// One attempt of a create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The answer's status code. None: there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The class that the answer, or the lack of one, fell in.
    pub class: String,
    /// How long it took.
    pub duration_ms: u64,
    /// The pause before the next attempt. None: there was no next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

impl From<&decisions::Decision> for Decision {
    fn from(decision: &decisions::Decision) -> Self {
        let attempt = |attempt: &decisions::Attempt| Attempt {
            code: attempt.answer.ok(),
            class: attempt.class.to_owned(),
            duration_ms: millis(attempt.duration),
            delay_ms: attempt.delay.map(millis),
        };
        Self {
            time: decisions::rfc3339(decision.time),
            namespace: decision.namespace.to_string(),
            name: decision.name.to_string(),
            resource: decision.resource.to_string(),
            attempts: decision.attempts.iter().map(attempt).collect(),
            outcome: decision.outcome.as_str().to_owned(),
            why: decision.why.to_string(),
            held_ms: millis(decision.held),
        }
    }
}

impl Decision {
    /// `namespace/name`, with a `?` for a name that is not known.
    #[must_use]
    pub fn object(&self) -> String {
        let name = if self.name.is_empty() {
            "?"
        } else {
            &self.name
        };
        if self.namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.namespace)
        }
    }

    /// Every answer and pause: `409 quota conflict, sent again after 58 ms: 201 success.`
    #[must_use]
    pub fn story(&self) -> String {
        let attempt = |attempt: &Attempt| match attempt.delay_ms {
            Some(delay) => format!(
                "{}, sent again after {}: ",
                attempt.answer(),
                span(Duration::from_millis(delay))
            ),
            None => attempt.answer() + ".",
        };
        if self.attempts.is_empty() {
            "No attempt.".to_owned()
        } else {
            self.attempts.iter().map(attempt).collect()
        }
    }

    /// Whether the object was stored.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        [Outcome::Created, Outcome::CreatedAfterReplay]
            .iter()
            .any(|outcome| outcome.as_str() == self.outcome)
    }

    /// The outcome in words; the label itself where this version does not know it.
    #[must_use]
    pub fn outcome_in_words(&self) -> &str {
        let known = Outcome::ALL
            .iter()
            .find(|outcome| outcome.as_str() == self.outcome);
        known.map_or(&self.outcome, |outcome| outcome.in_words())
    }
}

impl Attempt {
    /// `409 quota conflict`, or `connect failed` where there was no answer.
    #[must_use]
    pub fn answer(&self) -> String {
        let class = self.class.replace('_', " ");
        match self.code {
            Some(code) => format!("{code} {class}"),
            None => class,
        }
    }
}
