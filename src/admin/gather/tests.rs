use std::sync::Arc;

use super::*;
use crate::admin::history;
use crate::config::{Mode, Rate};
use crate::decisions::Decisions;
use crate::metrics::{Metrics, NotReplayed};
use crate::status::ObjectMeta;

const NOW: Duration = Duration::from_secs(1_767_323_045);
const MS: Duration = Duration::from_millis(1);

/// A snapshot of a proxy that has seen two namespaces and holds one create.
pub(in crate::admin) fn example() -> Snapshot {
    let (metrics, decisions) = (Metrics::new(2, &[]), Arc::new(Decisions::new(8)));
    for (namespace, conflicts) in [("quiet", 1), ("busy", 3), ("beyond", 1)] {
        (0..conflicts).for_each(|_| metrics.conflict(namespace, "pods", "quota_conflict"));
    }
    (0..4).for_each(|_| metrics.replay("quota_conflict"));
    metrics.replay("throttled");
    metrics.outcome("busy", "pods", Outcome::Created);
    metrics.outcome("busy", "pods", Outcome::CreatedAfterReplay);
    metrics.outcome("quiet", "pods", Outcome::GaveUp);
    metrics.outcome("beyond", "jobs.batch", Outcome::Refused);
    metrics.outcome("busy", "services", Outcome::Created);
    metrics.not_replayed(NotReplayed::Attempts);
    metrics.certificate_expiry(i64::try_from(NOW.as_secs()).unwrap() + 86_400);
    metrics.front_proxy_certificate_expiry(i64::try_from(NOW.as_secs()).unwrap() + 7200);

    decisions
        .begin("busy", "pods")
        .end(Outcome::Created, "The apiserver stored the object.");
    let mut replayed = decisions.begin("busy", "pods");
    replayed.object(&ObjectMeta::named("", "step-"));
    replayed.attempt(Ok(409), "quota_conflict", 3 * MS);
    drop(replayed.hold(58 * MS));
    replayed.attempt(Err("connect"), "connect_failed", 2 * MS);
    drop(replayed.hold(1200 * MS));
    replayed.attempt(Ok(201), "success", 12 * MS);
    replayed.end(
        Outcome::CreatedAfterReplay,
        "The apiserver stored the object.",
    );
    drop(replayed);
    let mut waiting = decisions.begin("busy", "pods");
    waiting.object(&ObjectMeta::named("waiting", ""));
    waiting.attempt(Ok(409), "quota_conflict", 3 * MS);
    let _hold = waiting.hold(100 * MS);
    let _held = metrics.held();
    metrics.buffered().rise(1536);

    let mut config = Config {
        mode: Mode::Enforce,
        ..Config::default()
    };
    config.rate_limit.namespace = Some(Rate::new(5.0, 10));
    let server = |address: &str, healthy: bool, namespaces: &[&str]| ServerStatus {
        address: address.to_owned(),
        healthy,
        since: SystemTime::now() - Duration::from_secs(200),
        last_error: (!healthy).then(|| "connection refused".to_owned()),
        connections: 3,
        in_flight: 9,
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
    };
    Sources {
        config: &config,
        readings: metrics.read(),
        checks: vec![
            ("serving", Ok(String::new())),
            ("upstream", Err("connection refused".to_owned())),
        ],
        absorbed: history::absorbed(&metrics),
        absorbed_per_minute: vec![0, 1, 4],
        history_step: history::STEP,
        held: &decisions.held(),
        decisions: &decisions.recent(usize::MAX, |_| true),
        servers: vec![
            server("https://10.0.0.1:6443", true, &["busy", "quiet"]),
            server("https://10.0.0.2:6443", false, &[]),
        ],
        uptime: Duration::from_secs(200),
        now: UNIX_EPOCH + NOW,
    }
    .snapshot()
}

#[test]
fn counts_are_those_of_the_metrics() {
    let snapshot = example();
    assert_eq!(
        (snapshot.conflicts.met, snapshot.conflicts.absorbed),
        (5, 4),
        "a replay after another answer absorbs no conflict"
    );
    assert_eq!(
        (snapshot.conflicts.last_minute(), snapshot.conflicts.peak()),
        (4, 4)
    );
    let ended: Vec<_> = snapshot
        .outcomes
        .iter()
        .filter(|ended| ended.count > 0)
        .map(|ended| (&*ended.outcome, ended.count))
        .collect();
    assert_eq!(
        ended,
        [
            ("created", 2),
            ("created_after_replay", 1),
            ("refused", 1),
            ("gave_up", 1)
        ]
    );
    assert_eq!((snapshot.held, snapshot.ended(Outcome::GaveUp)), (1, 1));
}

