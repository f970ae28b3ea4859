//! Query parameters of requests. This module does no IO.

use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, Uri};

use super::super::object::Pod;

/// The decoded query parameters of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a URI.
    pub(super) fn of(uri: &Uri) -> Query {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a boolean parameter is true. As in Go's conversion of query parameters, every value
    /// is true except `0` and `false`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| !matches!(value, "0" | "false"))
    }

    /// The field manager of a write: the parameter, or the program in `User-Agent`.
    pub(super) fn manager(&self, headers: &HeaderMap) -> String {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        let program = agent.unwrap_or_default().split('/').next();
        let given = self.value("fieldManager").filter(|given| !given.is_empty());
        match given.or(program).unwrap_or_default() {
            "" => "unknown".to_owned(),
            manager => manager.to_owned(),
        }
    }

    /// Whether the request has `dryRun=All`.
    pub(super) fn is_dry_run(&self) -> bool {
        self.value("dryRun") == Some("All")
    }

    /// The duration in `timeout`, in Go's notation.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.value("timeout")
            .and_then(go_duration)
            .filter(|timeout| !timeout.is_zero())
    }

    /// The duration in `timeoutSeconds`, which watches have.
    pub(super) fn watch_timeout(&self) -> Option<Duration> {
        self.value("timeoutSeconds")?
            .parse()
            .ok()
            .map(Duration::from_secs)
    }

    /// Whether a pod matches `labelSelector` (equality only) and a `fieldSelector` on its name.
    pub(super) fn selects(&self, pod: &Pod) -> bool {
        let field = self.value("fieldSelector").unwrap_or_default();
        let labels = self.value("labelSelector").unwrap_or_default();
        terms(field).all(|(key, value)| key != "metadata.name" || value == pod.name())
            && terms(labels).all(|(key, value)| {
                pod.posted
                    .labels
                    .get(key)
                    .is_some_and(|label| label == value)
            })
    }
}

fn terms(selector: &str) -> impl Iterator<Item = (&str, &str)> {
    selector
        .split(',')
        .filter_map(|term| term.split_once('='))
        .map(|(key, value)| (key, value.trim_start_matches('=')))
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let hex = |bytes: &[u8]| {
            bytes
                .get(..2)
                .and_then(|two| str::from_utf8(two).ok())
                .and_then(|two| u8::from_str_radix(two, 16).ok())
        };
        match (byte, hex(bytes.as_slice())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                bytes.nth(1);
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parses durations such as `1m30s`, `500ms` and `2s`. Fractions are not supported.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len()),
        );
        let number: u32 = number.parse().ok()?;
        total += number
            * match unit {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3600),
                _ => return None,
            };
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_writes_them() {
        for (text, millis) in [
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("2", None),
            ("x", None),
        ] {
            assert_eq!(
                go_duration(text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn decodes_parameters() {
        let query = Query::of(
            &"/x?fieldSelector=metadata.name%3Da&watch=1&follow=false&dryRun=All"
                .parse()
                .unwrap(),
        );
        assert_eq!(query.value("fieldSelector"), Some("metadata.name=a"));
        assert!(
            query.is_set("watch")
                && !query.is_set("follow")
                && !query.is_set("other")
                && query.is_dry_run()
        );
    }
}
