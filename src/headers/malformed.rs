//! Refuses requests that a proxy must not pass on, because the next server could understand them
//! differently, and those that kube-apiserver refuses by ending the stream or the connection, which
//! would look like a fault of the upstream. Pure. `proxy` answers with [`Malformed::code`].

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri, Version};

use super::{BEARER_PROTOCOL, WEBSOCKET_PROTOCOL, fields, tokens};

/// The reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The request has no `Host` and no `:authority`.
    #[error("it names no host: a Host header (in HTTP/2 :authority) is required")]
    NoHost,
    /// There are several `Host` headers. The next server could use another one than the proxy.
    #[error("it has more than one Host header")]
    SeveralHosts,
    /// The `Host` is not `host[:port]`.
    #[error("its Host is not a host name or address with an optional port")]
    InvalidHost,
    /// `Host` and `:authority` of an HTTP/2 request name different servers.
    #[error("its Host header and its :authority name different servers")]
    TwoHosts,
    /// `host:443`, which only CONNECT may use.
    #[error("its target is neither a path nor a URL")]
    Target,
    /// The path has a `%` without two hexadecimal digits.
    #[error("its path has a % that is not followed by two hexadecimal digits")]
    Escape,
    /// `Expect` asks for something else than `100-continue`.
    #[error("it has an Expect header that is not 100-continue")]
    Expectation,
    /// The body has a coding that the proxy would have to decode.
    #[error("its Transfer-Encoding is not chunked")]
    TransferCoding,
    /// `Connection` names an end-to-end field.
    #[error(
        "its Connection header names {0}, which is not meant for one connection only (RFC 9110, section 7.6.1)"
    )]
    Nominated(HeaderName),
    /// `Impersonate-*` without credentials.
    #[error("it has Impersonate-* headers, but no credentials of the caller's own beside them")]
    Impersonation,
}

/// Checks whether a request may be passed on.
///
/// # Errors
/// [`Malformed`].
pub fn check(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Malformed> {
    check_identified(uri, version, headers)?;
    impersonation(headers)
}

/// As [`check`], for a request of a client whose certificate says who it is.
///
/// # Errors
/// [`Malformed`].
pub fn check_identified(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Malformed> {
    target(uri)?;
    host(uri, version, headers)?;
    if version != Version::HTTP_2 {
        expectation(headers)?;
        transfer_coding(headers)?;
    }
    connection(headers)
}

/// Whether the request has a bearer token, which kube-apiserver reads from `Authorization` or from
/// the protocols of a WebSocket. It ignores other kinds of credentials:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/bearertoken/bearertoken.go>
pub fn has_token(headers: &HeaderMap) -> bool {
    let is_bearer = |value: &HeaderValue| {
        let mut words = value
            .as_bytes()
            .trim_ascii()
            .splitn(3, |byte| *byte == b' ');
        let scheme = words.next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer")
            && words.next().is_some_and(|token| !token.is_empty())
    };
    headers.get(header::AUTHORIZATION).is_some_and(is_bearer) || has_websocket_token(headers)
}

impl Malformed {
    /// The status code and the reason of the answer, which are those of Go's server where it answers
    /// such a request.
    pub fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "ExpectationFailed"),
            Self::TransferCoding => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            _ => (StatusCode::BAD_REQUEST, "BadRequest"),
        }
    }
}

/// A target is a path or a URL with a scheme. `host:443` without a scheme is only for CONNECT (RFC
/// 9112 §3.2.3). Go's server ends the stream or the connection if a path has a broken escape.
///
/// <https://github.com/golang/go/blob/go1.26.0/src/net/url/url.go> (`unescape`)
fn target(uri: &Uri) -> Result<(), Malformed> {
    let target = uri.path_and_query().ok_or(Malformed::Target)?;
    // `https://host?query` has no path.
    if !target.as_str().starts_with('/') && target.as_str() != "*" {
        return Err(Malformed::Target);
    }
    let mut escapes = target.path().as_bytes().split(|byte| *byte == b'%').skip(1);
    let is_escape = |after: &[u8]| matches!(after, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    if escapes.all(is_escape) {
        Ok(())
    } else {
        Err(Malformed::Escape)
    }
}

/// As Go's server, which looks for the token in the first line only, and only in HTTP/1.
///
/// <https://github.com/golang/go/blob/go1.26.0/src/net/http/server.go> (`expectsContinue`)
fn expectation(headers: &HeaderMap) -> Result<(), Malformed> {
    let Some(asked) = headers.get(header::EXPECT) else {
        return Ok(());
    };
    let continues = asked
        .as_bytes()
        .split(|byte| matches!(byte, b' ' | b',' | b'\t'))
        .any(|token| token.eq_ignore_ascii_case(b"100-continue"));
    if continues || asked.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Expectation)
    }
}

