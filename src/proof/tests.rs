use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rows::every;
use crate::status::protobuf::{Message, encode_object};

const AT: i64 = 1_700_000_000;
/// `AT` in RFC 3339.
const CREATED: &str = "2023-11-14T22:13:20Z";

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "a", "labels": { "app": "x" }, "creationTimestamp": null },
        "spec": { "containers": [
            { "name": "main", "image": "busybox", "resources": { "requests": { "cpu": "1000m" } } },
        ] },
        "status": {},
    })
}

/// The pod as it is stored, with defaults, a sidecar and what the server sets.
fn stored() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7",
            "creationTimestamp": CREATED,
            "labels": { "app": "x", "injected": "true" },
            "managedFields": [
                { "manager": "argo", "operation": "Update", "apiVersion": "v1" },
                { "manager": "kubelet", "operation": "Update", "subresource": "status" },
            ],
        },
        "spec": { "restartPolicy": "Always", "containers": [
            { "name": "proxy", "image": "sidecar" },
            {
                "name": "main", "image": "busybox", "terminationMessagePath": "/dev/log",
                "resources": { "requests": { "cpu": "1" } },
            },
        ] },
        "status": { "phase": "Pending" },
    })
}

/// The value with another one at a pointer; null removes it.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(key)),
        (parent, value) if parent.is_array() => parent[key.parse::<usize>().unwrap()] = value,
        (parent, value) => parent[key] = value,
    }
    object
}

fn sent(body: &[u8]) -> Sent<'_> {
    Sent {
        body,
        namespace: "ns",
        name: "a",
        manager: Some("argo"),
        at: Some(AT),
    }
}

fn proof(sending: &Value, found: &Value) -> Option<Proof> {
    let body = sending.to_string();
    compare(&sent(body.as_bytes()), found.to_string().as_bytes()).map(|found| found.proof)
}

#[test]
fn an_object_with_everything_that_was_sent_is_ours() {
    let with_sent = |pointer, value| with(pod(), pointer, value);
    every(
        [
            pod(),
            with_sent("/metadata/namespace", json!("ns")),
            with_sent("/metadata/annotations", json!({})),
            with_sent("/metadata/uid", json!("invented")),
            with_sent("/status", json!({ "phase": "Unknown" })),
            with_sent("/spec/restartPolicy", json!("")),
            with_sent("/spec/hostNetwork", json!(false)),
            with_sent("/spec/priority", json!(0)),
            with_sent("/spec/volumes", json!(null)),
            with_sent(
                "/spec/securityContext",
                json!({ "sysctls": [], "x": { "y": "" } }),
            ),
            with_sent("/spec/containers/0/resources/requests/cpu", json!(1)),
            with_sent("/spec/containers/0/resources/requests/cpu", json!("1.0")),
        ],
        |sending| assert_eq!(proof(&sending, &stored()), Some(Proof::Ours)),
    );
    let deleted = with(stored(), "/metadata/deletionTimestamp", json!(CREATED));
    assert_eq!(proof(&pod(), &deleted), Some(Proof::Ours));
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n";
    let found = compare(&sent(yaml.as_bytes()), stored().to_string().as_bytes());
    assert_eq!(found.map(|found| found.proof), Some(Proof::Ours));
}

#[test]
fn an_object_that_lacks_something_proves_nothing() {
    let owner = json!([{ "kind": "Job", "name": "j", "uid": "o" }]);
    let other = json!([{ "kind": "Job", "name": "j", "uid": "p" }]);
    let owned = with(stored(), "/metadata/ownerReferences", other);
    let fewer = |pointer| with(stored(), pointer, Value::Null);
    let two = json!([{ "name": "main", "image": "busybox" }, { "name": "proxy" }]);
    every(
        [
            (with(pod(), "/metadata/namespace", json!("other")), stored()),
            (with(pod(), "/metadata/labels/app", json!("y")), stored()),
            (with(pod(), "/metadata/labels/b", json!("y")), stored()),
            (with(pod(), "/metadata/finalizers", json!(["f"])), stored()),
            (with(pod(), "/metadata/generateName", json!("a-")), stored()),
            (
                with(pod(), "/metadata/ownerReferences", owner.clone()),
                stored(),
            ),
            (
                with(pod(), "/metadata/ownerReferences", owner),
                owned.clone(),
            ),
            (pod(), owned),
            (with(pod(), "/spec/hostNetwork", json!(true)), stored()),
            (with(pod(), "/spec/containers", two), stored()),
            (
                with(pod(), "/spec/containers/0/image", json!("other")),
                stored(),
            ),
            (with(pod(), "/kind", json!("Job")), stored()),
            (pod(), fewer("/metadata/labels")),
            (pod(), fewer("/spec")),
        ],
        |(sending, found)| {
            let expected = Proof::Unknown("it does not have everything that was sent");
            assert_eq!(proof(&sending, &found), Some(expected));
        },
    );
}

