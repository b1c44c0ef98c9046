//! `telltale demo`: a simulated estate, live, with attacks woven in.

use super::{ConfigFile, Ending, now, redactor, stop_on_signal, thousands};
use crate::live::Live;
use crate::pipeline::Progress;
use crate::report;
use anyhow::Result;
use clap::Args;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use telltale_detect::engine::Engine;
use telltale_schema::time::{DAY, HOUR, format_instant};
use telltale_schema::{Finding, Micros};
use telltale_simulate::{Attack, Estate};

/// Watch a simulated company being attacked, and what telltale says of it
///
/// Several clouds, a cluster, an identity provider, a secret store and a ClearML site; normal days,
/// deployments, rotations, and attacks among them. Findings are printed as they are found. Nothing
/// leaves this machine; Ctrl-C ends it.
#[derive(Args, Debug)]
pub struct Demo {
    #[command(flatten)]
    config: ConfigFile,

    /// Another seed is another company with other attacks
    #[arg(long, default_value_t = 7)]
    seed: u64,

    /// Days to simulate
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,

    /// Seconds that a simulated day takes; 0 is as fast as it goes
    #[arg(long, default_value_t = 1.5, value_parser = seconds)]
    day_secs: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "it is no number of seconds".to_owned())
}

impl Demo {
    pub fn run(self) -> Result<Ending> {
        let config = self.config.load()?;
        let redactor = redactor(&config)?;
        let progress = Arc::new(Progress::default());
        stop_on_signal(&progress)?;
        let start = now().div_euclid(DAY) * DAY - Micros::from(self.days) * DAY;
        let estate =
            Estate { seed: self.seed, start, days: self.days, attacks: true, ..Estate::default() };
        let attacks = estate.attacks();
        let mut out = anstream::AutoStream::auto(io::stdout().lock());
        writeln!(
            out,
            "A company of {} identities and {} days, with {} attacks woven in. Ctrl-C ends it.\n",
            estate.identities,
            self.days,
            attacks.len()
        )?;
        let engine = Engine::new(config.detectors()?, config.scan.allowed_lateness_micros());
        let mut live = Live::new(&redactor, engine);
        let mut told: BTreeMap<String, Finding> = BTreeMap::new();
        let mut quiet = 0;
        let began = Instant::now();
        // Findings are told hour by hour, whatever the speed.
        let mut until = start + HOUR;
        let mut stream = estate.stream().peekable();
        while let Some(next) = stream.peek() {
            if progress.stop.load(Ordering::Relaxed) {
                break;
            }
            if next.at < until {
                if let Some(record) = stream.next() {
                    live.push(record.log, &record.text);
                }
                continue;
            }
            tell(&mut out, live.run(now()), &mut told, &mut quiet)?;
            let due = began
                + Duration::from_secs_f64(
                    (until - start) as f64 / DAY as f64 * self.day_secs.clamp(0.0, 3600.0),
                );
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            until += HOUR;
        }
        tell(&mut out, live.run(now()), &mut told, &mut quiet)?;
        if !progress.stop.load(Ordering::Relaxed) {
            tell(&mut out, live.finish(), &mut told, &mut quiet)?;
        }
        let seen = attacks.iter().filter(|attack| attack.first_at < until);
        summary(&mut out, seen, &told, &live, quiet)?;
        Ok(Ending::Nothing)
    }
}

/// Prints findings that page the first time that they are seen, and counts the others.
fn tell(
    out: &mut impl Write,
    found: Vec<Finding>,
    told: &mut BTreeMap<String, Finding>,
    quiet: &mut u64,
) -> Result<()> {
    for finding in found {
        let before = told.get(&finding.id);
        let louder = before.is_none_or(|before| before.severity < finding.severity);
        if louder && finding.severity.pages() {
            report::write_finding(out, &finding)?;
            out.flush()?;
        }
        *quiet += u64::from(before.is_none() && !finding.severity.pages());
        told.insert(finding.id.clone(), finding);
    }
    Ok(())
}

fn summary<'a>(
    out: &mut impl Write,
    attacks: impl Iterator<Item = &'a Attack>,
    told: &BTreeMap<String, Finding>,
    live: &Live<'_>,
    quiet: u64,
) -> Result<()> {
    writeln!(out, "What was woven in, and whether it was found:")?;
    for attack in attacks {
        let about = told.values().filter(|finding| {
            let names = [Some(&finding.principal_id), finding.credential_id.as_ref()];
            let named = names
                .into_iter()
                .flatten()
                .chain(&finding.child_credential_ids)
                .chain(&finding.target_ids);
            let ours = named.into_iter().any(|name| {
                *name == attack.principal_id || Some(name) == attack.credential_id.as_ref()
            });
            ours && finding.first_seen <= attack.last_at + DAY
                && finding.last_seen >= attack.first_at - DAY
        });
        let loudest = about.max_by_key(|finding| finding.severity);
        let verdict = match loudest {
            Some(finding) if finding.severity.pages() => "found  ",
            Some(_) => "noted  ",
            None => "missed ",
        };
        writeln!(out, "  {verdict} {}  {}", format_instant(attack.first_at), attack.story)?;
    }
    writeln!(
        out,
        "\n{} events, {} rejected, {} findings that page, {} lesser ones.\nNext: `telltale scan` on your own logs.",
        thousands(live.events),
        live.rejected,
        told.values().filter(|finding| finding.severity.pages()).count(),
        quiet
    )?;
    Ok(())
}