#[test]
fn namespaces_are_ranked_by_conflicts() {
    let snapshot = example();
    let ranked: Vec<_> = snapshot
        .namespaces
        .iter()
        .map(|each| (each.title(), each.conflicts, each.creates()))
        .collect();
    assert_eq!(
        ranked,
        [("busy", 3, 3), ("(all others)", 1, 1), ("quiet", 1, 1),]
    );
    assert_eq!(
        (
            snapshot.namespaces[0].created,
            snapshot.namespaces[0].created_after_replay
        ),
        (2, 1)
    );
    assert_eq!(
        (
            snapshot.namespaces[2].gave_up,
            snapshot.namespaces[1].others
        ),
        (1, 1)
    );
}

#[test]
fn resources_are_ranked_by_conflicts() {
    let snapshot = example();
    let ranked: Vec<_> = snapshot
        .resources
        .iter()
        .map(|each| (each.title(), each.conflicts, each.creates()))
        .collect();
    assert_eq!(
        ranked,
        [("pods", 5, 3), ("(all others)", 0, 1), ("services", 0, 1)],
        "a refusal gives jobs.batch no label"
    );
}

#[test]
fn decisions_omit_first_attempt_successes_and_describe_the_others() {
    let snapshot = example();
    assert_eq!(
        (snapshot.decisions.len(), snapshot.decided, snapshot.plain),
        (1, 2, 1)
    );
    let decision = &snapshot.decisions[0];
    assert_eq!(
        decision.story(),
        "409 quota conflict, sent again after 58 ms: connect failed, sent again after 1.2 s: 201 success."
    );
    assert_eq!(
        (decision.object().as_str(), decision.outcome_in_words()),
        ("pods busy/step-*", "created after a replay")
    );
    assert_eq!(
        DecisionSummary {
            attempts: Vec::new(),
            ..decision.clone()
        }
        .story(),
        "No attempt."
    );
}

#[test]
fn limits_say_what_they_are_set_to_and_how_often_they_were_reached() {
    let snapshot = example();
    let row = |field: &str| {
        let limit = snapshot
            .limits
            .iter()
            .find(|limit| limit.field == field)
            .unwrap();
        (limit.set.as_str(), limit.now.as_str(), limit.reached)
    };
    assert_eq!(row("replay.maxAttempts"), ("8", "", 1));
    assert_eq!(row("replay.maxHold"), ("8 s", "", 0));
    assert_eq!(row("creates.maxBuffered"), ("256 MiB", "1.5 KiB", 0));
    assert_eq!(row("creates.maxHeld"), ("10,000", "1", 0));
    assert_eq!(
        row("replay.budget.other"),
        ("20 % of creates + 10/s", "", 0)
    );
    assert_eq!(row("rateLimit.namespace"), ("5/s, 10 at once", "", 0));
    assert_eq!(row("rateLimit.global"), ("no limit", "", 0));
}

#[test]
fn a_certificate_says_when_it_expires() {
    let of = |expiry: u64| certificate(expiry, UNIX_EPOCH + NOW);
    let (hours, soon, late, far) = (
        of(NOW.as_secs() + 7200),
        of(NOW.as_secs() + 86_400),
        of(NOW.as_secs() - 60),
        of(NOW.as_secs() + 31_536_000),
    );
    assert_eq!(
        [&hours, &soon, &late, &far, &of(0)].map(CertificateSummary::time_left),
        ["2 h", "1 day", "expired", "365 days", "not known"]
    );
    assert_eq!(
        [&soon, &late, &far, &of(0)].map(CertificateSummary::expires_soon),
        [true, true, false, false]
    );
    assert_eq!(soon.expires, "2026-01-03T03:04:05Z");
}

#[test]
fn a_snapshot_survives_json() {
    let snapshot = example();
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
}

#[test]
fn a_decision_reads_what_the_debug_page_shows() {
    let decisions = Arc::new(Decisions::new(1));
    let mut record = decisions.begin("busy", "pods");
    record.attempt(Err("lost"), "lost", 3 * MS);
    record.end(Outcome::NoAnswer, "why");
    drop(record);
    let recent = decisions.recent(1, |_| true);
    let shown = serde_json::to_value(&recent).unwrap();
    assert_eq!(
        serde_json::from_value::<Vec<DecisionSummary>>(shown).unwrap(),
        [decision_summary(&recent[0])]
    );
}
