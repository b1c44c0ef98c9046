//! The configuration file, `telltale.toml`. Every setting has a default, so none is needed.

use crate::sinks;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use telltale_detect::engine::MAX_LATENESS;
use telltale_detect::{Detector, detectors};
use telltale_ingest::redact::Key;
use telltale_ingest::sources::Limits;
use telltale_ingest::sources::objects::Layout;
use telltale_ingest::sources::tls::TlsFiles;
use telltale_schema::Micros;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// `telltale.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub scan: Scan,
    pub redaction: Redaction,
    pub service: Service,
    pub lake: Lake,
    pub telemetry: Telemetry,
    /// Sources that `run` reads; `http` as it is when none is listed.
    #[serde(deserialize_with = "passed_over")]
    pub source: Vec<Source>,
    /// Detectors to run, `kind` and its settings; all of them as they are when none is listed.
    pub detect: Vec<toml::Table>,
    /// Sinks that findings go to beside the output of the command, `kind` and its settings.
    pub sink: Vec<toml::Table>,
}

/// `[scan]`: how archives are read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scan {
    /// Threads that parse. Default 0: as many as there are processors.
    pub threads: usize,
    /// Bytes of a block, which should fit the cache of one core, at most 1 GiB. Default 256 KiB.
    pub block_bytes: usize,
    /// Bytes of the longest record, at most 1 GiB; longer ones are rejected. Default 16 MiB.
    pub record_bytes: usize,
    /// How late an event may come after others of a later time, at most an hour. Default 15 minutes.
    #[serde(with = "humantime_serde")]
    pub allowed_lateness: Duration,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            threads: 0,
            block_bytes: 256 << 10,
            record_bytes: 16 << 20,
            allowed_lateness: Duration::from_secs(15 * 60),
        }
    }
}

impl Scan {
    pub fn limits(&self) -> Limits {
        Limits { block_bytes: self.block_bytes, record_bytes: self.record_bytes }
    }

    pub fn allowed_lateness_micros(&self) -> Micros {
        Micros::try_from(self.allowed_lateness.as_micros()).unwrap_or(Micros::MAX)
    }
}

/// `[service]`: how `run` keeps what it is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Folder of the journal and everything else that has to last. Default `telltale-data`.
    pub data: PathBuf,
    /// Bytes of memory for what was received and is not stored yet. Default 96 MiB.
    pub memory_bytes: usize,
    /// Bytes of one delivery once decompressed, at most 256 MiB. Default 128 MiB.
    pub delivery_bytes: usize,
    /// Bytes of a journal segment. Default 64 MiB.
    pub segment_bytes: u64,
    /// How far back a repeat of an event is recognised. Default 24 hours.
    #[serde(with = "humantime_serde")]
    pub duplicate_horizon: Duration,
    /// Events that are remembered in memory to recognise repeats, 40 bytes each; those of older
    /// hours go to files. Default 2 000 000.
    pub duplicate_ids: usize,
    /// How long events wait in the journal before they go to the lake. Default 5 minutes.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// How often what detectors know is saved; the journal since then is read again at a start.
    /// Default 1 minute.
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
    /// How often small files of the lake are merged. Default 1 hour.
    #[serde(with = "humantime_serde")]
    pub maintenance_interval: Duration,
    /// How long files of the lake stay that were merged, for readers that are at it. Default 7 days.
    #[serde(with = "humantime_serde")]
    pub file_retention: Duration,
    /// How often the SLIs in `/metrics` are computed. Default 1 minute.
    #[serde(with = "humantime_serde")]
    pub sli_interval: Duration,
    /// Events of how long before count in them. Default 1 hour.
    #[serde(with = "humantime_serde")]
    pub sli_window: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            data: "telltale-data".into(),
            memory_bytes: 96 << 20,
            delivery_bytes: 128 << 20,
            segment_bytes: 64 << 20,
            duplicate_horizon: Duration::from_secs(24 * 3600),
            duplicate_ids: 2_000_000,
            flush_interval: Duration::from_secs(5 * 60),
            snapshot_interval: Duration::from_secs(60),
            maintenance_interval: Duration::from_secs(3600),
            file_retention: Duration::from_secs(7 * 24 * 3600),
            sli_interval: Duration::from_secs(60),
            sli_window: Duration::from_secs(3600),
        }
    }
}

