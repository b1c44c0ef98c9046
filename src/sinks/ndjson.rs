//! # ndjson
//!
//! Writes each finding as one line of JSON, an OCSF Detection Finding, to a file or to standard
//! output. Every shipper reads it: Vector, Fluent Bit, the Splunk and Elastic agents, `jq`.
//!
//! ```toml
//! [[sink]]
//! kind = "ndjson"
//! path = "/var/lib/telltale/findings.ndjson"  # "-" is standard output, the default
//! ```
//!
//! A line is written whole and flushed before the next; a file is on disk when delivery is
//! acknowledged. It is appended to. Where a crash or a full disk left half a line, that line is
//! closed first, so that it spoils no other; the finding in it comes again whole.
//! On SIGHUP `run` opens the file anew, so that it may be moved away (logrotate's `create`).
//! A finding that grew comes again under the same `finding_info.uid`: of two, the later counts.

use super::{ConfigError, Sink, SinkError, SinkKind, said_of};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use telltale_schema::Finding;
use telltale_schema::ocsf;

const NAME: &str = "ndjson";

pub static KIND: SinkKind = SinkKind {
    name: NAME,
    help: "OCSF Detection Findings, one JSON line each, to a file or standard output",
    source: include_str!("ndjson.rs"),
    build: |settings| {
        let failed = |cause: String| ConfigError::Settings { name: NAME, cause };
        let settings: Settings = toml::Value::Table(settings)
            .try_into()
            .map_err(|cause: toml::de::Error| failed(said_of(&cause)))?;
        let sink = match settings.path.as_str() {
            "-" => Ndjson::stdout(),
            path => Ndjson::append(Path::new(path))
                .map_err(|cause| failed(format!("`path` {path} cannot be written: {cause}")))?,
        };
        Ok(Box::new(sink))
    },
};

/// Settings of `[[sink]] kind = "ndjson"`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The file; `-` is standard output.
    path: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: "-".into() }
    }
}

/// Writes findings as lines.
pub struct Ndjson {
    out: Out,
    /// What error texts call it.
    target: String,
    /// Whether a line may have been begun and not ended.
    may_be_cut: bool,
}

enum Out {
    Stdout,
    /// A file that is opened with [`Sink::open`] or the first line.
    Closed(PathBuf),
    File(File),
}

impl Ndjson {
    pub fn stdout() -> Self {
        Self { out: Out::Stdout, target: "standard output".into(), may_be_cut: false }
    }

    /// Starts the file anew, for the findings of one run.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::to(Out::File(File::create(path)?), path, false))
    }

    /// Goes on at the end of the file, which is made where it is missing, and not before it is
    /// opened: `telltale check` may run as somebody else.
    pub fn append(path: &Path) -> io::Result<Self> {
        is_writable(path)?;
        // How it ends is looked at with the first line: until then another process, or the sink that
        // this one replaces, may write to it.
        Ok(Self::to(Out::Closed(path.to_owned()), path, true))
    }

    fn to(out: Out, path: &Path, may_be_cut: bool) -> Self {
        Self { out, target: path.display().to_string(), may_be_cut }
    }

    fn open_file(&mut self) -> io::Result<()> {
        if let Out::Closed(path) = &self.out {
            self.out = Out::File(to_append().create(true).open(path)?);
        }
        Ok(())
    }

    /// Writes lines. After an error the last one may be there in part.
    fn write(&mut self, findings: &[Finding]) -> io::Result<()> {
        self.open_file()?;
        if self.may_be_cut {
            self.end_line()?;
        }
        // Until all of it is written.
        self.may_be_cut = true;
        self.write_lines(findings)?;
        self.may_be_cut = false;
        Ok(())
    }

    /// Ends a line that was begun.
    fn end_line(&mut self) -> io::Result<()> {
        match &mut self.out {
            // Nobody knows how much of it arrived; an empty line does no harm.
            Out::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(b"\n")?;
                out.flush()
            }
            Out::File(file) => {
                // The same for a file that may be written and not read.
                if is_cut(file).unwrap_or(true) {
                    file.write_all(b"\n")?;
                }
                Ok(())
            }
            Out::Closed(_) => Ok(()),
        }
    }

    fn write_lines(&mut self, findings: &[Finding]) -> io::Result<()> {
        match &mut self.out {
            Out::Stdout => {
                let mut out = io::stdout().lock();
                for finding in findings {
                    out.write_all(ocsf::ndjson_line(finding).as_bytes())?;
                    out.flush()?;
                }
                Ok(())
            }
            Out::File(file) => {
                for finding in findings {
                    file.write_all(ocsf::ndjson_line(finding).as_bytes())?;
                }
                match file.sync_data() {
                    // A pipe or a device has nothing to sync.
                    Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => Ok(()),
                    synced => synced,
                }
            }
            Out::Closed(_) => unreachable!("it is opened before it is written"),
        }
    }

    fn failed(&self, cause: io::Error) -> SinkError {
        SinkError::Write { sink: NAME, target: self.target.clone(), cause }
    }
}

