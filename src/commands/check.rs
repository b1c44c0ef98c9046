//! `telltale check`: whether a configuration is sound, without starting anything.

use super::{ConfigFile, Ending, parser};
use crate::config::{
    BODY_BYTES, Config, FilesSource, KafkaSource, ObjectsSource, Retention, Source, SyslogSource,
};
use crate::service::sources::{kafka_of, objects_of, tail_of, tokens};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;
use telltale_ingest::sources::tls;
use telltale_queries::objects;

/// Say whether a configuration file is sound, with a hint for a mistake
///
/// Reads the file and everything that it names; starts nothing and connects to nothing.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFile,
}

impl Check {
    pub fn run(self) -> Result<Ending> {
        let config = self.config.load()?;
        check(&config)?;
        let sources: Vec<_> = config.source.iter().map(Source::describe).collect();
        let sources =
            if sources.is_empty() { "http and otlp_grpc".to_owned() } else { sources.join(", ") };
        let lake =
            config.lake.url.as_ref().map_or(String::new(), |url| format!(", lake at `{url}`"));
        writeln!(
            anstream::stdout(),
            "sound: data in `{}`{lake}, sources {sources}, {} detectors, {} sinks",
            config.service.data.display(),
            config.detectors()?.len(),
            config.sink.len()
        )?;
        Ok(Ending::Nothing)
    }
}

/// What can be known to go wrong with `run` before anything is started.
pub fn check(config: &Config) -> Result<()> {
    config.sinks()?;
    config.redaction.check()?;
    bounds(config)?;
    match &config.lake.url {
        Some(url) => {
            objects::open(url, &config.lake.options).context("`url` in `[lake]`")?;
        }
        None => ensure!(
            config.lake.options.is_empty(),
            "`options` in `[lake]` are those of an object store, and `url` names none"
        ),
    }
    retention(config)?;
    repeats(config)?;
    telemetry(config)?;
    let stdin = config.source.iter().filter(|source| matches!(source, Source::Stdin(_)));
    ensure!(stdin.count() <= 1, "`[[source]] kind = \"stdin\"` stands there twice");
    for source in &config.source {
        if let Some(files) = source.tls().with_context(|| source.describe())? {
            tls::acceptor(&files, &[]).with_context(|| source.describe())?;
        }
        match source {
            Source::Files(own) => files(own, config)?,
            Source::Http(http) => {
                listens(&http.listen, http.tokens_file.as_deref())?;
                connections("http", http.connections)?;
                bodies(http.body_bytes, source, config)?;
            }
            Source::Objects(objects) => check_objects(objects, config)?,
            Source::OtlpGrpc(otlp) => {
                listens(&otlp.listen, otlp.tokens_file.as_deref())?;
                connections("otlp_grpc", otlp.connections)?;
                bodies(otlp.body_bytes, source, config)?;
            }
            Source::Stdin(stdin) => {
                if let Some(name) = &stdin.parser {
                    is_parser(name, "of standard input")?;
                }
            }
            Source::Syslog(syslog) => check_syslog(syslog, config)?,
            Source::Kafka(kafka) => check_kafka(kafka)?,
        }
    }
    addresses(&config.source)
}

/// Whether each source that listens finds an address free, of those that its name stands for.
fn addresses(sources: &[Source]) -> Result<()> {
    let mut taken: Vec<(SocketAddr, &Source)> = Vec::new();
    for source in sources {
        let Some(listen) = source.listen() else { continue };
        let mut in_the_way = None;
        for own in listen.to_socket_addrs().with_context(|| source.describe())? {
            in_the_way = taken.iter().find(|(other, _)| collide(own, *other)).copied();
            if in_the_way.is_none() {
                taken.push((own, source));
                break;
            }
        }
        if let Some((_, other)) = in_the_way {
            bail!(
                "two sources listen at the same address, {} and {}; give one of them another `listen`",
                other.describe(),
                source.describe()
            );
        }
    }
    Ok(())
}

