//! `telltale dead-letters`: what was no event, and another try at it.

use super::{DataFolder, Ending, ResultForm};
use crate::sinks::http;
use crate::store::Store;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use telltale_queries::{OutputFormat, QueryStream};
use ureq::Agent;

/// Look at what was rejected, and try it again
#[derive(Args, Debug)]
pub struct DeadLetters {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    List(List),
    Retry(Retry),
}

/// List what was rejected, with why and from where; newest first
#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    folder: DataFolder,

    /// How many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = ResultForm::Table)]
    output: ResultForm,
}

/// Send what was rejected to the running service again, after a parser has learnt to read it
///
/// Each text is sent once, to the parser that refused it, in requests of at most 8 MiB. What is read
/// now is stored; what is still refused is a dead letter again. Texts are as they were kept: secrets
/// are redacted, and what was longer than 64 KiB is cut and stays behind.
#[derive(Args, Debug)]
struct Retry {
    #[command(flatten)]
    folder: DataFolder,

    /// The running service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    to: String,

    /// The token that the service asks for
    #[arg(long, value_name = "TOKEN", env = "TELLTALE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// PEM with the roots that sign the service's certificate [default: the public ones]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl DeadLetters {
    pub fn run(self) -> Result<Ending> {
        match self.what {
            What::List(list) => list.run(),
            What::Retry(retry) => retry.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<Ending> {
        let mut view = Store::open(&self.folder.path()?)?.view()?;
        let rows = view.rows()?;
        let sql = format!(
            "SELECT received_at, source, partition, position, parser, reason, text FROM dead_letters ORDER BY received_at DESC, position LIMIT {}",
            self.limit
        );
        let tables = view.tables(&rows)?;
        QueryStream::start_over(&sql, self.output.format(), Box::new(io::stdout()), tables)?
            .finish()?;
        Ok(Ending::Nothing)
    }
}

impl Retry {
    fn run(self) -> Result<Ending> {
        let mut view = Store::open(&self.folder.path()?)?.view()?;
        let rows = view.rows()?;
        let tables = view.tables(&rows)?;
        let sql = "SELECT DISTINCT parser, text FROM dead_letters WHERE text IS NOT NULL";
        let agent = self.agent()?;
        let found = Shared::default();
        QueryStream::start_over(sql, OutputFormat::Json, Box::new(found.clone()), tables)?
            .finish()?;
        let found: Vec<Text> = serde_json::from_slice(&found.bytes()).context("dead letters")?;
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut cut = 0;
        for Text { parser, text } in found {
            if text.len() >= crate::journal::DeadLetter::MAX_BYTES {
                cut += 1;
                continue;
            }
            texts.entry(parser.unwrap_or_else(|| "auto".to_owned())).or_default().push(text);
        }
        let (mut total, mut out) = (Told::default(), anstream::stdout());
        let outcome = texts.iter().try_for_each(|(parser, texts)| {
            let mut own = Told::default();
            let outcome = self.send_all(&agent, parser, texts, &mut own);
            writeln!(out, "{parser}: {own}")?;
            total.add(&own);
            outcome
        });
        writeln!(out, "in total: {total}")?;
        if cut > 0 {
            writeln!(out, "{cut} were longer than is kept of one and were not tried")?;
        }
        let unsent = texts.values().map(Vec::len).sum::<usize>() as u64 - total.sent;
        outcome.with_context(|| format!("{unsent} were not sent"))?;
        Ok(Ending::Nothing)
    }

    /// Sends texts one request after another and adds up what the service says of them.
    fn send_all(
        &self,
        agent: &Agent,
        parser: &str,
        texts: &[String],
        told: &mut Told,
    ) -> Result<()> {
        let mut left = texts;
        while !left.is_empty() {
            let (now, later) = left.split_at(fitting(left));
            told.add(&self.send(agent, parser, now)?);
            left = later;
        }
        Ok(())
    }

    fn agent(&self) -> Result<Agent> {
        let mut config = Agent::config_builder();
        if let Some(path) = &self.ca_file {
            config = config.tls_config(http::trusting(path).map_err(anyhow::Error::msg)?);
        }
        Ok(config.build().into())
    }

    fn send(&self, agent: &Agent, parser: &str, texts: &[String]) -> Result<Told> {
        let url = format!("{}/v1/logs/{parser}", self.to.trim_end_matches('/'));
        let mut request = agent.post(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        // Behind a line break a text is a record, even one that begins as a file of some kind does.
        let body = format!("\n{}", texts.join("\n"));
        let mut answer = match request.send(body.as_bytes()) {
            Ok(answer) => answer,
            Err(cause) => bail!("the service at `{}` does not take them: {cause}", self.to),
        };
        let told: Told = answer.body_mut().read_json().context("the service's answer")?;
        Ok(Told { sent: texts.len() as u64, ..told })
    }
}

/// Bytes of texts in one request: far below what the service takes.
const BODY_BYTES: usize = 8 << 20;

/// How many of the first texts go into one request. One of several lines goes alone: among others
/// nobody could tell its lines from theirs.
fn fitting(texts: &[String]) -> usize {
    let mut bytes = 0;
    let fit = texts.iter().take_while(|text| {
        bytes += text.len() + 1;
        bytes <= BODY_BYTES && !text.contains('\n')
    });
    fit.count().max(1)
}

/// What became of texts that were sent, as the service answers.
#[derive(Debug, Default, serde::Deserialize)]
struct Told {
    /// Texts; of one that has several records the service counts each.
    #[serde(skip)]
    sent: u64,
    stored: u64,
    duplicate: u64,
    rejected: u64,
}

impl Told {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, stored, duplicate, rejected } = self;
        write!(
            f,
            "{sent} sent, {stored} stored, {duplicate} known already, {rejected} still rejected"
        )
    }
}

#[derive(serde::Deserialize)]
struct Text {
    parser: Option<String>,
    text: String,
}

/// Where the result of a query is kept.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *crate::pipeline::lock(&self.0))
    }
}

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::pipeline::lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_and_a_text_of_several_lines_goes_alone() {
        let text = "x".repeat(60_000);
        let mut texts = vec![text; 300];
        texts[10] = "several\nlines".into();
        texts[11] = "several\nothers".into();
        let (mut left, mut sent) = (texts.as_slice(), Vec::new());
        while !left.is_empty() {
            let (now, later) = left.split_at(fitting(left));
            assert!(now.join("\n").len() <= BODY_BYTES, "{}", now.len());
            sent.push(now.len());
            left = later;
        }
        assert_eq!(sent, [10, 1, 1, 139, 139, 10]);
    }
}
