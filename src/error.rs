//! The answers that the proxy writes itself, where there is none of the apiserver to relay: one
//! table from error to `metav1.Status`.
//!
//! Each says whose fault it is and, by `Retry-After`, whether it may be sent again: client-go
//! resends any request by itself when a 429 or 5xx carries one, so it stands only where the request
//! surely was not processed or changes nothing.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::{Body, BodyError};
use crate::headers::Malformed;
use crate::ratelimit::Rejected;
use crate::status::{Details, Encoding, Status};
use crate::telemetry::chain;
use crate::upstream::SendError;

/// Why the proxy answers by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The upstream gave no answer.
    #[error("the apiserver did not answer")]
    Upstream(#[from] SendError),
    /// The upstream kept silent for longer than the client's own `?timeout=`. In the apiserver's
    /// words, so that clients find them: <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/timeout.go>
    #[error("Timeout: request did not complete within the allotted timeout")]
    TimedOut,
    /// The upstream's answer broke off before its end, so what it says of the request is not known.
    #[error("the apiserver's answer broke off")]
    AnswerLost(#[source] BodyError),
    /// The request's body could not be read.
    #[error("the request body could not be read")]
    RequestBody(#[source] BodyError),
    /// The rate limit's bound on waiting was reached.
    #[error("rate limit of creates reached")]
    RateLimited(#[source] Rejected),
    /// The client authenticated by a certificate, which ends at the TLS connection to the proxy.
    #[error(
        "a client certificate cannot pass through kube-retry-proxy: use a bearer token, such as a kubeconfig user with tokenFile"
    )]
    ClientCertificate,
    /// What it asks for, or who asks, would not be the same behind the proxy.
    #[error("the request cannot be passed on")]
    Malformed(#[from] Malformed),
    /// It asks for a tunnel to anywhere.
    #[error("CONNECT is not allowed: the only server behind this proxy is the apiserver")]
    Connect,
    /// It has come by here before.
    #[error(
        "the request came back to this proxy by its own upstream: upstream.url or upstream.servers must lead to the apiserver"
    )]
    Loop,
    /// There are more requests under way than `serving.maxRequests`.
    #[error("too many requests are under way, please try again later")]
    TooManyRequests,
    /// The head of the request is larger than `serving.maxHead`.
    #[error(
        "the line and the headers of the request are more than {bytes} bytes or {lines} lines, the limit of serving.maxHead"
    )]
    HeadTooLarge {
        /// As HTTP/1.1 writes it.
        bytes: u32,
        /// Of headers.
        lines: u32,
    },
    /// The URL is longer than any that the proxy can hold.
    #[error("the URL is longer than 65534 bytes, which the proxy cannot pass on")]
    UrlTooLong,
    /// The head of the request is none.
    #[error("this is not HTTP/1.1")]
    NotHttp,
}

impl ProxyError {
    /// The answer for this error to a request of `method`, in the encoding that the request's
    /// headers ask for.
    pub fn into_response<G>(self, method: &Method, encoding: Encoding) -> Response<Body<G>> {
        let (code, _, retry_after) = self.verdict(method);
        let status = self.status(method);
        // hyper would send a body to `HEAD` over HTTP/2, which clients take for a broken stream.
        let mut response = Response::new(if method == Method::HEAD {
            Body::empty()
        } else {
            Body::full(status.encode(encoding))
        });
        *response.status_mut() = code;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, encoding.content_type());
        if let Some(after) = retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if code == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        response
    }

    /// What that answer says.
    pub fn status(&self, method: &Method) -> Status {
        let (code, reason, retry_after) = self.verdict(method);
        Status {
            code: code.as_u16(),
            reason: reason.to_owned(),
            message: format!("kube-retry-proxy: {}", chain(self)),
            details: Details {
                retry_after_seconds: retry_after.map_or(0, whole_seconds),
                ..Details::default()
            },
        }
    }

    /// The status code of that answer.
    pub fn code(&self, method: &Method) -> StatusCode {
        self.verdict(method).0
    }

    fn verdict(&self, method: &Method) -> (StatusCode, &'static str, Option<Duration>) {
        const SOON: Option<Duration> = Some(Duration::from_secs(1));
        match self {
            Self::RequestBody(_) | Self::Malformed(_) | Self::Upstream(SendError::Request(_)) => {
                (StatusCode::BAD_REQUEST, "BadRequest", None)
            }
            Self::Upstream(SendError::Switched) => (StatusCode::BAD_GATEWAY, "BadGateway", None),
            Self::Upstream(error) if error.provably_unprocessed() => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", SOON)
            }
            Self::Upstream(_) | Self::AnswerLost(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                "Timeout",
                if method.is_safe() { SOON } else { None },
            ),
            // Nobody waits any longer.
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "Timeout", None),
            Self::RateLimited(rejected) => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                Some(rejected.retry_after),
            ),
            Self::ClientCertificate => (StatusCode::UNAUTHORIZED, "Unauthorized", None),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", None),
            Self::Loop => (StatusCode::LOOP_DETECTED, "LoopDetected", None),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", SOON),
            Self::HeadTooLarge { .. } => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "RequestHeaderFieldsTooLarge",
                None,
            ),
            Self::UrlTooLong => (StatusCode::URI_TOO_LONG, "RequestURITooLong", None),
            Self::NotHttp => (StatusCode::BAD_REQUEST, "BadRequest", None),
        }
    }
}

/// At least 1: client-go takes 0 for "no Retry-After".
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
