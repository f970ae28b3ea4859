//! Compares two answers to the same create, and stores a copy of them.

use std::fs;
use std::io::Write;

use http::{HeaderMap, HeaderValue};
use model_control_plane::client::Answer;

use super::PROTOBUF;
use crate::table::results;

/// Headers that differ between two answers to the same request, or belong to the connection.
const OWN: [&str; 3] = ["audit-id", "date", "content-length"];

pub(super) fn same(what: &str, direct: &Answer, proxied: &Answer) {
    assert_eq!(
        direct.status,
        proxied.status,
        "{what}: {} / {}",
        text(direct),
        text(proxied)
    );
    assert_eq!(
        comparable(&direct.headers),
        comparable(&proxied.headers),
        "{what}"
    );
    assert_eq!(
        direct.body,
        proxied.body,
        "{what}: {} / {}",
        text(direct),
        text(proxied)
    );
}

fn comparable(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect();
    all.sort_unstable();
    all
}

pub(super) fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Stores an answer in the format of a fixture, in the folder `answers` of the results.
pub(super) fn keep(name: &str, encoding: &str, answer: &Answer) {
    let folder = results().join("answers");
    fs::create_dir_all(&folder).unwrap();
    let suffix = if encoding == PROTOBUF {
        "_protobuf"
    } else {
        ""
    };
    let mut file = fs::File::create(folder.join(format!("{name}{suffix}.http"))).unwrap();
    write!(file, "HTTP/1.1 {}\r\n", answer.status).unwrap();
    for (header, value) in &answer.headers {
        write!(file, "{header}: ").unwrap();
        file.write_all(value.as_bytes()).unwrap();
        file.write_all(b"\r\n").unwrap();
    }
    file.write_all(b"\r\n").unwrap();
    file.write_all(&answer.body).unwrap();
}
