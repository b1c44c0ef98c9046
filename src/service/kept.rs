//! Small files that are replaced as a whole: whatever happens, the old one or the new one is there.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What kind of file it is.
pub struct Kind {
    pub magic: [u8; 4],
    /// Changes with the layout of what is in it; a file of another layout is not read.
    pub format: u32,
}

/// Writes `value` beside the old file and puts it in its place.
///
/// Errors: those of the disk; the old one is still there then.
pub fn write(path: &Path, kind: &Kind, value: &impl Serialize) -> io::Result<()> {
    begin(path, kind, |out| self::value(out, value))?.settle()
}

/// Writes a value as [`read`] reads it, which has all of it in memory.
pub fn value(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    out.write_all(&postcard::to_stdvec(value).map_err(io::Error::other)?)
}

/// A file beside the old one that may not be on disk yet.
pub struct New {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    /// Of its body.
    pub bytes: u64,
}

/// Writes a file as `body` makes it, without all of it in memory.
///
/// Errors: those of the disk and of `body`; the old one is still there then.
pub fn begin(
    path: &Path,
    kind: &Kind,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<New> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<(File, u64)> {
        let mut file = File::create(&beside)?;
        file.write_all(&kind.magic)?;
        file.write_all(&kind.format.to_le_bytes())?;
        let sum_at = file.stream_position()?;
        file.write_all(&[0; 8])?;
        let mut summed = Summed { out: file, hash: Xxh3::new(), bytes: 0 };
        body(&mut summed)?;
        let Summed { out: mut file, hash, bytes } = summed;
        file.seek(SeekFrom::Start(sum_at))?;
        file.write_all(&hash.digest().to_le_bytes())?;
        Ok((file, bytes))
    };
    let (file, bytes) = write().inspect_err(|_| {
        // What is there of it takes room on a disk that may be full.
        let _ = std::fs::remove_file(&beside);
    })?;
    Ok(New { file, beside, path: path.to_owned(), bytes })
}

impl New {
    /// Puts it in the place of the old one, once it is on disk.
    ///
    /// Errors: as for [`begin`].
    pub fn settle(self) -> io::Result<()> {
        self.file.sync_all().inspect_err(|_| {
            let _ = std::fs::remove_file(&self.beside);
        })?;
        std::fs::rename(&self.beside, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Hashes and counts what is written.
struct Summed<W> {
    out: W,
    hash: Xxh3,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a file holds, and the bytes behind that, where [`begin`] was told to write some; `None` where
/// there is none.
///
/// Errors: one that is damaged or of another version, with what to do.
pub fn read<T: DeserializeOwned>(path: &Path, kind: &Kind) -> Result<Option<(T, Rest)>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(cause).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let (value, at) = held(&bytes, kind).with_context(|| {
        format!(
            "`{}` is damaged or of another version of telltale; restore it from a copy",
            path.display()
        )
    })?;
    Ok(Some((value, Rest { bytes, at })))
}

/// What the bytes of a file hold, and where those behind it begin; `None` where they are damaged or
/// of another version.
fn held<T: DeserializeOwned>(bytes: &[u8], kind: &Kind) -> Option<(T, usize)> {
    let rest = bytes.strip_prefix(&kind.magic)?.strip_prefix(&kind.format.to_le_bytes())?;
    let (sum, body) = rest.split_first_chunk()?;
    if u64::from_le_bytes(*sum) != xxh3_64(body) {
        return None;
    }
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    Some((value, bytes.len() - rest.len()))
}

/// Bytes at the end of a file.
pub struct Rest {
    bytes: Vec<u8>,
    at: usize,
}

impl Rest {
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::simulation::Dice;

    #[test]
    fn a_file_of_another_format_is_refused_and_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let [old, new] = [1, 2].map(|format| Kind { magic: *b"test", format });
        write(&path, &old, &7_u32).unwrap();
        assert_eq!(read::<u32>(&path, &old).unwrap().unwrap().0, 7);
        let refused = read::<u32>(&path, &new).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("of another version of telltale"), "{refused}");
    }

    #[test]
    fn what_cannot_be_made_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let kind = Kind { magic: *b"test", format: 1 };
        write(&path, &kind, &7_u32).unwrap();
        let fails = begin(&path, &kind, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(fails.is_err());
        assert_eq!(read::<u32>(&path, &kind).unwrap().unwrap().0, 7);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn mangled_files_are_refused_and_never_panic() {
        type Rows = Vec<(u64, String)>;
        let kind = Kind { magic: *b"test", format: 1 };
        let file = |body: &[u8]| {
            let head = [kind.magic, kind.format.to_le_bytes()].concat();
            [&head, &xxh3_64(body).to_le_bytes()[..], body].concat()
        };
        let rows: Rows = (0..20).map(|at| (1 << at, format!("row {at}"))).collect();
        let body = [postcard::to_stdvec(&rows).unwrap(), b"and the rest".to_vec()].concat();
        let whole = file(&body);
        let end = whole.len() - b"and the rest".len();
        let mut dice = Dice(5);
        let mut read = 0;
        for _ in 0..5000 {
            let bytes = dice.mangled(&whole);
            let expected = (bytes == whole).then(|| (rows.clone(), end));
            assert_eq!(held::<Rows>(&bytes, &kind), expected);
            // Behind a sum that is right may stand what another layout wrote.
            let bytes = file(&dice.mangled(&body));
            if let Some((_, at)) = held::<Rows>(&bytes, &kind) {
                assert!(at <= bytes.len());
                read += 1;
            }
        }
        assert!(read > 100, "{read} bodies were read");
    }
}
