//! Finds an answer in what people paste: a log of kubectl, Go, Java, Python or Node, an exception, or
//! an Event.
//!
//! A Status that the text has in full is taken as it is. Otherwise the message says what
//! kube-apiserver answered, because its words are fixed (see `words`), and the rest is inferred.

use serde::de::IgnoredAny;

use super::words::{self, Meant};
use crate::status::Status;

/// How much of a text is searched.
const MAX_TEXT: usize = 1 << 20;
/// How many objects in a text are looked at, and how much of each.
const MAX_OBJECTS: usize = 256;
const MAX_OBJECT: usize = 64 << 10;
/// How often a message can be quoted within another: a Status in a JSON log line that is itself a
/// field of a JSON log line.
const MAX_QUOTED: usize = 3;

/// What a text tells.
pub(super) enum Pasted {
    /// It has a whole Status, as JSON.
    Json(Status),
    /// It has a whole Status, as fabric8 prints it.
    Fabric8(Status),
    /// It has a message of kube-apiserver.
    Message(Meant),
}

/// Reads a text. None: it has nothing that kube-apiserver says.
pub(super) fn read(text: &[u8]) -> Option<Pasted> {
    let mut text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]).into_owned();
    let mut levels = Vec::new();
    for _ in 0..=MAX_QUOTED {
        let next = unquoted(&text);
        let done = next == text;
        levels.push(text);
        if done {
            break;
        }
        text = next;
    }
    let first = |read: fn(&str) -> Option<Pasted>| levels.iter().find_map(|level| read(level));
    first(|level| json(level).map(Pasted::Json))
        .or_else(|| first(|level| fabric8(level).map(Pasted::Fabric8)))
        .or_else(|| first(|level| words::meant(level).map(Pasted::Message)))
        .or_else(|| first(|level| words::kubectl(level).map(Pasted::Message)))
}

/// The seconds of a `Retry-After` in the text, in any of the forms that clients print headers in.
pub(super) fn retry_after(text: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]).to_ascii_lowercase();
    let after = text.split_once("retry-after")?.1;
    let digits = after.trim_start_matches(|c: char| c.is_ascii_punctuation() || c == ' ');
    // `Retry-After: 1`, `'Retry-After': '1'`, `retry-after=[1]`, `"Retry-After":["1"]`
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The first Status among the JSON objects of a text.
fn json(text: &str) -> Option<Status> {
    let bytes = text.as_bytes();
    let starts = bytes.iter().enumerate().filter(|(at, byte)| {
        let mut after = bytes[at + 1..].iter();
        **byte == b'{' && after.find(|byte| !byte.is_ascii_whitespace()) == Some(&b'"')
    });
    starts.take(MAX_OBJECTS).find_map(|(at, _)| {
        let object = &bytes[at..bytes.len().min(at + MAX_OBJECT)];
        let mut values = serde_json::Deserializer::from_slice(object).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        Status::decode(&object[..values.byte_offset()]).filter(|status| status.code != 0)
    })
}

/// `Status(apiVersion=v1, code=409, details=StatusDetails(…), kind=Status, message=…, metadata=…,
/// reason=Conflict, status=Failure, …)`, as Java prints it.
fn fabric8(text: &str) -> Option<Status> {
    let fields = text.split_once("Status(apiVersion=")?.1;
    let between = |from: &str, text: &'_ str, to: &str| -> Option<String> {
        let value = text.split_once(from)?.1.split_once(to)?.0;
        Some(if value == "null" { "" } else { value }.to_owned())
    };
    let code = between("code=", fields, ",")?.parse().ok()?;
    let mut status = Status::new(
        code,
        between(", reason=", fields.rsplit_once(", metadata=")?.1, ",").unwrap_or_default(),
        between(
            ", message=",
            fields.split_once(", kind=Status")?.1,
            ", metadata=",
        )?,
    );
    if let Some((details, _)) = fields
        .split_once("details=StatusDetails(")
        .and_then(|(_, details)| details.split_once(", kind=Status"))
    {
        status.details.group = between("group=", details, ",").unwrap_or_default();
        status.details.kind = between("kind=", details, ",").unwrap_or_default();
        status.details.name = between("name=", details, ",").unwrap_or_default();
        status.details.retry_after_seconds = between("retryAfterSeconds=", details, ",")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default();
    }
    Some(status)
}

/// Removes one level of quoting with backslashes.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let quoted = match (char, chars.peek()) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some(quoted @ ('"' | '\\' | '\'' | '/'))) => *quoted,
            _ => {
                out.push(char);
                continue;
            }
        };
        chars.next();
        out.push(quoted);
    }
    out
}
