//! The tables of field names: what a client may not say, what nobody may say in a trailer, and what
//! `Connection` may not name.
//!
//! A name that ends in `-` stands for all that begin with it. `_` counts as `-`: whoever hands
//! headers on as environment variables (RFC 3875 §4.1.18) cannot tell the two apart, so
//! `X_Remote_User` would be somebody's identity there.

use http::HeaderName;

/// What says who asks, or from where. It is not for a client to say, on either protocol, in headers
/// or in trailers.
///
/// - `X-Remote-*`: to an apiserver that trusts our client certificate they are somebody's identity.
///   <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/headerrequest/requestheader.go>
/// - `X-Forwarded-For` and `X-Real-Ip` are audited as source addresses; `Forwarded` is their standard form (RFC 7239).
///   <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/net/http.go>
///
/// The other `X-Forwarded-*` pass: the apiserver reads none of them, and what it proxies to may.
const ASSERTED: [&str; 4] = [IDENTITY, "x-forwarded-for", "x-real-ip", "forwarded"];

const IDENTITY: &str = "x-remote-";
const IMPERSONATION: &str = "impersonate-";

/// What a trailer may not say beside [`ASSERTED`], whichever side it comes from: RFC 9110 §6.5.1
/// forbids whatever has to be known before the content. A peer that merges trailers into headers
/// would take them for such. Go's list, by which the apiserver itself goes, and its like: <https://github.com/golang/go/blob/go1.24.0/src/vendor/golang.org/x/net/http/httpguts/httplex.go>
const NOT_IN_TRAILERS: [&str; 37] = [
    // How long the message is, where it goes, what becomes of the connection.
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    // Who asks.
    "authorization",
    "cookie",
    IMPERSONATION,
    "proxy-authenticate",
    "proxy-authorization",
    "realm",
    "sec-",
    "set-cookie",
    "user-agent",
    "www-authenticate",
    // On which conditions.
    "accept",
    "cache-control",
    "expect",
    "if-",
    "pragma",
    "range",
    // What the content is.
    "content-encoding",
    "content-range",
    "content-type",
    // What to do with the answer.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
];

/// What is meant for whoever answers, or for whoever asked: to drop it changes who asks, for what,
/// or what was answered. RFC 9110 §7.6.1 forbids to name such a field in `Connection`, which would
/// have us drop it.
///
/// Not here: what concerns one connection (`Keep-Alive`, `TE`, `Upgrade`, `HTTP2-Settings`,
/// `Trailer`, `Proxy-*`), what goes anyway ([`ASSERTED`]), and whatever nobody but the two
/// neighbours knows, for which the option was made.
const END_TO_END: [&str; 35] = [
    // Who asks.
    "authorization",
    "cookie",
    IMPERSONATION,
    "origin",
    "referer",
    "sec-",
    // The apiserver takes a missing `fieldManager` from it.
    "user-agent",
    "www-authenticate",
    "set-cookie",
    // For what, where, and on which conditions.
    "accept",
    "accept-",
    "cache-control",
    "expect",
    "host",
    "if-",
    "pragma",
    "range",
    "x-stream-protocol-version",
    // The content.
    "content-",
    "etag",
    "last-modified",
    "vary",
    // What was answered.
    "age",
    "allow",
    "date",
    "expires",
    "location",
    "retry-after",
    "server",
    "warning",
    "x-kubernetes-",
    // The way of the request: without `Via` nobody would notice that it goes round.
    "audit-id",
    "traceparent",
    "tracestate",
    "via",
];

/// Whether it is not for a client to say.
pub(super) fn is_asserted(name: &HeaderName) -> bool {
    is_among(&ASSERTED, name)
}

/// Whether it would be somebody's identity where it is believed.
pub(super) fn is_identity(name: &HeaderName) -> bool {
    is_among(&[IDENTITY], name)
}

/// Whether it asks to act as somebody else.
pub(super) fn is_impersonation(name: &HeaderName) -> bool {
    is_among(&[IMPERSONATION], name)
}

/// Whether a trailer may not be so called.
pub(super) fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    is_asserted(name) || is_among(&NOT_IN_TRAILERS, name)
}

/// Whether `Connection` must not name it.
pub(super) fn is_end_to_end(name: &HeaderName) -> bool {
    is_among(&END_TO_END, name)
}

/// `HeaderName` is lower case already.
fn is_among(table: &[&str], name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    table.iter().map(|entry| entry.as_bytes()).any(|entry| {
        let compared = if entry.ends_with(b"-") {
            name.get(..entry.len())
        } else {
            Some(name)
        };
        let is_same =
            |(byte, of_entry): (&u8, &u8)| byte == of_entry || (*byte == b'_' && *of_entry == b'-');
        compared.is_some_and(|compared| {
            compared.len() == entry.len() && compared.iter().zip(entry).all(is_same)
        })
    })
}
