//! exec, attach and portforward: the connection is upgraded, and the model echoes every byte.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, copy, split};

use super::Apiserver;
use super::answer::{self, Answer, Body};

/// Whether the request asks for an upgrade of its connection.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let connection = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut tokens = connection.flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        && headers.contains_key(http::header::UPGRADE)
}

impl Apiserver {
    /// Answers 101 with the requested protocol, then echoes. When the input ends, the output ends
    /// after its last byte.
    pub(super) fn tunnel(&self, head: Parts, body: Incoming) -> Answer {
        const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
        let Some(protocol) = head.headers.get(http::header::UPGRADE).cloned() else {
            return self.failure(
                &head,
                answer::bad_request("unable to upgrade: missing upgrade headers in request"),
            );
        };
        let mut switching = Response::new(Body::full(""));
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(
            http::header::CONNECTION,
            HeaderValue::from_static("Upgrade"),
        );
        headers.insert(http::header::UPGRADE, protocol);
        for name in [PROTOCOL, http::header::SEC_WEBSOCKET_PROTOCOL] {
            if let Some(offered) = head.headers.get(&name) {
                headers.insert(name, offered.clone());
            }
        }
        let upgrade = hyper::upgrade::on(Request::from_parts(head, body));
        self.tasks.spawn_until_stop(async move {
            // The client may leave before the upgrade, or at any time after it.
            if let Ok(connection) = upgrade.await {
                let (mut input, mut output) = split(TokioIo::new(connection));
                let _ = copy(&mut input, &mut output).await;
                let _ = output.shutdown().await;
            }
        });
        switching
    }
}
