//! The reason phrases of HTTP/1.1, as Go writes them. Python clients show them to people.
//!
//! HTTP/2 has none. So an answer of an HTTP/2 upstream, or of the proxy itself, gets the phrase that
//! kube-apiserver would send over HTTP/1.1. hyper would write that of the `http` crate. An HTTP/1.1
//! upstream sends its own phrase, which hyper passes on.

use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

/// Sets Go's phrase, if it is not the one that hyper writes anyway.
pub fn set_reason<B>(response: &mut Response<B>) {
    let code = response.status();
    let phrase = match (of_go_only(code), code.canonical_reason()) {
        (Some(phrase), _) => ReasonPhrase::from_static(phrase.as_bytes()),
        (None, Some(_)) => return,
        (None, None) => match ReasonPhrase::try_from(unknown(code)) {
            Ok(phrase) => phrase,
            Err(_) => return,
        },
    };
    response.extensions_mut().insert(phrase);
}

/// The phrase of a code that the `http` crate and Go know.
pub fn reason(code: StatusCode) -> &'static str {
    of_go_only(code)
        .or(code.canonical_reason())
        .unwrap_or_default()
}

/// Go's phrases that the `http` crate has in other words.
///
/// <https://github.com/golang/go/blob/go1.26.0/src/net/http/status.go>
const fn of_go_only(code: StatusCode) -> Option<&'static str> {
    Some(match code.as_u16() {
        203 => "Non-Authoritative Information",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        _ => return None,
    })
}

/// What Go writes for a code that it does not know.
///
/// <https://github.com/golang/go/blob/go1.26.0/src/net/http/server.go> (`writeStatusLine`)
fn unknown(code: StatusCode) -> String {
    format!("status code {}", code.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of `go run` for each code that `http.StatusText` knows: `code\ttext`.
    const GO: &str = include_str!("../../tests/samples/go_status_text.tsv");

    fn written(code: u16) -> String {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        set_reason(&mut response);
        match response.extensions().get::<ReasonPhrase>() {
            Some(phrase) => String::from_utf8(phrase.as_bytes().to_vec()).unwrap(),
            None => response.status().canonical_reason().unwrap().to_owned(),
        }
    }

    #[test]
    fn every_code_has_the_phrase_of_go() {
        let known: std::collections::BTreeMap<u16, &str> = GO
            .lines()
            .map(|line| line.split_once('\t').unwrap())
            .map(|(code, text)| (code.parse().unwrap(), text))
            .collect();
        assert!(known.len() > 60, "{}", known.len());
        for code in 100..=999 {
            let unknown = format!("status code {code}");
            assert_eq!(
                written(code),
                *known.get(&code).unwrap_or(&&*unknown),
                "{code}"
            );
        }
    }

    #[test]
    fn a_phrase_that_hyper_writes_anyway_costs_nothing() {
        for code in [200, 201, 404, 409, 429, 500, 504] {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            set_reason(&mut response);
            assert!(response.extensions().is_empty(), "{code}");
        }
    }
}
