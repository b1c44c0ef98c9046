//! The thread that merges small files of the lake and deletes what is over.
//!
//! It has tables of its own, as another writer would, so that nothing waits for it: what the keeper
//! commits meanwhile and what it commits do not touch each other. It may take minutes, so nobody
//! waits for its end either: what it has not committed is as if it had not begun.

use super::lake::Lake;
use super::reload::news;
use crate::config::{Retention, Service as Settings};
use anyhow::Result;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::error;

/// Looks after the tables again and again.
pub struct Upkeep {
    pub data: PathBuf,
    pub interval: Duration,
    /// How long files stay that the tables have done with, for readers that are at it.
    pub file_retention: Duration,
    /// How long events stay.
    pub retention: Retention,
    /// Where the first two come from when they change.
    pub settings: watch::Receiver<Settings>,
}

/// How often the thread looks whether its settings have changed.
const TICK: Duration = Duration::from_secs(1);

impl Upkeep {
    /// Runs until the other end of `stop` is gone.
    pub fn run(mut self, stop: &Receiver<()>) {
        let mut maintained = Instant::now();
        while stop.recv_timeout(TICK.min(self.interval)) == Err(RecvTimeoutError::Timeout) {
            if let Some(settings) = news(&mut self.settings) {
                self.interval = settings.maintenance_interval;
                self.file_retention = settings.file_retention;
            }
            if maintained.elapsed() < self.interval {
                continue;
            }
            if let Err(cause) = self.turn() {
                let cause = format!("{cause:#}");
                error!(
                    cause,
                    "small files of the lake cannot be merged, nor days deleted that are over; they stay as they are"
                );
            }
            maintained = Instant::now();
        }
    }

    /// Tables that are opened anew take no memory in between.
    fn turn(&self) -> Result<()> {
        let Some(mut lake) = Lake::open_existing(&self.data)? else { return Ok(()) };
        lake.forget(&self.retention, crate::commands::now())?;
        Ok(lake.maintain(self.file_retention)?)
    }
}
