//! The thread that computes the SLIs over the last while, for `/metrics`.
//!
//! It reads the journal and the lake as a query from outside does, so that nothing waits for it.

use super::reload::news;
use super::stats::Stats;
use crate::config::Service as Settings;
use crate::store::Store;
use anyhow::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use telltale_queries::{SliResult, SliSettings, SliStream, slis};
use telltale_schema::Micros;
use tokio::sync::watch;
use tracing::{info, warn};

/// How much longer than it took to compute them is waited until they are computed again: on a busy
/// service it takes at most a tenth of the time of a thread.
const REST: u32 = 9;

/// Computes SLIs again and again.
pub struct Measure {
    pub data: PathBuf,
    pub stats: Arc<Stats>,
    pub interval: Duration,
    /// How far back events count, by when they happened.
    pub window: Duration,
    /// Where those come from when they change.
    pub settings: watch::Receiver<Settings>,
}

impl Measure {
    /// Runs until the other end of `stop` is gone.
    pub fn run(mut self, stop: &Receiver<()>) {
        let (mut failing, mut rest) = (false, self.interval.min(Duration::from_secs(1)));
        while stop.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
            if let Some(settings) = news(&mut self.settings) {
                (self.interval, self.window) = (settings.sli_interval, settings.sli_window);
            }
            let began = Instant::now();
            match self.measure(crate::commands::now()) {
                Ok(results) => {
                    if std::mem::take(&mut failing) {
                        info!("the SLIs can be computed again");
                    }
                    self.stats.measured(results);
                }
                Err(cause) => {
                    self.stats.sli_failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        let cause = format!("{cause:#}");
                        warn!(
                            cause,
                            "the SLIs cannot be computed; the last ones stay in `/metrics`"
                        );
                    }
                }
            }
            rest = self.interval.max(began.elapsed() * REST);
        }
    }

    /// The SLIs over the window that ends at `now`.
    fn measure(&self, now: Micros) -> Result<Vec<SliResult>> {
        let window = Micros::try_from(self.window.as_micros()).unwrap_or(Micros::MAX);
        let window = now.saturating_sub(window)..now;
        let mut view = Store::open(&self.data)?.view()?;
        let settings = SliSettings { window: Some(window), ..SliSettings::default() };
        let stream = SliStream::over(slis(), &settings, view.lake_events()?)?;
        // A query that failed says so when it is finished.
        view.events(|batch| stream.push(&batch).is_ok())?;
        Ok(stream.finish()?)
    }
}
