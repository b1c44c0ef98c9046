//! The folder that a journal lies in, as far as a journal needs one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What is written at once begins and ends at multiples of so many bytes, which every disk can write
/// without reading first.
pub const BLOCK: usize = 4096;

/// A folder of segments. The real one is [`Folder`]; tests have one that fails on purpose.
pub trait Disk: Send + Sync {
    /// Names of all segments, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty segment, or an old one emptied; its name is on disk when this returns.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// A segment to go on writing at its end.
    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// A segment to read from its beginning.
    fn read(&self, name: &str) -> io::Result<Box<dyn BufRead + Send>>;

    /// Bytes of a segment.
    fn size(&self, name: &str) -> io::Result<u64>;

    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A segment that is written.
pub trait DiskFile: Send {
    /// Adds bytes at the end, in parts: together, whole blocks. Where it fails, any part of them may
    /// be there.
    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Returns when everything written is on disk. After an error nothing is known of it.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file and goes on writing there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// What segments are called: `00000000000000000017.journal`.
const EXTENSION: &str = ".journal";

/// A folder of the file system.
///
/// Segments are written and read past the page cache where the file system can do so: each byte is
/// read back once or twice at most, and copying it into fresh pages costs more than all else that is
/// done for it here.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder, made where it is missing.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// The folder as it is, to read from.
    pub fn existing(path: PathBuf) -> Self {
        Self { path }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(EXTENSION) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.sync_all()?;
        self.sync_names()?;
        Ok(Box::new(Written { file: Direct::of(file), len: 0, buffer: Aligned::new() }))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        let len = file.metadata()?.len();
        Ok(Box::new(Written { file: Direct::of(file), len, buffer: Aligned::new() }))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn BufRead + Send>> {
        let file = Direct::of(File::open(self.path.join(name))?);
        Ok(Box::new(Blocks { unread: Some(file), ahead: None, now: Part::default(), taken: 0 }))
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.path.join(name))?.len())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.sync_names()
    }
}

/// A file that is read and written past the page cache, or through it where the file system cannot.
struct Direct(File);

impl Direct {
    fn of(file: File) -> Self {
        #[cfg(target_os = "linux")]
        let _ = direct(&file, true);
        Self(file)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.attempt(|file| file.write_all_at(bytes, at))
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.attempt(|file| file.read_at(bytes, at))
    }

    /// Tries again through the page cache where the file system has let the file be opened, but
    /// refuses what is asked of it.
    fn attempt<T>(&self, mut ask: impl FnMut(&File) -> io::Result<T>) -> io::Result<T> {
        match ask(&self.0) {
            #[cfg(target_os = "linux")]
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => {
                direct(&self.0, false)?;
                ask(&self.0)
            }
            outcome => outcome,
        }
    }
}

#[cfg(target_os = "linux")]
fn direct(file: &File, past_the_cache: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, past_the_cache);
    Ok(fcntl_setfl(file, flags)?)
}

/// Memory that begins at a multiple of a block, as what is read or written past the page cache must.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    const BYTES: usize = 1 << 20;

    fn new() -> Self {
        let bytes = vec![0; Self::BYTES + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { bytes, start }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..][..Self::BYTES]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..Self::BYTES]
    }
}

/// A segment that is written at its end.
struct Written {
    file: Direct,
    len: u64,
    buffer: Aligned,
}

