//! `telltale query`: SQL over the events of raw logs.

use super::{ConfigFile, Ending, Input, ResultForm, redactor, stop_on_signal};
use crate::pipeline::{Progress, Seen};
use crate::store::Store;
use anyhow::Result;
use clap::Args;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use telltale_queries::QueryStream;

/// Ask the events of audit logs a question in SQL
///
/// One table, `events`; its columns are in docs/reference/events.md. In a data folder there are
/// `findings` and `dead_letters` as well. SELECT only.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  telltale query 'SELECT principal_id, count(*) AS calls FROM events GROUP BY 1 ORDER BY 2 DESC LIMIT 10' ./logs\n  telltale query --output csv \"SELECT event_time, source_ip FROM events WHERE outcome = 'denied'\" ./logs\n  telltale query 'SELECT first_seen, severity, title FROM findings ORDER BY 1' --data /var/lib/telltale"
)]
pub struct Query {
    /// The query
    sql: String,

    #[command(flatten)]
    input: Input,

    /// Ask the data folder of a service instead, whether it runs or not
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "log", "threads"])]
    data: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigFile,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = ResultForm::Table)]
    output: ResultForm,
}

impl Query {
    pub fn run(self) -> Result<Ending> {
        if let Some(data) = &self.data {
            return self.ask(&Store::open(data)?);
        }
        let config = self.config.load()?;
        let redactor = redactor(&config)?;
        let progress = Arc::new(Progress::default());
        let reading = self.input.reading(&config, &redactor, &progress)?;
        stop_on_signal(&progress)?;
        let stream = QueryStream::start(&self.sql, self.output.format(), Box::new(io::stdout()))?;
        let seen = Seen::default();
        let intake = reading.run(|| {
            |batch| {
                let batch = seen.once(batch);
                // A query that failed says so when it is finished.
                if stream.push(&batch).is_err() || stream.is_satisfied() {
                    progress.stop.store(true, Ordering::Relaxed);
                }
            }
        });
        let enough = stream.is_satisfied();
        stream.finish()?;
        crate::report::write_rejects(
            &mut anstream::AutoStream::auto(io::stderr().lock()),
            &intake.rejects,
        )?;
        if progress.stop.load(Ordering::Relaxed) && !enough {
            anstream::eprintln!("telltale: interrupted; the answer is about a part of the input");
            return Ok(Ending::Interrupted);
        }
        intake.ensure_opened()?;
        Ok(Ending::Nothing)
    }

    /// Asks a data folder: `events`, `findings` and `dead_letters`.
    fn ask(&self, store: &Store) -> Result<Ending> {
        let mut view = store.view()?;
        let rows = view.rows()?;
        let tables = view.tables(&rows)?;
        drop(rows);
        let out = Box::new(io::stdout());
        let stream = QueryStream::start_over(&self.sql, self.output.format(), out, tables)?;
        // A query that failed says so when it is finished.
        view.events(|batch| stream.push(&batch).is_ok() && !stream.is_satisfied())?;
        stream.finish()?;
        Ok(Ending::Nothing)
    }
}
