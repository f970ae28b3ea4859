//! What a proxy owes the headers on their way through: hop-by-hop fields go, forged identities go, secrets stay out of logs, the rest is untouched.
//!
//! Order and duplicates survive. `HeaderMap::remove` swaps the last entry into the gap, so nothing here removes: it scans, and only where
//! something must go rebuilds in order. A request that needs no change costs no allocation. Called by `forward`, `create` and `upgrade`.

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What becomes of `Upgrade` and of `Connection: upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// They are hop-by-hop fields like the others.
    Strip,
    /// They pass, on the way of a tunnel being set up.
    Keep,
}

/// Makes a request's headers fit for the apiserver: hop-by-hop fields and `X-Remote-*` go, `X-Forwarded-For` becomes the peer's address.
pub fn to_upstream(headers: &mut HeaderMap, peer: IpAddr, upgrade: Upgrade) {
    strip_hop_by_hop(headers, upgrade);
    strip_remote_identity(headers);
    set_forwarded_for(headers, peer);
}

/// Strips the fields that concern one connection only (RFC 9110 §7.6.1): those that `Connection` names, and those known to.
///
/// - `TE: trailers` stays, alone: we do forward trailers, and HTTP/2 knows no other use of it (RFC 9113 §8.2.2).
/// - `Trailer` stays: it only announces fields, and hyper sends no HTTP/1.1 trailer that is not announced.
/// - `Proxy-Authenticate` and `Proxy-Authorization` go, as in Go's `ReverseProxy`: a proxy's credentials are not the apiserver's business.
/// - `Host` and `Content-Length` stay even where `Connection` names them, which it must not.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: Upgrade) {
    let keep_upgrade = upgrade == Upgrade::Keep && headers.contains_key(header::UPGRADE);
    let trailers = tokens(headers, header::TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    let named = named_by_connection(headers);
    retain(headers, |name, _| match *name {
        header::HOST | header::CONTENT_LENGTH => true,
        header::CONNECTION | header::UPGRADE => keep_upgrade,
        header::TE => trailers,
        _ => !is_hop_by_hop(name) && !named.contains(name),
    });
    // `insert` on a present name keeps its place.
    if keep_upgrade {
        insert(headers, header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if trailers && (headers.get_all(header::TE).iter().count() > 1 || headers.get(header::TE) != Some(&TRAILERS)) {
        insert(headers, header::TE, TRAILERS);
    }
}

/// Strips every `X-Remote-*`. To an apiserver that trusts our client certificate they would be somebody's identity (`X-Remote-User`).
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/headerrequest/requestheader.go>
pub fn strip_remote_identity(headers: &mut HeaderMap) {
    retain(headers, |name, _| !is_remote_identity(name));
}

/// Sets `X-Forwarded-For` to the peer alone: the apiserver audits it as source address, and what the client claims is not evidence.
///
/// `Forwarded` and other `X-Forwarded-*` pass: the apiserver reads none of them.
pub fn set_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    if let Ok(value) = HeaderValue::try_from(peer.to_canonical().to_string()) {
        insert(headers, FORWARDED_FOR, value);
    }
}

/// Marks secrets so that `Debug` hides them and HPACK keeps them out of its tables.
pub fn mark_sensitive(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if is_secret(name, value) {
            value.set_sensitive(true);
        }
    }
}

/// What a head or trailers occupy, as HTTP/2 counts them (RFC 9113 §6.5.2).
pub fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// Prints headers with secrets replaced by `<redacted>`: credentials, cookies, asserted identities, and the bearer token that browsers put into
/// `Sec-WebSocket-Protocol`. User names (`Impersonate-*`) are no secrets.
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a HeaderMap);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name.as_str(), Shown(name, value)));
        f.debug_map().entries(shown).finish()
    }
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{name}: {:?}", Shown(name, value))?;
        }
        Ok(())
    }
}

struct Shown<'a>(&'a HeaderName, &'a HeaderValue);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_sensitive() || is_secret(self.0, self.1) { f.write_str("<redacted>") } else { self.1.fmt(f) }
    }
}

fn is_secret(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::AUTHORIZATION | header::PROXY_AUTHORIZATION | header::COOKIE | header::SET_COOKIE => true,
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go
        _ if *name == WEBSOCKET_PROTOCOL => {
            let mark = b"base64url.bearer.authorization.k8s.io.";
            value.as_bytes().windows(mark.len()).any(|window| window.eq_ignore_ascii_case(mark))
        }
        _ => is_remote_identity(name),
    }
}

/// `HeaderName` is lower case already.
fn is_remote_identity(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-remote-")
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, header::PROXY_AUTHENTICATE | header::PROXY_AUTHORIZATION | header::TRANSFER_ENCODING)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The present headers that `Connection` names. Empty, hence without allocation, where there is no `Connection`.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for token in tokens(headers, header::CONNECTION) {
        if let Ok(name) = HeaderName::try_from(token)
            && headers.contains_key(&name)
            && !named.contains(&name)
        {
            named.push(name);
        }
    }
    named
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',').map(str::trim))
}

/// Drops the fields that `keep` refuses, leaving the others in place; touches nothing where it refuses none.
fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    if headers.iter().all(|(name, value)| keep(name, value)) {
        return;
    }
    let mut kept = HeaderMap::try_with_capacity(headers.keys_len()).unwrap_or_default();
    let mut current = None;
    for (name, value) in std::mem::take(headers) {
        // Only the first of several values carries the name.
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| keep(name, &value)) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// `HeaderMap::insert` panics at 32,768 names; a request of that many is refused elsewhere, and one header less does no harm.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _ = headers.try_insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    }

    fn stripped(before: &[(&str, &str)], upgrade: Upgrade) -> Vec<(String, String)> {
        let mut headers = map(before);
        strip_hop_by_hop(&mut headers, upgrade);
        lines(&headers)
    }

    #[test]
    fn strips_what_concerns_one_connection() {
        let before = [
            ("host", "a"),
            ("connection", "keep-alive, X-Mine, close"),
            ("connection", "Content-Length, host"),
            ("x-mine", "1"),
            ("accept", "1"),
            ("x-mine", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("trailer", "X-Sum"),
            ("accept", "2"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("content-length", "5"),
            ("audit-id", "7"),
        ];
        let after = [("host", "a"), ("accept", "1"), ("accept", "2"), ("trailer", "X-Sum"), ("content-length", "5"), ("audit-id", "7")];
        assert_eq!(stripped(&before, Upgrade::Strip), lines(&map(&after)));
    }

    #[test]
    fn keeps_the_upgrade_of_a_tunnel_and_no_more() {
        let before = [
            ("connection", "keep-alive, Upgrade, X-Mine"),
            ("x-mine", "1"),
            ("upgrade", "SPDY/3.1"),
            ("keep-alive", "5"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ];
        let after = [
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ];
        assert_eq!(stripped(&before, Upgrade::Keep), lines(&map(&after)));
        // An ordinary answer to an upgrade has nothing to keep.
        assert_eq!(stripped(&[("connection", "close"), ("date", "x")], Upgrade::Keep), lines(&map(&[("date", "x")])));
    }

    #[test]
    fn keeps_te_trailers_alone() {
        let te = |value: &str| stripped(&[("te", value), ("accept", "x")], Upgrade::Strip);
        assert_eq!(te("trailers"), lines(&map(&[("te", "trailers"), ("accept", "x")])));
        assert_eq!(te("gzip, Trailers"), lines(&map(&[("te", "trailers"), ("accept", "x")])));
        assert_eq!(te("gzip;q=0.5"), lines(&map(&[("accept", "x")])));
        let named = [("connection", "TE"), ("te", "trailers"), ("te", "gzip")];
        assert_eq!(stripped(&named, Upgrade::Strip), lines(&map(&[("te", "trailers")])));
    }

    #[test]
    fn no_client_can_assert_an_identity_or_an_address() {
        let mut headers = map(&[
            ("X-Remote-User", "root"),
            ("authorization", "Bearer t"),
            ("x-remote-group", "system:masters"),
            ("x-forwarded-for", "1.2.3.4"),
            ("X-REMOTE-EXTRA-scopes", "x"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "https"),
            ("impersonate-user", "jane"),
            ("x-remotely", "stays"),
        ]);
        to_upstream(&mut headers, "::ffff:10.0.0.1".parse().unwrap(), Upgrade::Strip);
        let after = [
            ("authorization", "Bearer t"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("impersonate-user", "jane"),
            ("x-remotely", "stays"),
        ];
        assert_eq!(lines(&headers), lines(&map(&after)));
    }

    #[test]
    fn hides_secrets_and_shows_the_rest() {
        let mut headers = map(&[
            ("authorization", "Bearer s3cret"),
            ("proxy-authorization", "Basic s3cret"),
            ("cookie", "s3cret"),
            ("set-cookie", "s3cret"),
            ("x-remote-user", "s3cret"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.s3cret"),
            ("impersonate-user", "jane"),
            ("accept", "a\"b"),
        ]);
        let shown = format!("{:?} {}", Redacted(&headers), Redacted(&headers));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("jane") && shown.contains("authorization: <redacted>"), "{shown}");
        mark_sensitive(&mut headers);
        assert_eq!(headers.values().filter(|value| value.is_sensitive()).count(), 6);
        assert!(!format!("{headers:?}").contains("s3cret"));
        assert_eq!(
            Redacted(&map(&[("sec-websocket-protocol", "v5.channel.k8s.io")])).to_string(),
            "sec-websocket-protocol: \"v5.channel.k8s.io\""
        );
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop::sample::select(vec![
            "a",
            "b",
            "c",
            "host",
            "accept",
            "connection",
            "te",
            "upgrade",
            "keep-alive",
            "x-remote-user",
            "x-forwarded-for",
            "warning",
        ]);
        let value = "(a|b|te|trailers|upgrade|host|, |,|x){0,5}";
        prop::collection::vec((name, value), 0..20).prop_map(|all| {
            let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
            map(&all)
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_keeps_its_order_and_duplicates(headers in any_headers(), keep: bool) {
            let mut after = headers.clone();
            to_upstream(&mut after, IpAddr::from([10, 0, 0, 1]), if keep { Upgrade::Keep } else { Upgrade::Strip });
            let rewritten = |name: &str| ["connection", "te", "x-forwarded-for"].contains(&name);
            let kept: Vec<_> = lines(&headers).into_iter().filter(|(name, _)| after.contains_key(name) && !rewritten(name)).collect();
            let sent: Vec<_> = lines(&after).into_iter().filter(|(name, _)| !rewritten(name)).collect();
            prop_assert_eq!(kept, sent);
            let names: Vec<_> = headers.keys().filter(|name| after.contains_key(*name)).collect();
            let expected: Vec<_> = after.keys().filter(|name| headers.contains_key(*name)).collect();
            prop_assert_eq!(names, expected);
        }

        #[test]
        fn stripping_twice_is_stripping_once(mut headers in any_headers(), keep: bool) {
            let upgrade = if keep { Upgrade::Keep } else { Upgrade::Strip };
            to_upstream(&mut headers, IpAddr::from([10, 0, 0, 1]), upgrade);
            let once = headers.clone();
            to_upstream(&mut headers, IpAddr::from([10, 0, 0, 1]), upgrade);
            prop_assert_eq!(lines(&headers), lines(&once));
        }
    }
}
