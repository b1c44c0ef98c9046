//! `telltale scan`: archives in, findings and SLIs out.

use super::{Bar, ConfigFile, Ending, Input, redactor, stop_on_signal};
use crate::analysis::{Analysis, Gather, analyse, timeline_for};
use crate::pipeline::{FileReject, Intake, Progress, into_inner};
use crate::sinks::{Sink, SinkError};
use crate::{report, sinks};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use telltale_queries::SliResult;
use telltale_schema::ocsf;

/// Read audit logs, find misused service accounts, measure SLIs
///
/// Reads every file, recognises each log from its content, drops repeats, runs the detectors and
/// the SLIs, and prints a report. Exit status: 0 without findings, 1 with, 2 when it could not run.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  telltale scan ./cloudtrail/\n  telltale scan --output json 'logs/**/*.gz' > report.json\n  zcat audit.log.gz | telltale scan --log kubernetes_audit -"
)]
pub struct Scan {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    config: ConfigFile,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Write findings to FILE too, one OCSF Detection Finding a line
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,

    /// Send findings to this Alertmanager, and hold them firing until they were notified
    #[arg(long, value_name = "URL")]
    alertmanager: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A report for people
    Text,
    /// One JSON document
    Json,
}

/// The document of `--output json`.
#[derive(Serialize)]
struct Document<'a> {
    events: &'a Counts,
    rejects: &'a [FileReject],
    findings: Vec<serde_json::Value>,
    slis: &'a [SliResult],
}

/// How many events there were: `read` = `kept` + `duplicate` + `rejected`.
#[derive(Debug, Serialize)]
pub struct Counts {
    pub read: u64,
    pub rejected: u64,
    pub duplicate: u64,
    pub kept: u64,
    /// Events without a time of their own: kept and counted, but nothing is detected in them.
    pub untimed: u64,
    pub by_log: BTreeMap<&'static str, u64>,
}

/// Everything that a scan found out, for the report.
pub struct Outcome {
    pub intake: Intake,
    pub counts: Counts,
    pub analysis: Analysis,
    pub elapsed: Duration,
}

impl Scan {
    pub fn run(self) -> Result<Ending> {
        let config = self.config.load()?;
        let mut sinks = self.sinks(&config)?;
        let redactor = redactor(&config)?;
        let progress = Arc::new(Progress::default());
        let reading = self.input.reading(&config, &redactor, &progress)?;
        stop_on_signal(&progress)?;

        let started = Instant::now();
        let total = reading.files.bytes();
        let bar = Bar::start(total, &progress, self.input.no_progress);
        let timeline = Mutex::new(timeline_for(total));
        let threads = reading.threads;
        let mut intake = reading.run(|| Gather::new(&timeline));
        let mut timeline = into_inner(timeline);
        if progress.stop.load(Ordering::Relaxed) {
            drop(bar);
            anstream::eprintln!("telltale: interrupted; nothing is said about a part of the input");
            return Ok(Ending::Interrupted);
        }
        bar.phase("detecting");
        timeline.sort(threads);
        let analysis = analyse(&timeline, &config, threads)?;
        drop(bar);

        let counts = Counts {
            read: timeline.len() as u64 + timeline.duplicates() + intake.rejected,
            rejected: intake.rejected,
            duplicate: timeline.duplicates(),
            kept: timeline.len() as u64,
            untimed: timeline.untimed(),
            by_log: std::mem::take(&mut intake.by_log),
        };
        let outcome = Outcome { intake, counts, analysis, elapsed: started.elapsed() };
        self.print(&outcome)?;
        let mut oldest_first = outcome.analysis.findings.clone();
        oldest_first.sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
        let mut missed = Vec::new();
        for sink in &mut sinks {
            match sink.deliver(&oldest_first) {
                Ok(()) => {}
                // Whoever reads them has had enough, as `head` has.
                Err(SinkError::Write { cause, .. })
                    if cause.kind() == io::ErrorKind::BrokenPipe => {}
                Err(cause) => {
                    anstream::eprintln!("telltale: {:#}", anyhow::Error::from(cause));
                    missed.push(format!("`{}`", sink.name()));
                }
            }
        }
        hold(&mut sinks, &progress);
        outcome.intake.ensure_opened()?;
        ensure!(missed.is_empty(), "the findings did not reach the sinks {}", missed.join(", "));
        Ok(if outcome.analysis.findings.is_empty() { Ending::Nothing } else { Ending::Findings })
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        match self.output {
            Output::Text => {
                let mut out = anstream::AutoStream::auto(io::stdout().lock());
                report::write(&mut out, outcome).context("cannot write the report")
            }
            Output::Json => {
                let document = Document {
                    findings: outcome
                        .analysis
                        .findings
                        .iter()
                        .map(ocsf::detection_finding)
                        .collect(),
                    slis: &outcome.analysis.slis,
                    rejects: &outcome.intake.rejects,
                    events: &outcome.counts,
                };
                let mut out = BufWriter::new(io::stdout().lock());
                serde_json::to_writer_pretty(&mut out, &document)
                    .map_err(io::Error::from)
                    .and_then(|()| writeln!(out))
                    .and_then(|()| out.flush())
                    .context("cannot write the document")
            }
        }
    }

    /// The sinks of the command line and of the configuration.
    fn sinks(&self, config: &crate::config::Config) -> Result<Vec<Box<dyn Sink>>> {
        let mut tables = config.sink.clone();
        if let Some(url) = &self.alertmanager {
            tables.push(toml::Table::from_iter([
                ("kind".to_owned(), "alertmanager".into()),
                ("urls".to_owned(), toml::Value::Array(vec![url.clone().into()])),
            ]));
        }
        let mut all: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(path) = &self.findings {
            let file = sinks::ndjson::Ndjson::create(path);
            all.push(Box::new(
                file.with_context(|| format!("cannot create `{}`", path.display()))?,
            ));
        }
        for (_, mut sink) in sinks::named(&tables)? {
            sink.open()?;
            all.push(sink);
        }
        Ok(all)
    }
}

/// Keeps alerts firing until they can have been notified. What goes wrong meanwhile is said, the
/// first time for each sink: their findings were delivered.
fn hold(sinks: &mut [Box<dyn Sink>], progress: &Progress) {
    if sinks.iter().all(|sink| sink.held() == 0) {
        return;
    }
    anstream::eprintln!("telltale: holding alerts until they were notified; Ctrl-C ends it");
    let mut said = vec![false; sinks.len()];
    while !progress.stop.load(Ordering::Relaxed) && sinks.iter().any(|sink| sink.held() > 0) {
        for (sink, said) in sinks.iter_mut().zip(&mut said) {
            if let Err(cause) = sink.tick(SystemTime::now())
                && !std::mem::replace(said, true)
            {
                anstream::eprintln!("telltale: {:#}", anyhow::Error::from(cause));
            }
        }
        std::thread::park_timeout(Duration::from_millis(500));
    }
}
