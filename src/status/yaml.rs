//! A Status as YAML, in the style of `sigs.k8s.io/yaml`: keys sorted, plain scalars where possible,
//! long lines folded after column 80.

use super::json::RawStatus;
use super::{Details, Status};

pub(super) fn encode(status: &Status) -> String {
    let mut out = String::from("apiVersion: v1\n");
    if status.code != 0 {
        out.push_str(&format!("code: {}\n", status.code));
    }
    encode_details(&mut out, &status.details);
    out.push_str("kind: Status\n");
    entry(&mut out, "", "", "message", &status.message);
    out.push_str("metadata: {}\n");
    entry(&mut out, "", "", "reason", &status.reason);
    out.push_str("status: Failure\n");
    out
}

pub(super) fn decode(body: &[u8]) -> Option<Status> {
    // Most bodies that get here are plain text and need no YAML parser.
    if !body.windows(5).any(|five| five == b"kind:") {
        return None;
    }
    serde_saphyr::from_slice::<RawStatus>(body)
        .ok()?
        .into_status()
}

fn encode_details(out: &mut String, details: &Details) {
    if *details == Details::default() {
        return;
    }
    out.push_str("details:\n");
    if !details.causes.is_empty() {
        out.push_str("  causes:\n");
    }
    for cause in &details.causes {
        match (cause.message.is_empty(), cause.reason.is_empty()) {
            (true, true) => out.push_str("  - {}\n"),
            (true, false) => entry(out, "  - ", "    ", "reason", &cause.reason),
            (false, _) => {
                entry(out, "  - ", "    ", "message", &cause.message);
                entry(out, "    ", "    ", "reason", &cause.reason);
            }
        }
    }
    entry(out, "  ", "  ", "group", &details.group);
    entry(out, "  ", "  ", "kind", &details.kind);
    entry(out, "  ", "  ", "name", &details.name);
    if details.retry_after_seconds != 0 {
        out.push_str(&format!(
            "  retryAfterSeconds: {}\n",
            details.retry_after_seconds
        ));
    }
}

/// Writes `key: value`, unless the value is empty. `indent` is that of the mapping; folded lines
/// get two spaces more.
fn entry(out: &mut String, lead: &str, indent: &str, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    out.push_str(lead);
    out.push_str(key);
    out.push_str(": ");
    let column = lead.len() + key.len() + 2;
    if !value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        double_quoted(out, value);
    } else if is_plain(value) {
        folded(out, indent, column, value);
    } else {
        out.push('\'');
        folded(out, indent, column + 1, &value.replace('\'', "''"));
        out.push('\'');
    }
    out.push('\n');
}

/// Whether the value needs no quotes. This is stricter than YAML: a value that could be read as
/// something else is quoted.
fn is_plain(value: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    value.starts_with(|c: char| c.is_ascii_alphabetic())
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.ends_with([':', ' '])
        && !WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Breaks lines at the first single space after column 80, as libyaml does. A run of spaces cannot
/// be folded.
fn folded(out: &mut String, indent: &str, mut column: usize, value: &str) {
    let bytes = value.as_bytes();
    for (i, c) in value.char_indices() {
        let alone = c == ' '
            && i > 0
            && bytes[i - 1] != b' '
            && bytes.get(i + 1).is_some_and(|next| *next != b' ');
        if alone && column > 80 {
            out.push('\n');
            out.push_str(indent);
            out.push_str("  ");
            column = indent.len() + 2;
        } else {
            out.push(c);
            column += 1;
        }
    }
}

fn double_quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c == ' ' || c.is_ascii_graphic() => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Cause;

    #[test]
    fn sorts_keys_and_keeps_lists_at_the_indent_of_their_key() {
        let mut status = Status::new(403, "Forbidden", "no").with_retry_after(2);
        status.details.group = "quota.openshift.io".into();
        status.details.causes = vec![Cause {
            reason: "R".into(),
            message: "it's: so".into(),
        }];
        let expected = "apiVersion: v1\ncode: 403\ndetails:\n  causes:\n  - message: 'it''s: so'\n    reason: R\n  group: quota.openshift.io\n  \
                        retryAfterSeconds: 2\nkind: Status\nmessage: 'no'\nmetadata: {}\nreason: Forbidden\nstatus: Failure\n";
        assert_eq!(encode(&status), expected);
        assert_eq!(decode(expected.as_bytes()), Some(status));
    }
}
