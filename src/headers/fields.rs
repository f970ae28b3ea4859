//! The tables of field names: those that a client must not set, that must not be trailers, and that
//! `Connection` must not name.
//!
//! A name that ends in `-` matches all names that begin with it. `_` counts as `-`, because a
//! server that passes headers on as environment variables (RFC 3875 §4.1.18) cannot tell them
//! apart: `X_Remote_User` would be an identity there.

use http::HeaderName;

/// Fields that state who the client is, or where. A client must not set them, in headers or in
/// trailers.
///
/// - `X-Remote-*` is an identity to an apiserver that trusts the proxy's client certificate.
///   <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/headerrequest/requestheader.go>
/// - `X-Forwarded-For` and `X-Real-Ip` are audited as source addresses; `Forwarded` is their
///   standard form (RFC 7239).
///   <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/net/http.go>
///
/// The other `X-Forwarded-*` pass: the apiserver does not read them, but a server behind it may.
const ASSERTED: [&str; 4] = [IDENTITY, "x-forwarded-for", "x-real-ip", "forwarded"];

const IDENTITY: &str = "x-remote-";
const IMPERSONATION: &str = "impersonate-";

/// Fields that must not be trailers, in addition to [`ASSERTED`], in requests and in responses. RFC
/// 9110 §6.5.1 forbids fields that must be known before the content, because a peer can merge
/// trailers into the headers. The list is that of Go, which the apiserver uses, and similar fields:
/// <https://github.com/golang/go/blob/go1.24.0/src/vendor/golang.org/x/net/http/httpguts/httplex.go>
const NOT_IN_TRAILERS: [&str; 37] = [
    // The length and target of the message, and the connection.
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
    // Identities and credentials.
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
    // Conditions.
    "accept",
    "cache-control",
    "expect",
    "if-",
    "pragma",
    "range",
    // The type and encoding of the content.
    "content-encoding",
    "content-range",
    "content-type",
    // How to use the response.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
];

/// End-to-end fields. Removing one would change the identity of the caller, the request or the
/// response. RFC 9110 §7.6.1 forbids naming such a field in `Connection`, because a proxy would
/// then remove it.
///
/// The list does not have fields of one connection (`Keep-Alive`, `TE`, `Upgrade`,
/// `HTTP2-Settings`, `Trailer`, `Proxy-*`), fields that are removed anyway ([`ASSERTED`]), and
/// fields that only two neighbours know, for which `Connection` exists.
const END_TO_END: [&str; 35] = [
    // Identities and credentials.
    "authorization",
    "cookie",
    IMPERSONATION,
    "origin",
    "referer",
    "sec-",
    // Without `fieldManager` the apiserver takes it from this field.
    "user-agent",
    "www-authenticate",
    "set-cookie",
    // The target of the request and its conditions.
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
    // The response.
    "age",
    "allow",
    "date",
    "expires",
    "location",
    "retry-after",
    "server",
    "warning",
    "x-kubernetes-",
    // The path of the request. Without `Via` a loop could not be noticed.
    "audit-id",
    "traceparent",
    "tracestate",
    "via",
];

/// Whether a client must not set the field.
pub(super) fn is_asserted(name: &HeaderName) -> bool {
    is_among(&ASSERTED, name)
}

/// Whether the field is an identity to a server that trusts it.
pub(super) fn is_identity(name: &HeaderName) -> bool {
    is_among(&[IDENTITY], name)
}

/// Whether the field asks to act as another user.
pub(super) fn is_impersonation(name: &HeaderName) -> bool {
    is_among(&[IMPERSONATION], name)
}

/// Whether the field must not be a trailer.
pub(super) fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    is_asserted(name) || is_among(&NOT_IN_TRAILERS, name)
}

/// Whether `Connection` must not name the field.
pub(super) fn is_end_to_end(name: &HeaderName) -> bool {
    is_among(&END_TO_END, name)
}

/// A `HeaderName` is always in lower case.
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
