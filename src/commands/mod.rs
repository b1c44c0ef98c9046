//! The commands, one file each; `main` reads the command line and calls one.

pub mod check;
pub mod dead_letters;
pub mod demo;
pub mod explain;
pub mod journal;
pub mod learn;
pub mod list;
pub mod parse;
pub mod query;
pub mod run;
pub mod scan;
pub mod simulate;
pub mod status;

use crate::config::Config;
use crate::pipeline::{Progress, Reading};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::{Files, Limits};
use telltale_ingest::{PARSERS, Parser, parsers};
use telltale_queries::OutputFormat;
use telltale_schema::Micros;

/// How a command ends when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exit status 0.
    Nothing,
    /// Exit status 1.
    Findings,
    /// Ended by a signal: 130.
    Interrupted,
}

/// What to read, and how: the same for `scan`, `parse` and `query`.
#[derive(Args, Debug)]
pub struct Input {
    /// Files, folders or globs of audit logs; `-` is standard input. Plain, gzip or zstd
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,

    /// The parser of every record, instead of recognising the log from its content
    #[arg(long, value_name = "NAME")]
    pub log: Option<String>,

    /// Threads that parse [default: one for each processor; in `parse` one]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// The form in which the result of a query is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResultForm {
    /// A table for people
    Table,
    /// CSV with a header
    Csv,
    /// One JSON array of rows
    Json,
}

impl ResultForm {
    /// The same for the engine; a table is as wide as the terminal.
    pub fn format(self) -> OutputFormat {
        match self {
            Self::Table => OutputFormat::Table {
                max_width: terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)),
            },
            Self::Csv => OutputFormat::Csv,
            Self::Json => OutputFormat::Json,
        }
    }
}

/// The configuration file, for commands that have one.
#[derive(Args, Debug)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "TELLTALE_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    pub fn load(&self) -> Result<Config> {
        Config::load(self.config.as_deref())
    }
}

/// The data folder of a service, for commands that run one or look into it.
#[derive(Args, Debug)]
pub struct DataFolder {
    /// The service's data folder: journal, lake and everything else that has to last [default: that
    /// of the configuration, else telltale-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigFile,
}

impl DataFolder {
    /// Errors: no folder is named, and the configuration cannot be read.
    pub fn path(&self) -> Result<PathBuf> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => Ok(self.config.load()?.service.data),
        }
    }

    /// The configuration, with the folder that is named in the place of its own.
    pub fn load(&self) -> Result<Config> {
        let mut config = self.config.load()?;
        if let Some(data) = &self.data {
            config.service.data.clone_from(data);
        }
        Ok(config)
    }
}

/// The redactor of this installation; what the user should know of its key is said on stderr.
pub fn redactor(config: &Config) -> Result<Redactor> {
    let (key, note) = config.redaction.key()?;
    if let Some(note) = note {
        anstream::eprintln!("telltale: {note}");
    }
    Ok(Redactor::new(&key))
}

/// The parser of that name, or an error that says which there are.
pub fn parser(name: &str) -> Result<&'static dyn Parser> {
    parsers::by_name(name).ok_or_else(|| {
        let names: Vec<_> = PARSERS.iter().map(|p| p.name()).collect();
        anyhow!("unknown parser `{name}`{}", did_you_mean(name, &names))
    })
}

/// `; did you mean …?` where a name is near, else all there are.
pub fn did_you_mean(name: &str, names: &[&str]) -> String {
    let near = names.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match near {
        Some(near) if strsim::damerau_levenshtein(name, near) <= 4 => {
            format!("; did you mean `{near}`?")
        }
        _ => format!("; there are {}", names.join(", ")),
    }
}

/// Now, for `received_at`.
pub fn now() -> Micros {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX))
}

impl Input {
    /// Makes the reading of these paths; `threads` where the command line says nothing.
    pub fn reading<'a>(
        &self,
        config: &Config,
        redactor: &'a Redactor,
        progress: &Arc<Progress>,
    ) -> Result<Reading<'a>> {
        anyhow::ensure!(
            !self.paths.is_empty(),
            "nothing to read; name files, folders or globs of audit logs, or `-` for standard input"
        );
        let files = Files::expand(&self.paths).context("nothing was read")?;
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let configured = Some(config.scan.threads).filter(|threads| *threads > 0);
        Ok(Reading {
            files,
            forced: self.log.as_deref().map(parser).transpose()?,
            redactor,
            received_at: now(),
            threads: self.threads.or(configured).unwrap_or_else(processors).clamp(1, 256),
            limits: Limits {
                block_bytes: config.scan.block_bytes.clamp(1, 1 << 30),
                record_bytes: config.scan.record_bytes.clamp(1, 1 << 30),
            },
            progress: Arc::clone(progress),
        })
    }
}

/// Shows how far reading has come, while it lives; only on a terminal.
pub struct Bar {
    bar: ProgressBar,
    progress: Arc<Progress>,
    ticker: Option<std::thread::JoinHandle<()>>,
    done: Arc<std::sync::atomic::AtomicBool>,
}

impl Bar {
    pub fn start(total_bytes: u64, progress: &Arc<Progress>, hidden: bool) -> Self {
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
        let template =
            "{bar:30} {percent:>3} %  {bytes} of {total_bytes}  {msg}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ticker = (!bar.is_hidden()).then(|| {
            let (bar, progress, done) = (bar.clone(), Arc::clone(progress), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    bar.set_position(progress.bytes.load(Ordering::Relaxed));
                    bar.set_message(format!(
                        "{} events",
                        thousands(progress.events.load(Ordering::Relaxed))
                    ));
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            })
        });
        Self { bar, progress: Arc::clone(progress), ticker, done }
    }

    /// Says what is being done once everything was read.
    pub fn phase(&self, what: &'static str) {
        self.bar.set_position(self.progress.bytes.load(Ordering::Relaxed));
        self.bar.set_message(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
        self.bar.finish_and_clear();
    }
}

/// Ends reading on Ctrl-C and SIGTERM; the second one ends the program at once.
pub fn stop_on_signal(progress: &Arc<Progress>) -> Result<()> {
    let stop: Arc<std::sync::atomic::AtomicBool> = Arc::clone(&progress.stop);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot listen for signals")?;
    }
    Ok(())
}

/// `1234567` as `1 234 567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
