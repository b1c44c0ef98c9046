//! The folder that a journal lies in, as far as a journal needs one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// A folder of segments. The real one is [`Folder`]; tests have one that fails on purpose.
pub trait Disk: Send + Sync {
    /// Names of all segments, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty segment, or an old one emptied; its name is on disk when this returns.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// A segment to go on writing at its end.
    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// A segment to read from its beginning.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;

    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A segment that is written.
pub trait DiskFile: Send {
    /// Adds bytes at the end; where it fails, any part of them may be there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is on disk. After an error nothing is known of it.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file and goes on writing there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// What segments are called: `00000000000000000017.journal`.
const EXTENSION: &str = ".journal";

/// A folder of the file system.
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
        Ok(Box::new(file))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        use std::io::Seek;
        let mut file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::BufReader::with_capacity(1 << 18, File::open(self.path.join(name))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.sync_names()
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        use std::io::Seek;
        self.set_len(len)?;
        self.seek(io::SeekFrom::Start(len)).map(|_| ())
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
