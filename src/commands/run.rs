//! `telltale run`: the service.

use super::{DataFolder, Ending};
use crate::config::{
    Config, HttpSource, KafkaSource, OtlpSource, Source, StdinSource, SyslogSource, default_group,
};
use crate::service::reload::reload;
use crate::service::sources::Sources;
use crate::service::{Service, make_folder};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use telltale_ingest::redact::Redactor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// What is logged unless `TELLTALE_LOG` says otherwise. A table that is not there yet is an error to
/// the kernel of Delta, which gives it to us as well.
const LOG_FILTER: &str = "warn,telltale=info,telltale_ingest=info,buoyant_kernel::snapshot::builder=off,deltalake_core::writer::stats=error";

/// Take audit logs in as they are written, keep them, and say when an identity is misused
///
/// Where neither the configuration file nor an option names a source, it takes logs over HTTP and OTLP
/// over gRPC, on this machine alone. Where any is named, only those that are: `/readyz`, `/healthz` and
/// `/metrics` come with --http. Everything is kept in one folder. SIGTERM drains and ends it.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  telltale run --data /var/lib/telltale\n  curl --data-binary @trail.json http://127.0.0.1:4318/v1/logs/aws_cloudtrail\n  telltale run --data /var/lib/telltale --http 127.0.0.1:4318 --kafka broker:9092 --topic audit\n  zcat archive/*.gz | telltale run --data /var/lib/telltale --stdin\n  telltale query 'SELECT * FROM findings' --data /var/lib/telltale"
)]
pub struct Run {
    #[command(flatten)]
    folder: DataFolder,

    /// Take bodies over HTTP at this address, where /readyz, /healthz and /metrics are as well
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,

    /// Take OTLP logs over gRPC at this address
    #[arg(long, value_name = "ADDR:PORT")]
    otlp_grpc: Option<String>,

    /// Take syslog messages over TCP at this address
    #[arg(long, value_name = "ADDR:PORT")]
    syslog: Option<String>,

    /// Read Kafka topics from these brokers
    #[arg(long, value_name = "BROKERS", requires = "topic")]
    kafka: Option<String>,

    /// A Kafka topic to read; may be given several times
    #[arg(long, value_name = "NAME", requires = "kafka")]
    topic: Vec<String>,

    /// The Kafka consumer group [default: telltale]
    #[arg(long, value_name = "NAME", requires = "kafka")]
    group: Option<String>,

    /// Read standard input until it ends; where it is the only source, that ends the service
    #[arg(long)]
    stdin: bool,

    /// The form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Run {
    pub fn run(self) -> Result<Ending> {
        let config = self.load()?;
        log_to_stderr(self.log_format);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(serve(config, move || self.load()))
    }

    /// The configuration as it is on disk now, with the flags, and sound.
    fn load(&self) -> Result<Config> {
        let mut config = self.folder.load()?;
        self.apply(&mut config);
        super::check::check(&config)?;
        Ok(config)
    }

    /// Flags win over the file. Listeners that nobody named are added only where nothing is named, so
    /// that a second service on the machine finds its ports free.
    fn apply(&self, config: &mut Config) {
        let sources = &mut config.source;
        if let Some(listen) = &self.http {
            listen_at(sources, listen, Source::Http(HttpSource::default()));
        }
        if let Some(listen) = &self.otlp_grpc {
            listen_at(sources, listen, Source::OtlpGrpc(OtlpSource::default()));
        }
        if let Some(listen) = &self.syslog {
            listen_at(sources, listen, Source::Syslog(SyslogSource::default()));
        }
        if let Some(brokers) = &self.kafka {
            config.source.retain(|source| !matches!(source, Source::Kafka(_)));
            config.source.push(Source::Kafka(KafkaSource {
                brokers: brokers.clone(),
                topics: self.topic.clone(),
                group: self.group.clone().unwrap_or_else(default_group),
                instance: None,
                parsers: Default::default(),
                properties: Default::default(),
            }));
        }
        if self.stdin && !config.source.iter().any(|source| matches!(source, Source::Stdin(_))) {
            config.source.push(Source::Stdin(StdinSource::default()));
        }
        if config.source.is_empty() {
            config.source.push(Source::Http(HttpSource::default()));
            config.source.push(Source::OtlpGrpc(OtlpSource::default()));
        }
    }
}