/// `[lake]`: where the Delta tables are, and how long events stay in them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// A prefix in an object store: `s3://BUCKET/PREFIX`. Default: the folder `lake` in the data
    /// folder.
    pub url: Option<String>,
    /// Settings of the store by the names of `object_store`: `endpoint`, `allow_http`, `region`.
    #[serde(deserialize_with = "texts")]
    pub options: BTreeMap<String, String>,
    pub retention: Retention,
}

/// `[lake.retention]`: how long events stay, by their own time, in whole days of UTC.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Those of logs that are not named. Default: for ever.
    #[serde(with = "humantime_serde")]
    pub default: Option<Duration>,
    /// By the name of the log.
    #[serde(flatten)]
    pub of_logs: BTreeMap<String, humantime_serde::Serde<Duration>>,
}

/// `[telemetry]`: what `run` says of itself beside `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Base URL of a collector that takes OTLP over HTTP, such as `http://localhost:4318`. Default: the
    /// environment variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without either there are no spans.
    pub otlp: Option<String>,
}

impl Telemetry {
    /// Where spans go, if anywhere.
    pub fn endpoint(&self) -> Option<String> {
        let own = self.otlp.clone().or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok());
        own.filter(|endpoint| !endpoint.is_empty())
    }
}

/// `[[source]]`: where `run` reads from.
#[derive(Clone, Debug)]
pub enum Source {
    Files(FilesSource),
    Http(HttpSource),
    Kafka(KafkaSource),
    Objects(ObjectsSource),
    OtlpGrpc(OtlpSource),
    Stdin(StdinSource),
    Syslog(SyslogSource),
}

/// What `kind` of a source may be.
const KINDS: &str = "`files`, `http`, `kafka`, `objects`, `otlp_grpc`, `stdin` and `syslog`";

impl Source {
    /// Reads a `[[source]]` table.
    fn parse(mut table: Spanned<DeValue<'_>>) -> Result<Self, Mistake> {
        let at = table.span().start;
        let kind = match table.get_mut() {
            DeValue::Table(settings) => settings.remove("kind"),
            _ => None,
        };
        let Some(kind) = kind else {
            return Err(Mistake::new(
                at,
                format!("a `[[source]]` has no `kind`; there are {KINDS}"),
            ));
        };
        let kind_at = kind.span().start;
        let DeValue::String(kind) = kind.into_inner() else {
            let said = format!("`kind` of a `[[source]]` is no text; there are {KINDS}");
            return Err(Mistake::new(kind_at, said));
        };
        let read = match &*kind {
            "files" => settings(table).map(Self::Files),
            "http" => settings(table).map(Self::Http),
            "kafka" => settings(table).map(Self::Kafka),
            "objects" => settings(table).map(Self::Objects),
            "otlp_grpc" => settings(table).map(Self::OtlpGrpc),
            "stdin" => settings(table).map(Self::Stdin),
            "syslog" => settings(table).map(Self::Syslog),
            unknown => {
                let said = format!("unknown source `{unknown}` in `[[source]]`; there are {KINDS}");
                return Err(Mistake::new(kind_at, said));
            }
        };
        read.map_err(|cause| {
            let Mistake { at, said } = Mistake::of(cause, at);
            Mistake::new(at, format!("{said}, in `[[source]] kind = \"{kind}\"`"))
        })
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        let tls = match self.tls() {
            Ok(Some(TlsFiles { client_ca: Some(_), .. })) => " with mutual TLS",
            Ok(Some(_)) => " with TLS",
            _ => "",
        };
        self.plainly() + tls
    }

