//! `telltale check`: whether a configuration is sound, without starting anything.

use super::{ConfigFile, Ending, parser};
use crate::config::{Config, FilesSource, ObjectsSource, Retention, Source, SyslogSource};
use crate::service::sources::{objects_of, tail_of};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::net::ToSocketAddrs;
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
        anstream::println!(
            "sound: data in `{}`{lake}, sources {sources}, {} detectors, {} sinks",
            config.service.data.display(),
            config.detectors()?.len(),
            config.sink.len()
        );
        Ok(Ending::Nothing)
    }
}

/// What can be known to go wrong with `run` before anything is started.
pub fn check(config: &Config) -> Result<()> {
    config.sinks()?;
    ensure!(config.service.segment_bytes >= 4096, "`segment_bytes` in `[service]` is below 4096");
    ensure!(config.service.memory_bytes >= 1 << 20, "`memory_bytes` in `[service]` is below 1 MiB");
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
    let (interval, window) = (config.service.sli_interval, config.service.sli_window);
    ensure!(interval >= Duration::from_millis(100), "`sli_interval` in `[service]` is below 100ms");
    ensure!(!window.is_zero(), "`sli_window` in `[service]` is 0");
    let stdin = config.source.iter().filter(|source| matches!(source, Source::Stdin(_)));
    ensure!(stdin.count() <= 1, "`[[source]] kind = \"stdin\"` stands there twice");
    for source in &config.source {
        if let Some(files) = source.tls().with_context(|| source.describe())? {
            tls::acceptor(&files, &[]).with_context(|| source.describe())?;
        }
        match source {
            Source::Files(own) => files(own, config)?,
            Source::Http(http) => address(&http.listen)?,
            Source::Objects(objects) => check_objects(objects, config)?,
            Source::OtlpGrpc(otlp) => address(&otlp.listen)?,
            Source::Stdin(stdin) => {
                if let Some(name) = &stdin.parser {
                    is_parser(name, "of standard input")?;
                }
            }
            Source::Syslog(syslog) => check_syslog(syslog, config)?,
            Source::Kafka(kafka) => {
                ensure!(
                    !kafka.topics.is_empty(),
                    "`[[source]] kind = \"kafka\"` names no `topics`"
                );
                for (topic, parser) in &kafka.parsers {
                    ensure!(
                        kafka.topics.contains(topic),
                        "`parsers` of the Kafka source names the topic `{topic}`, which is not among its `topics`"
                    );
                    is_parser(parser, &format!("of the topic `{topic}`"))?;
                }
            }
        }
    }
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
    tail_of(files, config).check().with_context(|| format!("in {source}"))
}

/// Whether there is such a parser; `whose` it is stands in the error.
fn is_parser(name: &str, whose: &str) -> Result<()> {
    parser(name).map(drop).with_context(|| format!("the parser {whose}"))
}

fn address(listen: &str) -> Result<()> {
    ensure!(
        listen.to_socket_addrs().is_ok(),
        "`listen = \"{listen}\"` is no address; write it as `127.0.0.1:4318`"
    );
    Ok(())
}
