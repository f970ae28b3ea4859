//! Reads one line of an audit log. Pure: bytes in, events out. Malformed input of any kind gives an
//! error and never a panic.
//!
//! Most lines of a log are no creates. These are recognised without parsing.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/apis/audit/v1/types.go>

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, StatusCode};
use memchr::memmem;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use time::Date;

use crate::status::{Cause, Details, Status};
use crate::verdict::{Class, classify, classify_status};

/// A write of a namespaced object that may be a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// How the request came.
    pub verb: Verb,
    /// The namespace, never empty.
    pub namespace: Cow<'a, str>,
    /// The API group, empty for core.
    pub group: Cow<'a, str>,
    /// The resource in the plural.
    pub resource: Cow<'a, str>,
    /// `User-Agent` as the client sent it, which may be anything.
    pub user_agent: Cow<'a, str>,
    /// The path and query of the request.
    pub uri: Cow<'a, str>,
    /// When the request arrived, in seconds since 1970.
    pub time: Option<i64>,
    /// What is known of the answer.
    pub answer: Answer,
}

/// The verbs that create objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// `POST` on a collection.
    Create,
    /// `PATCH` on a name. A server-side apply is one, and the log does not keep the content type
    /// that tells it from other patches.
    Patch,
}

impl Verb {
    /// The verb as the log spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Patch => "patch",
        }
    }
}

/// What an event tells of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The event was written before the answer.
    Pending,
    /// The event was written after the answer and does not have it.
    Missing,
    /// The class of the answer, and whether the object was created (201).
    Is {
        /// The class, as the proxy would find it.
        class: Class,
        /// The code is 201, and nothing says that it failed.
        created: bool,
    },
}

/// Why a line cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineError {
    /// The line is something else.
    NotAnEvent,
    /// The line is the start of an event.
    CutOff,
    /// The event has a version other than `v1` and `v1beta1`.
    OtherVersion,
    /// The line is longer than the memory that is kept for one.
    TooLong,
}

impl LineError {
    /// What such lines are, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            LineError::NotAnEvent => "is no audit event in JSON",
            LineError::CutOff => "is cut off or damaged",
            LineError::OtherVersion => "has a version other than audit.k8s.io/v1 and v1beta1",
            LineError::TooLong => "is longer than 64 MiB",
        }
    }
}

/// Reads a line and calls `seen` with each create and patch in it. A line is an `Event`, as
/// kube-apiserver's log backend writes it, or an `EventList`, as its webhook backend sends it. Text
/// before the first `{` is skipped: container runtimes and log shippers put a time there.
///
/// # Errors
/// The line is no audit event.
pub fn read_line<'a>(line: &'a [u8], mut seen: impl FnMut(Event<'a>)) -> Result<(), LineError> {
    let start = memchr::memchr(b'{', line).ok_or(LineError::NotAnEvent)?;
    let json = line[start..].trim_ascii_end();
    // Behind a backslash, it is part of a text.
    let is_value = |at: usize| !json[..at].ends_with(b"\\");
    if !memmem::find_iter(json, b"\"audit.k8s.io/").any(is_value) {
        return Err(LineError::NotAnEvent);
    }
    if !json.ends_with(b"}") {
        return Err(LineError::CutOff);
    }
    if memmem::find(json, b"\"create\"").is_none() && memmem::find(json, b"\"patch\"").is_none() {
        return Ok(());
    }
    let raw: RawEvent<'_> = serde_json::from_slice(json).map_err(|_| LineError::CutOff)?;
    match raw.api_version.strip_prefix("audit.k8s.io/") {
        Some("v1" | "v1beta1") => {}
        Some(_) => return Err(LineError::OtherVersion),
        None => return Err(LineError::NotAnEvent),
    }
    match &*raw.kind {
        "Event" => {
            raw.into_event().into_iter().for_each(&mut seen);
            Ok(())
        }
        // The version of a list can follow its items, so these are read now that it is known.
        "EventList" => {
            let mut json = serde_json::Deserializer::from_slice(json);
            let list = Items(&mut seen);
            list.deserialize(&mut json).map_err(|_| LineError::CutOff)
        }
        _ => Err(LineError::NotAnEvent),
    }
}

/// Hands out the events of a list one by one, because a list of small items takes far more memory
/// than its line.
struct Items<'s, 'a>(&'s mut dyn FnMut(Event<'a>));