/// Bytes of a block, and of a record.
const MAX_BLOCK_BYTES: usize = 1 << 30;
/// Bytes of a delivery. An entry of the journal holds 1 GiB, and the columns of short records take
/// more room than their text.
const MAX_DELIVERY_BYTES: usize = 256 << 20;
/// What is done again and again sooner than this does nothing else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Whether sizes and intervals are such that the service can work with them.
fn bounds(config: &Config) -> Result<()> {
    let (scan, service) = (&config.scan, &config.service);
    for (setting, bytes) in [("block_bytes", scan.block_bytes), ("record_bytes", scan.record_bytes)]
    {
        ensure!(
            (1..=MAX_BLOCK_BYTES).contains(&bytes),
            "`{setting}` in `[scan]` is {bytes}, and not between 1 and {MAX_BLOCK_BYTES} (1 GiB)"
        );
    }
    let bytes = service.delivery_bytes;
    ensure!(
        (1..=MAX_DELIVERY_BYTES).contains(&bytes),
        "`delivery_bytes` in `[service]` is {bytes}, and not between 1 and {MAX_DELIVERY_BYTES} (256 MiB); let senders send what is longer in parts"
    );
    ensure!(service.segment_bytes >= 4096, "`segment_bytes` in `[service]` is below 4096");
    ensure!(service.memory_bytes >= 1 << 20, "`memory_bytes` in `[service]` is below 1 MiB");
    for (setting, interval) in [
        ("flush_interval", service.flush_interval),
        ("snapshot_interval", service.snapshot_interval),
        ("maintenance_interval", service.maintenance_interval),
        ("sli_interval", service.sli_interval),
    ] {
        ensure!(
            interval >= SHORTEST_INTERVAL,
            "`{setting}` in `[service]` is below 100ms; write `{setting} = \"100ms\"` or more"
        );
    }
    ensure!(!service.sli_window.is_zero(), "`sli_window` in `[service]` is 0");
    Ok(())
}

/// Whether of two addresses only one can be listened at.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers =
        |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let (here, there) = (one.ip(), other.ip());
    // Port 0 is another one each time.
    one.port() != 0
        && one.port() == other.port()
        && (here == there || covers(here, there) || covers(there, here))
}

fn repeats(config: &Config) -> Result<()> {
    let service = &config.service;
    ensure!(
        !service.duplicate_horizon.is_zero(),
        "`duplicate_horizon` in `[service]` is 0: what a sender sends again would be stored twice"
    );
    ensure!(service.duplicate_ids > 0, "`duplicate_ids` in `[service]` is 0");
    Ok(())
}

/// The URL is not repeated: a password may stand in it.
fn telemetry(config: &Config) -> Result<()> {
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    ensure!(
        config.telemetry.otlp.as_ref().is_none_or(|url| url.is_empty() || is_url(url)),
        "`otlp` in `[telemetry]` is no URL; write it as `http://localhost:4318`"
    );
    Ok(())
}

fn bodies(body_bytes: usize, source: &Source, config: &Config) -> Result<()> {
    let most = config.service.delivery_bytes;
    // Where `delivery_bytes` was lowered, and this was not, that is the bound.
    ensure!(
        (1..=most).contains(&body_bytes) || body_bytes == BODY_BYTES,
        "`body_bytes` of the source {} is {body_bytes}, not between 1 and `delivery_bytes` of `[service]`, {most}",
        source.describe()
    );
    Ok(())
}

fn retention(config: &Config) -> Result<()> {
    let Retention { default, of_logs } = &config.lake.retention;
    let named = of_logs.iter().map(|(log, kept)| (log.as_str(), **kept));
    // Repeats are told by the ids of what is in the lake.
    let least = config.service.duplicate_horizon.max(Duration::from_secs(24 * 3600));
    for (log, kept) in named.chain(default.map(|kept| ("default", kept))) {
        if log != "default" {
            parser(log).with_context(|| format!("`{log}` in `[lake.retention]`"))?;
        }
        ensure!(
            kept >= least,
            "`{log}` in `[lake.retention]` is shorter than a day, or than `duplicate_horizon` of `[service]`"
        );
    }
    Ok(())
}

fn check_objects(objects: &ObjectsSource, config: &Config) -> Result<()> {
    ensure!(
        objects.poll_interval >= Duration::from_millis(100),
        "`poll_interval` of the source `objects` is below 100ms"
    );
    objects_of(objects, config.scan.limits()).map(drop)
}

