//! Compares encoder and decoder with captured answers of real apiservers.

use proptest::prelude::*;

use super::*;
use crate::Canned;

/// The body of a captured answer.
fn sample(name: &str) -> Bytes {
    let raw = std::fs::read(format!("{}/{name}.http", crate::SAMPLES)).unwrap();
    Canned::captured(&raw).unwrap().body
}

fn quota_conflict() -> Status {
    let message = "Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; \
                   please apply your changes to the latest version and try again";
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(Details {
        name: "compute-quota".into(),
        kind: "resourcequotas".into(),
        ..Details::default()
    });
    status
}

#[test]
fn decodes_the_same_status_from_every_encoding() {
    for name in [
        "quota_conflict_409",
        "quota_conflict_409_clientgo_accept",
        "quota_conflict_409_protobuf",
        "quota_conflict_409_yaml",
    ] {
        let read = Status::decode(&sample(name));
        assert_eq!(read, Some(quota_conflict()), "{name}");
    }
}

#[test]
fn encodes_each_status_as_the_apiserver_did() {
    for name in [
        "already_exists_409",
        "already_exists_409_protobuf",
        "anonymous_403",
        "bad_json_400",
        "etcd_stalled_quota_timeout_500",
        "exceeded_quota_403",
        "exceeded_quota_403_protobuf",
        "invalid_422_two_causes",
        "namespace_mismatch_400",
        "quota_conflict_409",
        "quota_conflict_409_clientgo_accept",
        "quota_conflict_409_protobuf",
        "quota_status_unknown_403",
        "sa_token_missing_500",
        "unauthorized_401",
    ] {
        let body = sample(name);
        let written = Status::decode(&body).unwrap().encode(Encoding::of(&body));
        assert_eq!(written, body, "{name}");
    }
}

/// YAML allows several spellings. Every key is on the same line as in the captured answer; folded
/// values are not compared.
#[test]
fn writes_yaml_keys_as_the_apiserver_does() {
    let keys = |body: &[u8]| {
        String::from_utf8_lossy(body)
            .lines()
            .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
            .filter(|key| key.len() < 20)
            .collect::<Vec<_>>()
    };
    let body = sample("quota_conflict_409_yaml");
    let written = quota_conflict().encode(Encoding::Yaml);
    assert_eq!(keys(&written), keys(&body));
    assert_eq!(Status::decode(&written), Some(quota_conflict()));
}

#[test]
fn finds_no_failure_in_other_bodies() {
    for name in ["created_201", "too_many_requests_429"] {
        assert_eq!(Status::decode(&sample(name)), None, "{name}");
    }
    for body in [
        "",
        "Too many requests, please try again later.\n",
        "{}",
        r#"{"kind":"Pod","apiVersion":"v1"}"#,
        r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#,
        "k8s\0",
    ] {
        assert_eq!(Status::decode(body.as_bytes()), None, "{body}");
    }
}

proptest! {
    #[test]
    fn every_status_survives_every_encoding(
        code in 100..600,
        reason in "[A-Za-z]{0,20}",
        message in "\\PC{0,90}",
        cause in "\\PC{0,20}",
    ) {
        let status = Status::new(code, &reason, message).caused_by(&reason, &cause);
        for encoding in [Encoding::Json, Encoding::Yaml, Encoding::Protobuf] {
            let body = status.encode(encoding);
            let read = Status::decode(&body);
            prop_assert_eq!(read.as_ref(), Some(&status), "{}", String::from_utf8_lossy(&body));
        }
    }
}
