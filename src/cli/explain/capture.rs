//! Parses an HTTP answer as people capture it: with `curl -i` or `curl -v`, with CRLF or LF, as the
//! fields of HTTP/2, or the body alone.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::ExplainError;

/// The final answer of a capture.
pub(super) struct Captured<'a> {
    /// None: the capture has no head, so all of it is the body.
    pub(super) code: Option<StatusCode>,
    pub(super) headers: HeaderMap,
    pub(super) body: &'a [u8],
}

impl<'a> Captured<'a> {
    pub(super) fn parse(raw: &'a [u8]) -> Result<Captured<'a>, ExplainError> {
        let mut lines = CaptureLines {
            rest: raw,
            number: 0,
        };
        loop {
            if lines.rest.starts_with(b":status") {
                return Captured::fields(lines);
            }
            if !lines.rest.starts_with(b"HTTP/") {
                return Ok(Captured {
                    code: None,
                    headers: HeaderMap::new(),
                    body: lines.rest,
                });
            }
            let line = lines.next().unwrap_or_default();
            let code =
                status_code(line).ok_or_else(|| ExplainError::StatusLine { line: shown(line) })?;
            let headers = headers(&mut lines)?;
            // `curl -i` prints interim answers first, such as `100 Continue`, or
            // `200 Connection established` of a proxy.
            let followed = lines.rest.starts_with(b"HTTP/");
            if code.is_informational() && !followed {
                return Err(ExplainError::OnlyInterim {
                    code: code.as_u16(),
                });
            }
            if !followed {
                return Ok(Captured {
                    code: Some(code),
                    headers,
                    body: lines.rest,
                });
            }
        }
    }
}

impl<'a> Captured<'a> {
    /// The header fields of HTTP/2 as its tools print them, `:status: 409` first.
    fn fields(mut lines: CaptureLines<'a>) -> Result<Captured<'a>, ExplainError> {
        let line = lines.next().unwrap_or_default();
        let code = line[":status".len()..]
            .split(|byte| matches!(byte, b' ' | b':' | b'=' | b'\t'))
            .find(|word| !word.is_empty());
        let code = code
            .and_then(|code| StatusCode::from_bytes(code).ok())
            .ok_or_else(|| ExplainError::StatusLine { line: shown(line) })?;
        let headers = headers(&mut lines)?;
        Ok(Captured {
            code: Some(code),
            headers,
            body: lines.rest,
        })
    }
}

/// The answer in the output of `curl -v`, which marks the lines of its head with `<`. Other output is
/// returned as it is.
pub(super) fn without_marks_of_curl(raw: &[u8]) -> Cow<'_, [u8]> {
    let is_start = |line: &[u8]| line.starts_with(b"< HTTP/");
    if !raw.split(|byte| *byte == b'\n').any(is_start) {
        return Cow::Borrowed(raw);
    }
    let mut answer = Vec::new();
    let (mut started, mut in_head) = (false, false);
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        if is_start(line) {
            // The last answer counts: those before it are interim, or asked for credentials.
            answer.clear();
            (started, in_head) = (true, true);
        }
        let text = line.trim_ascii_end();
        let is_of_curl = [&b"* "[..], b"> ", b"{ [", b"} ["]
            .iter()
            .any(|mark| line.starts_with(mark));
        if !started || is_of_curl || text == b">" || text == b"*" {
            continue;
        }
        match line.strip_prefix(b"<") {
            Some(head) if in_head => {
                answer.extend_from_slice(head.strip_prefix(b" ").unwrap_or(head));
                in_head = text != b"<";
            }
            _ if in_head => {}
            _ => answer.extend_from_slice(line),
        }
    }
    Cow::Owned(answer)
}

/// An iterator over lines, without their line ends.
struct CaptureLines<'a> {
    /// The part that has not been read.
    rest: &'a [u8],
    /// The number of the last line, counted from 1.
    number: usize,
}

impl<'a> Iterator for CaptureLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self
            .rest
            .iter()
            .position(|b| *b == b'\n')
            .unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        self.number += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The code in `HTTP/1.1 409 Conflict` or `HTTP/2 409 `.
fn status_code(line: &[u8]) -> Option<StatusCode> {
    let code = line
        .split(|b| *b == b' ')
        .filter(|word| !word.is_empty())
        .nth(1)?;
    StatusCode::from_bytes(code).ok()
}

fn headers(lines: &mut CaptureLines<'_>) -> Result<HeaderMap, ExplainError> {
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            break;
        }
        let parsed = line.iter().position(|b| *b == b':').and_then(|colon| {
            let name = HeaderName::from_bytes(line[..colon].trim_ascii_end()).ok()?;
            Some((
                name,
                HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?,
            ))
        });
        let (name, value) = parsed.ok_or_else(|| ExplainError::Header {
            number: lines.number,
            line: shown(line),
        })?;
        // An apiserver never sends more headers than the map can hold.
        headers
            .try_append(name, value)
            .map_err(|_| ExplainError::Header {
                number: lines.number,
                line: shown(line),
            })?;
    }
    Ok(headers)
}

/// The start of a line, for an error.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(240)]).into_owned();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