fn to_append() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// Errors: a file that cannot be appended to, or that is not there and cannot be made.
fn is_writable(path: &Path) -> io::Result<()> {
    let missing = match to_append().open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => cause,
        opened => return opened.map(drop),
    };
    let folder = match path.parent() {
        None => return Err(missing),
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    };
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(missing);
    }
    #[cfg(target_os = "linux")]
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?;
    Ok(())
}

/// Whether the last line of a file has no end.
fn is_cut(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    // Of a named pipe nobody can say.
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

impl Sink for Ndjson {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The file may have been moved away.
    fn is_made_anew(&self) -> bool {
        !matches!(self.out, Out::Stdout)
    }

    fn open(&mut self) -> Result<(), SinkError> {
        self.open_file().map_err(|cause| self.failed(cause))
    }

    fn deliver(&mut self, findings: &[Finding]) -> Result<(), SinkError> {
        self.write(findings).map_err(|cause| self.failed(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::finding;
    use super::*;

    fn ids(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("the sink wrote UTF-8");
        let uid = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["finding_info"]["uid"].as_str().unwrap_or("broken").to_owned()
        };
        text.lines().map(uid).collect()
    }

    #[test]
    fn line_that_a_crash_cut_spoils_no_other() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("findings.ndjson");
        let mut sink = Ndjson::append(&path).expect("the file can be made");
        sink.deliver(&[finding("a"), finding("b")]).expect("the file can be written");
        let file = OpenOptions::new().write(true).open(&path).expect("the file is there");
        let bytes = file.metadata().expect("the file is there").len();
        file.set_len(bytes - 9).expect("the file can be cut");

        let table = toml::Table::from_iter([("path".into(), path.display().to_string().into())]);
        let mut sink = super::super::build(NAME, table).expect("the settings are right");
        sink.deliver(&[finding("b"), finding("c")]).expect("the file can be written");
        assert_eq!(ids(&path), ["a", "broken", "b", "c"]);
    }

    #[test]
    fn line_that_a_failed_write_cut_spoils_no_other() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("findings.ndjson");
        let mut sink = Ndjson::append(&path).expect("the file can be made");
        sink.deliver(&[finding("a")]).expect("the file can be written");
        // Half a line is written, and then no more.
        let line = ocsf::ndjson_line(&finding("b"));
        let mut file = OpenOptions::new().append(true).open(&path).expect("the file is there");
        file.write_all(&line.as_bytes()[..20]).expect("the file can be written");
        let unwritable = File::open(&path).expect("the file is there");
        let out = std::mem::replace(&mut sink.out, Out::File(unwritable));
        sink.deliver(&[finding("b")]).expect_err("the file cannot be written");
        sink.out = out;
        sink.deliver(&[finding("b"), finding("c")]).expect("the file can be written again");
        sink.deliver(&[finding("d")]).expect("the file can be written");
        assert_eq!(ids(&path), ["a", "broken", "b", "c", "d"]);
    }

    #[test]
    fn run_starts_its_file_anew() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("findings.ndjson");
        for id in ["a", "b"] {
            let mut sink = Ndjson::create(&path).expect("the file can be made");
            sink.deliver(&[finding(id)]).expect("the file can be written");
        }
        assert_eq!(ids(&path), ["b"]);
    }

    #[test]
    fn file_that_cannot_be_written_is_named() {
        for path in ["/nowhere/findings", "/dev/null/findings", "/", ""] {
            let table = toml::Table::from_iter([("path".into(), path.into())]);
            let message = super::super::build(NAME, table).err().map(|error| error.to_string());
            let message = message.unwrap_or_default();
            let expected = format!("settings of sink `ndjson`: `path` {path} cannot be written");
            assert!(message.starts_with(&expected), "{path}: {message}");
        }
    }

    #[test]
    fn file_is_made_when_it_is_opened_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("findings.ndjson");
        let mut sink = Ndjson::append(&path).expect("the file could be made");
        assert!(!path.exists());
        sink.open().expect("the file can be made");
        assert!(path.exists());
    }
}
