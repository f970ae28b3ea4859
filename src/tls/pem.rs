//! Reads certificates and keys from PEM, as tools write it: with text between the blocks, headers
//! in them, a byte order mark, indentation, and any line ends. Errors name the source of the text
//! and the line.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Like Go's, which does not mind surplus bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const CERTIFICATE: &str = "CERTIFICATE";
/// How the label of every private key ends: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1),
/// `EC PRIVATE KEY` (SEC1).
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// What is wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The text ends, or another block begins, before the block does.
    #[error("it has no END line")]
    NoEnd,
    /// The content is not base64.
    #[error("it is not base64")]
    Base64(#[from] base64::DecodeError),
}

struct Block {
    label: String,
    /// The line of its BEGIN, from 1.
    line: usize,
    encrypted: bool,
    der: Vec<u8>,
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// All certificates in the text. There is at least one.
pub(super) fn certificates(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (blocks, damaged) = blocks(pem, origin);
    damaged.map_or(Ok(()), Err)?;
    certificates_in(pem, origin, &blocks)
}

/// All certificates in a bundle of CAs. There is at least one. Damaged blocks beside it are skipped,
/// as Go does: a bundle is often put together from other files.
pub(super) fn bundle(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (blocks, damaged) = blocks(pem, origin);
    certificates_in(pem, origin, &blocks).map_err(|missing| damaged.unwrap_or(missing))
}

fn certificates_in(
    pem: &[u8],
    origin: &str,
    blocks: &[Block],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let is_certificate = |block: &&Block| block.label == CERTIFICATE;
    let found: Vec<_> = blocks
        .iter()
        .filter(is_certificate)
        .map(|block| CertificateDer::from(block.der.clone()))
        .collect();
    if found.is_empty() {
        return Err(TlsError::Missing {
            origin: origin.to_owned(),
            expected: "certificate: expected PEM, -----BEGIN CERTIFICATE-----",
            found: described(pem, blocks),
        });
    }
    Ok(found)
}

/// All private keys in the text. There is at least one.
pub(super) fn private_keys(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<PrivateKeyDer<'static>>, TlsError> {
    let (blocks, damaged) = blocks(pem, origin);
    damaged.map_or(Ok(()), Err)?;
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| is_key(block)) {
        let at = || (origin.to_owned(), block.line);
        if block.encrypted {
            let (origin, line) = at();
            return Err(TlsError::Encrypted { origin, line });
        }
        // The label can be wrong, and Go does not mind.
        let key = PrivateKeyDer::try_from(block.der.clone()).map_err(|_| {
            let (origin, line) = at();
            TlsError::KeyFormat {
                origin,
                line,
                label: block.label.clone(),
            }
        })?;
        found.push(key);
    }
    if found.is_empty() {
        return Err(TlsError::Missing {
            origin: origin.to_owned(),
            expected: "private key: expected unencrypted PEM, -----BEGIN PRIVATE KEY-----",
            found: described(pem, &blocks),
        });
    }
    Ok(found)
}

/// Whether the text has a private key, in whatever form and condition.
pub(super) fn has_private_key(pem: &[u8]) -> bool {
    lines(pem)
        .any(|(_, line)| begins(&line).is_some_and(|label| label.trim_end().ends_with(PRIVATE_KEY)))
}

fn is_key(block: &Block) -> bool {
    block.label.ends_with(PRIVATE_KEY)
}

/// What the text has instead, for an error. Empty if it has nothing.
fn described(pem: &[u8], blocks: &[Block]) -> String {
    if let Some(first) = blocks.first() {
        return format!(" (found {} at line {})", first.label, first.line);
    }
    // A SEQUENCE with a length of two bytes, as every certificate and most keys in DER begin.
    if pem.starts_with(&[0x30, 0x82]) {
        return " (found DER; convert it with openssl)".to_owned();
    }
    String::new()
}

/// The blocks that can be read, and what is wrong with the first of the others.
fn blocks(pem: &[u8], origin: &str) -> (Vec<Block>, Option<TlsError>) {
    let mut blocks = Vec::new();
    let mut first = None;
    let mut open: Option<(Block, String)> = None;
    let damaged = |block: &Block, source: PemError| TlsError::Pem {
        origin: origin.to_owned(),
        line: block.line,
        label: block.label.clone(),
        source,
    };
    for (number, line) in lines(pem) {
        if let Some(label) = begins(&line) {
            if let Some((block, _)) = &open {
                first.get_or_insert_with(|| damaged(block, PemError::NoEnd));
            }
            let block = Block {
                label: label.to_owned(),
                line: number,
                encrypted: label.starts_with("ENCRYPTED "),
                der: Vec::new(),
            };
            open = Some((block, String::new()));
        } else if line.starts_with("-----END ") {
            if let Some((mut block, text)) = open.take() {
                match BASE64.decode(&text) {
                    Ok(der) => block.der = der,
                    // Nobody can read it without the password.
                    Err(_) if block.encrypted => {}
                    Err(error) => {
                        first.get_or_insert_with(|| damaged(&block, error.into()));
                        continue;
                    }
                }
                blocks.push(block);
            }
        } else if let Some((block, text)) = &mut open {
            // `Proc-Type: 4,ENCRYPTED` and other headers.
            if line.contains(':') {
                block.encrypted |= line.contains("ENCRYPTED");
            } else {
                text.extend(line.split_ascii_whitespace());
            }
        }
    }
    if let Some((block, _)) = &open {
        first.get_or_insert_with(|| damaged(block, PemError::NoEnd));
    }
    (blocks, first)
}

/// The lines with their numbers, without a byte order mark and surrounding spaces.
fn lines(pem: &[u8]) -> impl Iterator<Item = (usize, String)> {
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    pem.split(|byte| *byte == b'\n')
        .flat_map(|line| {
            // A lone CR ends a line too.
            line.trim_ascii().split(|byte| *byte == b'\r')
        })
        .enumerate()
        .map(|(index, line)| {
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            (index + 1, line)
        })
}

fn begins(line: &str) -> Option<&str> {
    line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
}