fn check_kafka(kafka: &KafkaSource) -> Result<()> {
    let source = "`[[source]] kind = \"kafka\"`";
    ensure!(!kafka.topics.is_empty(), "{source} names no `topics`");
    ensure!(kafka.topics.iter().all(|topic| !topic.is_empty()), "{source} has an empty topic");
    ensure!(!kafka.group.is_empty(), "`group` of {source} is empty; without it, it is `telltale`");
    let mut brokers = kafka.brokers.split(',').map(str::trim);
    let is_web = |broker: &str| broker.starts_with("http://") || broker.starts_with("https://");
    ensure!(
        brokers.clone().any(|broker| !broker.is_empty()) && !brokers.any(is_web),
        "`brokers` of {source} are no brokers; write them as `host:9092`, separated by commas"
    );
    for (topic, parser) in &kafka.parsers {
        ensure!(
            kafka.topics.contains(topic),
            "`parsers` of the Kafka source names the topic `{topic}`, which is not among its `topics`"
        );
        is_parser(parser, &format!("of the topic `{topic}`"))?;
    }
    kafka_of(kafka).check().map_err(|cause| anyhow!("{source}: {cause}"))
}

/// `kind`: that of the source.
fn connections(kind: &str, connections: usize) -> Result<()> {
    ensure!(connections > 0, "`connections` of the source `{kind}` is 0");
    Ok(())
}

fn check_syslog(syslog: &SyslogSource, config: &Config) -> Result<()> {
    address(&syslog.listen)?;
    if let Some(parser) = &syslog.parser {
        is_parser(parser, "of the syslog source")?;
    }
    for (app, parser) in &syslog.parsers {
        is_parser(parser, &format!("of the application `{app}`"))?;
    }
    ensure!(syslog.connections > 0, "`connections` of the syslog source is 0");
    let (record, message) = (config.scan.record_bytes, syslog.message_bytes);
    ensure!(
        message.is_none_or(|bytes| (1..=record).contains(&bytes)),
        "`message_bytes` of the syslog source is not between 1 and `record_bytes` of `[scan]`, {record}"
    );
    let least = message.unwrap_or(record) + (2 << 20);
    ensure!(
        config.service.delivery_bytes >= least,
        "`delivery_bytes` in `[service]` is below {least}: the longest syslog message and what is gathered with it"
    );
    Ok(())
}

fn files(files: &FilesSource, config: &Config) -> Result<()> {
    let source = "`[[source]] kind = \"files\"`";
    ensure!(
        files.paths.iter().any(|path| !path.is_empty()),
        "{source} names no `paths`; name folders, files or globs, such as `[\"/var/log/kubernetes/audit*.log*\"]`"
    );
    ensure!(files.paths.iter().all(|path| !path.is_empty()), "{source} has an empty path");
    if let Some(parser) = &files.parser {
        is_parser(parser, "of the source `files`")?;
    }
    ensure!(
        files.poll_interval >= Duration::from_millis(10),
        "`poll_interval` of {source} is below 10ms"
    );
    let tail = tail_of(files, config);
    tail.check().with_context(|| format!("in {source}"))?;
    let data = &config.service.data;
    ensure!(
        !OWN_FILES.iter().any(|file| tail.would_read(&data.join(file))),
        "{source} reads the service's own files in `{}`, and would read what it writes; name other `paths`, or `exclude` them",
        data.display()
    );
    Ok(())
}

/// Some of the files in a data folder, of each sort.
const OWN_FILES: [&str; 5] = [
    "journal/00000000000000000001.journal",
    "lake/events/_delta_log/00000000000000000000.json",
    "lake/findings/part-00000.zstd.parquet",
    "sinks/ndjson",
    "snapshot",
];

/// Whether there is such a parser; `whose` it is stands in the error.
fn is_parser(name: &str, whose: &str) -> Result<()> {
    parser(name).map(drop).with_context(|| format!("the parser {whose}"))
}

