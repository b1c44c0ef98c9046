//! One file that is there, or was a moment ago.

use super::content::{self, At, Encoding, Format};
use super::fingerprint::Fingerprint;
use super::listing::Seen;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A file that is there, or was a moment ago.
pub(super) struct Tracked {
    pub(super) path: PathBuf,
    /// The name under which it is known in the journal.
    pub(super) name: Arc<str>,
    pub(super) handle: Option<File>,
    /// As it was last seen, and since when.
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    pub(super) since: Instant,
    /// The listing that last had it, and since when none has.
    pub(super) listing: u64,
    pub(super) gone: Option<Instant>,
    /// Whether it got another name, after which little is written to it.
    pub(super) is_renamed: bool,
    /// Whether it is passed over as far as it goes now.
    pub(super) from_end: bool,
    pub(super) format: Option<Format>,
    /// Its first bytes, at most [`FULL`] of those that were read.
    pub(super) start: Option<Fingerprint>,
    /// By what the journal knows it; `None` before anything of it was stored.
    pub(super) print: Option<Fingerprint>,
    pub(super) position: u64,
    /// Whether it is another than the one that the journal knows by the same beginning.
    pub(super) is_distinct: bool,
    /// Passing over the rest of a line that is too long.
    pub(super) is_skipping: bool,
    /// Whether something is left that time alone may change.
    pub(super) waits: bool,
    pub(super) retry_at: Option<Instant>,
    /// Why it cannot be read, and whether its damage was said: once each.
    pub(super) said: Option<String>,
    pub(super) damage_said: bool,
}

impl Tracked {
    pub(super) fn new(seen: &Seen, listing: u64) -> Self {
        Self {
            name: name_of(&seen.path),
            path: seen.path.clone(),
            handle: None,
            size: seen.size,
            modified: seen.modified,
            since: Instant::now(),
            listing,
            gone: None,
            is_renamed: false,
            from_end: false,
            format: None,
            start: None,
            print: None,
            position: 0,
            is_distinct: false,
            is_skipping: false,
            waits: true,
            retry_at: None,
            said: None,
            damage_said: false,
        }
    }

    /// Whether it is another than when it was last seen.
    pub(super) fn note(&mut self, size: u64, modified: SystemTime) -> bool {
        let changed = (size, modified) != (self.size, self.modified);
        if changed {
            (self.size, self.modified, self.since) = (size, modified, Instant::now());
            self.damage_said = false;
        }
        changed
    }

    /// Whether nobody wrote to it for so long, by its own time or by ours.
    pub(super) fn is_left_alone(&self, span: Duration) -> bool {
        let by_its_own = SystemTime::now().duration_since(self.modified);
        self.since.elapsed() >= span || by_its_own.is_ok_and(|age| age >= span)
    }

    /// Whether what is written to it comes to an end.
    pub(super) fn is_rotated(&self) -> bool {
        self.gone.is_some() || self.is_renamed
    }

    /// It is a new file from its first byte on.
    pub(super) fn begin(&mut self) {
        self.name = name_of(&self.path);
        (self.start, self.print, self.format) = (None, None, None);
        self.position = 0;
        (self.is_distinct, self.is_skipping, self.is_renamed) = (false, false, false);
    }

    /// The first bytes of it.
    pub(super) fn beginning(&self, bytes: usize) -> io::Result<Vec<u8>> {
        let opened;
        let handle = match &self.handle {
            Some(handle) => handle,
            None => {
                opened = File::open(&self.path)?;
                &opened
            }
        };
        let mut magic = [0; 4];
        let read = At { file: handle, at: 0 }.read(&mut magic)?;
        let encoding = content::encoding(&magic[..read]).unwrap_or(Encoding::Plain);
        content::beginning(handle, encoding, bytes)
    }
}

/// The name of a file, as a partition may have it.
fn name_of(path: &Path) -> Arc<str> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.replace(|c: char| c.is_control(), "?").into()
}
