//! The units of the file: `250ms`, `3Mi`, ratios, URLs, names. Each parser takes a value and says
//! what it expected.
//!
//! Durations are Go's, sizes are Kubernetes quantities, so that nobody has to learn a third
//! notation.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::yaml::Value;

/// A parsed value, or what was expected instead.
pub(crate) type Parsed<T> = Result<T, String>;

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

/// A text as it may be shown: a URL may carry a password, and mistakes are printed and logged.
pub(crate) fn without_credentials(text: &str) -> Cow<'_, str> {
    match text.split_once("://").zip(text.rsplit_once('@')) {
        Some(((scheme, _), (_, host))) => Cow::Owned(format!("{scheme}://…@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// A Go duration between two bounds, both included.
pub(crate) fn duration(min: Duration, max: Duration) -> impl Fn(&Value) -> Parsed<Duration> {
    move |value| {
        let parsed = match value {
            Value::Text(text) => go_duration(text),
            Value::Integer(0) => Some(Duration::ZERO),
            _ => None,
        };
        parsed
            .filter(|duration| (min..=max).contains(duration))
            .ok_or_else(|| {
                format!(
                    "a duration from {} to {}, like 250ms or 1m30s",
                    Go(min),
                    Go(max)
                )
            })
    }
}

/// A Kubernetes quantity in whole bytes between two bounds, both included.
pub(crate) fn bytes(min: u64, max: u64) -> impl Fn(&Value) -> Parsed<u64> {
    move |value| {
        let parsed = match value {
            Value::Text(text) => quantity(text),
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        parsed
            .filter(|bytes| (min..=max).contains(bytes))
            .ok_or_else(|| {
                format!(
                    "a size from {} to {}, like 64Ki or 3Mi",
                    Size(min),
                    Size(max)
                )
            })
    }
}

/// A whole number between two bounds, both included.
pub(crate) fn whole<T: TryFrom<i128>>(min: u32, max: u32) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        match value {
            Value::Integer(number) if (i128::from(min)..=i128::from(max)).contains(number) => {
                T::try_from(*number).ok()
            }
            _ => None,
        }
        .ok_or_else(|| format!("a whole number from {min} to {max}"))
    }
}

/// A number between two bounds, both included.
pub(crate) fn number(min: f64, max: f64, example: &'static str) -> impl Fn(&Value) -> Parsed<f64> {
    move |value| {
        let parsed = match value {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            _ => None,
        };
        parsed
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| format!("a number from {min} to {max}, like {example}"))
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Value) -> Parsed<bool> {
    if let Value::Bool(value) = value {
        Ok(*value)
    } else {
        Err("true or false".into())
    }
}

/// A path, not checked to exist.
pub(crate) fn path(value: &Value) -> Parsed<PathBuf> {
    non_empty(value)
        .map(PathBuf::from)
        .ok_or_else(|| "the path of a file or directory".into())
}

/// Anything that `FromStr` reads from text.
pub(crate) fn text<T: std::str::FromStr>(expected: &'static str) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        non_empty(value)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| expected.into())
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let found = non_empty(value).and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            words
                .iter()
                .map(|(word, _)| *word)
                .collect::<Vec<_>>()
                .join(" or ")
        })
    }
}

/// A list with at least one item, each read by `item`.
pub(crate) fn some_of<T>(item: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<Vec<T>> {
    move |value| match value {
        Value::List(nodes) if !nodes.is_empty() => nodes
            .iter()
            .map(|node| {
                item(&node.value)
                    .map_err(|expected| format!("each item to be {expected}, not {}", node.value))
            })
            .collect(),
        _ => Err("a list with at least one item".into()),
    }
}

/// The same, for a field that may be absent.
pub(crate) fn some<T>(parse: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<Option<T>> {
    move |value| parse(value).map(Some)
}

/// A host: a DNS name or an IP address, without a port.
pub(crate) fn host(value: &Value) -> Parsed<String> {
    non_empty(value)
        .and_then(parse_host)
        .ok_or_else(|| "a host name or an IP address without a port".into())
}

/// The same for text.
pub(crate) fn parse_host(text: &str) -> Option<String> {
    let is_name = text
        .split('.')
        .all(|label| dns_label(label) || label == "*");
    (is_name || text.parse::<std::net::IpAddr>().is_ok()).then(|| text.to_owned())
}

/// A lower-case name of the Kubernetes API, as groups (with dots), versions and resources have.
pub(crate) fn api_name(expected: &'static str) -> impl Fn(&Value) -> Parsed<String> {
    move |value| {
        let name = non_empty(value).filter(|text| {
            text.split('.')
                .all(|label| dns_label(label) && *label == label.to_lowercase())
        });
        name.map(str::to_owned).ok_or_else(|| expected.into())
    }
}

/// An API group; empty for the core group.
pub(crate) fn api_group(value: &Value) -> Parsed<String> {
    match value {
        Value::Text(text) if text.is_empty() => Ok(String::new()),
        value => api_name("an API group like batch, or '' for the core group")(value),
    }
}

/// A log level, or directives as tracing-subscriber's `EnvFilter` takes them.
pub(crate) fn log_level(value: &Value) -> Parsed<String> {
    let expected = "off, error, warn, info, debug or trace, or directives like info,kube_retry_proxy::create=debug";
    non_empty(value)
        .and_then(parse_log_level)
        .ok_or_else(|| expected.into())
}

/// The same for text.
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

/// `https://host[:port]` or `http://host[:port]`, and nothing else.
pub(crate) fn upstream_url(value: &Value) -> Parsed<Uri> {
    non_empty(value)
        .ok_or("")
        .and_then(parse_upstream_url)
        .map_err(|why| {
            let why = if why.is_empty() {
                String::new()
            } else {
                format!(" ({why})")
            };
            format!("a URL like https://10.0.0.1:6443{why}")
        })
}

/// The same for text; the error says what is wrong with it, or is empty when it is no URL at all.
pub(crate) fn parse_upstream_url(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "")?;
    let authority = uri
        .authority()
        .ok_or("it begins with https:// or http://")?;
    match uri.scheme_str() {
        Some("https" | "http") => {}
        _ => return Err("it begins with https:// or http://"),
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

/// `http://host[:port]` of a collector of traces.
pub(crate) fn collector_url(value: &Value) -> Parsed<Uri> {
    let url = non_empty(value)
        .and_then(|text| parse_upstream_url(text).ok())
        .filter(|url| url.scheme_str() == Some("http"));
    url.ok_or_else(|| "a URL like http://localhost:4318, without TLS, credentials and path".into())
}

fn non_empty(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value {
        Some(text.as_str()).filter(|text| !text.is_empty())
    } else {
        None
    }
}

fn dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// As Go's `time.ParseDuration`, without signs.
fn go_duration(text: &str) -> Option<Duration> {
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

fn quantity(text: &str) -> Option<u64> {
    let number = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    u64::try_from(scaled(&text[..number], &text[number..], &BYTES)?).ok()
}

/// A decimal number times its unit, exact; None when it is not whole in the smallest unit.
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

/// A duration as Go prints it, without needless zeros: `1m30s`, `250ms`.
struct Go(Duration);

impl fmt::Display for Go {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [NANOS[7], NANOS[6], NANOS[5], NANOS[4], NANOS[1], NANOS[0]] {
            if left >= scale {
                write!(f, "{}{unit}", left / scale)?;
                left %= scale;
            }
        }
        Ok(())
    }
}

/// A size with the largest binary suffix that is exact.
struct Size(u64);

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
