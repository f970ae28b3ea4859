//! How large the head of a request may be, in both protocols: its bytes as HTTP/1.1 writes them,
//! and its lines.

use http::Request;

use crate::error::ProxyError;

/// Lines of headers that any limit allows: as many as there ever were in practice (1,200
/// `Impersonate-Group`), and some.
const MIN_LINES: u32 = 2000;
/// Lines that the largest limit allows.
const MAX_LINES: u32 = 10_000;
/// What RFC 9113 (§6.5.2) adds to each header when it counts the size of a list.
const LIST_OVERHEAD: u32 = 32;
/// What a connection reads and writes at once where heads are smaller than that.
const MIN_BUFFER: u32 = 64 << 10;

/// The limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    bytes: u32,
}

impl Head {
    pub(super) const fn of(bytes: u32) -> Self {
        Self { bytes }
    }

    /// Bytes of a head.
    pub(super) const fn bytes(self) -> usize {
        self.bytes as usize
    }

    /// Lines of headers. The parser makes room for as many, 64 bytes each, while it reads a head,
    /// so not for as many as fit.
    pub(super) fn lines(self) -> usize {
        self.max_lines() as usize
    }

    fn max_lines(self) -> u32 {
        (self.bytes / 32).clamp(MIN_LINES, MAX_LINES)
    }

    /// The buffer of an HTTP/1.1 connection, for reading and for writing: a head fits.
    pub(super) fn buffer(self) -> usize {
        self.bytes.max(MIN_BUFFER) as usize
    }

    /// The same limit as HTTP/2 counts it. What is within this and over the limit gets an answer of
    /// ours, beyond this a bare one of h2.
    pub(super) fn list(self) -> u32 {
        self.bytes.saturating_add(LIST_OVERHEAD * self.max_lines())
    }

    /// Whether a head that has come is within the limit.
    pub(super) fn check<B>(self, request: &Request<B>) -> Result<(), ProxyError> {
        if size_of(request) > self.bytes() || request.headers().len() > self.lines() {
            Err(self.error())
        } else {
            Ok(())
        }
    }

    /// What is said of a head that is not.
    pub(super) fn error(self) -> ProxyError {
        ProxyError::HeadTooLarge {
            bytes: self.bytes,
            lines: self.max_lines(),
        }
    }
}

/// The bytes of a head in HTTP/1.1.
fn size_of<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    // HTTP/2 has the name of the host in its URI.
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
    fn the_limit_itself_is_within() {
        let request = |bytes: usize| {
            let empty = size_of(&Request::get("/").header("x", "").body(()).unwrap());
            Request::get("/")
                .header("x", "y".repeat(bytes - empty))
                .body(())
                .unwrap()
        };
        assert!(Head::of(4096).check(&request(4096)).is_ok());
        assert!(Head::of(4096).check(&request(4097)).is_err());
    }
}