    /// Its name in metrics and accounts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Http(_) => "http",
            Self::Kafka(_) => "kafka",
            Self::OtlpGrpc(_) => "otlp",
            Self::Stdin(_) => "stdin",
            Self::Objects(_) => "objects",
            Self::Syslog(_) => "syslog",
        }
    }

    /// Where it listens, of a source that does.
    pub fn listen(&self) -> Option<&str> {
        match self {
            Self::Http(HttpSource { listen, .. })
            | Self::OtlpGrpc(OtlpSource { listen, .. })
            | Self::Syslog(SyslogSource { listen, .. }) => Some(listen),
            Self::Files(_) | Self::Kafka(_) | Self::Objects(_) | Self::Stdin(_) => None,
        }
    }

    /// Where certificate, key and roots of clients lie, of a source that listens.
    pub fn tls_files_mut(&mut self) -> Option<[&mut Option<PathBuf>; 3]> {
        match self {
            Self::Http(HttpSource { tls_cert_file, tls_key_file, tls_client_ca_file, .. })
            | Self::OtlpGrpc(OtlpSource {
                tls_cert_file, tls_key_file, tls_client_ca_file, ..
            })
            | Self::Syslog(SyslogSource {
                tls_cert_file, tls_key_file, tls_client_ca_file, ..
            }) => Some([tls_cert_file, tls_key_file, tls_client_ca_file]),
            Self::Files(_) | Self::Kafka(_) | Self::Objects(_) | Self::Stdin(_) => None,
        }
    }

    fn plainly(&self) -> String {
        match self {
            Self::Files(files) => format!("files {}", files.paths.join(" ")),
            Self::Http(http) => format!("http on {}", http.listen),
            Self::Kafka(kafka) => format!("kafka at {}", kafka.brokers),
            Self::Objects(objects) => format!("objects {}", objects.url),
            Self::OtlpGrpc(otlp) => format!("otlp_grpc on {}", otlp.listen),
            Self::Stdin(_) => "stdin".to_owned(),
            Self::Syslog(syslog) => format!("syslog on {}", syslog.listen),
        }
    }

    /// The files of its TLS, where it has any.
    ///
    /// Errors: a certificate without its key, and the like.
    pub fn tls(&self) -> Result<Option<TlsFiles>> {
        let (cert, key, client_ca) = match self {
            Self::Http(HttpSource { tls_cert_file, tls_key_file, tls_client_ca_file, .. })
            | Self::OtlpGrpc(OtlpSource {
                tls_cert_file, tls_key_file, tls_client_ca_file, ..
            })
            | Self::Syslog(SyslogSource {
                tls_cert_file, tls_key_file, tls_client_ca_file, ..
            }) => (tls_cert_file, tls_key_file, tls_client_ca_file),
            Self::Files(_) | Self::Kafka(_) | Self::Objects(_) | Self::Stdin(_) => {
                return Ok(None);
            }
        };
        match (cert.clone(), key.clone(), client_ca.clone()) {
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsFiles { cert, key, client_ca })),
            (None, None, None) => Ok(None),
            (None, None, Some(_)) => bail!(
                "`tls_client_ca_file` needs `tls_cert_file` and `tls_key_file`: only over TLS does a sender show a certificate"
            ),
            _ => bail!("`tls_cert_file` and `tls_key_file` need each other"),
        }
    }
}

/// `[[source]] kind = "files"`: files as they are written, rotated and compressed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSource {
    /// Folders, files and globs.
    pub paths: Vec<String>,
    /// Globs of what is left out, for a path or for a file's name. Default: none.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Parser of every record. Default: each record's content says it.
    #[serde(default)]
    pub parser: Option<String>,
    /// How often it is looked whether files have grown. Default 250 milliseconds.
    #[serde(default = "default_poll_interval", with = "humantime_serde")]
    pub poll_interval: Duration,
    /// Where files are read from that are there when nothing was read yet. Default `beginning`.
    #[serde(default)]
    pub read_from: ReadFrom,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    #[default]
    Beginning,
    End,
}

fn default_poll_interval() -> Duration {
    Duration::from_millis(250)
}

