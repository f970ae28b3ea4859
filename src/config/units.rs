//! Parses and prints the notations of the file: durations, sizes, URLs, hosts and log levels.
//!
//! Durations are Go's and sizes are Kubernetes quantities, so that nobody has to learn a third
//! notation. `config/kind.rs` applies them to YAML values.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::Uri;

const NANOS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const BYTES: [(&str, u128); 9] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

/// Hides the credentials of a URL, because mistakes are printed and logged.
pub(crate) fn without_credentials(text: &str) -> Cow<'_, str> {
    match text.split_once("://").zip(text.rsplit_once('@')) {
        Some(((scheme, _), (_, host))) => Cow::Owned(format!("{scheme}://…@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// A host: a DNS name or an IP address, without a port.
pub(crate) fn parse_host(text: &str) -> Option<String> {
    let is_name = text
        .split('.')
        .all(|label| dns_label(label) || label == "*");
    (is_name || text.parse::<std::net::IpAddr>().is_ok()).then(|| text.to_owned())
}

/// Whether `text` is a lower-case name of the Kubernetes API: a group (with dots), a version or a
/// resource.
pub(crate) fn is_api_name(text: &str) -> bool {
    text.split('.')
        .all(|label| dns_label(label) && *label == label.to_lowercase())
}

/// A log level, or directives in the syntax of tracing-subscriber's `EnvFilter`.
pub(crate) fn parse_log_level(text: &str) -> Option<String> {
    let level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| level.eq_ignore_ascii_case(word))
    };
    let directive = |text: &str| {
        level(text.rsplit_once('=').map_or(
            text,
            |(target, level)| if target.is_empty() { "" } else { level },
        ))
    };
    text.split(',')
        .all(|part| directive(part.trim()))
        .then(|| text.to_owned())
}

/// Reads `https://host[:port]` or `http://host[:port]`, and nothing else. The error names the rule
/// that the URL breaks. It is empty if the text is not a URL.
pub(crate) fn parse_upstream_url(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "")?;
    let authority = uri
        .authority()
        .ok_or("one that begins with https:// or http://")?;
    match uri.scheme_str() {
        Some("https" | "http") => {}
        _ => return Err("one that begins with https:// or http://"),
    }
    if authority.as_str().contains('@') {
        return Err("without credentials: the callers' own are passed on");
    }
    if authority.host().is_empty()
        || authority.as_str().ends_with(':')
        || authority.port_u16() == Some(0)
    {
        return Err("");
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("without a query or fragment");
    }
    if !matches!(uri.path(), "" | "/") {
        return Err("without a path");
    }
    Ok(uri)
}

fn dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Parses a duration like Go's `time.ParseDuration`, but without a sign.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[number..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| number + at);
        nanos = nanos.checked_add(scaled(&rest[..number], &rest[number..unit_end], &NANOS)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(())?;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// A Kubernetes quantity in whole bytes.
pub(crate) fn quantity(text: &str) -> Option<u64> {
    let number = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    u64::try_from(scaled(&text[..number], &text[number..], &BYTES)?).ok()
}

/// A decimal number times its unit. None if the result is not a whole number of the smallest unit.
fn scaled(number: &str, unit: &str, units: &[(&str, u128)]) -> Option<u128> {
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u128>().ok()
        }
    };
    let parts = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = digits(fraction)?.checked_mul(*scale)?;
    (fraction % parts == 0).then_some(())?;
    digits(whole)?
        .checked_mul(*scale)?
        .checked_add(fraction / parts)
}

/// Prints a duration like Go, but without needless zeros: `1m30s`, `250ms`.
pub(crate) struct GoDuration(pub(crate) Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut remaining = self.0.as_nanos();
        if remaining == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [NANOS[7], NANOS[6], NANOS[5], NANOS[4], NANOS[1], NANOS[0]] {
            if remaining >= scale {
                write!(f, "{}{unit}", remaining / scale)?;
                remaining %= scale;
            }
        }
        Ok(())
    }
}

/// Prints a size with the largest binary suffix that is exact.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
            .into_iter()
            .find(|(_, bits)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        match exact {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
