//! The lines of a log that may be larger than memory, compressed or not.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// How much is read at once, and the room for a line at first.
const CHUNK: usize = 1 << 20;
/// The longest line. An apiserver refuses requests above 3 MiB, and its webhook backend sends 400
/// events in a list by default.
const LONGEST: usize = 64 << 20;
/// The first bytes of gzip data. Rotated files have any name.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Opens a file, or standard input for `-`, and finds its size, which is 0 if it is not known.
pub(super) fn open(path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), 0));
    }
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let size = about.len();
    Ok((Box::new(file), size))
}

/// Decompresses gzip data, of any number of members, and passes other data on.
pub(super) fn plain<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    input
        .by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut start)?;
    let compressed = start == GZIP;
    let whole = Cursor::new(start).chain(input);
    Ok(if compressed {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole)))
    } else {
        Box::new(whole)
    })
}

/// Reads lines into one buffer, which grows to the longest of them.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were read and not yet given out.
    unread: std::ops::Range<usize>,
    /// The number of the last line, counted from 1.
    number: u64,
    longest: usize,
    ended: bool,
}

/// One line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub number: u64,
    /// None: the line is longer than [`LONGEST`].
    pub bytes: Option<&'a [u8]>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self::with_bounds(input, CHUNK, LONGEST)
    }

    fn with_bounds(input: R, chunk: usize, longest: usize) -> Self {
        Self {
            input,
            buffer: vec![0; chunk],
            unread: 0..0,
            number: 0,
            longest,
            ended: false,
        }
    }

    /// The next line. None: the input has ended.
    ///
    /// # Errors
    /// The input cannot be read, or its compressed data is damaged. The lines before that were
    /// given out.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut too_long = false;
        // How many of the unread bytes have no line break.
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.unread.clone()];
            let found = memchr::memchr(b'\n', &unread[searched..]).map(|at| searched + at);
            if found.is_none() && !self.ended {
                searched = unread.len();
                if searched > self.longest {
                    too_long = true;
                    searched = 0;
                    self.unread = 0..0;
                }
                self.fill()?;
                continue;
            }
            // The last line may lack its line break.
            let length = found.unwrap_or(unread.len());
            if found.is_none() && length == 0 && !too_long {
                return Ok(None);
            }
            let start = self.unread.start;
            self.unread.start = (start + length + 1).min(self.unread.end);
            self.number += 1;
            let bytes = (!too_long).then(|| &self.buffer[start..start + length]);
            return Ok(Some(Line {
                number: self.number,
                bytes,
            }));
        }
    }

    /// Reads more behind the unread bytes.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.unread.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.unread.end += read;
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    /// Gives out a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = into.len().min(1);
            self.0.read(&mut into[..length])
        }
    }

    /// The lines with `…` for each that is too long, and the error that ended them.
    fn lines(input: impl Read) -> (Vec<String>, Option<io::ErrorKind>) {
        let mut lines = Lines::with_bounds(input, 4, 10);
        let mut all = Vec::new();
        loop {
            match lines.next() {
                Ok(Some(Line { number, bytes })) => {
                    assert_eq!(number, all.len() as u64 + 1);
                    let text = bytes.map_or("…".into(), String::from_utf8_lossy);
                    all.push(text.into_owned());
                }
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error.kind())),
            }
        }
    }

    #[test]
    fn lines_are_split_whatever_a_read_returns() {
        every(
            [
                ("", &[][..]),
                ("a", &["a"]),
                ("a\n", &["a"]),
                ("\n\na", &["", "", "a"]),
                ("abc\ndefghij\nk", &["abc", "defghij", "k"]),
                ("0123456789\na\n", &["0123456789", "a"]),
                ("012345678901234567890123456789\na\n", &["…", "a"]),
                ("a\n012345678901234567890123456789", &["a", "…"]),
            ],
            |(text, expected)| {
                assert_eq!(lines(text.as_bytes()).0, expected);
                assert_eq!(lines(Slow(text.as_bytes())).0, expected);
            },
        );
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        let two = [gzip("a\nb"), gzip("c\nd\n")].concat();
        every([&two[..], b"a\nbc\nd\n", b"a\nbc\nd"], |input| {
            for slow in [false, true] {
                let input: Box<dyn Read> = if slow {
                    Box::new(Slow(input))
                } else {
                    Box::new(input)
                };
                assert_eq!(lines(plain(input).unwrap()).0, ["a", "bc", "d"]);
            }
        });
        every([&b""[..], b"\x1f"], |input| {
            assert_eq!(lines(plain(input).unwrap()).0.len(), input.len());
        });
    }

    #[test]
    fn lines_before_the_end_of_cut_off_gzip_data_are_read() {
        let whole = gzip("a\nb\nc\n");
        let (read, error) = lines(plain(&whole[..whole.len() - 4]).unwrap());
        assert_eq!(read, ["a", "b", "c"]);
        assert_eq!(error, Some(io::ErrorKind::UnexpectedEof));
    }
}
