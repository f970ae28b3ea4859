//! The client's own `?timeout=`: how long the client waits, when it has certainly given up, and
//! what remains for a replay.
//!
//! The apiserver starts this clock again with every attempt, so a replay must ask for less. The
//! rest of the URL stays byte for byte. A long-running request has no such timeout, whatever its
//! URL says: the apiserver ignores the parameter there.

use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::query;

/// The least that [`shortened`] asks for. For the apiserver 0 means no timeout.
const FLOOR: Duration = Duration::from_millis(1);

/// How long after the timeout the proxy waits for the apiserver's own 504 before it writes one
/// itself.
pub const GRACE: Duration = Duration::from_secs(1);

/// When the proxy itself answers a short request that came at `arrival`, if the apiserver has not
/// answered. None if the client set no timeout.
pub fn deadline(uri: &Uri, arrival: Instant) -> Option<Instant> {
    Some(arrival + of(uri)? + GRACE)
}

/// The timeout that the client asked for. None if it is absent, zero, negative, or not a duration,
/// for which the apiserver itself answers 400.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go>
pub fn of(uri: &Uri) -> Option<Duration> {
    let parameter = query::first(uri.query()?, "timeout")?;
    parse(str::from_utf8(&parameter.value).ok()?)
}

/// The same URL with a timeout shorter by `elapsed`, in whole milliseconds and at least one. None
/// if the client asked for no timeout.
pub fn shortened(uri: &Uri, elapsed: Duration) -> Option<Uri> {
    let remaining = of(uri)?.saturating_sub(elapsed).max(FLOOR);
    let target = uri.path_and_query()?.as_str();
    let query = uri.query()?;
    let at = query::first(query, "timeout")?.at;
    // `as_str` has no fragment, so it ends with the query.
    let offset = target.len() - query.len();
    let (head, tail) = (&target[..offset + at.start], &target[offset + at.end..]);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(format!("{head}{}ms{tail}", remaining.as_millis())).ok()?);
    Uri::from_parts(parts).ok()
}

/// A positive Go duration such as `1m30s`, `.5s` or `500ms`:
/// <https://github.com/golang/go/blob/go1.24.0/src/time/format.go>
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let length = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit = unit(&after[..length])?;
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().ok()?
        };
        // Go also uses floating point for a fraction that is too long for an integer.
        let fraction = format!("0.{fraction}0").parse::<f64>().ok()? * unit as f64;
        nanos = nanos
            .checked_add(whole.checked_mul(unit)?)?
            .checked_add(fraction as u64)?;
        rest = &after[length..];
    }
    // A Go duration is an int64.
    (nanos > 0 && nanos <= i64::MAX as u64).then_some(Duration::from_nanos(nanos))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// Nanoseconds.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_go_durations() {
        let millis = |n| Some(Duration::from_millis(n));
        let table = [
            ("30s", millis(30_000)),
            ("1m30s", millis(90_000)),
            ("500ms", millis(500)),
            ("1.5s", millis(1_500)),
            (".5s", millis(500)),
            ("5.s", millis(5_000)),
            ("+2s", millis(2_000)),
            ("1h2m3s4ms", millis(3_723_004)),
            ("7us", Some(Duration::from_micros(7))),
            ("7\u{b5}s", Some(Duration::from_micros(7))),
            ("9223372036s", millis(9_223_372_036_000)),
            ("9223372037s", None),
            ("99999999999999999999s", None),
            ("0", None),
            ("0s", None),
            ("-5s", None),
            ("30", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("1s ", None),
            ("1.2.3s", None),
            ("", None),
            ("+", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn rewrites_the_timeout_and_nothing_else() {
        let table = [
            ("/p?timeout=30s", 1_500, Some("/p?timeout=28500ms")),
            (
                "/p?a=%41&timeout=1m&b=+&timeout=9s",
                0,
                Some("/p?a=%41&timeout=60000ms&b=+&timeout=9s"),
            ),
            ("/p?timeout=2s&", 5_000, Some("/p?timeout=1ms&")),
            ("/p?time%6Fut=2%73", 500, Some("/p?time%6Fut=1500ms")),
            (
                "https://h:1/p?x=timeout=3s&timeout=3s",
                1_000,
                Some("https://h:1/p?x=timeout=3s&timeout=2000ms"),
            ),
            ("/p?timeout=soon", 1, None),
            ("/p?timeout=0s", 1, None),
            ("/p?timeout=&timeout=3s", 1, None),
            ("/p?timeoutSeconds=3", 1, None),
            ("/p", 1, None),
        ];
        for (uri, elapsed, expected) in table {
            let uri: Uri = uri.parse().unwrap();
            let rewritten =
                shortened(&uri, Duration::from_millis(elapsed)).map(|uri| uri.to_string());
            assert_eq!(rewritten.as_deref(), expected, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String, likely in "[+.0-9hmsnu]{0,24}") {
            let _ = (parse(&text), parse(&likely));
        }

        #[test]
        fn the_remaining_timeout_never_exceeds_the_original_one(asked in 1u64..100_000, elapsed in 0u64..200_000, before in "[a-z=&]{0,9}") {
            let uri: Uri = format!("/p?{before}&timeout={asked}ms").parse().unwrap();
            let remaining = of(&shortened(&uri, Duration::from_millis(elapsed)).unwrap()).unwrap();
            prop_assert_eq!(remaining, Duration::from_millis(asked.saturating_sub(elapsed).max(1)));
        }
    }
}
