//! How a request names its server: the scheme, the authority and the `Host` header.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};

use super::super::connect::Connector;
use crate::headers;

#[derive(Debug)]
pub(super) struct Origin {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

impl Origin {
    pub(super) fn of(connector: &Connector) -> Self {
        let (scheme, authority, host) = connector.origin();
        Self {
            scheme,
            authority,
            host,
        }
    }

    /// Names the server as the protocol requires: `:authority` in HTTP/2, `Host` in HTTP/1.1. Path
    /// and query stay as they are.
    pub(super) fn address<B>(&self, request: &mut Request<B>, http2: bool) {
        let path = std::mem::take(request.uri_mut())
            .into_parts()
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if http2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            *request.version_mut() = Version::HTTP_2;
            // Clients send `Host` first. Removing it would move the last header to the front,
            // because HeaderMap swaps when it removes.
            if request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, self.host.clone());
            }
        } else {
            *request.uri_mut() = Uri::from(path);
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(HOST, self.host.clone());
            headers::join_cookies(request.headers_mut());
        }
    }
}
