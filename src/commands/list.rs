//! `telltale list`: what there is of each sort.

use super::Ending;
use crate::sinks::SINKS;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::io::{self, Write};
use telltale_detect::detectors::KINDS;
use telltale_ingest::PARSERS;
use telltale_queries::slis;

/// List parsers, detectors, SLIs or sinks, a line of help each
#[derive(Args, Debug)]
pub struct List {
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Parsers,
    Detectors,
    Slis,
    Sinks,
}

impl List {
    pub fn run(self) -> Result<Ending> {
        let lines: Vec<(&str, &str)> = match self.what {
            What::Parsers => PARSERS.iter().map(|p| (p.name(), p.help())).collect(),
            What::Detectors => KINDS.iter().map(|kind| (kind.name, kind.help)).collect(),
            What::Slis => slis().iter().map(|sli| (sli.name.as_str(), sli.help.as_str())).collect(),
            What::Sinks => SINKS.iter().map(|kind| (kind.name, kind.help)).collect(),
        };
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut out = io::stdout().lock();
        for (name, help) in lines {
            writeln!(out, "{name:width$}  {help}")?;
        }
        Ok(Ending::Nothing)
    }
}
