//! Proof that a stored object is ours: a name that is filled in changes nothing else, an object that
//! is stored as it was sent is ours, and one that lacks something is not. The input is a body, or a
//! body, a line `---` and the answer of a lookup.

#![no_main]

use kube_retry_proxy::proof::{
    Names, Proof, Sent, compare, generated_name, names, path_segment, uid_of, with_name,
};
use kube_retry_proxy::status::protobuf::{FieldValue, Message, decode_object, encode_object};
use kube_retry_proxy::status::{Encoding, object_meta, protobuf};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// The time in `CREATED`.
const AT: i64 = 1_700_000_000;
const CREATED: &str = "2023-11-14T22:13:20Z";
const UID: &str = "7c1e";
const MANAGER: &str = "argo";
/// What no seed has, so that an object with it lacks it elsewhere.
const UNKNOWN: &str = "zz-unknown";

fuzz_target!(|input: &[u8]| {
    let line = b"\n---\n";
    let middle = input.windows(line.len()).position(|part| part == line);
    let (body, answer) = match middle {
        Some(middle) => (&input[..middle], &input[middle + line.len()..]),
        None => (input, input),
    };
    any_answer(body, answer);
    let Some(names) = names(body) else { return };
    generated(&names);
    filled_in(body, &names);
    match Encoding::sniff(body) {
        Encoding::Json => stored_as_json(body, &names),
        Encoding::Protobuf => stored_as_protobuf(body, &names),
        Encoding::Yaml | Encoding::Cbor => {}
    }
});

fn sent<'a>(body: &'a [u8], namespace: &'a str, name: &'a str) -> Sent<'a> {
    Sent {
        body,
        namespace,
        name,
        manager: Some(MANAGER),
        at: Some(AT),
    }
}

/// Whatever a lookup answers, its uid is the one that others read.
fn any_answer(body: &[u8], answer: &[u8]) {
    let meta = object_meta(answer).unwrap_or_default();
    let object: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let create = sent(body, namespace, &meta.name);
    let Some(found) = compare(&create, answer) else {
        return;
    };
    assert!(!found.uid.is_empty());
    if let Some(uid) = uid_of(answer) {
        assert_eq!(found.uid, uid);
    }
    if found.proof == Proof::Ours {
        for unknown in [
            Sent {
                manager: None,
                ..create
            },
            Sent { at: None, ..create },
            Sent {
                at: Some(i64::MAX),
                ..create
            },
        ] {
            let proof = compare(&unknown, answer).map(|found| found.proof);
            assert_ne!(proof, Some(Proof::Ours), "{unknown:?}");
        }
    }
    let other = Sent {
        name: "another",
        ..create
    };
    assert_eq!(compare(&other, answer).is_some(), meta.name == "another");
}

fn generated(names: &Names) {
    let Some(name) = generated_name(&names.generate_name, |below| below - 1) else {
        return;
    };
    assert!(name.len() <= 63 && name.ends_with("99999"));
    if let Some(segment) = path_segment(&names.name) {
        assert!(format!("/{segment}").parse::<http::Uri>().is_ok());
        assert!(!segment.contains(['/', '?', '#']));
    }
}

/// A body with another name has that name, and all else is the same.
fn filled_in(body: &[u8], names: &Names) {
    assert_eq!(with_name(body, UNKNOWN, "g-2x"), None);
    let Some(filled) = with_name(body, &names.name, "g-2x") else {
        return;
    };
    let expected = Names {
        name: "g-2x".into(),
        generate_name: names.generate_name.clone(),
    };
    assert_eq!(self::names(&filled), Some(expected));
    if let Some(meta) = object_meta(&filled) {
        assert_eq!(meta.name, "g-2x", "another reader");
    }
    assert_eq!(Encoding::sniff(&filled), Encoding::sniff(body));
    let back = with_name(&filled, "g-2x", &names.name).unwrap();
    assert_eq!(self::names(&back).as_ref(), Some(names));
    match Encoding::sniff(body) {
        Encoding::Json => {
            let [mut before, after] = [body, &filled].map(json_object);
            if let Some(before) = &mut before {
                before["metadata"]["name"] = "g-2x".into();
            }
            assert_eq!(before, after);
        }
        Encoding::Protobuf => {
            let [before, after] = [body, &filled].map(parts);
            assert_eq!(before, after);
        }
        Encoding::Yaml | Encoding::Cbor => panic!("it is never changed"),
    }
}