/// Bytes of a body unless a source says it.
pub const BODY_BYTES: usize = 32 << 20;

/// `[[source]] kind = "http"`: bodies that are posted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSource {
    /// Address and port. Default `127.0.0.1:4318`.
    pub listen: String,
    /// Bytes of a body as it is sent. Default 32 MiB.
    pub body_bytes: usize,
    /// Connections at once; others wait. Default 10 000.
    pub connections: usize,
    /// File with the tokens of which a sender has to show one, one on a line; anybody may send
    /// where there is none.
    pub tokens_file: Option<PathBuf>,
    /// Certificate and key as PEM: with them the listener speaks TLS.
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    /// Roots as PEM, of one of which a sender has to show a certificate.
    pub tls_client_ca_file: Option<PathBuf>,
}

impl Default for HttpSource {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4318".to_owned(),
            body_bytes: BODY_BYTES,
            connections: 10_000,
            tokens_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
        }
    }
}

/// `[[source]] kind = "otlp_grpc"`: what OpenTelemetry sends over gRPC; over HTTP it comes to `http`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSource {
    /// Address and port. Default `127.0.0.1:4317`.
    pub listen: String,
    /// Bytes of a request. Default 32 MiB.
    pub body_bytes: usize,
    /// Connections at once; others wait. Default 10 000.
    pub connections: usize,
    /// As for `http`.
    pub tokens_file: Option<PathBuf>,
    /// As for `http`.
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub tls_client_ca_file: Option<PathBuf>,
}

impl Default for OtlpSource {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4317".to_owned(),
            body_bytes: BODY_BYTES,
            connections: 10_000,
            tokens_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
        }
    }
}

/// `[[source]] kind = "kafka"`: topics, read as a member of a consumer group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// Brokers to begin with, `host:port`, separated by commas.
    pub brokers: String,
    pub topics: Vec<String>,
    /// The consumer group. Default `telltale`.
    #[serde(default = "default_group")]
    pub group: String,
    /// A name of its own within the group, so that a restart moves no partition. Default: none.
    #[serde(default)]
    pub instance: Option<String>,
    /// Parser of all messages of a topic; of others, the header `telltale-parser` or the content
    /// says it.
    #[serde(default)]
    pub parsers: BTreeMap<String, String>,
    /// Settings of librdkafka by its own names, such as `security.protocol` and `sasl.mechanism`; not
    /// those of commits, of the group and of how partitions are assigned.
    #[serde(default, deserialize_with = "texts")]
    pub properties: BTreeMap<String, String>,
}

/// `[[source]] kind = "objects"`: what lies in an object store, and what comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsSource {
    /// A prefix: `s3://BUCKET/PREFIX`.
    pub url: String,
    /// Settings of the store, as for `[lake]`.
    #[serde(default, deserialize_with = "texts")]
    pub options: BTreeMap<String, String>,
    /// How objects lie below the prefix. Default `plain`.
    #[serde(default)]
    pub layout: Layout,
    /// Parser of every record. Default: each record's content says it.
    #[serde(default)]
    pub parser: Option<String>,
    /// How often it is looked whether there are new objects. Default 1 minute.
    #[serde(default = "default_objects_interval", with = "humantime_serde")]
    pub poll_interval: Duration,
    /// With `days`: how long before it came an object may lie. Default 2 days.
    #[serde(default = "default_lookback", with = "humantime_serde")]
    pub lookback: Duration,
    /// A day, `2026-03-01`: what the store was given before it is passed over. Default: nothing is.
    #[serde(default)]
    pub since: Option<String>,
}

fn default_objects_interval() -> Duration {
    Duration::from_secs(60)
}

fn default_lookback() -> Duration {
    Duration::from_secs(2 * 24 * 3600)
}

/// `[[source]] kind = "stdin"`: standard input, until it ends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StdinSource {
    /// Parser of all records. Default: their content says it.
    pub parser: Option<String>,
}

