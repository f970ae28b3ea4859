//! Reads `Accept` as the apiserver does when it answers an error, with the order and the quirks of
//! goautoneg.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/negotiation/negotiate.go>
//! <https://github.com/munnerz/goautoneg/blob/a7dc8b61c822/autoneg.go>

use super::Encoding;

/// The encodings that the apiserver supports for core resources, in its order. A wildcard takes the
/// first. Whether the feature gate of CBOR is on is unknown here; a client that prefers it can read
/// it.
const SUPPORTED: [(&[u8], &[u8], Encoding); 4] = [
    (b"application", b"json", Encoding::Json),
    (b"application", b"yaml", Encoding::Yaml),
    (
        b"application",
        b"vnd.kubernetes.protobuf",
        Encoding::Protobuf,
    ),
    (b"application", b"cbor", Encoding::Cbor),
];

/// The clauses that are considered. Up to this number Go's sort is a stable insertion sort; beyond
/// it, the order of equal clauses is not defined.
const CLAUSES: usize = 12;

/// The encoding of an error for this `Accept`. It is JSON if nothing fits, as in the apiserver.
pub(super) fn negotiate(accept: &[u8]) -> Encoding {
    sorted(accept)
        .iter()
        .filter(|clause| clause.allowed)
        .find_map(|clause| {
            SUPPORTED
                .iter()
                .find(|(kind, subtype, _)| clause.matches(kind, subtype))
        })
        .map_or(Encoding::Json, |(_, _, encoding)| *encoding)
}

struct Clause<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    quality: f32,
    allowed: bool,
}

fn sorted(accept: &[u8]) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = Vec::new();
    for clause in accept
        .split(|b| *b == b',')
        .take(CLAUSES)
        .filter_map(Clause::parse)
    {
        let mut at = clauses.len();
        clauses.push(clause);
        while at > 0 && clauses[at].comes_first(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a [u8]) -> Option<Clause<'a>> {
        let mut parts = text.split(|b| *b == b';');
        let mut range = parts.next()?.split(|b| *b == b'/');
        let kind = trim(range.next()?);
        let subtype = match range.next() {
            None | Some(b"") if kind == b"*" => b"*",
            None | Some(b"") => return None,
            Some(subtype) => trim(subtype),
        };
        if range.next().is_some_and(|rest| !rest.is_empty()) {
            return None;
        }
        let mut clause = Clause {
            kind,
            subtype,
            quality: 1.0,
            allowed: true,
        };
        for part in parts {
            clause.parameter(part);
        }
        Some(clause)
    }

    fn parameter(&mut self, text: &[u8]) {
        let Some(equals) = text.iter().position(|b| *b == b'=') else {
            return;
        };
        let (name, value) = (trim(&text[..equals]), &text[equals + 1..]);
        if value.is_empty() || value.contains(&b'=') {
            return;
        }
        match name {
            // A quality that Go cannot parse becomes 0, for example one with spaces around it.
            b"q" => {
                self.quality = str::from_utf8(value)
                    .ok()
                    .and_then(|q| q.parse().ok())
                    .unwrap_or(0.0)
            }
            // A Status cannot be converted, for example to a Table, and has no other version. Such
            // a clause is skipped.
            b"as" | b"g" | b"v" => self.allowed = false,
            b"sv" if !trim(value).is_empty() => self.allowed = false,
            b"stream" if !matches!(trim(value), b"watch" | b"") => self.allowed = false,
            _ => {}
        }
    }

    /// goautoneg's `Less`. It is not a real order: a wildcard of higher quality loses to a plain
    /// type that comes after it.
    fn comes_first(&self, other: &Clause<'_>) -> bool {
        self.quality > other.quality
            || (self.kind != b"*" && other.kind == b"*")
            || (self.subtype != b"*" && other.subtype == b"*")
    }

    fn matches(&self, kind: &[u8], subtype: &[u8]) -> bool {
        match (self.kind, self.subtype) {
            (b"*", b"*") => true,
            (own, b"*") => own == kind,
            (own, sub) => own == kind && sub == subtype,
        }
    }
}

/// Trims spaces only, as goautoneg does.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn answers_errors_in_the_encoding_that_the_apiserver_would_choose() {
        use Encoding::{Cbor, Json, Protobuf, Yaml};
        let table = [
            ("", Json),
            ("*/*", Json),
            ("*", Json),
            ("application/*", Json),
            ("application/json", Json),
            ("application/yaml", Yaml),
            ("application/vnd.kubernetes.protobuf", Protobuf),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Protobuf,
            ),
            ("application/vnd.kubernetes.protobuf, */*", Protobuf),
            ("application/json,application/vnd.kubernetes.protobuf", Json),
            (
                "application/json;q=0.5,application/vnd.kubernetes.protobuf",
                Protobuf,
            ),
            ("application/json;q=0.5,application/yaml;q=0.7", Yaml),
            ("*/*,application/yaml;q=0.1", Yaml), /* goautoneg's order: a wildcard comes last
                                                   * whatever its quality */
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Json,
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf",
                Protobuf,
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Json,
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
                Json,
            ),
            ("application/vnd.kubernetes.protobuf;stream=watch", Protobuf),
            ("application/vnd.kubernetes.protobuf;stream=other", Json),
            ("application/vnd.kubernetes.protobuf;sv=v1", Json),
            ("text/html", Json),
            ("text/html,application/yaml", Yaml),
            ("application/cbor", Cbor),
            ("application/cbor,application/vnd.kubernetes.protobuf", Cbor),
            ("application/json;q=0.9,application/cbor;q=1", Cbor),
            ("application/json,application/cbor", Json),
            // The media type of watches. An error is one object.
            ("application/cbor-seq", Json),
            ("application/cbor-seq,application/yaml", Yaml),
            ("Application/YAML", Json),
            ("application/json/x,application/yaml", Yaml),
            (";;;,,,/,=", Json),
        ];
        every(table, |(accept, expected)| {
            assert_eq!(negotiate(accept.as_bytes()), expected, "{accept}");
        });
    }

    #[test]
    fn reads_only_the_first_accept_line() {
        let mut headers = http::HeaderMap::new();
        assert_eq!(Encoding::negotiate(&headers), Encoding::Json);
        headers.append(
            "accept",
            http::HeaderValue::from_static("application/vnd.kubernetes.protobuf"),
        );
        headers.append("accept", http::HeaderValue::from_static("application/yaml"));
        assert_eq!(Encoding::negotiate(&headers), Encoding::Protobuf);
    }
}
