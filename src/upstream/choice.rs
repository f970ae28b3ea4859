//! Which server a request goes to, and which next.

use std::sync::Arc;

use http::Request;

use super::SendError;
use super::health::Health;
use super::pins::Key;
use super::server::{Failed, Server};
use crate::body::Body;

/// The server with the least `load` among those that were not tried: of those that are up, else the
/// one that failed the longest ago.
pub(super) fn least_loaded(
    servers: &[Arc<Server>],
    tried: Tried,
    load: impl Fn(&Server) -> usize,
) -> (usize, &Server) {
    if let [only] = servers {
        return (0, only);
    }
    // Any of the equals, lest the first one has all that comes while little is in flight.
    let first = fastrand::usize(..servers.len());
    let left = servers
        .iter()
        .enumerate()
        .cycle()
        .skip(first)
        .take(servers.len())
        .filter(|(index, _)| !tried.contains(*index));
    let best = left
        .clone()
        .filter(|(_, server)| server.health.is_usable())
        .min_by_key(|(_, server)| load(server));
    let best = best.or_else(|| left.min_by_key(|(_, server)| server.health.state().since));
    best.map_or((0, &servers[0]), |(index, server)| (index, server))
}

/// The server of a namespace among those that were not tried: of those that are up, else of all.
pub(super) fn pinned(
    servers: &[Arc<Server>],
    tried: Tried,
    namespace: Key,
) -> Option<((usize, &Server), &Arc<Health>)> {
    let left = servers
        .iter()
        .enumerate()
        .filter(|(index, _)| !tried.contains(*index));
    let ranked = left.map(|(index, server)| (server.key, ((index, &**server), &server.health)));
    namespace
        .choose(ranked.clone().filter(|(_, (_, health))| health.is_usable()))
        .or_else(|| namespace.choose(ranked))
}

/// The servers, by their places in the list, that one request has been offered to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// Notes the failure, and gives the request back for the next server; the error, if it left or
    /// no server is left.
    pub(super) fn next(
        &mut self,
        index: usize,
        servers: &[Arc<Server>],
        failed: Failed,
    ) -> Result<Request<Body>, SendError> {
        self.0 |= 1 << index;
        match failed.unsent {
            Some(unsent) if (self.0.count_ones() as usize) < servers.len() => Ok(unsent),
            _ => Err(failed.error),
        }
    }
}
