//! The answer in what the user gives: an HTTP answer, its body, or a text that tells of one.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::ExplainError;
use super::capture::{Captured, without_marks_of_curl};
use super::pasted::{self, Pasted};
use super::signs;
use super::told::Told;
use super::transfer::{self, Decoded};
use super::words::Meant;
use crate::status::{Encoding, Status};
use crate::verdict::Class;

/// Where an answer comes from, and so how much of it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An HTTP answer with its status line.
    Answer,
    /// The body of one.
    Body,
    /// A Status in JSON within a text.
    Json,
    /// A Status as fabric8 prints it.
    Fabric8,
    /// The message of one in a text. Code, reason and details are inferred.
    Message,
}

/// An answer to explain.
pub(super) struct Found {
    pub(super) source: Source,
    pub(super) code: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) status: Option<(Status, Encoding)>,
    /// The body was compressed.
    pub(super) compressed: bool,
    /// How the capture breaks off.
    pub(super) broken_off: Option<String>,
    /// The classes of the other answers that a text tells of, one each.
    pub(super) others: Vec<Class>,
}

impl Found {
    /// Finds the answer in `raw`.
    pub(super) fn within(raw: &[u8]) -> Result<Found, ExplainError> {
        let unpacked = transfer::gunzip(Cow::Borrowed(raw))?.bytes;
        let text = transfer::text(&unpacked);
        let text = without_marks_of_curl(&text);
        let captured = Captured::parse(&text)?;
        let Some(code) = captured.code else {
            if is_audit_log(captured.body) {
                return Err(ExplainError::AuditLog);
            }
            let found = Found::without_head(captured.body);
            return found.ok_or_else(|| signs::of_nothing(captured.body));
        };
        Found::in_answer(code, captured)
    }

    fn in_answer(code: StatusCode, captured: Captured<'_>) -> Result<Found, ExplainError> {
        let headers = captured.headers;
        let Decoded {
            bytes,
            mut broken_off,
        } = joined(&headers, captured.body);
        let compressed = transfer::is_gzip(&bytes);
        let decoded = transfer::gunzip(bytes)?;
        broken_off = broken_off.or(decoded.broken_off);
        let body = decoded.bytes.into_owned();
        let status = decoded_status(&body);
        if status.is_none() && !compressed {
            readable(&headers, &body)?;
        }
        // `curl -v` mixes its own output with the body.
        let status = status.or_else(|| match pasted::read(&body).into_iter().next()? {
            Pasted::Json(status) => Some((status, Encoding::Json)),
            _ => None,
        });
        let body = match &status {
            Some((status, _)) if Status::decode(&body).is_none() => {
                status.encode(Encoding::Json).to_vec()
            }
            _ => body,
        };
        Ok(Found {
            source: Source::Answer,
            code,
            headers,
            body,
            status,
            compressed,
            broken_off,
            others: Vec::new(),
        })
    }

    /// A body, or a text.
    fn without_head(body: &[u8]) -> Option<Found> {
        let dechunked = transfer::dechunk(body);
        let (whole, broken_off) = match dechunked {
            Some(decoded) => (decoded.bytes, decoded.broken_off),
            None => (Cow::Borrowed(body), None),
        };
        if let Some((status, encoding)) = decoded_status(&whole)
            && status.code != 0
        {
            let mut found = Found::new(Source::Body, status.code, whole.into_owned())?;
            found.status = Some((status, encoding));
            found.broken_off = broken_off;
            return Some(found);
        }
        let mut told = Told::default();
        for part in pasted::parts(body) {
            pasted::read(part)
                .into_iter()
                .for_each(|pasted| told.add(pasted));
        }
        let mut found = told.chosen()?;
        if let Some(seconds) = pasted::retry_after(body) {
            found
                .headers
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Some(found)
    }

    /// None: its code is none of HTTP.
    pub(super) fn of_pasted(pasted: Pasted) -> Option<Found> {
        match pasted {
            Pasted::Json(status) => Found::of_status(Source::Json, status),
            Pasted::Fabric8(status) => Found::of_status(Source::Fabric8, status),
            Pasted::Message(meant) | Pasted::Kubectl(meant) => match meant {
                Meant::Status(status) => Found::of_status(Source::Message, status),
                Meant::Text(code, text) => {
                    Found::new(Source::Message, code, format!("{text}.").into_bytes())
                }
            },
        }
    }

    fn of_status(source: Source, status: Status) -> Option<Found> {
        let body = status.encode(Encoding::Json).to_vec();
        let mut found = Found::new(source, status.code, body)?;
        found.status = Some((status, Encoding::Json));
        Some(found)
    }

    fn new(source: Source, code: u16, body: Vec<u8>) -> Option<Found> {
        Some(Found {
            source,
            code: StatusCode::from_u16(code).ok()?,
            headers: HeaderMap::new(),
            body,
            status: None,
            compressed: false,
            broken_off: None,
            others: Vec::new(),
        })
    }
}

/// Behind a backslash, the name is part of a text.
fn is_audit_log(text: &[u8]) -> bool {
    let mut found = memchr::memmem::find_iter(text, b"\"audit.k8s.io/");
    found.any(|at| !text[..at].ends_with(b"\\"))
}

fn decoded_status(body: &[u8]) -> Option<(Status, Encoding)> {
    Status::decode(body).map(|status| (status, Encoding::sniff(body)))
}

/// The body without chunks, and whether all of it is there.
fn joined<'a>(headers: &HeaderMap, body: &'a [u8]) -> Decoded<'a> {
    let chunked = headers.get_all(TRANSFER_ENCODING).iter().any(|line| {
        let line = line.as_bytes().to_ascii_lowercase();
        line.ends_with(b"chunked")
    });
    if chunked && let Some(decoded) = transfer::dechunk(body) {
        return decoded;
    }
    let announced: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let broken_off = announced
        .filter(|announced| *announced > body.len())
        .map(|announced| format!("after {} of the {announced} bytes of the body", body.len()));
    Decoded {
        bytes: Cow::Borrowed(body),
        broken_off,
    }
}

/// A coding that is not gzip hides the body.
fn readable(headers: &HeaderMap, body: &[u8]) -> Result<(), ExplainError> {
    let coding = headers
        .get(CONTENT_ENCODING)
        .and_then(|coding| coding.to_str().ok())
        .unwrap_or_default();
    let is_text = str::from_utf8(body).is_ok();
    if is_text || coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    Err(ExplainError::Coding {
        coding: coding.to_owned(),
    })
}