/// hyper decodes `chunked`, and refuses a list that does not end with it. Another coding before it
/// would stay in the body, and the upstream would not know.
fn transfer_coding(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |line: &HeaderValue| {
        line.as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if is_chunked(line) => Ok(()),
        _ => Err(Malformed::TransferCoding),
    }
}

/// RFC 9112 §3.2: there is exactly one valid `Host`, also if the target is a URL, which then takes
/// precedence. RFC 9113 §8.3.1: in HTTP/2 there is `:authority` or `Host`, and if there are both
/// they agree.
fn host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Malformed> {
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Malformed::SeveralHosts);
    }
    match (version, host, authority) {
        (Version::HTTP_09 | Version::HTTP_10, None, _) | (Version::HTTP_2, None, Some(_)) => {}
        (_, None, _) => return Err(Malformed::NoHost),
        (Version::HTTP_2, Some(host), Some(authority)) if !is_same_server(host, authority) => {
            return Err(Malformed::TwoHosts);
        }
        _ => {}
    }
    if host.into_iter().chain(authority).all(is_host) {
        Ok(())
    } else {
        Err(Malformed::InvalidHost)
    }
}

fn is_same_server(a: &[u8], b: &[u8]) -> bool {
    let without_default = |host: &[u8]| host.strip_suffix(b":443").map_or(host.len(), <[u8]>::len);
    a[..without_default(a)].eq_ignore_ascii_case(&b[..without_default(b)])
}

/// `uri-host [":" port]` of RFC 3986 §3.2.2, without escapes, which no resolver understands. An
/// empty host is allowed: it is that of a URL without an authority (RFC 9112 §3.2).
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', literal @ ..] => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (literal, rest) = (&literal[..end], &literal[end + 1..]);
            let is_of_address =
                |byte: &u8| byte.is_ascii_alphanumeric() || b":.%-_~".contains(byte);
            if literal.is_empty()
                || !literal.iter().all(is_of_address)
                || !matches!(rest, [] | [b':', ..])
            {
                return false;
            }
            (&literal[..0], rest.get(1..).unwrap_or_default())
        }
        _ => match host.iter().position(|byte| *byte == b':') {
            Some(colon) => (&host[..colon], &host[colon + 1..]),
            None => (host, &host[..0]),
        },
    };
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte))
        && port.iter().all(u8::is_ascii_digit)
}

/// A proxy must remove the fields that `Connection` names. Removing an end-to-end field would
/// change the request or its identity.
fn connection(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut named =
        tokens(headers, &header::CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok());
    named
        .find(fields::is_end_to_end)
        .map_or(Ok(()), |name| Err(Malformed::Nominated(name)))
}

/// The apiserver decides which user may act as which other one. For that the request must carry
/// credentials. Without them the apiserver would judge `system:anonymous`.
fn impersonation(headers: &HeaderMap) -> Result<(), Malformed> {
    let asked = headers.keys().any(fields::is_impersonation);
    if asked && !has_credentials(headers) {
        Err(Malformed::Impersonation)
    } else {
        Ok(())
    }
}

/// `Authorization`, of which Go reads only the first line, or the token that browsers put among the
/// protocols of a WebSocket:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go>
fn has_credentials(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| !value.as_bytes().trim_ascii().is_empty())
        || has_websocket_token(headers)
}

