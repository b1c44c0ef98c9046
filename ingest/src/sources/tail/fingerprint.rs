//! By what a file is known again: its beginning.
//!
//! A position belongs to so many bytes at the beginning and their hash. Of a file of which more than
//! [`FULL`] bytes were read these are [`FULL`]; of a shorter one they are all that was read, so
//! that a file that begins alike and goes on otherwise is never taken for it. Two files whose first
//! [`FULL`] bytes are equal are told apart by more of them, at most [`LONGEST`].

use super::listing::FileId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes that tell a file from others, once that many were read of it.
pub const FULL: usize = 1024;
/// The same for a file whose beginning another has as well.
pub const LONGEST: usize = 1 << 20;

/// The beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    len: usize,
    hash: u64,
}

impl Fingerprint {
    pub fn of(beginning: &[u8]) -> Self {
        let hash = blake3::hash(beginning);
        let hash = u64::from_be_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        Self { len: beginning.len(), hash }
    }

    /// Bytes that it covers.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether a file begins so.
    pub fn is_of(self, beginning: &[u8]) -> bool {
        beginning.get(..self.len).is_some_and(|covered| Self::of(covered) == self)
    }

    pub fn hash(self) -> u64 {
        self.hash
    }

    /// `audit.log#1f3a9c0d2e4b5a67`, with `/LEN` behind it where it does not cover [`FULL`] bytes.
    pub fn partition(self, name: &str) -> String {
        match self.len {
            FULL => format!("{name}#{:016x}", self.hash),
            len => format!("{name}#{:016x}/{len}", self.hash),
        }
    }

    /// What [`Fingerprint::partition`] was made of.
    pub fn parse(partition: &str) -> Option<(&str, Self)> {
        let (name, print) = partition.rsplit_once('#')?;
        let (hash, len) = match print.split_once('/') {
            Some((hash, len)) => (hash, len.parse().ok()?),
            None => (print, FULL),
        };
        let hash = u64::from_str_radix(hash, 16).ok()?;
        (len <= LONGEST).then_some((name, Self { len, hash }))
    }
}

/// How far a file was read.
pub struct Row {
    pub name: Arc<str>,
    pub position: u64,
    /// The file that was last seen to begin so.
    pub holder: Option<FileId>,
}

/// Everything that was ever read, by its beginning.
#[derive(Default)]
pub struct Rows {
    rows: HashMap<Fingerprint, Row>,
    /// How many rows there are of each length.
    lens: BTreeMap<usize, usize>,
}

impl Rows {
    /// From partitions and their positions.
    pub fn new(positions: Vec<(String, u64)>) -> Self {
        let mut rows = Self::default();
        for (partition, position) in positions {
            if let Some((name, print)) = Fingerprint::parse(&partition) {
                rows.note(print, name.into(), position, None);
            }
        }
        rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of a beginning that are needed to find its row.
    pub fn longest(&self) -> usize {
        self.lens.last_key_value().map_or(0, |(len, _)| *len)
    }

    pub fn get(&self, print: Fingerprint) -> Option<&Row> {
        self.rows.get(&print)
    }

    /// The row of a file that begins so: the one that covers most of it.
    pub fn find(&self, beginning: &[u8]) -> Option<(Fingerprint, &Row)> {
        self.lens.range(..=beginning.len()).rev().find_map(|(len, _)| {
            let print = Fingerprint::of(&beginning[..*len]);
            Some((print, self.rows.get(&print)?))
        })
    }

    pub fn hold(&mut self, print: Fingerprint, holder: FileId) {
        if let Some(row) = self.rows.get_mut(&print) {
            row.holder = Some(holder);
        }
    }

    /// A file was read up to `position`. It never goes back, as it does not in the journal.
    pub fn note(
        &mut self,
        print: Fingerprint,
        name: Arc<str>,
        position: u64,
        holder: Option<FileId>,
    ) {
        let row = self.rows.entry(print).or_insert_with(|| {
            *self.lens.entry(print.len).or_default() += 1;
            Row { name, position, holder }
        });
        row.position = row.position.max(position);
        row.holder = holder.or(row.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_says_what_it_was_made_of() {
        for len in [1, 300, FULL, 5000] {
            let print = Fingerprint::of(&vec![b'x'; len]);
            let partition = print.partition("a#b.log");
            assert_eq!(Fingerprint::parse(&partition), Some(("a#b.log", print)), "{partition}");
        }
        for bad in ["", "a.log", "a.log#", "a.log#xyz", "a.log#1/-3", "a.log#1/99999999999"] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_row_that_covers_most_is_found() {
        let text = b"one line\nanother line\n";
        let rows =
            [9, 22].map(|len| (Fingerprint::of(&text[..len]).partition("a.log"), len as u64));
        let rows = Rows::new(rows.to_vec());
        let found = |beginning: &[u8]| rows.find(beginning).map(|(_, row)| row.position);
        assert_eq!(found(b"one line\nanother line\nand more\n"), Some(22));
        assert_eq!(found(b"one line\nof another file\n"), Some(9));
        assert_eq!((found(b"one"), found(b"two lines\n")), (None, None));
    }
}
