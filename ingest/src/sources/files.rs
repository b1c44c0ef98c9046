//! Files, folders, globs and standard input.

use super::blocks::{BlockReader, Limits};
use crate::parsers::Parser;
use crate::payload::Rejects;
use globset::GlobBuilder;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use thiserror::Error;
use walkdir::WalkDir;

/// Why a path of the command line cannot be read at all.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error("`{0}` does not exist")]
    Missing(String),
    #[error("no file matches `{0}`")]
    NoMatch(String),
    #[error("`{pattern}` is not a glob: {cause}")]
    Glob { pattern: String, cause: globset::Error },
}

/// One file to read, or standard input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    path: PathBuf,
    /// Bytes on disk; 0 where that is not known.
    pub bytes: u64,
}

/// The files that the paths of a command line stand for.
#[derive(Debug, Default)]
pub struct Files {
    pub files: Vec<File>,
    /// Folders and files that could not be looked at, with why.
    pub unreadable: Vec<(String, String)>,
}

impl Files {
    /// Expands paths: `-` is standard input, a folder is every file below it (hidden ones aside),
    /// a pattern with `*`, `?` or `[` is what it matches.
    ///
    /// Shape: in order of the path, each file once.
    /// Errors: a path that does not exist, a pattern that matches nothing.
    pub fn expand(paths: &[String]) -> Result<Self, SourceError> {
        let mut files = BTreeSet::new();
        let mut all = Self::default();
        for text in paths {
            let path = Path::new(text);
            if text == "-" {
                files.insert(File { path: path.to_owned(), bytes: 0 });
                continue;
            }
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => all.walk(path, &mut files, |_| true),
                Ok(metadata) => {
                    files.insert(File { path: path.to_owned(), bytes: metadata.len() });
                }
                Err(_) if text.contains(['*', '?', '[']) => all.expand_glob(text, &mut files)?,
                Err(cause) if is_missing(&cause) => {
                    return Err(SourceError::Missing(text.clone()));
                }
                Err(cause) => all.unreadable.push((text.clone(), cause.to_string())),
            }
        }
        all.files = files.into_iter().collect();
        if paths.len() > 1 {
            // The same file under another name.
            let mut known = BTreeSet::new();
            all.files.retain(|file| {
                let place = fs::canonicalize(&file.path);
                known.insert(place.unwrap_or_else(|_| file.path.clone()))
            });
        }
        Ok(all)
    }

    fn expand_glob(&mut self, text: &str, files: &mut BTreeSet<File>) -> Result<(), SourceError> {
        let pattern = GlobBuilder::new(text).literal_separator(true).build();
        let matcher = pattern
            .map_err(|cause| SourceError::Glob { pattern: text.to_owned(), cause })?
            .compile_matcher();
        let fixed: PathBuf = Path::new(text)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
            .collect();
        let root = if fixed.as_os_str().is_empty() { Path::new(".") } else { &fixed };
        if fs::metadata(root).is_err_and(|cause| is_missing(&cause)) {
            return Err(SourceError::NoMatch(text.to_owned()));
        }
        let before = (files.len(), self.unreadable.len());
        self.walk(root, files, |found| {
            matcher.is_match(found) || found.strip_prefix("./").is_ok_and(|p| matcher.is_match(p))
        });
        // What matches may lie in a folder that cannot be looked into.
        match (files.len(), self.unreadable.len()) == before {
            true => Err(SourceError::NoMatch(text.to_owned())),
            false => Ok(()),
        }
    }

    /// Bytes on disk of all of them, as far as known.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn walk(&mut self, root: &Path, files: &mut BTreeSet<File>, matches: impl Fn(&Path) -> bool) {
        let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
        let entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|e| e.depth() == 0 || !hidden(e.file_name())) {
            match entry {
                Ok(entry) if entry.file_type().is_file() && matches(entry.path()) => {
                    let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                    files.insert(File { path: entry.into_path(), bytes });
                }
                Ok(_) => {}
                Err(cause) => {
                    let path = cause.path().unwrap_or(root).display().to_string();
                    let why =
                        cause.io_error().map_or_else(|| cause.to_string(), ToString::to_string);
                    self.unreadable.push((path, why));
                }
            }
        }
    }
}

/// Whether nothing is there, rather than that one may not look.
fn is_missing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl File {
    /// The path as the user knows it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens it. What stands in the way goes to `rejects` as a remark.
    pub fn open(
        &self,
        forced: Option<&'static dyn Parser>,
        limits: Limits,
        bytes: &Arc<AtomicU64>,
        rejects: &mut Rejects,
    ) -> Option<BlockReader> {
        let name = self.name();
        let bytes = Arc::clone(bytes);
        let opened = if name == "-" {
            BlockReader::new(&name, std::io::stdin(), forced, limits, bytes)
        } else {
            fs::File::open(&self.path)
                .and_then(|file| BlockReader::new(&name, file, forced, limits, bytes))
        };
        opened.inspect_err(|cause| rejects.remark(format_args!("cannot be read: {cause}"))).ok()
    }

    /// Says so when the file is no longer as long as when it was listed.
    pub fn check_unchanged(&self, rejects: &mut Rejects) {
        if let Ok(metadata) = fs::metadata(&self.path)
            && metadata.is_file()
            && metadata.len() != self.bytes
        {
            rejects.remark(format_args!(
                "the file changed while it was read, from {} to {} bytes; read it again for all of it",
                self.bytes,
                metadata.len()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_globs_and_files_are_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a/x.json.gz", "a/y.log", ".hidden/z.json"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        let root = folder.path().display().to_string();
        let names = |paths: &[String]| -> Vec<String> {
            let found = Files::expand(paths).unwrap().files;
            found.iter().map(|f| f.name()[root.len() + 1..].to_owned()).collect()
        };
        assert_eq!(names(std::slice::from_ref(&root)), ["a/x.json.gz", "a/y.log", "b.json"]);
        assert_eq!(names(&[format!("{root}/**/*.json*")]), ["a/x.json.gz", "b.json"]);
        assert_eq!(names(&[format!("{root}/b.json"), root.clone()]).len(), 3);
        assert_eq!(names(&[format!("{root}/a/../b.json"), format!("{root}/b.json")]).len(), 1);
        for absent in ["none", "b.json/none"] {
            let path = format!("{root}/{absent}");
            assert!(matches!(Files::expand(&[path]), Err(SourceError::Missing(_))));
        }
        assert!(matches!(Files::expand(&[format!("{root}/*.csv")]), Err(SourceError::NoMatch(_))));
        for absent in [format!("{root}/none/*.json"), "/nonexistent/*.log".to_owned()] {
            assert!(matches!(Files::expand(&[absent]), Err(SourceError::NoMatch(_))));
        }
    }
}
