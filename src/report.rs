//! What people read: the report of a scan, and one finding of it.

use crate::commands::scan::Outcome;
use crate::commands::thousands;
use crate::pipeline::FileReject;
use anstyle::{AnsiColor, Style};
use std::io::{self, Write};
use telltale_queries::SliResult;
use telltale_schema::time::format_instant;
use telltale_schema::{Finding, Severity};

/// Rejects that are listed one by one; the others are counted.
const LISTED_REJECTS: usize = 12;
/// Rows of one SLI that are listed.
const LISTED_ROWS: usize = 8;

const HEADING: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

fn colour(severity: Severity) -> Style {
    match severity {
        Severity::Critical => AnsiColor::White.on(AnsiColor::Red).bold(),
        Severity::High => AnsiColor::Red.on_default().bold(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::Low => AnsiColor::Cyan.on_default(),
        Severity::Informational => DIM,
    }
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{HEADING}{text}{HEADING:#}")
}

/// Writes the whole report.
pub fn write(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let Outcome { intake, counts, analysis, elapsed } = outcome;
    let seconds = elapsed.as_secs_f64().max(1e-6);
    writeln!(
        out,
        "{} events in {} files, {:.1} MB, {:.2} s ({} events/s)",
        thousands(counts.read),
        intake.files,
        intake.bytes as f64 / 1e6,
        seconds,
        thousands((counts.read as f64 / seconds) as u64)
    )?;
    heading(out, "Read")?;
    for (log, events) in &counts.by_log {
        writeln!(out, "  {log:24} {:>14}", thousands(*events))?;
    }
    writeln!(
        out,
        "  {DIM}kept {}, duplicate {}, rejected {}{DIM:#}",
        thousands(counts.kept),
        thousands(counts.duplicate),
        thousands(counts.rejected)
    )?;
    if counts.untimed > 0 {
        writeln!(
            out,
            "  {DIM}{} events have no time of their own: nothing is detected in them{DIM:#}",
            thousands(counts.untimed)
        )?;
    }
    if analysis.evicted > 0 {
        writeln!(
            out,
            "  {DIM}detectors forgot their oldest state {} times, their bounds being hit{DIM:#}",
            thousands(analysis.evicted)
        )?;
    }
    write_rejects(out, &intake.rejects)?;
    findings(out, &analysis.findings)?;
    slis(out, &analysis.slis)
}

/// Says what could not be read, and why.
pub fn write_rejects(out: &mut impl Write, rejects: &[FileReject]) -> io::Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    heading(out, "Not read")?;
    for reject in rejects.iter().take(LISTED_REJECTS) {
        let FileReject { path, position, reason, count } = reject;
        match (position, count) {
            (0, _) => writeln!(out, "  {path}: {reason}")?,
            (_, 1) => writeln!(out, "  {path}, record {position}: {reason}")?,
            _ => writeln!(out, "  {path}, {count} records from {position} on: {reason}")?,
        }
    }
    if let Some(more) = rejects.len().checked_sub(LISTED_REJECTS).filter(|more| *more > 0) {
        writeln!(out, "  {DIM}and {more} more; all of them with --output json{DIM:#}")?;
    }
    Ok(())
}

fn findings(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    if findings.is_empty() {
        heading(out, "Findings: none")?;
        return writeln!(out, "  No detector saw an identity misused in these events.");
    }
    let tally = Severity::ALL.iter().rev().filter_map(|severity| {
        let count = findings.iter().filter(|finding| finding.severity == *severity).count();
        (count > 0).then(|| format!("{count} {}", severity.as_str().to_lowercase()))
    });
    heading(out, &format!("Findings: {}", tally.collect::<Vec<_>>().join(", ")))?;
    findings.iter().try_for_each(|finding| write_finding(out, finding))
}

/// Writes one finding: its sentence, its evidence, what to do next.
pub fn write_finding(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let style = colour(finding.severity);
    writeln!(
        out,
        "{style}{:>13}{style:#}  {HEADING}{}{HEADING:#}",
        finding.severity.as_str().to_uppercase(),
        finding.title
    )?;
    let mut line = |name: &str, text: &str| writeln!(out, "    {DIM}{name:>10}{DIM:#}  {text}");
    line("", &finding.sentence)?;
    line(
        "when",
        &match finding.first_seen == finding.last_seen {
            true => format_instant(finding.first_seen),
            false => format!(
                "{} to {}",
                format_instant(finding.first_seen),
                format_instant(finding.last_seen)
            ),
        },
    )?;
    line("principal", &finding.principal_id)?;
    if let Some(credential) = &finding.credential_id {
        line(
            "credential",
            &match finding.child_credential_ids.len() {
                0 => credential.clone(),
                children => format!("{credential}, which minted {children} more"),
            },
        )?;
    }
    for dimension in &finding.dimensions {
        let usual = match dimension.usual.as_str() {
            "" => String::new(),
            usual => format!(" (usual: {usual})"),
        };
        let probability = match dimension.probability {
            Some(p) => format!(", p = {p:.2e}"),
            None => String::new(),
        };
        line(&dimension.name, &format!("{}{usual}{probability}", dimension.observed))?;
    }
    let ids: Vec<_> = finding.event_ids.iter().take(3).map(ToString::to_string).collect();
    line(
        "evidence",
        &format!(
            "{} events: {}{}",
            finding.event_count,
            ids.join(", "),
            if finding.event_count > ids.len() as u64 { " …" } else { "" }
        ),
    )?;
    for (number, step) in finding.next_steps.iter().enumerate() {
        line(if number == 0 { "next" } else { "" }, &format!("{}. {step}", number + 1))?;
    }
    line("id", &format!("{}, detector {}", finding.id, finding.detector))?;
    writeln!(out)
}

fn slis(out: &mut impl Write, slis: &[SliResult]) -> io::Result<()> {
    heading(out, "Service levels")?;
    for sli in slis {
        let objective =
            sli.objective.map_or(String::new(), |objective| format!("  objective {objective}"));
        writeln!(out, "  {} ({}){objective}", sli.name, sli.unit)?;
        if let Some(problem) = &sli.problem {
            writeln!(out, "    {DIM}not measured: {problem}{DIM:#}")?;
        } else if sli.rows.is_empty() {
            writeln!(out, "    {DIM}nothing to measure{DIM:#}")?;
        }
        for row in sli.rows.iter().take(LISTED_ROWS) {
            let labels: Vec<_> =
                row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (verdict, style) = match row.met {
                Some(true) => ("met", AnsiColor::Green.on_default()),
                Some(false) => ("not met", AnsiColor::Red.on_default()),
                None => ("", Style::new()),
            };
            writeln!(
                out,
                "    {:>12}  {style}{verdict:7}{style:#}  {}",
                number(row.value),
                labels.join(" ")
            )?;
        }
        if let Some(more) = sli.rows.len().checked_sub(LISTED_ROWS).filter(|more| *more > 0) {
            writeln!(out, "    {DIM}and {more} more rows{DIM:#}")?;
        }
    }
    Ok(())
}

/// Counts without a fraction, ratios with four digits.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 && value.abs() > 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}
