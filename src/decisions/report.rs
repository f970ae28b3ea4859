//! What `events` makes Kubernetes Events of.

use super::{Decision, Decisions};

/// What an Event tells of.
#[derive(Debug, Clone)]
pub enum Report {
    /// A create was given up.
    GaveUp(Decision),
    /// A create has begun to wait for a full quota, with what it waits for.
    Waits(Decision, Box<str>),
}

impl Report {
    /// The create that it is about.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        match self {
            Self::GaveUp(decision) | Self::Waits(decision, _) => decision,
        }
    }
}

impl Decisions {
    pub(super) fn report(&self, report: Report) {
        if let Some(reports) = &self.reports {
            // Best effort: if the channel is full, the Events already report such creates.
            let _room = reports.try_send(report);
        }
    }
}
