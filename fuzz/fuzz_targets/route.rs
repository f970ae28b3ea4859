//! Routes and timeouts: only what the apiserver takes for a create is one, however it is written.
//! The input is a line like `POST /api/v1/…`, and lines of headers.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use http::{Method, Uri};
use kube_retry_proxy::config::CreatesConfig;
use kube_retry_proxy::route::{MatchedResources, RequestInfo, Route, timeout};
use kube_retry_proxy_fuzz::{headers, lines};
use libfuzzer_sys::fuzz_target;

static MATCHED: LazyLock<MatchedResources> =
    LazyLock::new(|| MatchedResources::from(&CreatesConfig::default()));

fuzz_target!(|input: &[u8]| {
    let mut all = lines(input);
    let mut words = all
        .next()
        .unwrap_or_default()
        .splitn(2, |byte| *byte == b' ');
    let (Ok(method), Some(Ok(uri))) = (
        Method::from_bytes(words.next().unwrap_or_default()),
        words.next().map(Uri::try_from),
    ) else {
        return;
    };
    let headers = headers(all);
    let route = Route::of(&method, &uri, &headers, &MATCHED);
    if let Route::Create(target) = &route {
        assert!(method == Method::POST || method == Method::PATCH);
        assert_eq!(target.applied.is_some(), method == Method::PATCH);
        assert!(!target.namespace.is_empty() && !target.namespace.contains('/'));
        let is_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        assert!(target.resource.bytes().all(is_name), "{}", target.resource);
        let info = RequestInfo::new(&method, uri.path(), uri.query().unwrap_or_default());
        assert!(!info.is_long_running());
    }
    // A path means the same however it is escaped.
    let escaped: String = uri.path().bytes().map(escape(uri.path())).collect();
    if let Some(other) = with_path(&uri, &escaped) {
        assert_eq!(
            Route::of(&method, &other, &headers, &MATCHED),
            route,
            "{other}"
        );
    }
    // And with a slash at its end.
    if !uri.path().contains("pprof")
        && !uri.path().contains('%')
        && let Some(other) = with_path(&uri, &format!("{}/", uri.path()))
    {
        assert_eq!(
            Route::of(&method, &other, &headers, &MATCHED),
            route,
            "{other}"
        );
    }
    timeouts(&uri);
});

/// Escapes letters. What is escaped already stays.
fn escape(path: &str) -> impl FnMut(u8) -> String {
    let escaped = path.contains('%');
    move |byte| match byte {
        b'a'..=b'z' if !escaped => format!("%{byte:02x}"),
        _ => char::from(byte).to_string(),
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    (uri.path().is_ascii() && uri.path().starts_with('/'))
        .then(|| Uri::try_from(format!("{path}{query}")).ok())?
}

fn timeouts(uri: &Uri) {
    let asked = timeout::of(uri);
    for elapsed in [0, 1, 1500, u64::MAX / 4].map(Duration::from_millis) {
        let Some(shorter) = timeout::shortened(uri, elapsed) else {
            assert!(asked.is_none() || uri.to_string().len() > 60_000);
            continue;
        };
        let left = asked
            .unwrap()
            .saturating_sub(elapsed)
            .max(Duration::from_millis(1));
        let sent = timeout::of(&shorter).unwrap();
        assert!(
            sent <= left && left - sent < Duration::from_millis(1),
            "{sent:?} of {left:?}"
        );
        assert_eq!(shorter.path(), uri.path());
        let count = |uri: &Uri| uri.query().unwrap_or_default().split('&').count();
        assert_eq!(count(&shorter), count(uri), "a parameter is lost");
    }
}
