//! Heads: cleaning one twice changes nothing, no client asserts who it is, and no secret is shown.
//! The input is a line with the target, and lines of headers.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::header::{AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode, Uri, Version};
use kube_retry_proxy::headers::{
    Redacted, Upgrade, Via, check, is_agreed, join_cookies, size, strip_trailers, to_client,
    to_upstream, tokens,
};
use kube_retry_proxy_fuzz::{headers, lines};
use libfuzzer_sys::fuzz_target;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|input: &[u8]| {
    let mut all = lines(input);
    let target = Uri::try_from(all.next().unwrap_or_default()).unwrap_or_default();
    let original = headers(all);
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        if let Err(malformed) = check(&target, version, &original) {
            let code = malformed.code().0;
            assert!(code.is_client_error() || code == StatusCode::NOT_IMPLEMENTED);
        }
    }
    for upgrade in [Upgrade::Strip, Upgrade::Keep] {
        let mut once = original.clone();
        to_upstream(&mut once, &PEER.into(), upgrade);
        let mut twice = once.clone();
        to_upstream(&mut twice, &PEER.into(), upgrade);
        assert_eq!(once, twice, "{upgrade:?}");
        is_clean(
            &once,
            upgrade == Upgrade::Keep && original.contains_key(UPGRADE),
        );
        let claims = |name: &str| {
            name.starts_with("x-remote-") || name == "x-real-ip" || name == "forwarded"
        };
        assert!(!once.keys().any(|name| claims(name.as_str())), "{once:?}");
        assert_eq!(
            once.get_all("x-forwarded-for").iter().collect::<Vec<_>>(),
            ["10.0.0.1"]
        );
    }
    for code in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
        let mut answer = Response::new(());
        *answer.status_mut() = code;
        *answer.headers_mut() = original.clone();
        to_client(&mut answer);
        let once = answer.headers().clone();
        is_clean(
            &once,
            code == StatusCode::SWITCHING_PROTOCOLS && original.contains_key(UPGRADE),
        );
        to_client(&mut answer);
        assert_eq!(&once, answer.headers());
    }
    let asked: Vec<_> = original.get_all(UPGRADE).iter().cloned().collect();
    let named = tokens(&original, &UPGRADE).any(|protocol| !protocol.is_empty());
    assert_eq!(is_agreed(&asked, &original), named);

    let mut trailers = original.clone();
    strip_trailers(&mut trailers);
    assert!(size(&trailers) <= size(&original));
    assert!(!trailers.contains_key(TRANSFER_ENCODING) && !trailers.contains_key(AUTHORIZATION));

    let mut cookies = original.clone();
    join_cookies(&mut cookies);
    assert!(cookies.get_all("cookie").iter().count() <= 1);

    loops(&original);
    secrets(original);
});

fn is_clean(headers: &HeaderMap, upgraded: bool) {
    let here = [
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "proxy-authorization",
    ];
    assert!(
        here.iter().all(|name| !headers.contains_key(*name)),
        "{headers:?}"
    );
    assert_eq!(headers.contains_key(CONNECTION), upgraded, "{headers:?}");
    assert_eq!(headers.contains_key(UPGRADE), upgraded, "{headers:?}");
}

fn loops(headers: &HeaderMap) {
    let via = Via::new(0x5eed);
    let mut passed = headers.clone();
    via.append(&mut passed, Version::HTTP_2);
    assert!(via.has_passed(&passed));
    assert!(!Via::new(0x0dd).has_passed(&passed) || Via::new(0x0dd).has_passed(headers));
}

fn secrets(mut headers: HeaderMap) {
    headers.append(
        AUTHORIZATION,
        HeaderValue::from_static("Bearer Q7-never-shown"),
    );
    headers.append("cookie", HeaderValue::from_static("Q7-never-shown"));
    let shown = format!("{:?}", Redacted(&headers));
    assert!(!shown.contains("Q7-never-shown"), "{shown}");
}
