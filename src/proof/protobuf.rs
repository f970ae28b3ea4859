//! Compares objects in protobuf without their schema, and fills in a name.
//!
//! Without a schema a field of bytes can be a text or a message. It counts as a text if both sides
//! have only printable characters, and as a message if both sides are messages. A wrong guess can
//! only make objects differ that are the same.

use super::body::Names;
use super::{Facts, is_same_amount};
use crate::status::protobuf::{FieldValue, MAGIC, Message, decode_object, fields};

/// The deepest message that is compared.
const MAX_DEPTH: u8 = 64;

/// Numbers of fields of `ObjectMeta`.
const NAME: u32 = 1;
const GENERATE_NAME: u32 = 2;
const NAMESPACE: u32 = 3;
const UID: u32 = 5;
const CREATED: u32 = 8;
const OWNERS: u32 = 13;
const MANAGED: u32 = 17;
/// `selfLink`, `uid`, `resourceVersion`, `generation`, `creationTimestamp`, `deletionTimestamp`,
/// `deletionGracePeriodSeconds` and `managedFields`, which the server sets.
const SET_BY_SERVER: [u32; 8] = [4, UID, 6, 7, CREATED, 9, 10, MANAGED];

/// What `found` says, compared with what was sent.
pub(super) fn facts(sent: &[u8], found: &[u8]) -> Option<Facts> {
    let (sent, found) = (decode_object(sent)?, decode_object(found)?);
    let meta = metadata(found.raw)?;
    let sent_meta = metadata(sent.raw)?;
    let is_same_kind = |sent: &str, found: &str| sent.is_empty() || sent == found;
    let others = |raw| without(raw, &[1]);
    let contains = is_same_kind(sent.kind, found.kind)
        && is_same_kind(sent.api_version, found.api_version)
        && all(sent_meta, OWNERS).count() == all(meta, OWNERS).count()
        && has_all(
            &without(meta, &SET_BY_SERVER)?,
            &without(sent_meta, &SET_BY_SERVER)?,
            MAX_DEPTH,
        )
        && has_all(&others(found.raw)?, &others(sent.raw)?, MAX_DEPTH);
    let managers = all(meta, MANAGED).map(|entry| (text(entry, 1), text(entry, 2)));
    let created = all(meta, CREATED).last().and_then(|time| {
        let seconds = fields(time).flatten().find(|(number, _)| *number == 1);
        match seconds {
            Some((_, FieldValue::Varint(seconds))) => i64::try_from(seconds).ok(),
            _ => None,
        }
    });
    Some(Facts {
        name: text(meta, NAME),
        namespace: text(meta, NAMESPACE),
        uid: text(meta, UID),
        created,
        managers: managers.collect(),
        contains,
    })
}

/// `metadata.uid`.
pub(super) fn uid(object: &[u8]) -> Option<String> {
    Some(text(metadata(decode_object(object)?.raw)?, UID))
}

/// The names of an object. None: a field that matters occurs twice.
pub(super) fn names(body: &[u8]) -> Option<Names> {
    let raw = only(body.strip_prefix(&MAGIC)?, 2)??;
    let meta = only(raw, 1)??;
    let text = |number| {
        let text = only(meta, number)?.unwrap_or_default();
        String::from_utf8(text.to_vec()).ok()
    };
    Some(Names {
        name: text(NAME)?,
        generate_name: text(GENERATE_NAME)?,
    })
}

/// The body with this name in place of the one that it has.
pub(super) fn with_name(body: &[u8], name: &str) -> Option<Vec<u8>> {
    let unknown = body.strip_prefix(&MAGIC)?;
    // An encoding of the content would mean that it is not a message.
    if !text(unknown, 3).is_empty() {
        return None;
    }
    let unknown = replaced(unknown, 2, |raw| {
        replaced(raw, 1, |meta| match only(meta, NAME)? {
            Some(_) => replaced(meta, NAME, |_| Some(name.into())),
            None => Some([Message::new().string(NAME, name).as_bytes(), meta].concat()),
        })
    })?;
    Some([&MAGIC[..], &unknown].concat())
}

