//! Creates: replayed while that is safe, and otherwise answered with the apiserver's own answer.

mod ambiguity;
mod answers;
mod bodies;
mod client_gone;
mod exhaustion;
mod full_quotas;
mod matching;
mod modes;
mod opt_in;
mod race;
mod rate_limit;
mod resolve;
mod resources;
mod time;
mod timeouts;

use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use kube_retry_proxy::config::Config;
use model_control_plane::{Canned, Encoding, Status};

use crate::support::{Answer, NAMESPACE, Rig, captured, conflict, eventually, rig, sample};

/// A quota conflict after which a [`patient`] proxy holds the create for longer than any test
/// takes.
fn lasting_conflict() -> Canned {
    captured("quota_conflict_409").with(RETRY_AFTER, HeaderValue::from_static("3600"))
}

/// A configuration with very short pauses.
fn brisk(config: &mut Config) {
    config.replay.base_delay = Duration::from_millis(1);
    config.replay.max_delay = Duration::from_millis(1);
}

/// As above, but the proxy holds a create for as long as the apiserver asks.
fn patient(config: &mut Config) {
    brisk(config);
    config.replay.max_hold = Duration::from_secs(2 * 3600);
}

/// Waits until the proxy holds `count` creates.
async fn held(rig: &Rig, count: u32) {
    eventually("creates are held", || {
        sample(&rig.proxy, "kube_retry_proxy_held") == f64::from(count)
    })
    .await;
}

fn buffered(rig: &Rig) -> f64 {
    sample(&rig.proxy, "kube_retry_proxy_buffered_bytes")
}

/// The number of creates that ended with this outcome. A namespace that no answer has confirmed
/// counts as `_other`.
fn ended(rig: &Rig, outcome: &str) -> f64 {
    let in_namespace = |namespace| {
        sample(
            &rig.proxy,
            &format!(
                "kube_retry_proxy_outcomes_total{{namespace=\"{namespace}\",outcome=\"{outcome}\"}}"
            ),
        )
    };
    in_namespace(NAMESPACE) + in_namespace("_other")
}

fn not_replayed(rig: &Rig, reason: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_not_replayed_total{{reason=\"{reason}\"}}"),
    )
}

fn replays(rig: &Rig, class: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_replays_total{{class=\"{class}\"}}"),
    )
}

/// The number of ambiguous creates of which this became.
fn ambiguous(rig: &Rig, result: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_ambiguous_total{{result=\"{result}\"}}"),
    )
}

/// The number of creates that have reached an apiserver.
fn attempts(rig: &Rig) -> usize {
    rig.plane.journal().creates().len()
}

/// Fails if a pod was stored twice, or is missing although a create stored it.
fn assert_each_stored_once(rig: &Rig) {
    let mut stored: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .filter_map(|attempt| attempt.stored)
        .map(|pod| pod.name)
        .collect();
    stored.sort();
    let present: Vec<_> = rig
        .plane
        .pods(NAMESPACE)
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    assert_eq!(stored, present);
}

/// Checks that the proxy itself wrote this answer: a Status with this code and reason in this
/// encoding.
fn assert_own_status(answer: &Answer, code: u16, reason: &str, encoding: Encoding) -> Status {
    assert_eq!(answer.status.as_u16(), code, "{answer:?}");
    assert_eq!(
        answer.headers[http::header::CONTENT_TYPE],
        encoding.content_type()
    );
    assert_eq!(Encoding::of(&answer.body), encoding, "{answer:?}");
    let status = Status::decode(&answer.body).unwrap();
    assert_eq!((status.code, &*status.reason), (i32::from(code), reason));
    assert!(
        status.message.starts_with("kube-retry-proxy: "),
        "{status:?}"
    );
    status
}
