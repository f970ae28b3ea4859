//! What a proxy owes the headers on their way through: hop-by-hop fields go, forged identities go,
//! secrets stay out of logs, the rest is untouched.
//!
//! Order and duplicates survive. `HeaderMap::remove` swaps the last entry into the gap, so nothing
//! here removes: it scans, and only where something must go rebuilds in order. A request that needs
//! no change costs no allocation. Called by `forward`, `create` and `upgrade`.

mod fields;
mod malformed;
mod via;

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

pub use malformed::{Malformed, check};
pub use via::Via;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What stands before the token that browsers put among the protocols of a WebSocket.
const BEARER_PROTOCOL: &[u8] = b"base64url.bearer.authorization.k8s.io.";

/// What becomes of `Upgrade` and of `Connection: upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// They are hop-by-hop fields like the others.
    Strip,
    /// They pass, on the way of a tunnel being set up.
    Keep,
}

/// Makes a request's headers fit for the apiserver: hop-by-hop fields go, and so does what is not
/// for a client to say; `X-Forwarded-For` becomes the peer's address.
pub fn to_upstream(headers: &mut HeaderMap, peer: IpAddr, upgrade: Upgrade) {
    strip_hop_by_hop(headers, upgrade);
    strip_asserted(headers);
    set_forwarded_for(headers, peer);
}

/// Makes the head of a response fit for the client: hop-by-hop fields go, except those of a 101. The
/// version is the proxy's own, whatever the server or a load balancer speaks.
pub fn to_client<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    let upgrade = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        Upgrade::Keep
    } else {
        Upgrade::Strip
    };
    strip_hop_by_hop(response.headers_mut(), upgrade);
}

/// Takes out of trailers whatever must not be said so late, or not by a client: on both ways,
/// whatever the protocols.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    retain(trailers, |name, _| !fields::is_forbidden_in_trailers(name));
}

/// Joins the `Cookie` lines that an HTTP/2 client may have split for better compression, as RFC
/// 9113 §8.2.3 wants it before HTTP/1.1.
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<_> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        joined.set_sensitive(true);
        // On a present name it keeps the place of its first line.
        insert(headers, header::COOKIE, joined);
    }
}

/// Whether an answer switches to a protocol that was asked for: it names one at least, and none
/// that is not among `asked`, the request's own `Upgrade` lines (RFC 9110 §7.8).
pub fn is_agreed(asked: &[HeaderValue], answer: &HeaderMap) -> bool {
    let mut agreed = tokens(answer, &header::UPGRADE)
        .filter(|protocol| !protocol.is_empty())
        .peekable();
    let is_asked = |protocol: &[u8]| {
        asked
            .iter()
            .flat_map(tokens_of)
            .any(|other| other.eq_ignore_ascii_case(protocol))
    };
    agreed.peek().is_some() && agreed.all(is_asked)
}

/// Drops the `Upgrade` of a request that came in HTTP/1.0, whose client cannot know what a 101 is
/// (RFC 9110 §7.8).
pub fn strip_upgrade(headers: &mut HeaderMap) {
    retain(headers, |name, _| *name != header::UPGRADE);
}

/// Strips the fields that concern one connection only (RFC 9110 §7.6.1): those that `Connection`
/// names, and those known to.
///
/// - `TE: trailers` stays, alone: we do forward trailers, and HTTP/2 knows no other use of it (RFC
///   9113 §8.2.2).
/// - `Trailer` stays: it only announces fields, and hyper sends no HTTP/1.1 trailer that is not
///   announced.
/// - `Proxy-Authenticate` and `Proxy-Authorization` go, as in Go's `ReverseProxy`: a proxy's
///   credentials are not the apiserver's business.
/// - What is meant for more than the next hop stays even where `Connection` names it, which it must
///   not. A request is refused for that ([`check`]); an answer is there, and the client shall have
///   it whole.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: Upgrade) {
    let keep_upgrade = upgrade == Upgrade::Keep && headers.contains_key(header::UPGRADE);
    let trailers =
        tokens(headers, &header::TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    let named = named_by_connection(headers);
    retain(headers, |name, _| match *name {
        header::CONNECTION | header::UPGRADE => keep_upgrade,
        header::TE => trailers,
        _ => !is_hop_by_hop(name) && !named.contains(name),
    });
    // `insert` on a present name keeps its place.
    if keep_upgrade {
        insert(
            headers,
            header::CONNECTION,
            HeaderValue::from_static("Upgrade"),
        );
    }
    if trailers
        && (headers.get_all(header::TE).iter().count() > 1
            || headers.get(header::TE) != Some(&TRAILERS))
    {
        insert(headers, header::TE, TRAILERS);
    }
}

/// Strips what is not for a client to say: who asks, and from where.
fn strip_asserted(headers: &mut HeaderMap) {
    // Its place is kept for the peer's address.
    retain(headers, |name, _| {
        *name == FORWARDED_FOR || !fields::is_asserted(name)
    });
}

/// Sets `X-Forwarded-For` to the peer alone: the apiserver audits it as source address, and what
/// the client claims is not evidence.
fn set_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
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

/// What a head or trailers occupy: each line as much as its texts and its entry in the map.
pub fn size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 96)
        .sum()
}

/// Prints headers with secrets replaced by `<redacted>`: credentials, cookies, asserted identities,
/// and the bearer token that browsers put into `Sec-WebSocket-Protocol`. User names
/// (`Impersonate-*`) are no secrets.
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a HeaderMap);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), Shown(name, value)));
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
        if self.1.is_sensitive() || is_secret(self.0, self.1) {
            f.write_str("<redacted>")
        } else {
            self.1.fmt(f)
        }
    }
}

fn is_secret(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::AUTHORIZATION
        | header::PROXY_AUTHORIZATION
        | header::COOKIE
        | header::SET_COOKIE => true,
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go
        _ if *name == WEBSOCKET_PROTOCOL => value
            .as_bytes()
            .windows(BEARER_PROTOCOL.len())
            .any(|window| window.eq_ignore_ascii_case(BEARER_PROTOCOL)),
        _ => fields::is_identity(name),
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::PROXY_AUTHENTICATE | header::PROXY_AUTHORIZATION | header::TRANSFER_ENCODING
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The present headers that `Connection` names, as far as it may. Empty, hence without allocation,
/// where there is no `Connection`.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for token in tokens(headers, &header::CONNECTION) {
        if let Ok(name) = HeaderName::from_bytes(token)
            && headers.contains_key(&name)
            && !fields::is_end_to_end(&name)
            && !named.contains(&name)
        {
            named.push(name);
        }
    }
    named
}

/// The members of a header that is a list, over all its lines.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(tokens_of)
}

fn tokens_of(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Drops the fields that `keep` refuses, leaving the others in place; touches nothing where it
/// refuses none.
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

/// `HeaderMap::insert` panics at 32,768 names; a request of that many is refused elsewhere, and one
/// header less does no harm.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _ = headers.try_insert(name, value);
}

#[cfg(test)]
mod tests;
