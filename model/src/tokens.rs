//! Bearer tokens. A request with a known token may do everything, and any other request may do
//! nothing. There is no RBAC.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The tokens that an apiserver accepts.
#[derive(Clone)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// Accepts exactly these tokens.
    pub fn new(tokens: Vec<String>) -> Tokens {
        Tokens(tokens)
    }

    /// The first token; empty if there is none.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Whether the request carries an accepted token.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
        else {
            return false;
        };
        let Some((scheme, token)) = value.split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && self.0.iter().any(|known| known == token.trim())
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_only_known_bearer_tokens() {
        let tokens = Tokens::new(vec!["secret".into()]);
        for (value, admitted) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer other", false),
            ("Basic secret", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(tokens.admit(&headers), admitted, "{value}");
        }
        assert!(!tokens.admit(&HeaderMap::new()));
    }
}
