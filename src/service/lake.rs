//! The tables of a data folder's lake: events, findings and dead letters. They lie in the folder, or in
//! an object store that the folder names, so that whoever reads the folder finds them.

use crate::config::{Lake as Settings, Retention};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use telltale_queries::QueryError;
use telltale_queries::lake::{EVENT_PARTITIONS, LakeSnapshot, LakeTable, threads};
use telltale_queries::objects::Options;
use telltale_schema::Micros;
use tracing::{info, warn};

/// Three Delta tables.
pub struct Lake {
    pub events: LakeTable,
    pub findings: LakeTable,
    pub dead_letters: LakeTable,
}

/// Where the lake of a data folder is, if not in it: `lake.toml` there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    url: String,
    #[serde(default)]
    options: Options,
}

fn folder(data: &Path) -> PathBuf {
    data.join("lake")
}

impl Place {
    fn file(data: &Path) -> PathBuf {
        data.join("lake.toml")
    }

    fn read(data: &Path) -> Result<Option<Self>> {
        let path = Self::file(data);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map(Some).with_context(|| format!("in `{}`", path.display()))
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// For the owner alone, because options may hold a key.
    fn write(&self, data: &Path) -> Result<()> {
        let path = Self::file(data);
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let text = toml::to_string(self).map_err(std::io::Error::other)?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

impl Lake {
    /// The lake of a data folder for its one writer, which is made where it is missing.
    ///
    /// Errors: it cannot be reached; another place than that of what the folder has already stored.
    pub fn open(data: &Path, settings: &Settings) -> Result<Self> {
        let noted = Place::read(data)?;
        let place = settings.url.clone().map(|url| {
            let url = url.trim_end_matches('/').to_owned();
            Place { url, options: settings.options.clone() }
        });
        let [was, is] = [&noted, &place].map(|place| place.as_ref().map(|place| &place.url));
        match (was, is) {
            (Some(was), _) if Some(was) != is => bail!(
                "the lake of `{}` is at `{was}`, and `url` in `[lake]` {}; set it to that, or copy the tables and change `url` in `{}` as well",
                data.display(),
                is.map_or("is not set".to_owned(), |url| format!("is `{url}`")),
                Place::file(data).display()
            ),
            (None, Some(url)) => ensure!(
                !folder(data).join("events/_delta_log").exists(),
                "the lake of `{0}` is in `{1}`, and `url` in `[lake]` is `{url}`; move the tables there, or take another data folder",
                data.display(),
                folder(data).display()
            ),
            _ => {}
        }
        let lake = Self::at(data, place.as_ref())?;
        if let Some(place) = place.filter(|place| noted.as_ref() != Some(place)) {
            place.write(data)?;
        }
        for table in [&lake.events, &lake.findings, &lake.dead_letters] {
            if let Err(cause) = table.clear_unfinished() {
                warn!(%cause, "files of the lake that were never finished cannot be deleted; they stay");
            }
        }
        Ok(lake)
    }

    /// The lake of a data folder, where it was noted to be; `None` where nothing was flushed yet.
    pub fn open_existing(data: &Path) -> Result<Option<Self>> {
        let place = Place::read(data)?;
        if place.is_some() || folder(data).exists() {
            Self::at(data, place.as_ref()).map(Some)
        } else {
            Ok(None)
        }
    }

    fn at(data: &Path, place: Option<&Place>) -> Result<Self> {
        let threads = threads()?;
        let none = Options::new();
        let table = |name: &str, partitions| -> Result<LakeTable> {
            let (at, options) = match place {
                Some(Place { url, options }) => (format!("{url}/{name}"), options),
                None => {
                    let place = folder(data).join(name);
                    std::fs::create_dir_all(&place)?;
                    (place.display().to_string(), &none)
                }
            };
            let opened = LakeTable::open(&at, options, partitions, Arc::clone(&threads));
            opened.with_context(|| format!("the table at `{at}`"))
        };
        Ok(Self {
            events: table("events", &EVENT_PARTITIONS)?,
            findings: table("findings", &[])?,
            dead_letters: table("dead_letters", &[])?,
        })
    }

    /// Number of the last journal entry in each table.
    pub fn flushed(&self) -> Result<[u64; 3], QueryError> {
        Ok([self.events.flushed()?, self.findings.flushed()?, self.dead_letters.flushed()?])
    }

    /// Takes note of what is in the tables: a commit may be there whose answer was lost.
    pub fn refresh(&mut self) -> Result<(), QueryError> {
        self.events.refresh()?;
        self.findings.refresh()?;
        self.dead_letters.refresh()
    }

    /// The tables as they are now, for a query.
    pub fn snapshots(&self) -> Result<[Option<LakeSnapshot>; 3], QueryError> {
        Ok([self.events.snapshot()?, self.findings.snapshot()?, self.dead_letters.snapshot()?])
    }

    /// Deletes the days of events that `retention` no longer keeps at `now`.
    pub fn forget(&mut self, retention: &Retention, now: Micros) -> Result<(), QueryError> {
        let since = |kept: Duration| {
            now.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX))
        };
        let of_logs = retention.of_logs.iter().map(|(log, kept)| (log.clone(), since(**kept)));
        let of_logs: Vec<_> = of_logs.collect();
        let files = self.events.forget(&of_logs, retention.default.map(since))?;
        if files > 0 {
            info!(files, "days of events are over and deleted from the lake");
        }
        Ok(())
    }

    /// Merges small files and removes those that no reader needs any more.
    pub fn maintain(&mut self, kept: Duration) -> Result<(), QueryError> {
        self.events.maintain(kept)?;
        self.findings.maintain(kept)?;
        self.dead_letters.maintain(kept)
    }
}