impl<'a> DeserializeSeed<'a> for Items<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Items<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an EventList with items")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Cow<'a, str>>()? {
            if key == "items" {
                map.next_value_seed(Items(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<(), S::Error> {
        while let Some(raw) = items.next_element::<RawEvent<'a>>()? {
            raw.into_event().into_iter().for_each(&mut *self.0);
        }
        Ok(())
    }

    /// `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The fields that are read of an `Event`, and the kind of an `EventList`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawEvent<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow, rename = "requestURI")]
    request_uri: Cow<'a, str>,
    #[serde(borrow)]
    verb: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Cow<'a, str>,
    #[serde(borrow)]
    object_ref: Option<RawObject<'a>>,
    #[serde(borrow)]
    response_status: Option<RawAnswer<'a>>,
    request_received_timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawObject<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    api_group: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    subresource: Cow<'a, str>,
}

/// A `metav1.Status` without its kind. Of an answer that was no Status, only the code is logged.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAnswer<'a> {
    code: i64,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    details: Option<RawDetails<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDetails<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    causes: Vec<RawCause<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCause<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl<'a> RawEvent<'a> {
    /// None: the event is about something that no quota counts.
    fn into_event(self) -> Option<Event<'a>> {
        let verb = match &*self.verb {
            "create" => Verb::Create,
            "patch" => Verb::Patch,
            _ => return None,
        };
        let object = self.object_ref?;
        if object.namespace.is_empty()
            || !object.subresource.is_empty()
            || is_dry(&self.request_uri)
        {
            return None;
        }
        let answer = match (&*self.stage, &self.response_status) {
            ("ResponseComplete" | "Panic", Some(answer)) => {
                let class = answer.class();
                let created = class == Class::Success && answer.code == 201;
                Answer::Is { class, created }
            }
            ("ResponseComplete" | "Panic", None) => Answer::Missing,
            _ => Answer::Pending,
        };
        let time = self.request_received_timestamp.as_deref();
        Some(Event {
            verb,
            namespace: object.namespace,
            group: object.api_group,
            resource: object.resource,
            user_agent: self.user_agent,
            uri: self.request_uri,
            time: time.and_then(seconds),
            answer,
        })
    }
}

/// A dry run does not touch the quota.
fn is_dry(uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.starts_with("dryRun="))
}

impl RawAnswer<'_> {
    fn class(&self) -> Class {
        let code = u16::try_from(self.code).ok();
        let Some(code) = code.and_then(|code| StatusCode::from_u16(code).ok()) else {
            return Class::Unrecognized;
        };
        if self.status == "Failure" {
            return classify_status(code, &self.to_status());
        }
        if code.is_success() && self.message == "Connection closed early" {
            // The apiserver logs this with code 200 when it wrote no answer.
            return Class::Lost;
        }
        // The log does not keep texts. Behind the audit log, the apiserver writes only this one.
        // https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight.go
        let text: &[u8] = match code {
            StatusCode::TOO_MANY_REQUESTS => b"Too many requests, please try again later.",
            _ => b"",
        };
        classify(code, &HeaderMap::new(), text).class
    }

    fn to_status(&self) -> Status {
        let mut status = Status::new(0, &*self.reason, &*self.message);
        if let Some(details) = &self.details {
            status.details = Details {
                name: details.name.as_ref().into(),
                group: details.group.as_ref().into(),
                kind: details.kind.as_ref().into(),
                causes: details.causes.iter().map(RawCause::to_cause).collect(),
                retry_after_seconds: 0,
            };
        }
        status
    }
}

impl RawCause<'_> {
    fn to_cause(&self) -> Cause {
        Cause {
            reason: self.reason.as_ref().into(),
            message: self.message.as_ref().into(),
        }
    }
}

/// The whole seconds since 1970 of a time like `2026-01-02T03:04:05.678901Z`. The apiserver writes
/// UTC. None: the text is something else.
fn seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let year = date.next()?.parse().ok()?;
    let month = date.next()?.parse::<u8>().ok()?.try_into().ok()?;
    let day = date.next()?.parse().ok()?;
    let mut clock = clock.split(':');
    let (hour, minute) = (clock.next()?.parse().ok()?, clock.next()?.parse().ok()?);
    let second = clock.next()?.split('.').next()?.parse().ok()?;
    let date = Date::from_calendar_date(year, month, day).ok()?;
    let moment = date.with_hms(hour, minute, second).ok()?;
    Some(moment.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests;
