//! `telltale journal inspect`: what the journal of a data folder holds, entry by entry.

use super::{DataFolder, Ending, thousands};
use crate::journal::Entry;
use crate::store::Store;
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::io::{self, Write};
use telltale_schema::time::format_instant;

/// Look into the journal of a data folder
#[derive(Args, Debug)]
pub struct Journal {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Inspect(Inspect),
}

/// Check every entry and say what it holds
///
/// Reads all of it, whether the service runs or not. Damage is an error that names the segment, the
/// byte and the entry.
#[derive(Args, Debug)]
struct Inspect {
    #[command(flatten)]
    folder: DataFolder,

    /// Say only how many entries there are
    #[arg(long)]
    quiet: bool,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each entry
    Text,
    /// A line of JSON for each entry
    Json,
}

impl Journal {
    pub fn run(self) -> Result<Ending> {
        let What::Inspect(inspect) = self.what;
        inspect.run()
    }
}

impl Inspect {
    fn run(self) -> Result<Ending> {
        let mut reader = Store::open(&self.folder.path()?)?.journal()?;
        let mut out = anstream::AutoStream::auto(io::stdout().lock());
        let (mut entries, mut events, mut bytes) = (0, 0, 0);
        while let Some((number, body)) = reader.next_entry()? {
            let len = body.len() as u64;
            let Entry { head, events: batches } = Entry::decode(number, body)?;
            let of_entry: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
            (entries, events, bytes) = (entries + 1, events + of_entry, bytes + len);
            if self.quiet {
                continue;
            }
            let at = format_instant(head.received_at);
            let (findings, letters) = (head.findings.len(), head.dead_letters.len());
            match self.output {
                Output::Json => {
                    let sources: Vec<_> = head
                        .ledger
                        .iter()
                        .map(|l| json!({ "name": l.source, "partition": l.partition, "position": l.position, "received": l.received, "stored": l.stored, "duplicate": l.duplicate, "dead_letter": l.dead_letter }))
                        .collect();
                    let line = json!({ "entry": number, "received_at": at, "bytes": len, "events": of_entry, "findings": findings, "dead_letters": letters, "sources": sources });
                    writeln!(out, "{line}")?;
                }
                Output::Text => {
                    let sources: Vec<_> = head
                        .ledger
                        .iter()
                        .map(|l| format!("{} {}", l.source, l.partition))
                        .collect();
                    writeln!(
                        out,
                        "{number:>8}  {at}  {:>12} bytes {of_entry:>7} events {letters:>4} dead {findings:>3} findings  {}",
                        thousands(len),
                        sources.join(", ")
                    )?;
                }
            }
        }
        match self.output {
            Output::Json => {
                writeln!(
                    out,
                    "{}",
                    json!({ "entries": entries, "events": events, "bytes": bytes })
                )?;
            }
            Output::Text => writeln!(
                out,
                "{} entries, {} events, {} bytes; all whole",
                thousands(entries),
                thousands(events),
                thousands(bytes)
            )?,
        }
        Ok(Ending::Nothing)
    }
}