/// The message with another value in its only field of this number. All else stays byte for byte.
fn replaced(
    message: &[u8],
    number: u32,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut rest = fields(message);
    loop {
        let start = message.len() - rest.rest().len();
        if let (found, FieldValue::Bytes(value)) = rest.next()?.ok()?
            && found == number
        {
            let end = message.len() - rest.rest().len();
            let new = Message::new().bytes(number, &change(value)?);
            return Some([&message[..start], new.as_bytes(), &message[end..]].concat());
        }
    }
}

/// The value of a field of bytes, if there is one. None: it occurs twice, has another type, or the
/// message is damaged.
fn only(message: &[u8], number: u32) -> Option<Option<&[u8]>> {
    let mut found = None;
    for field in fields(message) {
        match field.ok()? {
            (each, FieldValue::Bytes(value)) if each == number && found.is_none() => {
                found = Some(value);
            }
            (each, _) if each == number => return None,
            _ => {}
        }
    }
    Some(found)
}

/// Every value of a field of bytes.
fn all(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    fields(message)
        .flatten()
        .filter_map(move |field| match field {
            (each, FieldValue::Bytes(value)) if each == number => Some(value),
            _ => None,
        })
}

/// The last value of a field of text; empty if there is none.
fn text(message: &[u8], number: u32) -> String {
    let last = all(message, number).last().unwrap_or_default();
    String::from_utf8_lossy(last).into_owned()
}

fn metadata(raw: &[u8]) -> Option<&[u8]> {
    only(raw, 1)?
}

type Field<'a> = (u32, FieldValue<'a>);

/// More fields of one message are not compared. A list or map has one for each item.
const MAX_FIELDS: usize = 100_000;

/// The fields of a message without these, by number; those of one number in their order. None: it is
/// damaged, or has too many.
fn without<'a>(message: &'a [u8], numbers: &[u32]) -> Option<Vec<Field<'a>>> {
    let mut all = Vec::new();
    for field in fields(message) {
        let field = field.ok()?;
        if !numbers.contains(&field.0) {
            all.push(field);
        }
        if all.len() > MAX_FIELDS {
            return None;
        }
    }
    all.sort_by_key(|(number, _)| *number);
    Some(all)
}

/// Whether every field that was sent is there, those of one number in their order. An empty field
/// may be missing. Both are by number. Whoever sends a create chooses how many fields there are, so
/// the time must not grow faster than their number.
fn has_all(found: &[Field<'_>], sent: &[Field<'_>], depth: u8) -> bool {
    let mut found = found;
    sent.chunk_by(|one, next| one.0 == next.0).all(|sent| {
        let number = sent[0].0;
        found = &found[found.partition_point(|(each, _)| *each < number)..];
        let (same, rest) = found.split_at(found.partition_point(|(each, _)| *each == number));
        found = rest;
        if same.is_empty() {
            return sent.iter().all(|(_, value)| is_empty(*value, depth));
        }
        let mut same = same.iter();
        sent.iter()
            .all(|(_, sent)| same.any(|(_, found)| has(*found, *sent, depth)))
    })
}

fn has(found: FieldValue<'_>, sent: FieldValue<'_>, depth: u8) -> bool {
    if found == sent || is_empty(sent, depth) {
        return true;
    }
    let (FieldValue::Bytes(found), FieldValue::Bytes(sent)) = (found, sent) else {
        return false;
    };
    if let (Some(found), Some(sent)) = (printable(found), printable(sent)) {
        return is_same_amount(sent, found);
    }
    match (
        depth.checked_sub(1),
        without(sent, &[]),
        without(found, &[]),
    ) {
        (Some(depth), Some(sent), Some(found)) => has_all(&found, &sent, depth),
        _ => false,
    }
}

/// Whether Go would leave the value out, or write it as empty.
fn is_empty(value: FieldValue<'_>, depth: u8) -> bool {
    match value {
        FieldValue::Varint(number) | FieldValue::Fixed64(number) => number == 0,
        FieldValue::Fixed32(number) => number == 0,
        FieldValue::Bytes(bytes) => {
            let all_empty = |depth: u8| {
                let mut all = fields(bytes);
                all.all(|field| field.is_ok_and(|(_, value)| is_empty(value, depth)))
            };
            bytes.is_empty() || depth.checked_sub(1).is_some_and(all_empty)
        }
    }
}

/// The text, if all of it can be printed.
fn printable(bytes: &[u8]) -> Option<&str> {
    let is_printed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    str::from_utf8(bytes)
        .ok()
        .filter(|text| text.chars().all(is_printed))
}