/// Sets the address of the first source of `default`'s kind, which is added where there is none.
fn listen_at(sources: &mut Vec<Source>, listen: &str, default: Source) {
    let kind = std::mem::discriminant(&default);
    let at = sources.iter().position(|source| std::mem::discriminant(source) == kind);
    let at = at.unwrap_or_else(|| {
        sources.push(default);
        sources.len() - 1
    });
    match &mut sources[at] {
        Source::Http(HttpSource { listen: own, .. })
        | Source::OtlpGrpc(OtlpSource { listen: own, .. })
        | Source::Syslog(SyslogSource { listen: own, .. }) => listen.clone_into(own),
        Source::Files(_) | Source::Kafka(_) | Source::Objects(_) | Source::Stdin(_) => {}
    }
}

fn log_to_stderr(format: LogFormat) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("TELLTALE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first of a process counts, which is this one.
    let _ = match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
}

/// `load` reads the configuration again, on SIGHUP.
async fn serve(config: Config, load: impl Fn() -> Result<Config>) -> Result<Ending> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let settings = config.service.clone();
    make_folder(&settings.data)?;
    let (key, note) = config.redaction.key_within(&settings.data)?;
    if let Some(note) = note {
        warn!("{note}");
    }
    let limits = config.scan.limits();
    let service = Arc::new(Service::new(&settings, limits, Redactor::new(&key))?);
    if is_unseen(&config) {
        warn!(
            "no source is `http`, so nothing answers for `/readyz`, `/healthz` and `/metrics`; `--http 127.0.0.1:4318` adds it"
        );
    }
    let (stopping, stop) = watch::channel(false);
    let mut sources = Sources::new(&service, stop.clone());
    // Listens before the journal is read, so that whoever asks is told that it is.
    sources.listen(&config).await?;
    let signals = listen_for_signals(stopping)?;
    let starting = Arc::clone(&service);
    let (running, mut config) = tokio::task::spawn_blocking(move || {
        starting.start(&config).map(|running| (running, config))
    })
    .await??;
    sources.read(&config)?;
    let over = sources.over(&config);
    tokio::pin!(over);
    info!("ready");
    let mut stopped = stop;
    loop {
        tokio::select! {
            // The sender lives in the task of the signals, so this ends with a signal.
            _ = stopped.wait_for(|stop| *stop) => break,
            () = &mut over => break,
            _ = hangup.recv() => {}
        }
        // A few small files are read, on the one thread that does nothing else.
        let reloaded = load().and_then(|new| reload(&mut config, new, &sources, &running));
        if let Err(cause) = reloaded {
            let cause = format!("{cause:#}");
            error!(cause, "the new configuration is not sound; the old one stays in force");
        }
    }
    info!("stopping: what is under way is stored first");
    sources.end().await;
    let drained = tokio::task::spawn_blocking(move || {
        service.gate.close();
        running.join()
    });
    let orderly = drained.await?;
    signals.abort();
    anyhow::ensure!(orderly, "a thread panicked, which is a fault of telltale");
    info!("everything received is stored");
    Ok(Ending::Nothing)
}

/// Whether nobody can ask how the service is. One that reads standard input alone is a command, whose
/// exit status says it.
fn is_unseen(config: &Config) -> bool {
    let is_http = |source: &Source| matches!(source, Source::Http(_));
    let is_stdin = |source: &Source| matches!(source, Source::Stdin(_));
    !config.source.iter().any(is_http) && !config.source.iter().all(is_stdin)
}

/// The first SIGTERM or SIGINT drains, the second ends the process at once: what is acknowledged
/// is on disk in any case.
fn listen_for_signals(stopping: watch::Sender<bool>) -> Result<tokio::task::JoinHandle<()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if stopping.send_replace(true) {
                std::process::exit(130);
            }
        }
    }))
}
