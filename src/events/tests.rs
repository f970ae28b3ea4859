use std::time::UNIX_EPOCH;

use super::*;
use crate::decisions::Decisions;
use crate::status::{Details, ObjectMeta, Status};
use crate::verdict::{Exceeded, Outcome};

const REASON: &str = "CreateGivenUp";

/// A create as `decisions` sends it.
fn given_up(why: &'static str) -> Report {
    let (sender, mut receiver) = mpsc::channel(1);
    let decisions = Arc::new(Decisions::new(0).report_to(Some(sender)));
    let mut record = decisions.begin("team", "jobs.batch");
    record.object(&ObjectMeta {
        kind: "Job".into(),
        generate_name: "step-".into(),
        ..ObjectMeta::default()
    });
    record.attempt(Ok(409), "quota_conflict", Duration::from_millis(5));
    drop(record.hold(Duration::ZERO));
    record.attempt(Err("connect"), "connect_failed", Duration::from_millis(5));
    record.api_version("batch/v1");
    record.end(Outcome::GaveUp, why);
    drop(record);
    receiver.try_recv().unwrap()
}

fn recorder() -> Recorder {
    let metrics = Arc::new(Metrics::new(1, &[]));
    let settings = config::UpstreamConfig {
        url: Some("http://127.0.0.1:1".parse().unwrap()),
        ..config::UpstreamConfig::default()
    };
    let upstream = Arc::new(Upstream::new(&settings, &metrics).unwrap());
    let enabled = config::EventsConfig {
        enabled: true,
        ..config::EventsConfig::default()
    };
    Recorder::new(&enabled, &upstream, &metrics).unwrap().1
}

#[test]
fn an_event_says_what_happened_to_which_object() {
    let time = UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_042);
    let event = event(&given_up("all attempts were used"), 3, "proxy-0", time);
    assert_eq!(event["eventTime"], "2026-01-01T00:00:00.000042Z");
    assert_eq!(
        event["regarding"],
        json!({ "apiVersion": "batch/v1", "kind": "Job", "namespace": "team", "name": "step-*" })
    );
    assert_eq!(
        event["note"],
        "Sent 2 times, held for 0.0 s, given up: all attempts were used. The last answer was connect (connect_failed). 3 more creates \
         of this namespace were given up since its last Event."
    );
}

#[test]
fn a_create_that_waits_for_a_quota_is_reported_once() {
    let (sender, mut receiver) = mpsc::channel(8);
    let decisions = Arc::new(Decisions::new(8).report_to(Some(sender)));
    let message = "pods \"a\" is forbidden: exceeded quota: compute, requested: requests.cpu=2, \
         used: requests.cpu=39500m, limited: requests.cpu=40";
    let quota = Exceeded::of(&Status {
        details: Details {
            name: "a".into(),
            kind: "pods".into(),
            ..Details::default()
        },
        ..Status::new(403, "Forbidden", message)
    });
    let mut record = decisions.begin("team", "pods");
    for _ in 0..2 {
        record.waits_for(quota.as_ref().unwrap(), "v1");
        drop(record.hold(Duration::ZERO));
    }
    let held = decisions.held().remove(0);
    assert_eq!(
        &*held.waits_for,
        "compute: requests.cpu: asked 2, free 500m of 40"
    );
    record.end(Outcome::CreatedAfterReplay, "");
    drop(record);
    let event = event(&receiver.try_recv().unwrap(), 2, "proxy-0", UNIX_EPOCH);
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Normal"), &json!("CreateWaitsForQuota"))
    );
    assert_eq!(
        event["note"],
        "Waits for the quota compute: requests.cpu: asked 2, free 500m of 40. 2 more creates of this \
         namespace have waited for a quota since its last Event."
    );
    receiver.try_recv().unwrap_err();
}

#[test]
fn a_namespace_has_its_own_events_for_each_reason() {
    let mut recorder = recorder();
    let start = Instant::now();
    assert_eq!(recorder.due("a", "CreateWaitsForQuota", start), Some(0));
    assert_eq!(recorder.due("a", REASON, start), Some(0));
    assert_eq!(recorder.due("a", REASON, start), None);
}

#[test]
fn a_namespace_gets_one_event_per_interval_that_counts_all_creates() {
    let mut recorder = recorder();
    let start = Instant::now();
    assert_eq!(recorder.due("a", REASON, start), Some(0));
    assert_eq!(recorder.due("a", REASON, start + EVERY / 2), None);
    assert_eq!(recorder.due("b", REASON, start + EVERY / 2), Some(0));
    assert_eq!(recorder.due("a", REASON, start + EVERY), Some(1));
    assert_eq!(recorder.due("a", REASON, start + EVERY * 3), Some(0));
}

#[test]
fn namespaces_are_forgotten_when_there_are_many() {
    let mut recorder = recorder();
    let start = Instant::now();
    for n in 0..MAX_NAMESPACES {
        assert_eq!(recorder.due(&n.to_string(), REASON, start), Some(0));
    }
    assert_eq!(recorder.due("one more", REASON, start), None);
    assert_eq!(recorder.due("one more", REASON, start + EVERY), Some(0));
}

#[test]
fn only_authorized_creates_that_were_given_up_are_handed_over() {
    let (sender, mut receiver) = mpsc::channel(8);
    let decisions = Arc::new(Decisions::new(8).report_to(Some(sender)));
    for outcome in Outcome::ALL {
        decisions.begin("team", "pods").end(*outcome, "");
    }
    let mut authorized = decisions.begin("team", "pods");
    authorized.end(Outcome::GaveUp, "");
    authorized.api_version("v1");
    drop(authorized);
    let report = receiver.try_recv().unwrap();
    assert!(matches!(&report, Report::GaveUp(decision) if decision.outcome == Outcome::GaveUp));
    receiver.try_recv().unwrap_err();
}