/// `[[source]] kind = "syslog"`: messages over TCP, of RFC 5424 or RFC 3164.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyslogSource {
    /// Address and port. Default `127.0.0.1:6514`.
    pub listen: String,
    /// Parser of all messages. Default: their content says it.
    pub parser: Option<String>,
    /// Parser of the messages of an application, by its name or tag; goes before `parser`.
    pub parsers: BTreeMap<String, String>,
    /// Connections at once; others wait. Default 1024.
    pub connections: usize,
    /// Bytes of the longest message. Default: `record_bytes` of `[scan]`.
    pub message_bytes: Option<usize>,
    /// As for `http`.
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub tls_client_ca_file: Option<PathBuf>,
}

impl Default for SyslogSource {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:6514".to_owned(),
            parser: None,
            parsers: BTreeMap::new(),
            connections: 1024,
            message_bytes: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
        }
    }
}

pub fn default_group() -> String {
    "telltale".to_owned()
}

/// `[redaction]`: the key of the fingerprints that stand for secrets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// File with the key's 32 bytes, made when it is missing. Default: `fingerprint.key` in a
    /// service's data folder, else in telltale's folder of state, `$XDG_STATE_HOME/telltale` or
    /// `~/.local/state/telltale`.
    pub key_file: Option<PathBuf>,
}

/// Settings out of a table.
fn settings<T: DeserializeOwned>(table: Spanned<DeValue<'_>>) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(table))
}

/// [`Config::parse`] reads the sources. They are named to serde for the list of what there is.
fn passed_over<'de, D: Deserializer<'de>>(sources: D) -> Result<Vec<Source>, D::Error> {
    IgnoredAny::deserialize(sources).map(|_| Vec::new())
}

/// A table of texts. One of them may be a password, so what is no text is not repeated.
fn texts<'de, D: Deserializer<'de>>(table: D) -> Result<BTreeMap<String, String>, D::Error> {
    let toml::Value::Table(table) = toml::Value::deserialize(table)? else {
        return Err(D::Error::custom(
            "expected a table of texts, such as `{ \"name\" = \"value\" }`",
        ));
    };
    let texts = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(text) => Ok((name, text)),
        _ => Err(D::Error::custom(format!(
            "`{name}` is no text; values stand in quotes, and so do names with dots"
        ))),
    });
    texts.collect()
}

/// What is wrong with the text of a configuration.
pub(crate) struct Mistake {
    /// The byte at which it is seen.
    at: usize,
    said: String,
}

impl Mistake {
    fn new(at: usize, said: String) -> Self {
        Self { at, said }
    }

    /// What `toml` says, with the key; at `else_at` where it does not know where.
    fn of(mut cause: toml::de::Error, else_at: usize) -> Self {
        let at = cause.span().map_or(else_at, |span| span.start);
        // It would show the line, in which a password may stand.
        cause.set_input(None);
        Self::new(at, cause.to_string().trim_end().replace('\n', ", "))
    }

    /// The same with the number of its line in `text`.
    fn within(self, text: &str) -> String {
        let before = text.as_bytes().iter().take(self.at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("line {line}: {}", self.said)
    }
}

impl Config {
    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        let of = |cause| Mistake::of(cause, 0);
        let mut root = DeTable::parse(text).map_err(of)?;
        // Told apart by their `kind` first, so that a mistake has its line and its key.
        let sources = root.get_mut().remove("source");
        let mut config = Self::deserialize(toml::Deserializer::from(root)).map_err(of)?;
        let Some(sources) = sources else { return Ok(config) };
        let at = sources.span().start;
        let DeValue::Array(tables) = sources.into_inner() else {
            let said = "`source` is no list; begin the table of each source with `[[source]]`";
            return Err(Mistake::new(at, said.to_owned()));
        };
        config.source = tables.into_iter().map(Source::parse).collect::<Result<_, _>>()?;
        Ok(config)
    }

