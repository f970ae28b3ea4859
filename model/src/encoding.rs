//! The three encodings in which an apiserver writes objects, and content negotiation between them.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// An encoding of API objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// In the apiserver's order: a wildcard selects the first.
const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Yaml, Encoding::Protobuf];

impl Encoding {
    /// The media type without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    /// The encoding that a request with these headers prefers. It is JSON if the request accepts
    /// none.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/negotiation/negotiate.go>
    pub fn accepted(headers: &HeaderMap) -> Encoding {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let mut ranges: Vec<Range<'_>> = accept
            .unwrap_or_default()
            .split(',')
            .filter_map(Range::parse)
            .collect();
        // The sort is stable, so ranges of equal weight keep the client's order.
        ranges.sort_by(|one, other| {
            (one.wild.cmp(&other.wild)).then(other.quality.total_cmp(&one.quality))
        });
        ranges
            .iter()
            .find_map(Range::encoding)
            .unwrap_or(Encoding::Json)
    }

    /// Detects the encoding of a body. Text that does not begin with `{` counts as YAML.
    pub fn of(body: &[u8]) -> Encoding {
        if body.starts_with(crate::envelope::MAGIC) {
            Encoding::Protobuf
        } else if body.trim_ascii_start().first() == Some(&b'{') {
            Encoding::Json
        } else {
            Encoding::Yaml
        }
    }
}

/// One media range of an `Accept` header.
struct Range<'a> {
    media_type: &'a str,
    /// The number of wildcards among type and subtype.
    wild: usize,
    quality: f32,
}

impl<'a> Range<'a> {
    /// Returns `None` for a malformed range, and for one that asks for another kind of object, such
    /// as `as=Table`: errors are never converted.
    fn parse(text: &'a str) -> Option<Range<'a>> {
        let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
        let media_type = media_type.trim();
        if media_type.is_empty() {
            return None;
        }
        let mut quality = 1.0;
        for parameter in parameters.split(';') {
            match parameter.split_once('=') {
                Some((name, value)) if name.trim() == "q" => {
                    quality = value.parse().unwrap_or(0.0);
                }
                Some((name, _)) if ["as", "g", "v"].contains(&name.trim()) => return None,
                _ => {}
            }
        }
        Some(Range {
            media_type,
            wild: media_type.matches('*').count(),
            quality,
        })
    }

    fn encoding(&self) -> Option<Encoding> {
        ALL.into_iter().find(|encoding| {
            matches!(self.media_type, "*" | "*/*" | "application/*")
                || encoding.media_type() == self.media_type
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &'static str) -> Encoding {
        Encoding::accepted(&HeaderMap::from_iter([(
            ACCEPT,
            HeaderValue::from_static(accept),
        )]))
    }

    #[test]
    fn selects_the_first_supported_range() {
        use Encoding::{Json, Protobuf, Yaml};
        for (accept, expected) in [
            ("application/json, */*", Json),
            ("application/yaml", Yaml),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Protobuf,
            ),
            ("text/html, application/yaml", Yaml),
            ("*/*", Json),
            ("*/*, application/vnd.kubernetes.protobuf", Protobuf),
            ("application/json;q=0.5, application/yaml;q=0.9", Yaml),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml",
                Yaml,
            ),
            ("text/html", Json),
            ("", Json),
        ] {
            assert_eq!(accepted(accept), expected, "{accept}");
        }
        assert_eq!(Encoding::accepted(&HeaderMap::new()), Json);
    }
}
