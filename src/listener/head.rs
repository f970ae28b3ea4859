//! The largest head that a request may have, in both protocols: its bytes in the form of HTTP/1.1,
//! and its lines.

use http::Request;

use crate::error::ProxyError;

/// How many header lines even the smallest limit allows. The most seen in practice is 1,200
/// (`Impersonate-Group`).
const MIN_LINES: u32 = 2000;
/// How many header lines the largest limit allows.
const MAX_LINES: u32 = 10_000;
/// The bytes that RFC 9113 (§6.5.2) adds for each header to the size of a header list.
const LIST_OVERHEAD: u32 = 32;
/// The smallest buffer of a connection.
const MIN_BUFFER: u32 = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimit {
    bytes: u32,
}

impl HeadLimit {
    pub(super) const fn of(bytes: u32) -> Self {
        Self { bytes }
    }

    pub(super) const fn bytes(self) -> usize {
        self.bytes as usize
    }

    /// The most header lines. hyper's parser allocates 64 bytes for each of these lines while it
    /// reads a head, so the number is lower than what the bytes would allow.
    pub(super) fn lines(self) -> usize {
        self.max_lines() as usize
    }

    fn max_lines(self) -> u32 {
        (self.bytes / 32).clamp(MIN_LINES, MAX_LINES)
    }

    /// The size of the read and write buffers of an HTTP/1.1 connection. A whole head fits.
    pub(super) fn buffer(self) -> usize {
        self.bytes.max(MIN_BUFFER) as usize
    }

    /// The limit as HTTP/2 counts it. It is a little higher than [`Self::bytes`]: between the two
    /// the proxy answers with a status, above it h2 answers with a code only.
    pub(super) fn list(self) -> u32 {
        self.bytes.saturating_add(LIST_OVERHEAD * self.max_lines())
    }

    /// Checks a head that was read.
    pub(super) fn check<B>(self, request: &Request<B>) -> Result<(), ProxyError> {
        if size_of(request) > self.bytes() || request.headers().len() > self.lines() {
            Err(self.error())
        } else {
            Ok(())
        }
    }

    /// The error for a head above the limit.
    pub(super) fn error(self) -> ProxyError {
        ProxyError::HeadTooLarge {
            bytes: self.bytes,
            lines: self.max_lines(),
        }
    }
}

/// The size of a head in the form of HTTP/1.1.
fn size_of<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    // HTTP/2 has the host in its URI.
    let host = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len() + "host: \r\n".len());
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    request.method().as_str().len()
        + target
        + "  HTTP/1.1\r\n".len()
        + host
        + headers
        + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_large_as_its_text() {
        let request = Request::get("/api/v1/pods?watch=1")
            .header("host", "a")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        assert_eq!(
            size_of(&request),
            "GET /api/v1/pods?watch=1 HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n".len()
        );
        let http2 = Request::get("https://a/api/v1/pods?watch=1")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        assert_eq!(size_of(&http2), size_of(&request));
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_accepted() {
        let request = |bytes: usize| {
            let empty = size_of(&Request::get("/").header("x", "").body(()).unwrap());
            Request::get("/")
                .header("x", "y".repeat(bytes - empty))
                .body(())
                .unwrap()
        };
        assert!(HeadLimit::of(4096).check(&request(4096)).is_ok());
        assert!(HeadLimit::of(4096).check(&request(4097)).is_err());
    }
}
