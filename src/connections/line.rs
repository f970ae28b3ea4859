//! Who goes next, kept for a while: looking through ten thousand connections for each new one would
//! cost more than its handshake.

use std::collections::HashMap;
use std::sync::Arc;

use super::Entry;

/// How many are found at one look.
const BATCH: usize = 128;
/// How long nobody looks again when nobody was found, in milliseconds.
const PAUSE: u64 = 50;

/// The order of leaving, smallest first: whoever waits for a request, then whoever has one, each
/// the longest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) busy: bool,
    /// In milliseconds; smaller is longer.
    pub(super) since: u64,
}

/// Those that were first in the order when last looked. Whoever has become idle since comes after
/// them.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The next one last.
    found: Vec<(Rank, u64)>,
    /// When looking may help again.
    not_before: u64,
}

impl Line {
    /// The next one to leave, if there is one. `rank` is None for those that do not.
    pub(super) fn next(
        &mut self,
        now: u64,
        entries: &HashMap<u64, Arc<Entry>>,
        rank: impl Fn(&Entry) -> Option<Rank>,
    ) -> Option<Arc<Entry>> {
        if let Some(entry) = self.pop(entries, &rank) {
            return Some(entry);
        }
        if now < self.not_before {
            return None;
        }
        self.found.extend(
            entries
                .values()
                .filter_map(|entry| Some((rank(entry)?, entry.id))),
        );
        if self.found.len() > BATCH {
            self.found.select_nth_unstable(BATCH);
            self.found.truncate(BATCH);
        }
        self.found.shrink_to(BATCH);
        self.found.sort_unstable_by(|one, other| other.cmp(one));
        let entry = self.pop(entries, &rank);
        if entry.is_none() {
            self.not_before = now + PAUSE;
        }
        entry
    }

    fn pop(
        &mut self,
        entries: &HashMap<u64, Arc<Entry>>,
        rank: impl Fn(&Entry) -> Option<Rank>,
    ) -> Option<Arc<Entry>> {
        while let Some((then, id)) = self.found.pop() {
            // Whoever had a request since is no longer first.
            if let Some(entry) = entries.get(&id).filter(|entry| rank(entry) == Some(then)) {
                return Some(Arc::clone(entry));
            }
        }
        None
    }
}
