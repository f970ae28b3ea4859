//! Undoes what a capture from the wire still has: chunks, compression, and UTF-16, which PowerShell
//! writes. Most tools have undone chunks and compression already and still show the headers, so the
//! body itself decides.

use std::borrow::Cow;
use std::io::Read;

use super::ExplainError;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much is decompressed. A log may have more.
const MAX_DECOMPRESSED: u64 = 64 << 20;

/// A decoded body, and what is odd about it.
pub(super) struct Decoded<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// How the capture breaks off.
    pub(super) broken_off: Option<String>,
}

/// Text in UTF-8, without a byte order mark.
pub(super) fn text(raw: &[u8]) -> Cow<'_, [u8]> {
    let units = |bytes: &[u8], of: fn([u8; 2]) -> u16| -> Vec<u8> {
        let units = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect::<String>()
            .into_bytes()
    };
    match raw {
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        [0xff, 0xfe, rest @ ..] => Cow::Owned(units(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(units(rest, u16::from_be_bytes)),
        _ => Cow::Borrowed(raw),
    }
}

/// Decompresses a file or a body that starts as gzip.
pub(super) fn gunzip(body: Cow<'_, [u8]>) -> Result<Decoded<'_>, ExplainError> {
    if !is_gzip(&body) {
        return Ok(Decoded {
            bytes: body,
            broken_off: None,
        });
    }
    let mut bytes = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(&*body)
        .take(MAX_DECOMPRESSED)
        .read_to_end(&mut bytes);
    match read {
        Err(source) if bytes.is_empty() => Err(ExplainError::Gzip {
            why: source.to_string(),
        }),
        read => Ok(Decoded {
            bytes: Cow::Owned(bytes),
            broken_off: read
                .is_err()
                .then(|| "within the gzip data of the body".to_owned()),
        }),
    }
}

pub(super) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&GZIP)
}

/// Joins chunks (RFC 9112 §7.1), with extensions and trailers, and with LF as an editor may have
/// left it. None: the body is not in chunks.
pub(super) fn dechunk(body: &[u8]) -> Option<Decoded<'static>> {
    let mut whole = Vec::new();
    let (mut rest, mut number) = (body, 0);
    loop {
        number += 1;
        let Some((size, after)) = chunk_size(rest) else {
            return (number > 1)
                .then(|| broken(whole, format!("before the size of chunk {number}")));
        };
        if size == 0 {
            return Some(Decoded {
                bytes: Cow::Owned(whole),
                broken_off: None,
            });
        }
        let Some(chunk) = after.get(..size) else {
            whole.extend_from_slice(after);
            let had = after.len();
            return Some(broken(
                whole,
                format!("within chunk {number}, after {had} of its {size} bytes"),
            ));
        };
        whole.extend_from_slice(chunk);
        let after = &after[size..];
        rest = match after.strip_prefix(b"\r\n").or(after.strip_prefix(b"\n")) {
            Some(rest) => rest,
            // A first chunk that does not end where it says is no chunk.
            None if number == 1 && !matches!(after, b"" | b"\r") => return None,
            None => return Some(broken(whole, format!("after chunk {number}"))),
        };
    }
}

fn broken(whole: Vec<u8>, place: String) -> Decoded<'static> {
    Decoded {
        bytes: Cow::Owned(whole),
        broken_off: Some(place),
    }
}

/// The size in `149;name=value`, and what follows its line.
fn chunk_size(rest: &[u8]) -> Option<(usize, &[u8])> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = rest[..end].split(|byte| *byte == b';').next()?.trim_ascii();
    if line.is_empty() || line.len() > 8 || !line.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let size = usize::from_str_radix(str::from_utf8(line).ok()?, 16).ok()?;
    Some((size, &rest[end + 1..]))
}
