//! Writes decisions as JSON: times in RFC 3339 UTC, durations in whole milliseconds.

use std::time::{Duration, SystemTime};

use serde::ser::{SerializeMap, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::verdict::Outcome;

/// A time in RFC 3339, as in `2026-01-02T03:04:05.678Z`. Empty for years beyond 9999.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_millisecond(time.millisecond())
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

// serde passes every field by reference.

pub(super) fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

pub(super) fn outcome<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

pub(super) fn answer<S: Serializer>(
    answer: &Result<u16, &'static str>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    match answer {
        Ok(code) => map.serialize_entry("code", code)?,
        Err(kind) => map.serialize_entry("error", kind)?,
    }
    map.end()
}

pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(*duration))
}

pub(super) fn optional_millis<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn since<S: Serializer>(instant: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(instant.elapsed()))
}

pub(super) fn until<S: Serializer>(
    instant: &Option<Instant>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    optional_millis(
        &instant.map(|instant| instant.saturating_duration_since(Instant::now())),
        serializer,
    )
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
