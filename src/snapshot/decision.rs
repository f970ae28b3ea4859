//! One finished create, as the status page and the commands show it. It reads what
//! `/debug/decisions` writes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::object;
use super::words::duration;
use crate::verdict::Outcome;

/// The attempts and the end of one create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionSummary {
    /// When the create arrived, in RFC 3339 UTC.
    pub time: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name. Empty if it is not known; ends in `*` if the apiserver completes it.
    pub name: String,
    /// The resource, as in `pods` or `jobs.batch`.
    pub resource: String,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptSummary>,
    /// The label of the metric `outcomes_total`.
    pub outcome: String,
    /// Why it ended with this outcome, in words.
    pub why: String,
    /// Milliseconds that it waited between attempts, all pauses together.
    pub held_ms: u64,
}

/// One attempt of a create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptSummary {
    /// The answer's status code. None: no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The class of the answer, or of the failure if no answer came.
    pub class: String,
    /// Milliseconds that the attempt took.
    pub duration_ms: u64,
    /// Milliseconds of pause before the next attempt. None: this is the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// What lookups of the object found after the answer, in order. Empty: there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<String>,
}

impl DecisionSummary {
    /// The resource, the namespace and the name, as in `pods team/step-1`.
    #[must_use]
    pub fn object(&self) -> String {
        object(&self.resource, &self.namespace, &self.name)
    }

    /// Every answer and pause, as in `409 quota conflict, sent again after 58 ms: 201 success.`
    #[must_use]
    pub fn story(&self) -> String {
        let attempt = |attempt: &AttemptSummary| match attempt.delay_ms {
            Some(delay) => format!(
                "{}, sent again after {}: ",
                attempt.answer(),
                duration(Duration::from_millis(delay))
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
        let mut stored = Outcome::ALL.iter().filter(|outcome| outcome.is_stored());
        stored.any(|outcome| outcome.as_str() == self.outcome)
    }

    /// The outcome in words, or its label if this version does not know it.
    #[must_use]
    pub fn outcome_in_words(&self) -> &str {
        let known = Outcome::ALL
            .iter()
            .find(|outcome| outcome.as_str() == self.outcome);
        known.map_or(&self.outcome, |outcome| outcome.in_words())
    }
}

impl AttemptSummary {
    /// The answer, as in `409 quota conflict`, or the failure, as in `connect failed`.
    #[must_use]
    pub fn answer(&self) -> String {
        let class = self.class.replace('_', " ");
        match self.code {
            Some(code) => format!("{code} {class}"),
            None => class,
        }
    }
}