impl DiskFile for Written {
    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let Self { file, len, buffer } = self;
        let buffer = buffer.as_mut_slice();
        let mut filled = 0;
        let mut put = |bytes: &[u8]| {
            file.write_all_at(bytes, *len)?;
            *len += bytes.len() as u64;
            io::Result::Ok(())
        };
        for part in parts {
            let mut left = *part;
            while !left.is_empty() {
                let (now, later) = left.split_at(left.len().min(buffer.len() - filled));
                buffer[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                left = later;
                if filled == buffer.len() {
                    put(buffer)?;
                    filled = 0;
                }
            }
        }
        match filled {
            0 => Ok(()),
            filled => put(&buffer[..filled]),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.0.set_len(len)?;
        self.len = len;
        Ok(())
    }
}

/// A segment that is read from its beginning up to its end. Past the page cache nobody reads ahead,
/// so a thread does, once somebody begins to read.
struct Blocks {
    /// Until then.
    unread: Option<Direct>,
    ahead: Option<Ahead>,
    now: Part,
    /// Bytes of `now` that were handed on.
    taken: usize,
}

/// What was read at once; nothing at the end.
#[derive(Default)]
struct Part {
    buffer: Option<Aligned>,
    filled: usize,
}

/// The parts as they come from the thread, and the way back for their memory.
struct Ahead {
    parts: Receiver<io::Result<Part>>,
    spare: Sender<Aligned>,
}

/// Parts that are read before somebody wants them.
const PARTS: usize = 2;

impl Ahead {
    fn of(file: Direct) -> io::Result<Self> {
        let (to, parts) = sync_channel(PARTS);
        let (spare, spares) = channel();
        let thread = thread::Builder::new().name("reading".to_owned());
        thread.spawn(move || read_ahead(|bytes, at| file.read_at(bytes, at), &to, &spares))?;
        Ok(Self { parts, spare })
    }
}

/// Reads part after part until `read_at` gives nothing.
///
/// A read may give less than there is, as those of network mounts do. What follows then begins
/// within a block: past the page cache that is refused, and [`Direct`] goes on through it.
fn read_ahead(
    read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    parts: &SyncSender<io::Result<Part>>,
    spares: &Receiver<Aligned>,
) {
    let mut at = 0;
    loop {
        let mut buffer = spares.try_recv().unwrap_or_else(|_| Aligned::new());
        let read = loop {
            match read_at(buffer.as_mut_slice(), at) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let filled = *read.as_ref().unwrap_or(&0);
        at += filled as u64;
        let is_over = filled == 0;
        let part = read.map(|filled| Part { buffer: Some(buffer), filled });
        if parts.send(part).is_err() || is_over {
            return;
        }
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(file) = self.unread.take() {
            self.ahead = Some(Ahead::of(file)?);
        }
        if self.taken == self.now.filled
            && let Some(ahead) = &self.ahead
            && let Ok(part) = ahead.parts.recv()
        {
            let over = std::mem::replace(&mut self.now, part?);
            self.taken = 0;
            if let Some(buffer) = over.buffer {
                // At the end of the file nobody takes it.
                let _ = ahead.spare.send(buffer);
            }
        }
        let buffer = self.now.buffer.as_ref().map_or(&[][..], Aligned::as_slice);
        Ok(&buffer[self.taken..self.now.filled])
    }

    fn consume(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.now.filled);
    }
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// The name of the segment whose first entry has the number `base`.
pub fn segment_name(base: u64) -> String {
    format!("{base:020}{EXTENSION}")
}

/// The number of the first entry of a segment, by its name.
pub fn base_of(name: &str) -> Option<u64> {
    name.strip_suffix(EXTENSION)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(disk: &Folder, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        disk.read(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// On a file system that writes past the page cache, and on one in memory.
    #[test]
    fn a_segment_reads_back_as_it_was_written_whatever_its_parts() {
        for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let Ok(folder) = tempfile::tempdir_in(folder) else { continue };
            let disk = Folder::create(folder.path().to_owned()).unwrap();
            let bytes: Vec<u8> =
                (0..3 * Aligned::BYTES + BLOCK).map(|at| (at % 251) as u8).collect();
            let name = segment_name(1);
            let mut file = disk.create(&name).unwrap();
            for (len, parts) in
                [(BLOCK, 7), (3 * Aligned::BYTES, 50_001), (Aligned::BYTES, 1 << 20)]
            {
                file.truncate(0).unwrap();
                file.write(&bytes[..len].chunks(parts).collect::<Vec<_>>()).unwrap();
                file.sync().unwrap();
                assert!(contents(&disk, &name) == bytes[..len], "{len} bytes in parts of {parts}");
            }
            let mut file = disk.append(&name).unwrap();
            file.write(&[&bytes[Aligned::BYTES..]]).unwrap();
            assert!(contents(&disk, &name) == bytes, "what was added");
            file.truncate(Aligned::BYTES as u64 + 5).unwrap();
            assert!(contents(&disk, &name) == bytes[..Aligned::BYTES + 5], "what was cut");
        }
    }

    #[test]
    fn a_read_that_gives_less_than_there_is_does_not_end_the_segment() {
        for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let Ok(folder) = tempfile::tempdir_in(folder) else { continue };
            let path = folder.path().join(segment_name(1));
            let bytes: Vec<u8> = (0..3 * BLOCK).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            for most in [1000, BLOCK - 1, BLOCK, BLOCK + 512, Aligned::BYTES] {
                let file = Direct::of(File::open(&path).unwrap());
                let ((to, parts), (spare, spares)) = (sync_channel(64), channel());
                let short = |bytes: &mut [u8], at| Ok(file.read_at(bytes, at)?.min(most));
                read_ahead(short, &to, &spares);
                drop(to);
                let ahead = Some(Ahead { parts, spare });
                let mut blocks = Blocks { unread: None, ahead, now: Part::default(), taken: 0 };
                let mut read = Vec::new();
                blocks.read_to_end(&mut read).unwrap();
                assert!(read == bytes, "{most} bytes at once");
            }
        }
    }
}
