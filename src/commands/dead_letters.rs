//! `telltale dead-letters`: what was no event, and another try at it.

use super::{Ending, ResultForm};
use crate::store::Store;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use telltale_queries::{OutputFormat, QueryStream};

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
    /// The service's data folder
    #[arg(long, value_name = "DIR", default_value = "telltale-data")]
    data: PathBuf,

    /// How many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = ResultForm::Table)]
    output: ResultForm,
}

/// Send what was rejected to the running service again, after a parser has learnt to read it
///
/// Each text is sent once, to the parser that refused it. What is read now is stored; what is still
/// refused is a dead letter again. Texts are as they were kept: secrets are redacted, and what was
/// longer than 64 KiB is cut and stays behind.
#[derive(Args, Debug)]
struct Retry {
    /// The service's data folder
    #[arg(long, value_name = "DIR", default_value = "telltale-data")]
    data: PathBuf,

    /// The running service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    to: String,

    /// The token that the service asks for
    #[arg(long, value_name = "TOKEN", env = "TELLTALE_TOKEN", hide_env_values = true)]
    token: Option<String>,
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
        let mut view = Store::open(&self.data)?.view()?;
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
        let mut view = Store::open(&self.data)?.view()?;
        let rows = view.rows()?;
        let tables = view.tables(&rows)?;
        let sql = "SELECT DISTINCT parser, text FROM dead_letters WHERE text IS NOT NULL";
        let found = Shared::default();
        QueryStream::start_over(sql, OutputFormat::Json, Box::new(found.clone()), tables)?
            .finish()?;
        let found: Vec<Text> = serde_json::from_slice(&found.bytes()).context("dead letters")?;
        let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut cut = 0;
        for Text { parser, text } in found {
            if text.len() >= crate::journal::DeadLetter::MAX_BYTES {
                cut += 1;
                continue;
            }
            let body = bodies.entry(parser.unwrap_or_else(|| "auto".to_owned())).or_default();
            body.extend_from_slice(text.as_bytes());
            body.push(b'\n');
        }
        for (parser, body) in bodies {
            let url = format!("{}/v1/logs/{parser}", self.to.trim_end_matches('/'));
            let mut request = ureq::post(&url);
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let mut answer = match request.send(&body) {
                Ok(answer) => answer,
                Err(cause) => bail!("the service at `{}` does not take them: {cause}", self.to),
            };
            let answer: serde_json::Value =
                answer.body_mut().read_json().context("the service's answer")?;
            anstream::println!(
                "{parser}: {} stored, {} known already, {} still rejected",
                answer["stored"],
                answer["duplicate"],
                answer["rejected"]
            );
        }
        if cut > 0 {
            anstream::println!("{cut} were longer than is kept of one and were not tried");
        }
        Ok(Ending::Nothing)
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
