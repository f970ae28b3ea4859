//! Bytes to text as Go's YAML reader does it, and Go's base64.
//!
//! The reader takes UTF-8, and UTF-16 with a byte order mark, and refuses control characters
//! (<https://github.com/yaml/go-yaml/blob/v2.4.2/readerc.go#L96>).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::mistake::{Base64Problem, ParseError, Problem};

/// Go decodes a last character whose unused bits are not zero.
const GO: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The text of a file, without its byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<String, ParseError> {
    let text = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest)?,
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => utf8(bytes)?,
    };
    match text.char_indices().find(|(_, char)| !allowed(*char)) {
        Some((at, char)) => Err(ParseError {
            line: line_at(text[..at].as_bytes()),
            problem: Problem::Control(char),
        }),
        None => Ok(text),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ParseError {
            line: line_at(&bytes[..error.valid_up_to()]),
            problem: Problem::Encoding,
        }),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, ParseError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    match String::from_utf16(&units) {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(ParseError {
            line: 0,
            problem: Problem::Encoding,
        }),
    }
}

fn allowed(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => !char.is_control(),
    }
}

fn line_at(before: &[u8]) -> u64 {
    before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1
}

/// Decodes base64 as Go's `base64.StdEncoding` does: it skips CR and LF, wherever they are
/// (<https://pkg.go.dev/encoding/base64#Encoding.Decode>).
pub(super) fn go_base64(text: &str) -> Result<Vec<u8>, Base64Problem> {
    let joined: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    GO.decode(&joined).map_err(|_| {
        let foreign = |byte: &&u8| !byte.is_ascii_alphanumeric() && !b"+/=".contains(byte);
        match joined.iter().find(foreign) {
            Some(b' ' | b'\t') => Base64Problem::Space,
            Some(_) => Base64Problem::Character,
            None => Base64Problem::Length,
        }
    })
}
