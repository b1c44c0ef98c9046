//! Small files that are replaced as a whole: whatever happens, the old one or the new one is there.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What kind of file it is.
pub struct Kind {
    pub magic: [u8; 4],
    /// Changes with the layout of what is in it; a file of another layout is not read.
    pub format: u32,
}

/// Writes `value` beside the old file and puts it in its place; how many bytes it took.
///
/// Errors: those of the disk; the old one is still there then.
pub fn write(path: &Path, kind: &Kind, value: &impl Serialize) -> io::Result<u64> {
    let new = path.with_extension("new");
    let bytes = write_new(&new, kind, value).inspect_err(|_| {
        // What is there of it takes room on a disk that may be full.
        let _ = std::fs::remove_file(&new);
    })?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(bytes)
}

/// Writes a file as it is made, without all of it in memory; how many bytes its body takes.
fn write_new(path: &Path, kind: &Kind, value: &impl Serialize) -> io::Result<u64> {
    let mut file = File::create(path)?;
    file.write_all(&kind.magic)?;
    file.write_all(&kind.format.to_le_bytes())?;
    let sum_at = file.stream_position()?;
    file.write_all(&[0; 8])?;
    let mut body = Summed { out: BufWriter::new(file), hash: Xxh3::new(), bytes: 0 };
    postcard::to_io(value, &mut body).map_err(io::Error::other)?;
    let Summed { out, hash, bytes } = body;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(sum_at))?;
    file.write_all(&hash.digest().to_le_bytes())?;
    file.sync_all()?;
    Ok(bytes)
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

/// What a file holds; `None` where there is none.
///
/// Errors: one that is damaged or of another version, with what to do.
pub fn read<T: DeserializeOwned>(path: &Path, kind: &Kind) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(cause).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let sound = bytes
        .strip_prefix(&kind.magic)
        .and_then(|rest| rest.strip_prefix(&kind.format.to_le_bytes()))
        .and_then(|rest| rest.split_first_chunk())
        .filter(|(sum, body)| u64::from_le_bytes(**sum) == xxh3_64(body))
        .and_then(|(_, body)| postcard::from_bytes(body).ok());
    sound.map(Some).with_context(|| {
        format!(
            "`{}` is damaged or of another version of telltale; restore it from a copy",
            path.display()
        )
    })
}
