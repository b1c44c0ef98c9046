//! Prints what the detectors find in canonical events, one JSON object a line, in order of time.
#![allow(clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        let mut records = support::read(&std::fs::read_to_string(&path)?);
        records.sort_by_key(|record| (record.at, record.id));
        let started = std::time::Instant::now();
        let findings = support::run(&records, 0);
        let elapsed = started.elapsed();
        println!(
            "{path}: {} events, {} findings, {} ns an event",
            records.len(),
            findings.len(),
            elapsed.as_nanos() / records.len().max(1) as u128,
        );
        for finding in findings {
            println!("{} {} {}", finding.severity, finding.detector, finding.title);
            println!("    {}", finding.sentence);
        }
    }
    Ok(())
}
