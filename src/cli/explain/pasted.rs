//! Finds an answer in what people paste: a log of kubectl, Go, Java, Python or Node, an exception, or
//! an Event.
//!
//! A Status that the text has in full is taken as it is. Otherwise the message says what
//! kube-apiserver answered, because its words are fixed (see `words`), and the rest is inferred.

use serde::de::IgnoredAny;

use super::folded::{self, Record};
use super::words::{self, Meant};
use crate::status::Status;

/// How much of a text is searched at once.
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
    /// It has a message with the reason that kubectl prints. The message can have a known sentence
    /// in it, which says more.
    Kubectl(Meant),
}

/// A long text in parts, which overlap so that a message is whole in one of them.
pub(super) fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = MAX_TEXT - MAX_OBJECT;
    let ends = |start: &usize| text.len().saturating_sub(*start) > MAX_OBJECT || *start == 0;
    (0..)
        .map(move |number| number * step)
        .take_while(ends)
        .map(|start| &text[start..text.len().min(start + MAX_TEXT)])
}

/// Reads a text: everything in it that kube-apiserver says, whole Statuses first. What is said
/// twice may occur twice.
pub(super) fn read(text: &[u8]) -> Vec<Pasted> {
    let mut text = folded::plain(&String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]));
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
    let records: Vec<_> = levels.iter().map(|level| folded::records(level)).collect();
    let mut found: Vec<_> = levels
        .iter()
        .flat_map(|level| json(level))
        .map(Pasted::Json)
        .collect();
    if found.is_empty() {
        // A body that was folded within its strings is no JSON.
        let lines = records
            .iter()
            .flatten()
            .flat_map(|record| record.lines.iter());
        let whole: String = lines.copied().collect();
        found.extend(json(&whole).into_iter().map(Pasted::Json));
    }
    found.extend(
        levels
            .iter()
            .filter_map(|level| fabric8(level))
            .map(Pasted::Fabric8),
    );
    let records = || records.iter().flatten();
    found.extend(records().flat_map(messages).map(Pasted::Message));
    let kubectl = records().filter_map(|record| words::kubectl(&record.joined()[0]));
    found.extend(kubectl.map(Pasted::Kubectl));
    found
}

/// The messages in the lines of a record, and in the line that it may have been.
fn messages(record: &Record<'_>) -> Vec<Meant> {
    let joined = record.joined();
    let mut found: Vec<_> = match joined.iter().any(|joined| words::denial(joined).is_some()) {
        // What follows a denial on further lines can be words of the webhook.
        true => Vec::new(),
        false => record
            .lines
            .iter()
            .flat_map(|line| words::all(line))
            .collect(),
    };
    if record.lines.len() > 1 || found.is_empty() {
        found.extend(joined.iter().flat_map(|joined| words::all(joined)));
    }
    found
}

/// The seconds of a `Retry-After` in the text, in any of the forms that clients print headers in.
pub(super) fn retry_after(text: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let after = text.split_once("retry-after")?.1;
    let digits = after.trim_start_matches(|c: char| c.is_ascii_punctuation() || c == ' ');
    // `Retry-After: 1`, `'Retry-After': '1'`, `retry-after=[1]`, `"Retry-After":["1"]`
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The Statuses among the JSON objects of a text.
fn json(text: &str) -> Vec<Status> {
    let bytes = text.as_bytes();
    let (mut found, mut broken, mut at) = (Vec::new(), 0, 0);
    while broken < MAX_OBJECTS
        && let Some(next) = memchr::memchr(b'{', &bytes[at..])
    {
        let object = &bytes[at + next..bytes.len().min(at + next + MAX_OBJECT)];
        at += next + 1;
        let mut after = object[1..].iter();
        if after.find(|byte| !byte.is_ascii_whitespace()) != Some(&b'"') {
            continue;
        }
        let mut values = serde_json::Deserializer::from_slice(object).into_iter::<IgnoredAny>();
        if !matches!(values.next(), Some(Ok(_))) {
            broken += 1;
            continue;
        }
        let object = &object[..values.byte_offset()];
        match Status::decode(object).filter(|status| status.code != 0) {
            Some(status) => found.push(status),
            // An object that has none can hold one.
            None if memchr::memmem::find(object, b"\"code\"").is_some() => continue,
            None => {}
        }
        at += object.len() - 1;
    }
    found
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
