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
            let measured = self.measure(crate::commands::now());
            failing = self.tell(measured, failing);
            rest = self.interval.max(began.elapsed() * REST);
        }
    }

    /// Takes SLIs over into the metrics; whether any could not be computed. What fails again and
    /// again is said once.
    fn tell(&self, measured: Result<Vec<SliResult>>, was_failing: bool) -> bool {
        let cause = match measured {
            Ok(results) => {
                let problem = results.iter().find_map(|result| {
                    let problem = result.problem.as_ref()?;
                    Some(format!("SLI `{}`: {problem}", result.name))
                });
                self.stats.measured(results);
                problem
            }
            Err(cause) => Some(format!("{cause:#}")),
        };
        let is_failing = cause.is_some();
        if let Some(cause) = cause {
            self.stats.sli_failures.inc();
            if !was_failing {
                warn!(cause, "SLIs cannot be computed; their last values stay in `/metrics`");
            }
        } else if was_failing {
            info!("the SLIs can be computed again");
        }
        is_failing
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

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_queries::SliRow;

    #[test]
    fn an_sli_that_does_not_fit_into_memory_is_counted_and_keeps_its_last_values() {
        let stats = Arc::new(Stats::new());
        let (_, settings) = watch::channel(Settings::default());
        let (interval, window) = (Duration::ZERO, Duration::ZERO);
        let measure =
            Measure { data: PathBuf::new(), stats: Arc::clone(&stats), interval, window, settings };
        let result = |sli: &telltale_queries::Sli, value: f64, problem: Option<String>| {
            let labels = sli.labels.iter().map(|name| (name.clone(), "x".to_owned())).collect();
            let row = SliRow { labels, value, met: None };
            SliResult {
                name: sli.name.clone(),
                unit: sli.unit.clone(),
                objective: None,
                window_start: None,
                window_end: None,
                rows: if problem.is_none() { vec![row] } else { Vec::new() },
                problem,
            }
        };
        let value = |name: &str| -> Option<f64> {
            let text = stats.text();
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit_once(' ')?.1.parse().ok()
        };
        let [at, failures] = ["telltale_sli_timestamp_seconds", "telltale_sli_failures_total"];
        let [first, second] = [0, 1].map(|place| format!("telltale_sli_{}{{", slis()[place].name));

        let whole = |value| slis().iter().map(|sli| result(sli, value, None)).collect::<Vec<_>>();
        assert!(!measure.tell(Ok(whole(1.0)), false));
        let measured_at = value(at);
        assert!(measured_at > Some(0.0));
        let mut results = whole(2.0);
        results[0] = result(&slis()[0], 2.0, Some("it needs more memory".to_owned()));
        assert!(measure.tell(Ok(results), false));
        assert_eq!((value(&first), value(&second)), (Some(1.0), Some(2.0)));
        // Not all of them are of now.
        assert_eq!((value(at), value(failures)), (measured_at, Some(1.0)));
        assert!(measure.tell(Err(anyhow::anyhow!("the lake is away")), true));
        assert_eq!((value(at), value(failures)), (measured_at, Some(2.0)));
        assert!(!measure.tell(Ok(whole(3.0)), true));
        assert_eq!((value(&first), value(failures)), (Some(3.0), Some(2.0)));
        assert!(value(at) > measured_at);
    }
}
