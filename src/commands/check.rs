//! `telltale check`: whether a configuration is sound, without starting anything.

use super::{ConfigFile, Ending, did_you_mean};
use crate::config::{Config, FilesSource, Source};
use crate::service::sources::tail_of;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::net::ToSocketAddrs;
use std::time::Duration;
use telltale_ingest::{PARSERS, parsers};

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
        anstream::println!(
            "sound: data in `{}`, sources {sources}, {} detectors, {} sinks",
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
    for source in &config.source {
        match source {
            Source::Files(own) => files(own, config)?,
            Source::Http(http) => address(&http.listen)?,
            Source::OtlpGrpc(otlp) => address(&otlp.listen)?,
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
                    known_parser(parser, &format!("of the topic `{topic}`"))?;
                }
            }
        }
    }
    Ok(())
}

fn known_parser(parser: &str, of: &str) -> Result<()> {
    let names: Vec<_> = PARSERS.iter().map(|parser| parser.name()).collect();
    ensure!(
        parsers::by_name(parser).is_some(),
        "unknown parser `{parser}` {of}{}",
        did_you_mean(parser, &names)
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
        known_parser(parser, "of the source `files`")?;
    }
    ensure!(
        files.poll_interval >= Duration::from_millis(10),
        "`poll_interval` of {source} is below 10ms"
    );
    tail_of(files, config).check().with_context(|| format!("in {source}"))
}

fn address(listen: &str) -> Result<()> {
    ensure!(
        listen.to_socket_addrs().is_ok(),
        "`listen = \"{listen}\"` is no address; write it as `127.0.0.1:4318`"
    );
    Ok(())
}
