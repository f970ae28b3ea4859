//! tar and gzip with reproducible bytes: they depend only on the content and one timestamp.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, GzBuilder};

pub(super) struct Entry {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) data: Vec<u8>,
}

impl Entry {
    pub(super) fn file(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            data: data.into(),
        }
    }

    pub(super) fn executable(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            mode: 0o755,
            ..Self::file(path, data)
        }
    }
}

/// A tar archive with the entries sorted by path, owned by root, all with the same time.
pub(super) fn tar(mut entries: Vec<Entry>, epoch: u64) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(entry.data.len().try_into()?);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(epoch);
        archive.append_data(&mut header, &entry.path, entry.data.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

/// Compresses without a file name, a time or an operating system in the header.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    const UNKNOWN_SYSTEM: u8 = 255;
    let gzip = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM);
    let mut encoder = gzip.write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Read as _;

    pub(in crate::release) fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(bytes)
            .read_to_end(&mut unpacked)
            .unwrap();
        unpacked
    }

    fn packed(order: [usize; 2], epoch: u64) -> Vec<u8> {
        let entries = order.map(|index| match index {
            0 => Entry::executable("folder/program", b"\x7fELF".as_slice()),
            _ => Entry::file("folder/README.md", "text"),
        });
        gzip(&tar(entries.into(), epoch).unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_order_of_the_entries() {
        assert_eq!(packed([0, 1], 1_700_000_000), packed([1, 0], 1_700_000_000));
        assert_ne!(packed([0, 1], 1_700_000_000), packed([0, 1], 1_700_000_001));
    }

    /// A new version of a crate may compress differently, and then the same source gives another
    /// release. This test shows it.
    #[test]
    fn the_bytes_of_an_archive_are_known() {
        assert_eq!(
            crate::hash::sha256(&gunzip(&packed([0, 1], 1_700_000_000))),
            TAR
        );
        assert_eq!(
            packed([0, 1], 0)[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]
        );
    }

    const TAR: &str = "3f74a606ca10759e611e535bd127d2fc7c083feb691b8bf7abbc715434548c27";

    #[test]
    fn entries_have_the_given_owner_time_and_mode() {
        let bytes = gunzip(&packed([1, 0], 1_700_000_000));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            found.push((
                entry.path().unwrap().display().to_string(),
                header.mode().unwrap(),
                data,
            ));
        }
        assert_eq!(
            found,
            [
                ("folder/README.md".to_owned(), 0o644, b"text".to_vec()),
                ("folder/program".to_owned(), 0o755, b"\x7fELF".to_vec()),
            ]
        );
    }
}
