//! Which files there are.

use crate::sources::SourceError;
use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use walkdir::WalkDir;

/// Folders, files and globs, and what is left out of them.
pub struct Paths {
    targets: Vec<Target>,
    exclude: GlobSet,
}

/// One path of the configuration.
struct Target {
    /// What it begins with that is no pattern.
    root: PathBuf,
    /// `None` for a folder or a file: all of it.
    matcher: Option<GlobMatcher>,
    /// Folders below `root` that are looked into.
    depth: usize,
}

/// Device and inode: the same file whatever it is called, as long as it exists.
pub type FileId = (u64, u64);

/// A file as it is listed.
pub struct Seen {
    pub id: FileId,
    pub path: PathBuf,
    pub size: u64,
    pub modified: SystemTime,
}

/// What [`Paths::list`] finds.
#[derive(Default)]
pub struct Listing {
    pub files: Vec<Seen>,
    /// What could not be looked at, with why.
    pub troubles: Vec<(PathBuf, String)>,
}

pub fn id_of(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

pub fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

const WILD: [char; 4] = ['*', '?', '[', '{'];

impl Paths {
    /// `exclude`: patterns for paths, or for names of files alone.
    ///
    /// Errors: what is no pattern.
    pub fn new(paths: &[String], exclude: &[String]) -> Result<Self, SourceError> {
        let bad = |pattern: &str| {
            let pattern = pattern.to_owned();
            move |cause| SourceError::Glob { pattern, cause }
        };
        let mut excluded = GlobSetBuilder::new();
        for pattern in exclude {
            excluded.add(Glob::new(pattern).map_err(bad(pattern))?);
        }
        let exclude = excluded.build().map_err(bad("exclude"))?;
        let targets = paths.iter().map(|text| {
            if !text.contains(WILD) {
                return Ok(Target { root: text.into(), matcher: None, depth: usize::MAX });
            }
            let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(bad(text))?;
            let parts: Vec<_> = Path::new(text).components().collect();
            let is_fixed = |part: &&std::path::Component<'_>| {
                !part.as_os_str().to_string_lossy().contains(WILD)
            };
            let fixed = parts.iter().take_while(is_fixed).count();
            let depth = if text.contains("**") { usize::MAX } else { parts.len() - fixed };
            let mut root: PathBuf = parts[..fixed].iter().collect();
            if root.as_os_str().is_empty() {
                root.push(".");
            }
            Ok(Target { root, matcher: Some(glob.compile_matcher()), depth })
        });
        Ok(Self { targets: targets.collect::<Result<_, _>>()?, exclude })
    }

    /// Whether a file at this path would be listed, also where it is not there yet.
    pub fn would_list(&self, path: &Path) -> bool {
        let path = real(path);
        self.targets.iter().any(|target| target.would_list(&path, &self.exclude))
    }

    /// Looks at the disk. Hidden files are not listed; a file with several names is, for each.
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        for target in &self.targets {
            target.list(&self.exclude, &mut listing);
        }
        listing
    }
}

impl Target {
    fn matches(&self, path: &Path) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| {
            matcher.is_match(path) || path.strip_prefix("./").is_ok_and(|p| matcher.is_match(p))
        })
    }

    fn would_list(&self, path: &Path, exclude: &GlobSet) -> bool {
        let Ok(below) = path.strip_prefix(real(&self.root)) else { return false };
        let is_hidden = |part: &OsStr| part.to_string_lossy().starts_with('.');
        // As a walk would call it.
        let listed = match below.as_os_str().is_empty() {
            true => self.root.clone(),
            false => self.root.join(below),
        };
        below.iter().count() <= self.depth
            && !below.iter().any(is_hidden)
            && self.matches(&listed)
            && !exclude.is_match(&listed)
            && !listed.file_name().is_some_and(|name| exclude.is_match(Path::new(name)))
    }

    fn list(&self, exclude: &GlobSet, listing: &mut Listing) {
        let walk = WalkDir::new(&self.root).follow_links(true).max_depth(self.depth);
        let entries = walk.into_iter().filter_entry(|entry| {
            entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
        });
        for entry in entries {
            let looked_at = entry.and_then(|entry| {
                let path = entry.path();
                let is_meant = entry.file_type().is_file()
                    && self.matches(path)
                    && !exclude.is_match(path)
                    && !exclude.is_match(Path::new(entry.file_name()));
                if !is_meant {
                    return Ok(None);
                }
                let metadata = entry.metadata()?;
                Ok(Some(Seen {
                    id: id_of(&metadata),
                    size: metadata.len(),
                    modified: modified(&metadata),
                    path: entry.into_path(),
                }))
            });
            match looked_at {
                Ok(seen) => listing.files.extend(seen),
                Err(cause) => {
                    let path = cause.path().unwrap_or(&self.root).to_owned();
                    let missing = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
                    // What was renamed while the folder was read is there the next time.
                    if path != self.root && cause.io_error().is_some_and(missing) {
                        continue;
                    }
                    let why =
                        cause.io_error().map_or_else(|| cause.to_string(), ToString::to_string);
                    listing.troubles.push((path, why));
                }
            }
        }
    }
}

/// The path from the root on, without links as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let below = there.and_then(|(part, real)| Some(real.join(path.strip_prefix(part).ok()?)));
    below.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_looks_no_deeper_than_it_matches_and_leaves_out_what_is_excluded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1", "a.log.2.gz", "b.txt", "x/a.log", ".a.log.swp"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        let root = folder.path().display().to_string();
        let names = |paths: &[&str], exclude: &[&str]| -> Vec<String> {
            let paths: Vec<_> = paths.iter().map(|path| format!("{root}{path}")).collect();
            let exclude: Vec<_> = exclude.iter().map(|text| (*text).to_owned()).collect();
            let listing = Paths::new(&paths, &exclude).unwrap().list();
            let short = |seen: &Seen| seen.path.display().to_string()[root.len() + 1..].to_owned();
            let mut names: Vec<_> = listing.files.iter().map(short).collect();
            names.sort();
            names
        };
        assert_eq!(names(&["/a.log*"], &["*.gz"]), ["a.log", "a.log.1"]);
        assert_eq!(names(&["/**/a.log", "/b.txt"], &[]), ["a.log", "b.txt", "x/a.log"]);
        assert_eq!(names(&["", "/none"], &["**/x/**"]).len(), 4);
        let missing = Paths::new(&[format!("{root}/none")], &[]).unwrap().list();
        assert_eq!(missing.troubles.len(), 1);
        assert!(Paths::new(&["/var/log/[".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_known_to_be_listed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let file = folder.path().join("data/journal/1.journal");
        let would = |path: &str, exclude: &[&str]| {
            let exclude: Vec<_> = exclude.iter().map(|text| (*text).to_owned()).collect();
            Paths::new(&[format!("{root}{path}")], &exclude).unwrap().would_list(&file)
        };
        for path in ["", "/data", "/data/journal/1.journal", "/**/*.journal", "/*/*/*"] {
            assert!(would(path, &[]), "{path}");
        }
        for path in ["/logs", "/*", "/**/*.log", "/data/journal/1"] {
            assert!(!would(path, &[]), "{path}");
        }
        assert!(!would("", &["*.journal"]));
        assert!(!would("", &["**/data/**"]));
    }
}