fn has_websocket_token(headers: &HeaderMap) -> bool {
    let is_bearer = |protocol: &[u8]| {
        protocol
            .strip_prefix(BEARER_PROTOCOL)
            .is_some_and(|token| !token.is_empty())
    };
    let is_websocket = || {
        tokens(headers, &header::UPGRADE)
            .any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    };
    is_websocket() && tokens(headers, &WEBSOCKET_PROTOCOL).any(is_bearer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use proptest::prelude::*;

    const HTTP2: &str = "https://a/p";

    fn checked(
        uri: &str,
        version: Version,
        lines: &[(&'static str, &'static str)],
    ) -> Result<(), Malformed> {
        let headers = lines.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        check(&uri.parse().unwrap(), version, &headers.collect())
    }

    fn with(line: (&'static str, &'static str)) -> Result<(), Malformed> {
        checked("/p", Version::HTTP_11, &[("host", "a"), line])
    }

    #[test]
    fn there_is_one_host() {
        let one = ("host", "a");
        assert_eq!(checked("/p", Version::HTTP_11, &[one]), Ok(()));
        assert_eq!(checked("/p", Version::HTTP_11, &[]), Err(Malformed::NoHost));
        assert_eq!(
            checked("https://a/p", Version::HTTP_11, &[]),
            Err(Malformed::NoHost)
        );
        assert_eq!(
            checked("https://a/p", Version::HTTP_11, &[("host", "b")]),
            Ok(()),
            "the URL has the last word"
        );
        assert_eq!(
            checked("/p", Version::HTTP_11, &[one, one]),
            Err(Malformed::SeveralHosts)
        );
        assert_eq!(checked("/p", Version::HTTP_10, &[]), Ok(()));
        assert_eq!(
            checked("/p", Version::HTTP_10, &[one, one]),
            Err(Malformed::SeveralHosts)
        );
        assert_eq!(checked(HTTP2, Version::HTTP_2, &[]), Ok(()));
        assert_eq!(
            checked(HTTP2, Version::HTTP_2, &[one, one]),
            Err(Malformed::SeveralHosts)
        );
        assert_eq!(
            checked(HTTP2, Version::HTTP_2, &[("host", "A:443")]),
            Ok(())
        );
        assert_eq!(
            checked(HTTP2, Version::HTTP_2, &[("host", "a:8443")]),
            Err(Malformed::TwoHosts)
        );
        assert_eq!(checked("/p", Version::HTTP_2, &[one]), Ok(()));
        assert_eq!(checked("/p", Version::HTTP_2, &[]), Err(Malformed::NoHost));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        every(
            [
                "",
                "a",
                "a.b-c_d:443",
                "10.0.0.1:6443",
                "[fd00::1]:443",
                "[::1]",
                "[fe80::1%25eth0]",
                "a:",
                ":443",
            ],
            |host| {
                assert_eq!(with_host(host), Ok(()), "{host}");
            },
        );
        every(
            [
                "a b",
                "a/b",
                "u@a",
                "a:b",
                "a:1:2",
                "[::1",
                "[]",
                "[::1]x",
                "[::1]:x",
                "[a/b]",
                "a,b/",
                "a?b",
                "a#b",
                "https://a",
            ],
            |host| {
                assert_eq!(with_host(host), Err(Malformed::InvalidHost), "{host}");
            },
        );
        assert_eq!(
            checked("https://u@a/p", Version::HTTP_2, &[]),
            Err(Malformed::InvalidHost)
        );
    }

    fn with_host(host: &'static str) -> Result<(), Malformed> {
        checked("/p", Version::HTTP_11, &[("host", host)])
    }

    #[test]
    fn a_target_is_a_path_or_a_url() {
        every(["/", "/p?q", "*", "https://a", "http://a/p"], |target| {
            assert_eq!(
                checked(target, Version::HTTP_11, &[("host", "a")]),
                Ok(()),
                "{target}"
            );
        });
        every(["a:443", "a", "10.0.0.1:443"], |target| {
            assert_eq!(
                checked(target, Version::HTTP_11, &[("host", "a")]),
                Err(Malformed::Target),
                "{target}"
            );
        });
    }

    #[test]
    fn connection_must_not_name_an_end_to_end_field() {
        let named = [
            "Authorization",
            "impersonate-user",
            "Impersonate-Extra-Scopes",
            "content-type",
            "Content_Type",
            "Host",
            "content-length",
        ];
        let others = [
            "accept",
            "Cookie",
            "user-agent",
            "via",
            "If-Match",
            "sec-websocket-protocol",
            "X-Stream-Protocol-Version",
            "warning",
        ];
        every(named.into_iter().chain(others), |name| {
            let (line, lower): (&'static str, _) = (
                Box::leak(format!("close, {name} ,X-Mine").into_boxed_str()),
                name.to_lowercase(),
            );
            assert_eq!(
                with(("connection", line)),
                Err(Malformed::Nominated(lower.parse().unwrap())),
                "{name}"
            );
        });
        every(
            [
                "close",
                "Keep-Alive, Upgrade, TE, HTTP2-Settings, Trailer",
                "x-mine",
                "contents",
                "accepted",
                "x remote",
                "\u{e9}",
                "",
            ],
            |line| {
                let headers = HeaderMap::from_iter([(
                    header::CONNECTION,
                    HeaderValue::from_bytes(line.as_bytes()).unwrap(),
                )]);
                assert_eq!(connection(&headers), Ok(()), "{line}");
            },
        );
    }

    #[test]
    fn a_token_is_what_the_apiserver_takes_for_one() {
        let upgrade = ("upgrade", "websocket");
        let protocol = |protocol| ("sec-websocket-protocol", protocol);
        let token = "base64url.bearer.authorization.k8s.io.dG9rZW4";
        every(
            [
                (&[][..], false),
                (&[("authorization", "Bearer t")], true),
                (&[("authorization", " bEARER t u ")], true),
                (&[("authorization", "Bearer")], false),
                (&[("authorization", "Bearer ")], false),
                (&[("authorization", "Bearer  t")], false),
                (&[("authorization", "Bearer\tt")], false),
                (&[("authorization", "Basic dTpw")], false),
                (&[("authorization", "t")], false),
                (
                    &[
                        ("authorization", "Basic dTpw"),
                        ("authorization", "Bearer t"),
                    ],
                    false,
                ),
                (&[upgrade, protocol(token)], true),
                (&[protocol(token)], false),
                (&[upgrade, protocol("v5.channel.k8s.io")], false),
            ],
            |(lines, expected)| {
                let lines = lines.iter().map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                });
                let mut headers = HeaderMap::new();
                for (name, value) in lines {
                    headers.append(name, value);
                }
                assert_eq!(has_token(&headers), expected);
            },
        );
    }

    #[test]
    fn impersonation_needs_credentials() {
        let ask = ("impersonate-user", "root");
        let protocol = (
            "sec-websocket-protocol",
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4",
        );
        let upgrade = ("upgrade", "WebSocket");
        let with = |lines: &[_]| checked(HTTP2, Version::HTTP_2, lines);
        assert_eq!(with(&[ask, ("authorization", "Bearer t")]), Ok(()));
        assert_eq!(with(&[ask, upgrade, protocol]), Ok(()));
        assert_eq!(with(&[("authorization", "Bearer t")]), Ok(()));
        assert_eq!(with(&[]), Ok(()), "anonymous as himself");
        let empty = (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.",
        );
        every(
            [
                &[ask][..],
                &[ask, ("authorization", " ")],
                &[ask, protocol],
                &[ask, upgrade, empty],
                &[("impersonate_group", "g")],
            ],
            |lines| {
                assert_eq!(with(lines), Err(Malformed::Impersonation), "{lines:?}");
            },
        );
    }

    proptest! {
        #[test]
        fn other_parsers_accept_the_same_hosts(host in "[a-c0-9:.%@\\[\\]/?# -]{0,9}") {
            if is_host(host.as_bytes()) && !host.is_empty() && !host.starts_with(':') {
                prop_assert!(host.parse::<http::uri::Authority>().is_ok(), "{}", host);
            }
        }

        #[test]
        fn checking_never_panics(host in "\\PC{0,12}", connection in "[ -~]{0,20}", target in "[!-~]{1,12}") {
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
            let headers = HeaderMap::from_iter([(header::HOST, value(&host)), (header::CONNECTION, value(&connection))]);
            for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
                let _ = check(&uri, version, &headers);
            }
        }
    }
}
