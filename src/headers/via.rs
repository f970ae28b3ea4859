//! `Via` (RFC 9110 §7.6.3): adds the name of this process to each request, so that the process
//! recognises a request that comes back, and refuses it.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};

/// The name that this process adds to `Via`.
#[derive(Debug, Clone)]
pub struct Via {
    pseudonym: Box<str>,
    /// The values for requests that came in HTTP/1.0, HTTP/1.1 and HTTP/2.
    values: [HeaderValue; 3],
}

impl Via {
    /// `random` makes the name unique. Replicas behind one Service must not share a name.
    #[expect(
        clippy::expect_used,
        reason = "letters, digits, dots and dashes are a value"
    )]
    pub fn new(random: u64) -> Self {
        let pseudonym = format!("kube-retry-proxy-{random:016x}");
        let value =
            |version| HeaderValue::try_from(format!("{version} {pseudonym}")).expect("a value");
        Self {
            values: ["1.0", "1.1", "2.0"].map(value),
            pseudonym: pseudonym.into(),
        }
    }

    /// Adds this process to a request that came in `version`, after the earlier hops.
    pub fn append(&self, headers: &mut HeaderMap, version: Version) {
        let [http10, http11, http2] = &self.values;
        let value = match version {
            Version::HTTP_10 => http10,
            Version::HTTP_2 => http2,
            _ => http11,
        };
        // An error means 32,768 names. The limit on heads refuses such a request.
        let _ = headers.try_append(header::VIA, value.clone());
    }

    /// Whether a request has passed this process before.
    pub fn has_passed(&self, headers: &HeaderMap) -> bool {
        super::tokens(headers, &header::VIA).any(|hop| {
            let mut words = hop
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            words.nth(1) == Some(self.pseudonym.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &HeaderMap) -> Vec<&HeaderValue> {
        headers.get_all(header::VIA).iter().collect()
    }

    #[test]
    fn a_request_that_comes_back_is_recognised() {
        let (a, b) = (Via::new(1), Via::new(2));
        let mut headers = HeaderMap::new();
        assert!(!a.has_passed(&headers));
        a.append(&mut headers, Version::HTTP_2);
        assert!(a.has_passed(&headers) && !b.has_passed(&headers));
        b.append(&mut headers, Version::HTTP_11);
        assert!(a.has_passed(&headers) && b.has_passed(&headers));
        assert_eq!(
            lines(&headers),
            [
                "2.0 kube-retry-proxy-0000000000000001",
                "1.1 kube-retry-proxy-0000000000000002"
            ]
        );
    }

    #[test]
    fn several_hops_may_be_in_one_line() {
        let via = Via::new(7);
        let has_passed = |line: &'static str| {
            via.has_passed(&HeaderMap::from_iter([(
                header::VIA,
                HeaderValue::from_static(line),
            )]))
        };
        assert!(has_passed(
            "1.0 fred, 1.1  kube-retry-proxy-0000000000000007 (comment), HTTP/2 other"
        ));
        assert!(!has_passed(
            "1.1 kube-retry-proxy-00000000000000070, 1.1 fred"
        ));
        assert!(!has_passed(
            "kube-retry-proxy-0000000000000007, 1.1 fred (1.1 kube-retry-proxy-0000000000000007)"
        ));
        assert!(!has_passed(", ,"));
    }

    #[test]
    fn earlier_hops_stay_first() {
        let mut headers =
            HeaderMap::from_iter([(header::VIA, HeaderValue::from_static("1.0 fred"))]);
        Via::new(7).append(&mut headers, Version::HTTP_10);
        assert_eq!(
            lines(&headers),
            ["1.0 fred", "1.0 kube-retry-proxy-0000000000000007"]
        );
    }
}
