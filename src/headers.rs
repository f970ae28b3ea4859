//! Cleans headers: removes hop-by-hop fields and forged identities, and hides secrets in logs. All
//! other fields pass unchanged. `proxy` calls [`to_upstream`] for each request and [`to_client`]
//! for each response.
//!
//! The order of fields and duplicates stay. `HeaderMap::remove` moves the last entry into the gap,
//! so this module does not use it. It scans the map, and rebuilds it in order only if a field must
//! go. A request that needs no change costs no allocation.

mod fields;
mod identity;
mod malformed;
mod reason;
mod via;

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

pub use identity::{IdentityFields, Uncarriable, is_identified};
pub use malformed::{Malformed, check, check_identified, has_token};
pub use reason::{reason, set_reason};
pub use via::Via;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// The prefix of the token that browsers put among the protocols of a WebSocket.
const BEARER_PROTOCOL: &[u8] = b"base64url.bearer.authorization.k8s.io.";

/// How to handle `Upgrade` and `Connection: upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Remove them, like other hop-by-hop fields.
    Strip,
    /// Keep them, because they set up a tunnel.
    Keep,
}

/// Makes the head of a request fit for the apiserver: removes hop-by-hop fields and fields that a
/// client must not set, and sets `X-Forwarded-For` to the peer's address.
pub fn to_upstream(headers: &mut HeaderMap, peer: &ForwardedFor, upgrade: Upgrade) {
    strip_hop_by_hop(headers, upgrade);
    strip_asserted(headers);
    // For a present name, `insert` keeps the position of its first line.
    insert(headers, FORWARDED_FOR, peer.0.clone());
}

/// The value of `X-Forwarded-For` for all requests of a connection: the peer's address only. The
/// apiserver logs the field as the source address in its audit, so a value that the client claims
/// must not be in it.
#[derive(Debug, Clone)]
pub struct ForwardedFor(HeaderValue);

impl From<IpAddr> for ForwardedFor {
    #[expect(clippy::expect_used, reason = "digits, dots and colons are a value")]
    fn from(peer: IpAddr) -> Self {
        Self(HeaderValue::try_from(peer.to_canonical().to_string()).expect("a value"))
    }
}

/// Makes the head of a response fit for the client: removes hop-by-hop fields, but keeps the
/// upgrade of a 101. The HTTP version is the proxy's own, whatever the server or a load balancer
/// speaks. An answer over HTTP/2 has no reason phrase, so it gets Go's.
pub fn to_client<B>(response: &mut Response<B>) {
    if response.version() == Version::HTTP_2 {
        set_reason(response);
    }
    *response.version_mut() = Version::HTTP_11;
    let upgrade = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        Upgrade::Keep
    } else {
        Upgrade::Strip
    };
    strip_hop_by_hop(response.headers_mut(), upgrade);
}

/// Removes trailers that must come before the content, and those that a client must not set.
/// Applies to requests and responses in both protocols.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    retain(trailers, |name, _| !fields::is_forbidden_in_trailers(name));
}

/// Joins `Cookie` lines. An HTTP/2 client may split the header for better compression, and RFC 9113
/// §8.2.3 requires a proxy to join them for HTTP/1.1.
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
        // For a present name, `insert` keeps the position of its first line.
        insert(headers, header::COOKIE, joined);
    }
}

/// Whether a response switches only to protocols that the request asked for (RFC 9110 §7.8). It
/// must name at least one. `asked` holds the request's `Upgrade` lines.
pub fn is_agreed(asked: &[HeaderValue], response: &HeaderMap) -> bool {
    let mut agreed = tokens(response, &header::UPGRADE)
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

/// Removes `Upgrade` from an HTTP/1.0 request, because its client does not know 101 (RFC 9110
/// §7.8).
pub fn strip_upgrade(headers: &mut HeaderMap) {
    retain(headers, |name, _| *name != header::UPGRADE);
}

/// Removes the fields that apply to one connection only (RFC 9110 §7.6.1): the known ones, and
/// those that `Connection` names.
///
/// - `TE` stays as `trailers` if it contains that: the proxy forwards trailers, and HTTP/2 allows
///   no other value (RFC 9113 §8.2.2).
/// - `Trailer` stays: it only announces fields, and hyper sends no HTTP/1.1 trailer without it.
/// - `Proxy-Authenticate` and `Proxy-Authorization` go, as in Go's `ReverseProxy`: the credentials
///   of a proxy are not for the apiserver.
/// - An end-to-end field stays even if `Connection` names it. That is not allowed: a request like
///   that is refused ([`check`]), but the client should get a response with all its fields.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: Upgrade) {
    let is_concerned = |name: &HeaderName| {
        matches!(*name, header::CONNECTION | header::UPGRADE | header::TE) || is_hop_by_hop(name)
    };
    // Most heads have none of them, and each look-up of a name costs a hash of it.
    if !headers.keys().any(is_concerned) {
        return;
    }
    let keep_upgrade = upgrade == Upgrade::Keep && headers.contains_key(header::UPGRADE);
    let trailers =
        tokens(headers, &header::TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    let named = named_by_connection(headers);
    retain(headers, |name, _| match *name {
        header::CONNECTION | header::UPGRADE => keep_upgrade,
        header::TE => trailers,
        _ => !is_hop_by_hop(name) && !named.contains(name),
    });
    // For a present name, `insert` keeps its position.
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

/// Removes fields that state who the client is and where it is.
fn strip_asserted(headers: &mut HeaderMap) {
    // `to_upstream` replaces the value in the same position.
    retain(headers, |name, _| {
        *name == FORWARDED_FOR || !fields::is_asserted(name)
    });
}

/// The memory that a head or trailers occupy: for each line its texts and its entry in the map.
pub fn size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 96)
        .sum()
}

/// Prints headers and replaces secrets with `<redacted>`: credentials, cookies, identities, and the
/// bearer token that browsers put into `Sec-WebSocket-Protocol`. User names (`Impersonate-*`) are
/// not secrets.
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

/// The present fields that `Connection` names, without end-to-end fields. Does not allocate if
/// there is no `Connection`.
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

/// The members of a list header, from all its lines.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(tokens_of)
}

fn tokens_of(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Removes the fields that `keep` refuses. The order of the others stays. Does nothing if `keep`
/// refuses none.
fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    if headers.iter().all(|(name, value)| keep(name, value)) {
        return;
    }
    let mut kept = HeaderMap::try_with_capacity(headers.keys_len()).unwrap_or_default();
    let mut current = None;
    for (name, value) in std::mem::take(headers) {
        // The iterator gives the name only with the first of several values.
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| keep(name, &value)) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

/// Inserts without the panic of `HeaderMap::insert` at 32,768 names. The limit on heads refuses
/// requests with so many.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _ = headers.try_insert(name, value);
}

#[cfg(test)]
mod tests;