fn listens(listen: &str, tokens_file: Option<&Path>) -> Result<()> {
    address(listen)?;
    tokens(tokens_file).map(drop)
}

fn address(listen: &str) -> Result<()> {
    ensure!(
        listen.to_socket_addrs().is_ok(),
        "`listen = \"{listen}\"` is no address; write it as `127.0.0.1:4318`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let config = Config::parse(text).ok().expect("it is a configuration");
        check(&config).map_or_else(|cause| format!("{cause:#}"), |()| "sound".to_owned())
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for (text, hint) in [
            ("[scan]\nblock_bytes = 0", "`block_bytes` in `[scan]` is 0"),
            ("[scan]\nblock_bytes = 1073741825", "not between 1 and 1073741824"),
            ("[scan]\nrecord_bytes = 0", "`record_bytes` in `[scan]` is 0"),
            ("[scan]\nrecord_bytes = 9223372036854775807", "not between 1 and 1073741824"),
            ("[service]\ndelivery_bytes = 0", "`delivery_bytes` in `[service]` is 0"),
            ("[service]\ndelivery_bytes = 268435457", "(256 MiB)"),
            ("[service]\nsegment_bytes = 4095", "is below 4096"),
            ("[service]\nmemory_bytes = 1048575", "is below 1 MiB"),
            ("[service]\nflush_interval = \"0s\"", "`flush_interval = \"100ms\"`"),
            ("[service]\nsnapshot_interval = \"99ms\"", "`snapshot_interval` in"),
            ("[service]\nmaintenance_interval = \"0s\"", "`maintenance_interval` in"),
            ("[service]\nsli_interval = \"0s\"", "`sli_interval` in"),
            ("[service]\nsli_window = \"0s\"", "`sli_window` in"),
            ("[[source]]\nkind = \"http\"\nconnections = 0", "`connections` of the source `http`"),
            (
                "[[source]]\nkind = \"otlp_grpc\"\nconnections = 0",
                "`connections` of the source `otlp_grpc`",
            ),
        ] {
            assert!(said(text).contains(hint), "{text}: {}", said(text));
        }
    }

    #[test]
    fn a_property_of_kafka_that_is_not_to_be_set_is_refused() {
        let with = |property: &str| {
            said(&format!(
                "[[source]]\nkind = \"kafka\"\nbrokers = \"b:9092\"\ntopics = [\"audit\"]\nproperties = {{ {property} }}"
            ))
        };
        let refused = with("\"enable.auto.offset.store\" = \"true\"");
        assert!(refused.contains("kind = \"kafka\"`: `enable.auto.offset.store`"), "{refused}");
        assert!(with("\"group.id\" = \"other\"").contains("set `group`"));
        assert_eq!(with("\"security.protocol\" = \"SSL\""), "sound");
    }

    #[test]
    fn what_is_at_a_bound_is_sound() {
        for text in [
            "",
            "[scan]\nblock_bytes = 1\nrecord_bytes = 1",
            "[scan]\nblock_bytes = 1073741824\nrecord_bytes = 1073741824",
            "[service]\ndelivery_bytes = 268435456\nsegment_bytes = 4096\nmemory_bytes = 1048576",
            "[service]\nflush_interval = \"100ms\"\nsnapshot_interval = \"100ms\"",
            "[service]\nmaintenance_interval = \"100ms\"\nsli_interval = \"100ms\"\nfile_retention = \"0s\"",
        ] {
            assert_eq!(said(text), "sound", "{text}");
        }
    }

    #[test]
    fn addresses_collide_where_only_one_can_be_listened_at() {
        for (one, other, expected) in [
            ("127.0.0.1:4318", "127.0.0.1:4318", true),
            ("0.0.0.0:4318", "127.0.0.1:4318", true),
            ("[::1]:4318", "[::]:4318", true),
            ("127.0.0.1:4318", "[::]:4318", true),
            ("0.0.0.0:4318", "[::1]:4318", false),
            ("127.0.0.1:4318", "127.0.0.1:4317", false),
            ("127.0.0.1:4318", "127.0.0.2:4318", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let [a, b] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!((collide(a, b), collide(b, a)), (expected, expected), "{one} {other}");
        }
    }
}
