//! Small files that are replaced as a whole: whatever happens, the old one or the new one is there.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

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
    let body = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&new)?;
        file.write_all(&kind.magic)?;
        file.write_all(&kind.format.to_le_bytes())?;
        file.write_all(&xxh3_64(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()
    })();
    if let Err(cause) = written {
        // What is there of it takes room on a disk that may be full.
        let _ = std::fs::remove_file(&new);
        return Err(cause);
    }
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(body.len() as u64)
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
