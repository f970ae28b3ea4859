//! An upstream that fails short requests: the client learns whether it may ask again, and nobody
//! else suffers.

mod closed_connections;
mod lost_requests;

use crate::support::Rig;

const PODS: &str = "/api/v1/namespaces/team/pods";

/// How many requests for this path the apiserver has seen.
fn arrived(rig: &Rig, path: &str) -> usize {
    rig.plane
        .journal()
        .attempts()
        .iter()
        .filter(|attempt| attempt.path == path)
        .count()
}
