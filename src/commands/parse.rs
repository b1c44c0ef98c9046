//! `telltale parse`: raw logs to canonical events.

use super::{Bar, ConfigFile, Ending, Input, redactor, stop_on_signal};
use crate::pipeline::{Progress, Seen, into_inner, lock};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use telltale_queries::{ExportFormat, ExportWriter, QueryError};

/// Turn audit logs into canonical events
///
/// Each event once, in the order of the files. Secrets are replaced by fingerprints. What could not
/// be read is said on standard error.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  telltale parse audit.log.gz | jq .principal_id\n  telltale parse ./logs --to parquet -o events.parquet"
)]
pub struct Parse {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    config: ConfigFile,

    /// The form of the events
    #[arg(long, value_enum, default_value_t = To::Ndjson)]
    to: To,

    /// Where they go [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// One JSON object a line
    Ndjson,
    /// Parquet, zstd
    Parquet,
    /// Arrow IPC: a file with `-o`, a stream on standard output
    Arrow,
}

impl Parse {
    pub fn run(self) -> Result<Ending> {
        let config = self.config.load()?;
        let redactor = redactor(&config)?;
        let progress = Arc::new(Progress::default());
        let mut reading = self.input.reading(&config, &redactor, &progress)?;
        stop_on_signal(&progress)?;
        // The order of the output is that of the files.
        reading.threads = self.input.threads.unwrap_or(1);
        let format = match (self.to, &self.output) {
            (To::Ndjson, _) => ExportFormat::Ndjson,
            (To::Parquet, _) => ExportFormat::Parquet,
            (To::Arrow, Some(_)) => ExportFormat::ArrowFile,
            (To::Arrow, None) => ExportFormat::ArrowStream,
        };
        let out: Box<dyn Write + Send> = match &self.output {
            Some(path) => Box::new(BufWriter::new(
                File::create(path)
                    .with_context(|| format!("cannot create `{}`", path.display()))?,
            )),
            None => Box::new(BufWriter::with_capacity(1 << 18, io::stdout())),
        };
        let total = reading.files.bytes();
        let hidden = self.input.no_progress || self.output.is_none();
        let bar = Bar::start(total, &progress, hidden);
        let writer = Mutex::new(ExportWriter::new(format, out)?);
        let failure: Mutex<Option<QueryError>> = Mutex::default();
        let seen = Seen::default();
        let intake = reading.run(|| {
            |batch| {
                let batch = seen.once(batch);
                let mut writer = lock(&writer);
                if let Err(cause) = writer.write(&batch) {
                    progress.stop.store(true, Ordering::Relaxed);
                    lock(&failure).get_or_insert(cause);
                }
            }
        });
        drop(bar);
        if let Some(cause) = into_inner(failure) {
            return Err(cause).context("cannot write the events");
        }
        let writer = into_inner(writer);
        let mut out = writer.finish().context("cannot write the events")?;
        out.flush().context("cannot write the events")?;
        crate::report::write_rejects(
            &mut anstream::AutoStream::auto(io::stderr().lock()),
            &intake.rejects,
        )?;
        if progress.stop.load(Ordering::Relaxed) {
            anstream::eprintln!("telltale: interrupted; what is written is a part of the input");
            return Ok(Ending::Interrupted);
        }
        intake.ensure_opened()?;
        Ok(Ending::Nothing)
    }
}
