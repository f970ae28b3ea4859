//! Chooses the connection that closes next. The result of a search is kept for a while, because a
//! search through ten thousand connections for each new one would cost more than its TLS handshake.

use std::collections::HashMap;
use std::sync::Arc;

use super::OpenConnection;

/// How many connections one search finds.
const BATCH: usize = 128;
/// The pause after a search that found none, in milliseconds.
const PAUSE: u64 = 50;

/// The order of closing, smallest first: first the idle connections, then the busy ones, and among
/// these the longest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) busy: bool,
    /// In milliseconds. The smallest is the longest ago.
    pub(super) since: u64,
}

/// The first connections in the order at the last search. A connection that became idle later comes
/// after them.
#[derive(Debug, Default)]
pub(super) struct CloseQueue {
    /// The next one to close is last.
    found: Vec<(Rank, u64)>,
    /// When to search again, in milliseconds.
    not_before: u64,
}

impl CloseQueue {
    /// The next connection to close, if there is one. `rank` is None for those that must stay open.
    pub(super) fn next(
        &mut self,
        now: u64,
        by_id: &HashMap<u64, Arc<OpenConnection>>,
        rank: impl Fn(&OpenConnection) -> Option<Rank>,
    ) -> Option<Arc<OpenConnection>> {
        if let Some(connection) = self.pop(by_id, &rank) {
            return Some(connection);
        }
        if now < self.not_before {
            return None;
        }
        self.found.extend(
            by_id
                .values()
                .filter_map(|connection| Some((rank(connection)?, connection.id))),
        );
        if self.found.len() > BATCH {
            self.found.select_nth_unstable(BATCH);
            self.found.truncate(BATCH);
        }
        self.found.shrink_to(BATCH);
        self.found.sort_unstable_by(|one, other| other.cmp(one));
        let connection = self.pop(by_id, &rank);
        if connection.is_none() {
            self.not_before = now + PAUSE;
        }
        connection
    }

    fn pop(
        &mut self,
        by_id: &HashMap<u64, Arc<OpenConnection>>,
        rank: impl Fn(&OpenConnection) -> Option<Rank>,
    ) -> Option<Arc<OpenConnection>> {
        while let Some((then, id)) = self.found.pop() {
            // A connection that had a request since the search is no longer first.
            if let Some(connection) = by_id
                .get(&id)
                .filter(|connection| rank(connection) == Some(then))
            {
                return Some(Arc::clone(connection));
            }
        }
        None
    }
}