fn json_object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// The fields of a protobuf object: around it, of it without metadata, and of the metadata without
/// the name.
fn parts(body: &[u8]) -> [Vec<(u32, FieldValue<'_>)>; 3] {
    let without = |message, numbers: &[u32]| {
        let fields = protobuf::fields(message).map_while(Result::ok);
        fields
            .filter(|(number, _)| !numbers.contains(number))
            .collect::<Vec<_>>()
    };
    let Some(object) = decode_object(body) else {
        return Default::default();
    };
    [
        without(&body[protobuf::MAGIC.len()..], &[2]),
        without(object.raw, &[1]),
        without(metadata(object.raw), &[1]),
    ]
}

fn metadata(raw: &[u8]) -> &[u8] {
    protobuf::fields(raw)
        .map_while(Result::ok)
        .find_map(|field| match field {
            (1, FieldValue::Bytes(meta)) => Some(meta),
            _ => None,
        })
        .unwrap_or_default()
}

/// The name of the object as it is stored.
fn stored_name(names: &Names) -> &str {
    match names.name.as_str() {
        "" => "a",
        name => name,
    }
}

fn stored_as_json(body: &[u8], names: &Names) {
    let Some(sending) = json_object(body) else {
        return;
    };
    // The apiserver never shows `stringData`, and refuses a namespace that is not a text.
    let namespace = match sending["metadata"].get("namespace") {
        None | Some(Value::Null) => "",
        Some(Value::String(namespace)) => namespace,
        Some(_) => return,
    };
    if sending.get("kind").is_some_and(|kind| kind == "Secret") {
        return;
    }
    let name = stored_name(names);
    let mut stored = sending.clone();
    let meta = stored["metadata"].as_object_mut().unwrap();
    for (key, value) in [
        ("name", json!(name)),
        ("uid", json!(UID)),
        ("creationTimestamp", json!(CREATED)),
        (
            "managedFields",
            json!([{ "manager": MANAGER, "operation": "Update" }]),
        ),
    ] {
        meta.insert(key.into(), value);
    }
    let answer = |object: &Map<String, Value>| serde_json::to_vec(object).unwrap();
    judged(
        &sent(body, namespace, name),
        &answer(&stored),
        Some(&Proof::Ours),
    );
    // Something more was sent, at each place where an object has fields.
    for pointer in ["", "/spec", "/metadata/labels", "/data", "/spec/template"] {
        let mut more = Value::Object(sending.clone());
        if let Some(Value::Object(fields)) = more.pointer_mut(pointer)
            && fields
                .insert(UNKNOWN.into(), json!({ "x": ["y"] }))
                .is_none()
        {
            let more = more.to_string();
            judged(
                &sent(more.as_bytes(), namespace, name),
                &answer(&stored),
                None,
            );
        }
    }
    stored["metadata"]["creationTimestamp"] = json!("2023-11-14T22:12:20Z");
    judged(&sent(body, namespace, name), &answer(&stored), None);
}

/// What an object of our uid proves. None: anything but that it is ours.
fn judged(sent: &Sent<'_>, answer: &[u8], expected: Option<&Proof>) {
    let found = compare(sent, answer).expect("an object of this name");
    assert_eq!(found.uid, UID);
    let shown = || format!("{}\n{}", sent.body.escape_ascii(), answer.escape_ascii());
    match expected {
        Some(proof) => assert_eq!(&found.proof, proof, "{}", shown()),
        None => assert_ne!(found.proof, Proof::Ours, "{}", shown()),
    }
}

/// Numbers of fields of `ObjectMeta`: the name, and what the server sets.
const NOT_COPIED: [u32; 9] = [1, 4, 5, 6, 7, 8, 9, 10, 17];

fn stored_as_protobuf(body: &[u8], names: &Names) {
    let Some(object) = decode_object(body) else {
        return;
    };
    // No object of Kubernetes has a field of four bytes.
    let is_whole = |message| {
        protobuf::fields(message)
            .all(|field| field.is_ok_and(|(_, value)| !matches!(value, FieldValue::Fixed32(_))))
    };
    let meta = metadata(object.raw);
    if !is_whole(meta) || !is_whole(object.raw) {
        return;
    }
    let mut namespaces = protobuf::fields(meta)
        .flatten()
        .filter(|(number, _)| *number == 3);
    let namespace = match (namespaces.next(), namespaces.next()) {
        (None, None) => "",
        (Some((_, FieldValue::Bytes(text))), None) => match str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => return,
        },
        _ => return,
    };
    let name = stored_name(names);
    let entry = Message::new().string(1, MANAGER).string(2, "Update");
    let server = Message::new()
        .string(1, name)
        .string(5, UID)
        .message(8, &Message::new().int(1, AT.unsigned_abs()))
        .message(17, &entry);
    let copied = protobuf::fields(meta)
        .flatten()
        .filter(|(number, _)| !NOT_COPIED.contains(number));
    let stored_meta = copied.fold(server, with_field);
    let others = protobuf::fields(object.raw)
        .flatten()
        .filter(|(number, _)| *number != 1);
    let stored = others.fold(Message::new().message(1, &stored_meta), with_field);
    let stored = encode_object(object.api_version, object.kind, &stored);
    let create = sent(body, namespace, name);
    judged(&create, &stored, Some(&Proof::Ours));
    let earlier = Sent {
        at: Some(AT + 1),
        ..create
    };
    judged(&earlier, &stored, None);
    // Something more was sent.
    let more = Message::new().string(UNUSED, UNKNOWN);
    let sending = protobuf::fields(object.raw)
        .flatten()
        .fold(more, with_field);
    let sending = encode_object(object.api_version, object.kind, &sending);
    judged(&sent(&sending, namespace, name), &stored, None);
}

/// A field that no object has.
const UNUSED: u32 = 7919;

fn with_field(message: Message, (number, value): (u32, FieldValue<'_>)) -> Message {
    match value {
        FieldValue::Varint(value) => message.int(number, value),
        FieldValue::Fixed64(value) => message.fixed64(number, value),
        FieldValue::Fixed32(_) => message,
        FieldValue::Bytes(value) => message.bytes(number, value),
    }
}
