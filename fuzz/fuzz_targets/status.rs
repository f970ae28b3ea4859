//! A Status that is read means the same in each encoding, and is written in one way.

#![no_main]

use http::{HeaderMap, StatusCode};
use kube_retry_proxy::status::{Encoding, Status, protobuf};
use kube_retry_proxy::verdict::{classify, classify_status};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    // Frames of watches share the reader of protobuf.
    if let Some((_, object, rest)) = protobuf::decode_watch_frame(body) {
        assert!(object.len() + rest.len() < body.len());
    }
    let Some(status) = Status::decode(body) else {
        return;
    };
    if Encoding::sniff(body) == Encoding::Cbor {
        let read = ciborium::from_reader::<ciborium::Value, _>(body);
        let deep = matches!(read, Err(ciborium::de::Error::RecursionLimitExceeded));
        assert!(read.is_ok() || deep, "another reader refuses it: {read:?}");
    }
    for encoding in Encoding::ALL {
        let written = status.encode(encoding);
        assert_eq!(Encoding::sniff(&written), encoding);
        let read = Status::decode(&written);
        assert_eq!(read.as_ref(), Some(&status), "{encoding:?} {written:?}");
        assert_eq!(
            read.map(|read| read.encode(encoding)),
            Some(written.clone())
        );
        let Ok(code) = StatusCode::from_u16(status.code) else {
            continue;
        };
        if !code.is_success() {
            let class = classify(code, &HeaderMap::new(), &written).class;
            assert_eq!(class, classify_status(code, &status), "{encoding:?}");
        }
    }
});
