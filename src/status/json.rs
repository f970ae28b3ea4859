//! A Status as JSON, byte for byte as Go's `encoding/json` writes it.

use serde::Deserialize;

use super::{Cause, Details, Status};

/// `{"kind":"Status",…}` and the newline that Go's `json.Encoder` adds.
pub(super) fn encode(status: &Status) -> String {
    let mut out = String::with_capacity(256 + status.message.len());
    out.push_str(r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure""#);
    text(&mut out, "message", &status.message);
    text(&mut out, "reason", &status.reason);
    let details = &status.details;
    if *details != Details::default() {
        out.push_str(",\"details\":{");
        text(&mut out, "name", &details.name);
        text(&mut out, "group", &details.group);
        text(&mut out, "kind", &details.kind);
        if !details.causes.is_empty() {
            out.push_str(comma(&out));
            out.push_str("\"causes\":[");
            for cause in &details.causes {
                out.push_str(comma(&out));
                out.push('{');
                text(&mut out, "reason", &cause.reason);
                text(&mut out, "message", &cause.message);
                out.push('}');
            }
            out.push(']');
        }
        number(&mut out, "retryAfterSeconds", details.retry_after_seconds);
        out.push('}');
    }
    number(&mut out, "code", status.code.into());
    out.push_str("}\n");
    out
}

pub(super) fn decode(body: &[u8]) -> Option<Status> {
    serde_json::from_slice::<RawStatus>(body)
        .ok()?
        .into_status()
}

/// Writes a member unless it is empty: every field of the Go types has `omitempty`.
fn text(out: &mut String, key: &str, value: &str) {
    if !value.is_empty() {
        out.push_str(comma(out));
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
        quote(out, value);
    }
}

fn number(out: &mut String, key: &str, value: u32) {
    if value != 0 {
        out.push_str(comma(out));
        out.push_str(&format!("\"{key}\":{value}"));
    }
}

/// The separator that the next member needs.
fn comma(out: &str) -> &'static str {
    if out.ends_with(['{', '[']) { "" } else { "," }
}

/// Go escapes `<`, `>`, `&` and the two line separators, which `serde_json` does not:
/// <https://github.com/golang/go/blob/go1.24.0/src/encoding/json/encode.go>
fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Aggregated servers may name the group:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go>
pub(super) fn is_meta_v1(api_version: &str) -> bool {
    matches!(api_version, "v1" | "meta.k8s.io/v1")
}

/// The fields that are read from JSON and YAML. They are options because Go reads `null` as absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawStatus {
    kind: String,
    api_version: String,
    status: Option<String>,
    message: Option<String>,
    reason: Option<String>,
    details: Option<RawDetails>,
    code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDetails {
    name: Option<String>,
    group: Option<String>,
    kind: Option<String>,
    causes: Option<Vec<RawCause>>,
    retry_after_seconds: Option<i32>,
}

#[derive(Deserialize)]
struct RawCause {
    reason: Option<String>,
    message: Option<String>,
}

impl RawStatus {
    pub(super) fn into_status(self) -> Option<Status> {
        if self.kind != "Status"
            || !is_meta_v1(&self.api_version)
            || self.status.as_deref() == Some("Success")
        {
            return None;
        }
        Some(Status {
            code: self.code.unwrap_or_default(),
            reason: self.reason.unwrap_or_default(),
            message: self.message.unwrap_or_default(),
            details: self
                .details
                .map(RawDetails::into_details)
                .unwrap_or_default(),
        })
    }
}

impl RawDetails {
    fn into_details(self) -> Details {
        let causes = self.causes.unwrap_or_default();
        Details {
            name: self.name.unwrap_or_default(),
            group: self.group.unwrap_or_default(),
            kind: self.kind.unwrap_or_default(),
            causes: causes
                .into_iter()
                .map(|cause| Cause {
                    reason: cause.reason.unwrap_or_default(),
                    message: cause.message.unwrap_or_default(),
                })
                .collect(),
            retry_after_seconds: self
                .retry_after_seconds
                .unwrap_or_default()
                .try_into()
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go_does() {
        let mut out = String::new();
        quote(&mut out, "a<b>&\"\\\n\u{1}\u{8}\u{2028}é");
        assert_eq!(out, r#""a\u003cb\u003e\u0026\"\\\n\u0001\b\u2028é""#);
    }

    #[test]
    fn writes_fields_in_the_order_of_the_go_type() {
        let mut status = Status::new(429, "TooManyRequests", "slow down").with_retry_after(3);
        status.details.name = "a".into();
        status.details.group = "g".into();
        status.details.kind = "pods".into();
        status.details.causes = vec![
            Cause {
                reason: "r".into(),
                message: String::new(),
            },
            Cause {
                reason: String::new(),
                message: "m".into(),
            },
        ];
        let expected = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"slow down","reason":"TooManyRequests","#,
            r#""details":{"name":"a","group":"g","kind":"pods","causes":[{"reason":"r"},{"message":"m"}],"retryAfterSeconds":3},"code":429}"#,
            "\n"
        );
        assert_eq!(encode(&status), expected);
    }
}
