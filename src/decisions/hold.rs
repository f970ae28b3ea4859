//! A pause of a create, as its record knows it.

use tokio::time::Instant;

use super::{Record, lock};

/// A pause between two attempts, until it is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    pub(super) record: &'a mut Record,
    pub(super) since: Instant,
    /// Whether its duration was known at its start.
    pub(super) is_planned: bool,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.record.decision.held += self.since.elapsed();
        if let (false, Some(attempt)) = (self.is_planned, self.record.decision.attempts.last_mut())
        {
            attempt.delay = Some(self.since.elapsed());
        }
        let mut held = lock(&self.record.decisions.held);
        if let Some(create) = self.record.held_id.and_then(|id| held.get_mut(&id)) {
            create.next_attempt = None;
        }
    }
}
