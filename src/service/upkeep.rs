//! The thread that merges small files of the lake and deletes what is over.
//!
//! It has tables of its own, as another writer would, so that nothing waits for it: what the keeper
//! commits meanwhile and what it commits do not touch each other. It may take minutes, so nobody
//! waits for its end either: what it has not committed is as if it had not begun.

use super::lake::Lake;
use super::reload::news;
use crate::config::{Lake as Place, Service as Settings};
use anyhow::Result;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::error;

/// Looks after the tables again and again.
pub struct Upkeep {
    pub data: PathBuf,
    pub place: Place,
    pub interval: Duration,
    /// How long files stay that the tables have done with, for readers that are at it.
    pub file_retention: Duration,
    /// Where those come from when they change.
    pub settings: watch::Receiver<Settings>,
}

/// How often the thread looks whether its settings have changed.
const TICK: Duration = Duration::from_secs(1);

impl Upkeep {
    /// Runs until the other end of `stop` is gone.
    pub fn run(mut self, stop: &Receiver<()>) {
        let mut waited = Duration::ZERO;
        loop {
            let tick = TICK.min(self.interval);
            if stop.recv_timeout(tick) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if let Some(settings) = news(&mut self.settings) {
                self.interval = settings.maintenance_interval;
                self.file_retention = settings.file_retention;
            }
            waited += tick;
            if waited < self.interval {
                continue;
            }
            waited = Duration::ZERO;
            if let Err(cause) = self.turn() {
                let cause = format!("{cause:#}");
                error!(
                    cause,
                    "small files of the lake cannot be merged, nor days deleted that are over; they stay as they are"
                );
            }
        }
    }

    /// Tables that are opened anew take no memory in between.
    fn turn(&self) -> Result<()> {
        let mut lake = Lake::open(&self.data, &self.place)?;
        lake.forget(&self.place.retention, crate::commands::now())?;
        Ok(lake.maintain(self.file_retention)?)
    }
}