    /// Reads the file, or takes the defaults where there is none.
    ///
    /// Errors: the file cannot be read, is no TOML, or has a setting that does not exist.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration `{name}`"))?;
        let config = Self::parse(&text)
            .map_err(|cause| anyhow!("in the configuration `{name}`, {}", cause.within(&text)))?;
        // Whatever is wrong with a detector is said now and not after an hour of reading.
        config.detectors()?;
        config.check_lateness()?;
        Ok(config)
    }

    fn check_lateness(&self) -> Result<()> {
        ensure!(
            self.scan.allowed_lateness_micros() <= MAX_LATENESS,
            "`allowed_lateness` in `[scan]` is above 1h, later than which detectors take no event"
        );
        Ok(())
    }

    /// The sinks, by name, in their order.
    pub fn sinks(&self) -> Result<Vec<sinks::Named>> {
        Ok(sinks::named(&self.sink)?)
    }

    /// The detectors to run, one of each table, in their order.
    pub fn detectors(&self) -> Result<Vec<Box<dyn Detector>>> {
        if self.detect.is_empty() {
            return Ok(detectors::defaults());
        }
        let mut all: Vec<Box<dyn Detector>> = Vec::new();
        for table in &self.detect {
            let mut settings = table.clone();
            let Some(toml::Value::String(kind)) = settings.remove("kind") else {
                bail!(
                    "a `[[detect]]` table has no `kind`; it names the detector, see `telltale list detectors`"
                );
            };
            let detector = detectors::build(&kind, settings)?;
            ensure!(
                all.iter().all(|other| other.name() != detector.name()),
                "the detector `{kind}` stands in two `[[detect]]` tables; keep one"
            );
            all.push(detector);
        }
        Ok(all)
    }
}

/// The environment variable whose text, if it is set, is the passphrase of the fingerprints.
const PASSPHRASE: &str = "TELLTALE_REDACTION_KEY";

impl Redaction {
    /// The key of this installation, made on first use.
    ///
    /// The second value says what the user should know: without a lasting key the fingerprints of
    /// this run cannot be compared with those of another.
    pub fn key(&self) -> Result<(Key, Option<String>)> {
        self.key_or(default_key_file())
    }

    /// The same for a service, whose key lies in its data folder.
    pub fn key_within(&self, data: &Path) -> Result<(Key, Option<String>)> {
        self.key_or(Some(data.join("fingerprint.key")))
    }

