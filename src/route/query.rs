//! Decodes escapes and query parameters as Go's `net/url` does:
//! <https://github.com/golang/go/blob/go1.24.0/src/net/url/url.go>

use std::borrow::Cow;
use std::ops::Range;

/// One `key=value` of a query.
pub(super) struct Parameter<'a> {
    pub(super) key: Cow<'a, [u8]>,
    pub(super) value: Cow<'a, [u8]>,
    /// The position of the escaped value in the query.
    pub(super) at: Range<usize>,
}

/// The parameters in order. As in Go, a pair with a semicolon or a broken escape is ignored.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    let mut start = 0;
    query.split('&').filter_map(move |pair| {
        let begin = start;
        start += pair.len() + 1;
        if pair.is_empty() || pair.contains(';') {
            return None;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let end = begin + pair.len();
        Some(Parameter {
            key: unescape(key, true)?,
            value: unescape(value, true)?,
            at: end - value.len()..end,
        })
    })
}

/// The first value of `key`, which is the one that Kubernetes uses.
pub(super) fn first<'a>(query: &'a str, key: &str) -> Option<Parameter<'a>> {
    parameters(query).find(|parameter| *parameter.key == *key.as_bytes())
}

/// A boolean option. It is true unless it is absent, `0` or `false`, so `?watch` and `?watch=no`
/// are true.
///
/// `Convert_Slice_string_To_bool` in
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/conversion.go>
pub(super) fn flag(query: &str, key: &str) -> bool {
    first(query, key).is_some_and(|parameter| {
        *parameter.value != *b"0" && !parameter.value.eq_ignore_ascii_case(b"false")
    })
}

/// The decoded path, borrowed if nothing is escaped. A path that does not decode to UTF-8 becomes
/// `/`, which matches no resource.
pub(super) fn unescape_path(path: &str) -> Cow<'_, str> {
    match unescape(path, false) {
        Some(Cow::Borrowed(_)) => Cow::Borrowed(path),
        Some(Cow::Owned(bytes)) => {
            Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|_| "/".into()))
        }
        None => Cow::Owned("/".into()),
    }
}

/// None for a broken escape.
fn unescape(text: &str, plus_is_space: bool) -> Option<Cow<'_, [u8]>> {
    let text = text.as_bytes();
    if !text
        .iter()
        .any(|b| *b == b'%' || (plus_is_space && *b == b'+'))
    {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Some(Cow::Owned(out)),
            [b'%', high, low, rest @ ..] => {
                out.push(hex(*high)? << 4 | hex(*low)?);
                rest
            }
            [b'%', ..] => return None,
            [b'+', rest @ ..] if plus_is_space => {
                out.push(b' ');
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<(String, String, &str)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        parameters(query)
            .map(|p| (text(&p.key), text(&p.value), &query[p.at.clone()]))
            .collect()
    }

    #[test]
    fn reads_parameters_as_go_does() {
        let pair =
            |key: &str, value: &str, raw: &'static str| (key.to_string(), value.to_string(), raw);
        assert_eq!(read(""), []);
        assert_eq!(
            read("a=1&b&c=&=d"),
            [
                pair("a", "1", "1"),
                pair("b", "", ""),
                pair("c", "", ""),
                pair("", "d", "d")
            ]
        );
        assert_eq!(
            read("a=b=c&&d+e=%66+"),
            [pair("a", "b=c", "b=c"), pair("d e", "f ", "%66+")]
        );
        assert_eq!(read("a=1;b=2&c=%zz&d=%4&e=5"), [pair("e", "5", "5")]);
        assert_eq!(read("%77atch=%31"), [pair("watch", "1", "%31")]);
    }

    #[test]
    fn decodes_paths_only_where_needed() {
        assert!(matches!(
            unescape_path("/api/v1/a+b"),
            Cow::Borrowed("/api/v1/a+b")
        ));
        assert_eq!(unescape_path("/a%2Fb%2fc+"), "/a/b/c+");
        assert_eq!(unescape_path("/a%ff"), "/");
        assert_eq!(unescape_path("/a%2"), "/");
    }
}