#[test]
fn time_and_manager_decide() {
    let at = |created| with(stored(), "/metadata/creationTimestamp", json!(created));
    let managed = |manager, operation| {
        let entries = json!([{ "manager": manager, "operation": operation }]);
        with(stored(), "/metadata/managedFields", entries)
    };
    let other_content = with(
        managed("kubectl", "Update"),
        "/metadata/labels/app",
        json!("y"),
    );
    every(
        [
            (at(CREATED), "ours"),
            (at("2023-11-14T23:00:00Z"), "ours"),
            (at("2023-11-14T22:13:19Z"), "unknown"),
            (at("2023-11-14T22:13:10Z"), "unknown"),
            (at("2023-11-14T22:13:09Z"), "foreign"),
            (at("yesterday"), "unknown"),
            (at(""), "unknown"),
            (managed("argo", "Apply"), "unknown"),
            (managed("kubectl", "Update"), "unknown"),
            (other_content, "foreign"),
            (
                with(stored(), "/metadata/managedFields", json!([])),
                "unknown",
            ),
            (
                with(stored(), "/metadata/managedFields", Value::Null),
                "unknown",
            ),
        ],
        |(found, expected)| {
            let proof = match proof(&pod(), &found).unwrap() {
                Proof::Ours => "ours",
                Proof::Foreign(_) => "foreign",
                Proof::Unknown(_) => "unknown",
            };
            assert_eq!(proof, expected);
        },
    );
    let body = pod().to_string();
    let unsure = [
        Sent {
            at: None,
            ..sent(body.as_bytes())
        },
        Sent {
            manager: None,
            ..sent(body.as_bytes())
        },
    ];
    every(unsure, |sent| {
        let found = compare(&sent, stored().to_string().as_bytes()).unwrap();
        assert!(matches!(found.proof, Proof::Unknown(_)), "{found:?}");
    });
}

#[test]
fn what_is_not_the_object_proves_nothing() {
    every(
        [
            json!({}),
            json!([]),
            with(stored(), "/metadata/name", json!("b")),
            with(stored(), "/metadata/namespace", json!("other")),
            with(stored(), "/metadata/uid", Value::Null),
            json!({ "kind": "Status", "metadata": {} }),
        ],
        |found| assert_eq!(proof(&pod(), &found), None),
    );
    let body = pod().to_string();
    every([&b""[..], b"k8s\0", b"<html>", b"\xff"], |found| {
        assert_eq!(compare(&sent(body.as_bytes()), found), None);
    });
}

#[test]
fn the_texts_of_a_secret_are_found_among_its_data() {
    let sending = json!({
        "kind": "Secret", "metadata": { "name": "a" }, "stringData": { "k": "text", "e": "" },
    });
    let secret = |data| with(with(stored(), "/kind", json!("Secret")), "/data", data);
    let ours = secret(json!({ "k": "dGV4dA==", "e": "" }));
    assert_eq!(proof(&sending, &ours), Some(Proof::Ours));
    let other = secret(json!({ "k": "b3RoZXI=" }));
    assert!(matches!(proof(&sending, &other), Some(Proof::Unknown(_))));
}

#[test]
fn the_servers_clock_is_that_of_the_answer_less_the_time_since() {
    let date = HeaderValue::from_static("Tue, 14 Nov 2023 22:13:20 GMT");
    let at = |millis| server_time(Some(&date), Duration::from_millis(millis));
    every(
        [
            (0, AT),
            (1, AT - 1),
            (1_000, AT - 1),
            (1_001, AT - 2),
            (61_500, AT - 62),
        ],
        |(millis, expected)| assert_eq!(at(millis), Some(expected)),
    );
    let none = Duration::ZERO;
    assert_eq!(server_time(None, none), None);
    let text = HeaderValue::from_static("now");
    assert_eq!(server_time(Some(&text), none), None);
}

/// An object with these fields of the metadata and of the spec.
fn protobuf(metadata: &Message, spec: &Message) -> Vec<u8> {
    let object = Message::new().message(1, metadata).message(2, spec);
    encode_object("v1", "Pod", &object.message(3, &Message::new())).to_vec()
}

/// The metadata that the server sets, and a label.
fn stored_meta() -> Message {
    let manager = Message::new().string(1, "argo").string(2, "Update");
    let label = Message::new().string(1, "app").string(2, "x");
    let created = Message::new().int(1, AT as u64).int(2, 0);
    Message::new()
        .string(1, "a")
        .string(2, "")
        .string(3, "ns")
        .string(5, "u")
        .string(6, "7")
        .message(8, &created)
        .message(11, &label)
        .message(17, &manager)
}

