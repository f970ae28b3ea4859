//! The answers that the proxy writes itself because it has none of the apiserver to relay: one
//! table from error to `metav1.Status`.
//!
//! Each answer says whose fault it is. `Retry-After` says whether the request may be sent again:
//! client-go sends any request again when a 429 or 5xx has one. So an answer has it only if the
//! request certainly was not processed, or changes nothing.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::{Body, BodyError};
use crate::headers::{self, Malformed};
use crate::identity::IdentityError;
use crate::ratelimit::Rejected;
use crate::status::{Details, Encoding, Status};
use crate::telemetry::chain;
use crate::upstream::SendError;

/// Why the proxy writes the answer itself.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The upstream gave no answer.
    #[error("the apiserver did not answer")]
    Upstream(#[from] SendError),
    /// The upstream did not answer within the client's own `?timeout=`. The text is the
    /// apiserver's, since clients look for it:
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/timeout.go>
    #[error("Timeout: request did not complete within the allotted timeout")]
    TimedOut,
    /// The upstream's answer broke off, so it is not known whether the request took effect.
    #[error("the apiserver's answer broke off")]
    AnswerLost(#[source] BodyError),
    /// The request's body could not be read.
    #[error("the request body could not be read")]
    RequestBody(#[source] BodyError),
    /// The turn of the create would not have come within `rateLimit.maxWait`.
    #[error("rate limit of creates reached")]
    RateLimited(#[source] Rejected),
    /// The client has a certificate and no token. TLS ends at the proxy, so the apiserver would
    /// never see the certificate.
    #[error(
        "a client certificate cannot pass through kube-retry-proxy: use a bearer token, such as a kubeconfig user with tokenFile, or set \
         serving.clientCaFile, which lets client certificates pass"
    )]
    ClientCertificate,
    /// The client's certificate does not say who it is, and there is no token beside it; or the
    /// user may not pass.
    #[error(transparent)]
    Identity(Arc<IdentityError>),
    /// The apiserver could understand the request differently than the proxy does.
    #[error("the request cannot be passed on")]
    Malformed(#[from] Malformed),
    /// The request is a CONNECT, which asks for a tunnel to any server.
    #[error("CONNECT is not allowed: this proxy leads to the apiserver only")]
    Connect,
    /// The request has passed this proxy before: the upstream leads back to the proxy.
    #[error(
        "the upstream of this proxy leads back to the proxy: upstream.url or upstream.servers must be the apiserver"
    )]
    Loop,
    /// There are more requests in flight than `serving.maxRequests`.
    #[error("too many requests are in flight, please try again later")]
    TooManyRequests,
    /// The head of the request is larger than `serving.maxHead`.
    #[error(
        "the line and the headers of the request are more than {bytes} bytes or {lines} lines, the limit of serving.maxHead"
    )]
    HeadTooLarge {
        /// The limit in bytes, counted as in HTTP/1.1.
        bytes: u32,
        /// The limit of header lines.
        lines: u32,
    },
    /// The URL is longer than the `http` crate can represent.
    #[error("the URL is longer than 65534 bytes, which the proxy cannot pass on")]
    UrlTooLong,
    /// The client sent something that is not the head of an HTTP request.
    #[error(
        "this is not HTTP/1.1, or its URL has bytes that must be percent-encoded, such as \" < > `"
    )]
    NotHttp,
}

impl ProxyError {
    /// The answer for this error to a request of `method`, in `encoding`.
    pub fn into_response<G>(self, method: &Method, encoding: Encoding) -> Response<Body<G>> {
        let (code, _, retry_after) = self.verdict(method);
        let status = self.status(method);
        // Over HTTP/2, hyper would send a body in answer to HEAD, which clients treat as a broken
        // stream.
        let mut response = Response::new(if method == Method::HEAD {
            Body::empty()
        } else {
            Body::full(status.encode(encoding))
        });
        *response.status_mut() = code;
        headers::set_reason(&mut response);
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

    /// The `metav1.Status` of that answer.
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
            Self::RequestBody(_) | Self::Upstream(SendError::Request(_)) => {
                (StatusCode::BAD_REQUEST, "BadRequest", None)
            }
            Self::Malformed(malformed) => {
                let (code, reason) = malformed.code();
                (code, reason, None)
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
            // The client has stopped waiting.
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "Timeout", None),
            Self::RateLimited(rejected) => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                Some(rejected.retry_after),
            ),
            Self::ClientCertificate => (StatusCode::UNAUTHORIZED, "Unauthorized", None),
            Self::Identity(error) if error.lets_others_count() => {
                (StatusCode::UNAUTHORIZED, "Unauthorized", None)
            }
            Self::Identity(_) => (StatusCode::FORBIDDEN, "Forbidden", None),
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

/// Rounded up, and at least 1: client-go ignores a `Retry-After` of 0.
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
