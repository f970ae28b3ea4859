//! An upstream that fails short requests: the client learns whether it may retry, and other clients
//! are not affected.

mod closed_connections;
mod lost_requests;

use crate::support::Rig;

const PODS: &str = "/api/v1/namespaces/team/pods";

/// The number of requests for this path that the apiserver received.
fn arrived(rig: &Rig, path: &str) -> usize {
    rig.plane
        .journal()
        .attempts()
        .iter()
        .filter(|attempt| attempt.path == path)
        .count()
}