fn container(image: &str) -> Message {
    Message::new().string(1, "main").string(2, image)
}

#[test]
fn protobuf_is_compared_without_its_schema() {
    let meta = || Message::new().string(1, "a").string(2, "").string(3, "");
    let label = |value| Message::new().string(1, "app").string(2, value);
    let amount = |text| Message::new().string(1, text);
    let spec = Message::new()
        .message(2, &Message::new().string(1, "proxy").string(2, "sidecar"))
        .message(2, &container("busybox").message(8, &amount("1")))
        .string(3, "Always")
        .int(11, 1);
    let found = protobuf(&stored_meta(), &spec);
    let one = |container: &Message| Message::new().message(2, container);
    let busybox = || container("busybox");
    let owner = Message::new().string(1, "Job").string(5, "o");
    every(
        [
            (meta(), one(&busybox()), true),
            (meta().message(11, &label("x")), one(&busybox()), true),
            (meta(), one(&busybox().message(8, &amount("1000m"))), true),
            (meta(), one(&busybox()).string(3, "").int(11, 0), true),
            (
                meta(),
                one(&busybox()).message(9, &Message::new().int(1, 0)),
                true,
            ),
            (meta().string(5, "invented"), one(&busybox()), true),
            (meta().message(11, &label("y")), one(&busybox()), false),
            (meta().message(13, &owner), one(&busybox()), false),
            (meta(), one(&container("other")), false),
            (meta(), one(&busybox()).int(11, 2), false),
            (meta(), one(&busybox()).int(12, 2), false),
            (meta(), one(&busybox().message(8, &amount("2"))), false),
            (meta(), one(&busybox()).message(2, &busybox()), false),
        ],
        |(meta, spec, is_ours)| {
            let sending = protobuf(&meta, &spec);
            let proof = compare(&sent(&sending), &found).unwrap().proof;
            assert_eq!(proof == Proof::Ours, is_ours, "{proof:?}");
        },
    );
    let other_kind = encode_object("v1", "Job", &Message::new().message(1, &meta()));
    let proof = compare(&sent(&other_kind), &found).unwrap().proof;
    assert!(matches!(proof, Proof::Unknown(_)));
    assert_eq!(
        compare(&sent(&found), stored().to_string().as_bytes()),
        None
    );
}

#[test]
fn reads_the_uid_of_every_encoding() {
    let stored = stored().to_string();
    let found = protobuf(&stored_meta(), &Message::new());
    every(
        [
            (stored.as_bytes(), Some("u")),
            (&found, Some("u")),
            (b"metadata:\n  uid: u\n", Some("u")),
            (br#"{"metadata":{"uid":""}}"#, None),
            (br#"{"kind":"Table","rows":[]}"#, None),
            (b"", None),
        ],
        |(object, uid)| assert_eq!(uid_of(object).as_deref(), uid),
    );
}

proptest! {
    #[test]
    fn nothing_panics(body: Vec<u8>, found: Vec<u8>, mark in prop::sample::select(vec!["", "k8s\0", "{\"metadata\":"])) {
        let body = [mark.as_bytes(), &body].concat();
        let found = [mark.as_bytes(), &found].concat();
        let _ = compare(&sent(&body), &found);
        let _ = (names(&body), with_name(&body, "", "a"), uid_of(&body));
    }

    #[test]
    fn a_damaged_protobuf_does_not_panic(at in 0usize..100, byte: u8) {
        let mut found = protobuf(&stored_meta(), &container("busybox"));
        let sending = found.clone();
        let at = at % found.len();
        found[at] = byte;
        let _ = (compare(&sent(&sending), &found), compare(&sent(&found), &sending));
        let _ = with_name(&found, "a", "b");
    }

    #[test]
    fn every_object_has_all_of_itself(labels in prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,12}", 0..5)) {
        let sending = with(pod(), "/metadata/labels", json!(labels));
        let found = with(stored(), "/metadata/labels", json!(labels));
        prop_assert_eq!(proof(&sending, &found), Some(Proof::Ours));
    }
}

/// The number of fields is the sender's choice. With a scan for each of them, this test would take
/// minutes.
#[test]
fn many_fields_are_compared_up_to_a_limit() {
    let found = protobuf(&stored_meta(), &Message::new().string(3, "Always"));
    let meta = Message::new().string(1, "a").string(3, "");
    every([(90_000, true), (110_000, false)], |(count, is_ours)| {
        let zeros = (100..100 + count).rev();
        let spec = zeros.fold(Message::new(), |spec, number| spec.int(number, 0));
        let sending = protobuf(&meta, &spec.string(3, "Always"));
        let proof = compare(&sent(&sending), &found).unwrap().proof;
        assert_eq!(proof == Proof::Ours, is_ours, "{proof:?}");
    });
}
