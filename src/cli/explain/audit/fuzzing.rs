//! What the fuzz targets call of this module.

use std::io::Read;

use super::lines::{Lines, plain};

/// The lines of a log, compressed or not, up to the place where it cannot be read.
pub fn lines(log: &[u8], mut line: impl FnMut(&[u8])) {
    let Ok(input) = plain(log) else { return };
    // Compressed data can be a thousand times as large.
    let mut lines = Lines::new(input.take(16 << 20));
    while let Ok(Some(next)) = lines.next() {
        next.bytes.iter().for_each(|bytes| line(bytes));
    }
}
