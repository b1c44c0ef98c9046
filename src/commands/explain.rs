//! `telltale explain`: the page of one parser, detector, SLI or sink. The page of what is code is
//! the head of its module, so that it cannot differ from what the code does without being seen.

use super::{Ending, did_you_mean};
use crate::sinks::SINKS;
use anyhow::{Result, bail};
use clap::Args;
use std::io::{self, Write};
use telltale_detect::DetectorKind;
use telltale_detect::detectors::KINDS;
use telltale_ingest::PARSERS;
use telltale_queries::slis;

/// Show the page of one parser, detector, SLI or sink
#[derive(Args, Debug)]
pub struct Explain {
    /// A name of `telltale list`
    name: String,
}

impl Explain {
    pub fn run(self) -> Result<Ending> {
        let pages = pages();
        match pages.iter().find(|(name, ..)| *name == self.name) {
            Some((name, sort, page)) => {
                let mut out = io::stdout().lock();
                write!(out, "{name}, a {sort}\n\n{page}\n")?;
                Ok(Ending::Nothing)
            }
            None => {
                let names: Vec<_> = pages.iter().map(|(name, ..)| *name).collect();
                bail!("nothing is called `{}`{}", self.name, did_you_mean(&self.name, &names))
            }
        }
    }
}

/// Every page: name, sort, text.
fn pages() -> Vec<(&'static str, &'static str, String)> {
    let parsers = PARSERS.iter().map(|p| (p.name(), "parser", head(p.source())));
    let detectors = KINDS.iter().map(|kind| (kind.name, "detector", detector(kind)));
    let slis = slis().iter().map(|sli| (sli.name.as_str(), "SLI", sli.explain()));
    let sinks = SINKS.iter().map(|kind| (kind.name, "sink", head(kind.source)));
    parsers.chain(detectors).chain(slis).chain(sinks).collect()
}

/// The page of a detector, and its settings.
fn detector(kind: &DetectorKind) -> String {
    let settings = (kind.settings)();
    let lines = settings.iter().map(|(name, meaning)| format!("\n- `{name}`: {meaning}"));
    format!(
        "{}\n## Settings of `[[detect]] kind = \"{}\"`{}",
        head(kind.source),
        kind.name,
        lines.collect::<String>()
    )
}

/// The lines of a module's own documentation.
fn head(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_detector_says_what_can_be_set() {
        let reference = include_str!("../../docs/reference/configuration.md");
        for kind in KINDS {
            let (page, settings) = (detector(kind), (kind.settings)());
            assert!(settings.iter().any(|(name, _)| name == "false_pages_per_day"));
            for (name, meaning) in settings {
                assert!(page.contains(&format!("- `{name}`: {meaning}")), "{page}");
                assert!(reference.contains(&format!("| `{name}` |")), "`{name}` of {}", kind.name);
            }
        }
    }

    #[test]
    fn every_name_has_a_page_and_no_name_is_used_twice() {
        let pages = pages();
        for (name, _, page) in &pages {
            assert!(page.len() > 100, "the page of `{name}` says nothing");
        }
        let mut names: Vec<_> = pages.iter().map(|(name, ..)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), pages.len());
    }
}
