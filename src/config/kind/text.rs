//! The kinds whose values are strings: paths, addresses, names and URLs.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use http::Uri;
use serde_json::{Value as Json, json};

use super::super::declare::Shape;
use super::super::units::{is_api_name, parse_host, parse_log_level, parse_upstream_url};
use super::super::yaml::YamlValue;
use super::{Leaf, non_empty};

/// Exactly `word`. There is no value to store.
pub(crate) fn exactly(word: &'static str) -> Leaf<()> {
    let parse = move |text: &str| (text == word).then_some(());
    text_of(word, "", parse, move |_| word.to_owned())
}

/// A path. The file need not exist.
pub(crate) fn path() -> Leaf<PathBuf> {
    path_of(|path| path, |path| Json::from(path.display().to_string()))
}

/// A path that `make` converts to the value.
pub(crate) fn path_of<T: 'static>(
    make: impl Fn(PathBuf) -> T + 'static,
    show: impl Fn(&T) -> Json + 'static,
) -> Leaf<T> {
    let what = "the path of a file or directory";
    let parse = move |value: &YamlValue| {
        let path = non_empty(value).map(|text| Path::new(text).to_owned());
        path.map(&make).ok_or_else(|| what.to_owned())
    };
    Leaf::new(Shape::Text { what, pattern: "" }, parse, show)
}

/// Any type that `FromStr` reads and `Display` writes.
pub(crate) fn text<T>(what: &'static str, pattern: &'static str) -> Leaf<T>
where
    T: FromStr + ToString + 'static,
{
    text_of(what, pattern, |text| text.parse().ok(), T::to_string)
}

/// A string that `parse` reads and `show` writes.
fn text_of<T: 'static>(
    what: &'static str,
    pattern: &'static str,
    parse: impl Fn(&str) -> Option<T> + 'static,
    show: impl Fn(&T) -> String + 'static,
) -> Leaf<T> {
    Leaf::new(
        Shape::Text { what, pattern },
        move |value| {
            non_empty(value)
                .and_then(&parse)
                .ok_or_else(|| what.to_owned())
        },
        move |value| json!(show(value)),
    )
}

/// A host: a DNS name or an IP address, without a port.
pub(crate) fn host() -> Leaf<String> {
    let what = "a host name or an IP address without a port";
    text_of(what, "", parse_host, String::clone)
}

/// A lower-case name of the Kubernetes API, or `*` for every name.
pub(crate) fn api_name_or_any(what: &'static str) -> Leaf<String> {
    let parse = |text: &str| (text == "*" || is_api_name(text)).then(|| text.to_owned());
    text_of(what, r"^([a-z0-9.-]+|[*])$", parse, String::clone)
}

/// An API group; empty for the core group, `*` for every group.
pub(crate) fn api_group() -> Leaf<String> {
    let what = "an API group like batch, '' for the core group, or '*'";
    let named = api_name_or_any(what);
    let parse = move |value: &YamlValue| match value {
        YamlValue::Text(text) if text.is_empty() => Ok(String::new()),
        value => (named.parse)(value),
    };
    let pattern = r"^([a-z0-9.-]*|[*])$";
    Leaf::new(Shape::Text { what, pattern }, parse, |group| json!(group))
}

/// A log level or directives.
pub(crate) fn log_level() -> Leaf<String> {
    let what = "off, error, warn, info, debug or trace, or directives like info,kube_retry_proxy::create=debug";
    text_of(what, "", parse_log_level, String::clone)
}

/// `https://host[:port]` or `http://host[:port]`, and nothing else.
pub(crate) fn upstream_url() -> Leaf<Uri> {
    let what = "a URL like https://10.0.0.1:6443";
    let pattern = "^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#]+/?$";
    let parse = move |value: &YamlValue| {
        let parsed = non_empty(value).ok_or("").and_then(parse_upstream_url);
        parsed.map_err(|why| match why {
            "" => what.to_owned(),
            why => format!("{what} ({why})"),
        })
    };
    Leaf::new(Shape::Text { what, pattern }, parse, show_url)
}

/// `http://host[:port]` of a collector of traces.
pub(crate) fn collector_url() -> Leaf<Uri> {
    let what = "a URL like http://localhost:4318, without TLS, credentials and path";
    let pattern = "^[Hh][Tt][Tt][Pp]://[^@/?#]+/?$";
    let parse = move |value: &YamlValue| {
        let url = non_empty(value).and_then(|text| parse_upstream_url(text).ok());
        url.filter(|url| url.scheme_str() == Some("http"))
            .ok_or_else(|| what.to_owned())
    };
    Leaf::new(Shape::Text { what, pattern }, parse, show_url)
}

fn show_url(url: &Uri) -> Json {
    json!(url.to_string().trim_end_matches('/'))
}
