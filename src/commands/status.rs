//! `telltale status`: what became of everything that was received.

use super::{DataFolder, Ending, thousands};
use crate::service::dispatch;
use crate::store::Store;
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::{self, Write};

/// Show what became of everything that a service received
///
/// For every source and partition, received = stored + duplicate + dead letter. What is left over is
/// the residue, and it is zero.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    folder: DataFolder,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people
    Text,
    /// One JSON document
    Json,
}

impl Status {
    pub fn run(self) -> Result<Ending> {
        let data = self.folder.path()?;
        let accounts = Store::open(&data)?.accounts()?;
        let residue = accounts.residue;
        let names = dispatch::names(&data).into_iter();
        let sinks = names.map(|name| Ok((dispatch::waiting(&data, &name)?, name)));
        let sinks = sinks.collect::<Result<Vec<_>>>()?;
        let mut out = anstream::AutoStream::auto(io::stdout().lock());
        match self.output {
            Output::Json => {
                let sources: Vec<_> = accounts
                    .totals
                    .values()
                    .map(|ledger| {
                        json!({
                            "name": ledger.source,
                            "partition": ledger.partition,
                            "position": ledger.position,
                            "received": ledger.received,
                            "stored": ledger.stored,
                            "duplicate": ledger.duplicate,
                            "dead_letter": ledger.dead_letter,
                            "in_flight": 0,
                        })
                    })
                    .collect();
                let document = json!({
                    "sources": sources,
                    "residue": residue,
                    "sinks": sinks.iter().map(|(waiting, name)| json!({ "name": name, "waiting": waiting })).collect::<Vec<_>>(),
                    "journal": { "entries": accounts.entries },
                });
                writeln!(out, "{document:#}")?;
            }
            Output::Text => {
                writeln!(
                    out,
                    "{:<32}{:>14}{:>14}{:>14}{:>14}",
                    "source", "received", "stored", "duplicate", "dead letter"
                )?;
                for ledger in accounts.totals.values() {
                    let name = match ledger.partition.as_str() {
                        "" => ledger.source.clone(),
                        partition => format!("{} {partition}", ledger.source),
                    };
                    let [received, stored, duplicate, dead] =
                        [ledger.received, ledger.stored, ledger.duplicate, ledger.dead_letter]
                            .map(thousands);
                    writeln!(out, "{name:<32}{received:>14}{stored:>14}{duplicate:>14}{dead:>14}")?;
                }
                writeln!(out, "\nresidue {residue}")?;
                for (waiting, name) in &sinks {
                    writeln!(out, "sink {name}: {waiting} findings wait")?;
                }
            }
        }
        Ok(Ending::Nothing)
    }
}
