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
        for kind in telltale_detect::detectors::KINDS {
            let started = std::time::Instant::now();
            let detector =
                (kind.build)(toml::Table::new()).expect("an empty table is every default");
            let mut engine = telltale_detect::Engine::new(vec![detector], 0);
            records.iter().for_each(|record| engine.observe(&record.event()));
            let nanos = started.elapsed().as_nanos() / records.len().max(1) as u128;
            println!("{}: {nanos} ns an event", kind.name);
        }
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
