//! Chooses among the answers that a text tells of. A log has many, and most are noise.

use super::found::Found;
use super::pasted::Pasted;
use super::words;
use crate::verdict::{Class, Policy, Verdict, classify, verdict};

/// The most answers that are told apart. After that, only those of a new class are kept.
const MOST: usize = 200;

/// The shortest message that is known within another.
const SHORTEST: usize = 15;

/// What a text tells of, each answer once.
#[derive(Default)]
pub(super) struct Told {
    answers: Vec<Answer>,
}

struct Answer {
    found: Found,
    class: Class,
    /// The message without what folding and quoting change.
    message: String,
    /// A whole Status says more than a message alone.
    is_status: bool,
}

impl Told {
    pub(super) fn add(&mut self, pasted: Pasted) {
        let is_status = matches!(pasted, Pasted::Json(_) | Pasted::Fabric8(_));
        let is_kubectl = matches!(pasted, Pasted::Kubectl(_));
        let Some(found) = Found::of_pasted(pasted) else {
            return;
        };
        let new = Answer {
            class: classify(found.code, &found.headers, &found.body).class,
            message: bare(&found),
            found,
            is_status,
        };
        if let Some(known) = self.answers.iter_mut().find(|known| known.is_same(&new)) {
            if !is_kubectl && new.says_more_than(known) {
                *known = new;
            }
            return;
        }
        let is_known_class = self.answers.iter().any(|known| known.class == new.class);
        if self.answers.len() < MOST || !is_known_class {
            self.answers.push(new);
        }
    }

    /// The answer to explain: a refusal of a quota, or else what the proxy replays, or else the
    /// first that is not a mere rejection.
    pub(super) fn chosen(self) -> Option<Found> {
        let mut answers = self.answers;
        let ranks = answers.iter().enumerate();
        let (best, _) = ranks.min_by_key(|(_, answer)| rank(answer.class))?;
        let mut found = answers.remove(best).found;
        found.others = answers.iter().map(|answer| answer.class).collect();
        Some(found)
    }
}

impl Answer {
    /// Whether both tell of the same answer: in other words, folded, or cut off.
    fn is_same(&self, other: &Answer) -> bool {
        let about = |answer: &Answer| {
            let (status, _) = answer.found.status.as_ref()?;
            let details = &status.details;
            let about = (
                details.kind.clone(),
                details.group.clone(),
                details.name.clone(),
            );
            (!about.0.is_empty()).then_some(about)
        };
        // A denial can quote what another line says.
        let is_denial = |answer: &Answer| answer.message.starts_with("admissionwebhook");
        // Nearly everything has a short message in it.
        let shorter = self.message.len().min(other.message.len());
        (shorter >= SHORTEST || self.message == other.message)
            && is_denial(self) == is_denial(other)
            && (self.message.contains(&other.message) || other.message.contains(&self.message))
            || self.class == other.class && about(self).is_some_and(|it| about(other) == Some(it))
    }

    fn says_more_than(&self, known: &Answer) -> bool {
        if known.is_status || self.is_status {
            return false;
        }
        if self.class != known.class {
            return self.message.len() > known.message.len();
        }
        let is_whole = |answer: &Answer| {
            let status = answer.found.status.as_ref();
            status.is_some_and(|(status, _)| words::is_whole(&status.message))
        };
        is_whole(self) && !is_whole(known)
    }
}

/// Quotas first, because they are the reason for this proxy.
fn rank(class: Class) -> u8 {
    match class {
        _ if class.is_quota_conflict() => 0,
        Class::ExceededQuota
        | Class::QuotaStatusUnknown
        | Class::QuotaEvaluationTimeout
        | Class::QuotaSpec => 1,
        _ if matches!(
            verdict(&class.into(), &Policy::default()),
            Verdict::Replay { .. }
        ) =>
        {
            2
        }
        Class::WebhookUnreachable => 2,
        Class::Rejected | Class::OtherConflict | Class::Unauthorized => 4,
        _ => 3,
    }
}

/// The message without spaces, quotation marks and backslashes.
fn bare(found: &Found) -> String {
    let text = match &found.status {
        Some((status, _)) => status.message.clone(),
        None => String::from_utf8_lossy(&found.body).into_owned(),
    };
    let kept = |c: &char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '`' | '\\');
    text.chars().filter(kept).collect()
}
