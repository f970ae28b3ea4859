use super::*;
use crate::amounts::Amounts;

fn store() -> Store {
    let store = Store::new(1);
    store.create_namespace("a").unwrap();
    store.create_namespace("b").unwrap();
    store
}

fn pod(namespace: &str, name: &str) -> NewPod {
    NewPod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..NewPod::default()
    }
}

fn pods(milli: i128) -> Amounts {
    let mut amounts = Amounts::new();
    amounts.set("pods", milli);
    amounts
}

#[test]
fn stores_each_name_once() {
    let store = store();
    let first = store.create_pod(pod("a", "x")).unwrap();
    assert_eq!(
        store.create_pod(pod("a", "x")).unwrap_err(),
        StoreError::Exists
    );
    assert_eq!(store.pod("a", "x").unwrap().uid, first.uid);
    assert!(
        store.create_pod(pod("b", "x")).is_ok(),
        "the same name in another namespace is free"
    );
}

#[test]
fn the_second_of_two_writes_from_one_revision_loses() {
    let store = store();
    let read = store.create_quota("a", "q", pods(9)).unwrap();
    assert!(
        store
            .update_quota_status("a", "q", read.revision, pods(9), pods(1))
            .is_ok()
    );
    let second = store.update_quota_status("a", "q", read.revision, pods(9), pods(2));
    assert_eq!(second.unwrap_err(), StoreError::Conflict);
    assert_eq!(store.quota("a", "q").unwrap().used, pods(1));
    assert_eq!(store.quota_writes(), QuotaWrites { won: 1, lost: 1 });
}

#[test]
fn lists_one_namespace_or_all() {
    let store = store();
    for (namespace, name) in [("a", "2"), ("a", "1"), ("b", "3")] {
        store.create_pod(pod(namespace, name)).unwrap();
    }
    let names = |list: Vec<Arc<Pod>>| {
        list.iter()
            .map(|pod| pod.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(store.pods(Some("a")).0), ["1", "2"]);
    assert_eq!(names(store.pods(None).0), ["1", "2", "3"]);
}

#[test]
fn the_log_has_every_change_in_order() {
    let store = store();
    let start = store.revision();
    store.create_pod(pod("a", "x")).unwrap();
    store.delete_pod("a", "x").unwrap();
    let events = store.pod_events(start, 10).unwrap();
    assert_eq!(
        events.iter().map(|event| event.change).collect::<Vec<_>>(),
        [Change::Added, Change::Deleted]
    );
    assert!(events[0].revision < events[1].revision);
    assert_eq!(
        events[1].object.revision, events[1].revision,
        "a deletion carries its own revision"
    );
    assert!(store.pod_events(events[1].revision, 10).unwrap().is_empty());
}

#[test]
fn a_watch_from_a_compacted_revision_has_to_list_again() {
    let mut log = Log::new(2);
    for revision in 1..=4 {
        log.push(Event {
            revision,
            at: Instant::now(),
            working: 0,
            change: Change::Added,
            object: Arc::new(()),
        });
    }
    assert_eq!(log.after(1, 10).unwrap_err(), Compacted { oldest: 2 });
    assert_eq!(log.after(2, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn wakes_subscribers_at_every_change() {
    let store = store();
    let mut changes = store.subscribe();
    changes.mark_unchanged();
    store.create_pod(pod("a", "x")).unwrap();
    changes.changed().await.unwrap();
    assert_eq!(*changes.borrow(), store.revision());
}
