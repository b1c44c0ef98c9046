//! `telltale simulate`: the demo's stream as each log's own bytes, with labels.

use super::{Ending, stop_on_signal, thousands};
use crate::pipeline::Progress;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use telltale_schema::time::{format_instant, parse_lenient};
use telltale_simulate::Estate;

/// Write a simulated estate's logs, with a label for every malicious event
///
/// FOLDER gets `logs/<log>.log`, one record a line as the vendor writes it, and `labels.jsonl`:
/// the line number of every malicious event, its attack, and what looks wrong and is not.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  telltale simulate --seed 42 estate && telltale scan estate/logs"
)]
pub struct Simulate {
    /// Where the files go; made if it does not exist
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Days to simulate
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,

    /// Service accounts, roles, workloads and people
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    identities: u32,

    /// The first day
    #[arg(long, default_value = "2026-01-05", value_name = "DATE")]
    start: String,

    /// Normal days only
    #[arg(long)]
    no_attacks: bool,
}

impl Simulate {
    pub fn run(self) -> Result<Ending> {
        let start = parse_lenient(&self.start).with_context(|| {
            format!("`--start` is no date, expected one like 2026-01-05: \"{}\"", self.start)
        })?;
        let estate = Estate {
            seed: self.seed,
            start,
            days: self.days,
            identities: self.identities,
            attacks: !self.no_attacks,
        };
        let progress = Arc::new(Progress::default());
        stop_on_signal(&progress)?;
        let logs = self.folder.join("logs");
        let at = |path: &PathBuf| format!("cannot write to `{}`", path.display());
        fs::create_dir_all(&logs).with_context(|| at(&logs))?;
        let create = |path: PathBuf| -> Result<BufWriter<File>> {
            Ok(BufWriter::new(File::create(&path).with_context(|| at(&path))?))
        };
        let mut labels = create(self.folder.join("labels.jsonl"))?;
        for attack in estate.attacks() {
            let line = json!({
                "attack": attack.id, "name": attack.name, "family": attack.family,
                "principal_id": attack.principal_id, "credential_id": attack.credential_id,
                "first_at": format_instant(attack.first_at), "last_at": format_instant(attack.last_at),
                "story": attack.story,
            });
            writeln!(labels, "{line}")?;
        }
        for negative in estate.hard_negatives() {
            let line = json!({
                "hard_negative": negative.name, "principal_ids": negative.principal_ids,
                "from": format_instant(negative.from), "to": format_instant(negative.to),
                "story": negative.story,
            });
            writeln!(labels, "{line}")?;
        }
        let mut files: BTreeMap<&'static str, (BufWriter<File>, u64)> = BTreeMap::new();
        let mut malicious = 0u64;
        for record in estate.stream() {
            if progress.stop.load(Ordering::Relaxed) {
                anstream::eprintln!(
                    "telltale: interrupted; the files end at {}",
                    format_instant(record.at)
                );
                return Ok(Ending::Interrupted);
            }
            if !files.contains_key(record.log) {
                let file = create(logs.join(format!("{}.log", record.log)))?;
                files.insert(record.log, (file, 0));
            }
            let Some((file, lines)) = files.get_mut(record.log) else { continue };
            *lines += 1;
            writeln!(file, "{}", record.text).with_context(|| at(&logs))?;
            if let Some(attack) = record.attack {
                malicious += 1;
                let line = json!({"log": record.log, "line": *lines, "attack": attack, "event_time": format_instant(record.at)});
                writeln!(labels, "{line}")?;
            }
        }
        labels.flush()?;
        let mut out = anstream::stdout();
        for (log, (mut file, lines)) in files {
            file.flush().with_context(|| at(&logs))?;
            writeln!(out, "{log:24} {:>12} records", thousands(lines))?;
        }
        writeln!(
            out,
            "{:24} {:>12} of them malicious, labelled in {}",
            "",
            thousands(malicious),
            self.folder.join("labels.jsonl").display()
        )?;
        Ok(Ending::Nothing)
    }
}
