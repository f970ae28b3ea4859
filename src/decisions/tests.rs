use serde_json::json;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_replayed_create_records_every_attempt() {
    let decisions = Arc::new(Decisions::new(8));
    let mut record = decisions.begin("argo", "pods");
    record.object(&ObjectMeta::named("", "step-"));
    record.attempt(Err("connect"), "connect_failure", 3 * MS);
    let hold = record.hold(50 * MS);
    tokio::time::sleep(50 * MS).await;
    drop(hold);
    record.attempt(Ok(201), "created", 12 * MS);
    record.end(Outcome::CreatedAfterReplay, "the second attempt succeeded");
    drop(record);

    let mut json = serde_json::to_value(decisions.recent(10, |_| true)).unwrap();
    let time = json[0]["time"].take();
    let time = time.as_str().unwrap();
    assert!(
        time.ends_with('Z') && time.len() <= "2026-01-02T03:04:05.678Z".len(),
        "{time}"
    );
    assert_eq!(
        json,
        json!([{
            "time": null,
            "namespace": "argo",
            "name": "step-*",
            "resource": "pods",
            "attempts": [
                {"error": "connect", "class": "connect_failure", "durationMs": 3, "delayMs": 50},
                {"code": 201, "class": "created", "durationMs": 12},
            ],
            "outcome": "created_after_replay",
            "why": "the second attempt succeeded",
            "heldMs": 50,
        }])
    );
}

#[test]
fn the_name_in_the_url_wins() {
    let decisions = Arc::new(Decisions::new(1));
    let mut record = decisions.begin("argo", "jobs.batch");
    record.named("mine");
    record.object(&ObjectMeta::named("another", "step-"));
    drop(record);
    let recent = decisions.recent(1, |_| true);
    assert_eq!(
        (&*recent[0].name, &*recent[0].resource),
        ("mine", "jobs.batch")
    );
}

#[tokio::test(start_paused = true)]
async fn the_registry_shows_what_is_held_now() {
    let decisions = Arc::new(Decisions::new(8));
    let mut record = decisions.begin("argo", "pods");
    record.object(&ObjectMeta::named("step-1", ""));
    record.attempt(Ok(409), "quota_conflict", MS);
    assert!(decisions.held().is_empty(), "not held yet");
    let hold = record.hold(100 * MS);
    tokio::time::advance(30 * MS).await;
    let expected = json!([{
        "namespace": "argo", "name": "step-1", "resource": "pods", "attempts": 1, "class": "quota_conflict",
        "heldForMs": 30, "nextAttemptInMs": 70,
    }]);
    assert_eq!(serde_json::to_value(decisions.held()).unwrap(), expected);
    drop(hold);
    assert_eq!(
        decisions.held()[0].next_attempt,
        None,
        "the attempt is in flight"
    );
    assert_eq!(record.held(), 30 * MS);
    record.end(Outcome::Created, "");
    drop(record);
    assert!(decisions.held().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_dropped_in_a_pause_says_that_the_client_left() {
    let decisions = Arc::new(Decisions::new(8));
    {
        let mut record = decisions.begin("argo", "pods");
        record.attempt(Ok(409), "quota_conflict", MS);
        let _hold = record.hold(100 * MS);
        tokio::time::advance(30 * MS).await;
    }
    assert!(decisions.held().is_empty());
    let recent = decisions.recent(1, |_| true);
    assert_eq!(
        (recent[0].outcome, recent[0].held),
        (Outcome::ClientGone, 30 * MS)
    );
}

#[test]
fn the_oldest_decisions_make_room_and_the_newest_come_first() {
    let decisions = Arc::new(Decisions::new(2));
    for (namespace, name) in [("a", "1"), ("b", "2"), ("a", "3")] {
        let mut record = decisions.begin(namespace, "pods");
        record.object(&ObjectMeta::named(name, ""));
        record.end(Outcome::Created, "");
    }
    let names = |namespace: Option<&str>, limit| {
        decisions
            .recent(limit, |each| {
                namespace.is_none_or(|namespace| *each.namespace == *namespace)
            })
            .into_iter()
            .map(|each| each.name.into_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None, 10), ["3", "2"]);
    assert_eq!(names(None, 1), ["3"]);
    assert_eq!(names(Some("b"), 10), ["2"]);
    assert_eq!(names(Some("c"), 10), Vec::<String>::new());
}

#[test]
fn a_capacity_of_0_keeps_none() {
    let decisions = Arc::new(Decisions::new(0));
    decisions.begin("a", "pods").end(Outcome::Created, "");
    assert!(decisions.recent(10, |_| true).is_empty());
}

#[test]
fn overlong_names_are_truncated() {
    let decisions = Arc::new(Decisions::new(1));
    let mut record = decisions.begin(&"é".repeat(1000), "pods");
    record.object(&ObjectMeta::named("", &"x".repeat(1000)));
    record.end(Outcome::Refused, "");
    drop(record);
    let recent = decisions.recent(1, |_| true);
    assert_eq!(
        (recent[0].namespace.len(), recent[0].name.len()),
        (252, 254)
    );
}
