//! Chooses the server for a request. Pure: it compares the health and the load of the servers.

use std::sync::Arc;

use super::failover::Tried;
use super::health::Health;
use super::pins::Key;
use super::server::Server;

/// Picks an untried server: the healthy one with the least `load`. If none is healthy, the one
/// whose failure is oldest.
pub(super) fn least_loaded(
    servers: &[Arc<Server>],
    tried: Tried,
    load: impl Fn(&Server) -> usize,
) -> (usize, &Server) {
    if let [only] = servers {
        return (0, only);
    }
    // Start at a random server. Otherwise the first of several equally loaded ones would get every
    // request while there is little load.
    let first = fastrand::usize(..servers.len());
    let untried = servers
        .iter()
        .enumerate()
        .cycle()
        .skip(first)
        .take(servers.len())
        .filter(|(index, _)| !tried.contains(*index));
    let best = untried
        .clone()
        .filter(|(_, server)| server.health.is_usable())
        .min_by_key(|(_, server)| load(server));
    let best = best.or_else(|| untried.min_by_key(|(_, server)| server.health.record().since));
    best.map_or((0, &servers[0]), |(index, server)| (index, server))
}

/// Picks the server that a namespace is pinned to, among the untried ones that are healthy. If none
/// is healthy, among all untried ones.
pub(super) fn pinned(
    servers: &[Arc<Server>],
    tried: Tried,
    namespace: Key,
) -> Option<((usize, &Server), &Arc<Health>)> {
    let untried = servers
        .iter()
        .enumerate()
        .filter(|(index, _)| !tried.contains(*index));
    let ranked = untried.map(|(index, server)| (server.key, ((index, &**server), &server.health)));
    namespace
        .choose(ranked.clone().filter(|(_, (_, health))| health.is_usable()))
        .or_else(|| namespace.choose(ranked))
}
