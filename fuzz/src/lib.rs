//! What several targets need.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers from lines like `name: value`. Other lines are skipped.
pub fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// The lines of a text.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Fails unless a text for people is short and moves no cursor.
pub fn is_printable(text: &str, input: usize) {
    assert!(
        text.len() <= 16 * input + (64 << 10),
        "{} bytes from {input}",
        text.len()
    );
    let control = text.chars().find(|char| char.is_control() && *char != '\n');
    assert_eq!(control, None, "{text:?}");
}