    /// Makes no key.
    ///
    /// Errors: a `key_file` that is there and holds none.
    pub fn check(&self) -> Result<()> {
        let Some(path) = self.key_file.as_ref().filter(|_| passphrase().is_none()) else {
            return Ok(());
        };
        match key_of(path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(cause).with_context(|| format!("cannot read the key file `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn key_or(&self, default: Option<PathBuf>) -> Result<(Key, Option<String>)> {
        if let Some(passphrase) = passphrase() {
            return Ok((Key::derive(&passphrase), None));
        }
        if let Some(path) = &self.key_file {
            let key = key_in(path).with_context(|| {
                format!("cannot read or make the key file `{}`", path.display())
            })?;
            return Ok((key, None));
        }
        let Some(path) = default else {
            return Ok((Key::from_bytes(random()?), Some(unkept("no home folder is set"))));
        };
        match key_in(&path) {
            Ok(key) => Ok((key, None)),
            Err(cause) => Ok((
                Key::from_bytes(random()?),
                Some(unkept(&format!("`{}`: {cause}", path.display()))),
            )),
        }
    }
}

fn passphrase() -> Option<String> {
    std::env::var(PASSPHRASE).ok().filter(|passphrase| !passphrase.is_empty())
}

fn unkept(why: &str) -> String {
    format!(
        "the key of fingerprints could not be kept ({why}); those of this run differ from those of others. Set {PASSPHRASE}, or `key_file` in `[redaction]`"
    )
}

fn default_key_file() -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("telltale/fingerprint.key"))
}

/// The key in a file.
fn key_of(path: &Path) -> std::io::Result<Key> {
    use std::io::{Error, ErrorKind};
    let key = std::fs::read(path)?.try_into().map(Key::from_bytes);
    key.map_err(|_| Error::new(ErrorKind::InvalidData, "it does not hold 32 bytes"))
}

/// The same, and the file is made with a random one, for its owner alone, where it is missing.
fn key_in(path: &Path) -> std::io::Result<Key> {
    use std::io::{ErrorKind, Write};
    match key_of(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // Written whole under another name, then linked: of two first runs at the same time
            // one makes the key and both use it.
            let own = path.with_extension(format!("{}.new", std::process::id()));
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&own)?;
            file.write_all(&random()?)?;
            file.sync_all()?;
            let linked = std::fs::hard_link(&own, path);
            std::fs::remove_file(&own)?;
            match linked {
                Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(cause),
                _ => key_of(path),
            }
        }
        read => read,
    }
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", Config::load(Some(&path)).expect_err("it is refused"))
        };
        assert!(said("[scan]\nthread = 2\n").contains("unknown field `thread`"));
        assert!(
            said("[[detect]]\nkind = \"dormant_acount\"\n")
                .contains("did you mean `dormant_account`?")
        );
        assert!(said("[[detect]]\n").contains("has no `kind`"));
        assert!(said("[[detect]]\nkind = \"x\"\n").contains("there are `dormant_account`, "));
        let twice = "[[detect]]\nkind = \"dormant_account\"\n".repeat(2);
        assert!(said(&twice).contains("stands in two `[[detect]]` tables"));
        assert!(said("[scan]\nallowed_lateness = \"2h\"\n").contains("`[scan]` is above 1h"));
    }

    #[test]
    fn a_mistake_is_said_with_line_and_key_and_without_a_secret() {
        for (text, expected) in [
            (
                "[scan]\nallowed_lateness = 3\n",
                "line 2: invalid type: integer `3`, expected a duration, in `scan.allowed_lateness`",
            ),
            (
                "[[source]]\nkind = \"http\"\n\n[[source]]\nkind = \"otlp_grpc\"\nlisten = 4318\n",
                "line 6: invalid type: integer `4318`, expected a string, in `listen`, in `[[source]] kind = \"otlp_grpc\"`",
            ),
            (
                "[[source]]\nkind = \"files\"\npaths = \"/x\"\n",
                "line 3: invalid type: string \"/x\", expected a sequence, in `paths`, in `[[source]] kind = \"files\"`",
            ),
            ("\n[[source]]\nkind = \"files\"\n", "line 2: missing field `paths`, in `[[source]]"),
            (
                "[[source]]\nlisten = \"a\"\n",
                "line 1: a `[[source]]` has no `kind`; there are `files`",
            ),
            (
                "[[source]]\nkind = \"htp\"\n",
                "line 2: unknown source `htp` in `[[source]]`; there are",
            ),
            ("[[source]]\nkind = 3\n", "line 2: `kind` of a `[[source]]` is no text"),
            (
                "[[sources]]\n",
                "unknown field `sources`, expected one of `scan`, `redaction`, `service`, `lake`, `telemetry`, `source`",
            ),
            ("[source]\nkind = \"http\"\n", "begin the table of each source with `[[source]]`"),
            ("[lake]\noptions = \"hunter2\"\n", "line 2: expected a table of texts"),
            ("[lake]\noptions = { secret_access_key = hunter2 }\n", "line 2: "),
            (
                "[[source]]\nkind = \"kafka\"\nbrokers = \"b:1\"\ntopics = []\nproperties.\"sasl.password\" = [\"hunter2\"]\n",
                "`sasl.password` is no text; values stand in quotes",
            ),
        ] {
            let Err(mistake) = Config::parse(text) else { panic!("{text} is taken") };
            let said = mistake.within(text);
            assert!(said.contains(expected) && !said.contains("hunter2"), "{text}: {said}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/key");
        key_in(&path).unwrap();
        let first = std::fs::read(&path).unwrap();
        key_in(&path).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), first.len()), (first.clone(), 32));
        std::fs::write(&path, "short").unwrap();
        assert!(key_in(&path).is_err());
    }
}
