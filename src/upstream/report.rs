//! Reports the state of the servers to the readiness check and to operators.

use std::sync::Arc;
use std::time::SystemTime;

use super::health::Condition;
use super::seats::Seats;
use super::server::Server;
use crate::metrics::Metrics;

/// One server, as operators see it.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// `host:port`.
    pub address: String,
    /// Whether requests go there.
    pub healthy: bool,
    /// When `healthy` last changed.
    pub since: SystemTime,
    /// The last failure. It stays after the server is up again.
    pub last_error: Option<String>,
    /// Open connections, without upgraded ones.
    pub connections: usize,
    /// Requests in flight, including watches.
    pub in_flight: usize,
    /// The namespaces whose last create went there, sorted. Namespaces that were idle for a minute
    /// are forgotten. At most 10,000 are remembered for all servers together.
    pub namespaces: Vec<String>,
}

/// Updates the metrics of each server, and says whether any server is up. Ok holds a text if there
/// are several servers. None if no server has been probed.
pub(super) fn readiness(
    servers: &[Arc<Server>],
    metrics: &Metrics,
) -> Option<Result<String, String>> {
    let records: Vec<_> = servers
        .iter()
        .map(|server| (server, server.health.record()))
        .collect();
    let any_is = |condition| {
        records
            .iter()
            .any(|(_, record)| record.condition == condition)
    };
    let mut sentences = Vec::new();
    for (server, record) in &records {
        let up = record.condition == Condition::Up;
        metrics.upstream_up(&server.name, up);
        sentences.push(match (&record.error, up) {
            (_, true) => format!("{} is up", server.name),
            (Some(error), false) => format!("{} is down: {error}", server.name),
            (None, false) => format!("{} has not been probed yet", server.name),
        });
    }
    match (any_is(Condition::Up), any_is(Condition::Down)) {
        (false, false) => None,
        (false, true) => Some(Err(format!(
            "no healthy upstream: {}",
            sentences.join("; ")
        ))),
        (true, _) if servers.len() == 1 => Some(Ok(String::new())),
        (true, _) => Some(Ok(sentences.join("; "))),
    }
}

pub(super) fn status(servers: &[Arc<Server>], seats: &Seats) -> Vec<ServerStatus> {
    let mut seats = seats.all();
    seats.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let status = |server: &Arc<Server>| {
        let record = server.health.record();
        let here = seats
            .iter()
            .filter(|(_, health)| Arc::ptr_eq(health, &server.health));
        ServerStatus {
            address: server.name.to_string(),
            healthy: record.condition == Condition::Up,
            since: SystemTime::now() - record.since.elapsed(),
            last_error: record.error.map(|error| error.to_string()),
            connections: server.lanes().map(|lane| lane.connections()).sum(),
            in_flight: server.lanes().map(|lane| lane.in_flight()).sum(),
            namespaces: here.map(|(namespace, _)| namespace.to_string()).collect(),
        }
    };
    servers.iter().map(status).collect()
}
