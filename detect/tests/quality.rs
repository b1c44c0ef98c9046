//! How well the detectors tell attacks from days that only look wrong, on random estates.

mod estate;
mod support;

use estate::{Estate, START};
use std::collections::BTreeMap;
use telltale_schema::Finding;
use telltale_schema::time::{DAY, HOUR};

const DAYS: i64 = 21;

/// Pages about nobody who was attacked.
fn false_pages<'a>(estate: &Estate, findings: &'a [Finding]) -> Vec<&'a Finding> {
    let justified = |finding: &Finding| {
        estate.attacks.iter().any(|attack| {
            let within = attack.began_at..attack.began_at + 3 * DAY;
            attack.victims.contains(&finding.principal_id) && within.contains(&finding.raised_at)
        })
    };
    findings.iter().filter(|f| f.severity.pages() && !justified(f)).collect()
}

#[test]
#[allow(clippy::print_stdout)]
fn attacks_page_and_estates_do_not() {
    let seeds = std::env::var("ESTATES").ok().and_then(|n| n.parse().ok()).unwrap_or(2u64);
    let mut found: BTreeMap<&str, (u64, u64, f64)> = BTreeMap::new();
    let (mut pages, mut tickets, mut events, mut nanos) = (0, 0, 0, 0);
    for seed in 1..=seeds {
        let estate = Estate::new(seed * 7919, DAYS, true);
        #[expect(clippy::disallowed_methods, reason = "the pace is printed, not tested")]
        let started = std::time::Instant::now();
        let findings = support::run(&estate.records, 0);
        nanos += started.elapsed().as_nanos();
        events += estate.records.len();
        for attack in &estate.attacks {
            let first = findings
                .iter()
                .filter(|f| f.severity.pages() && attack.victims.contains(&f.principal_id))
                .filter(|f| (attack.began_at..attack.began_at + DAY).contains(&f.raised_at))
                .map(|f| f.raised_at - attack.began_at)
                .min();
            let entry = found.entry(attack.name).or_default();
            entry.1 += 1;
            if let Some(after) = first {
                entry.0 += 1;
                entry.2 += after as f64 / HOUR as f64;
            }
        }
        let noise = false_pages(&estate, &findings);
        pages += noise.len();
        tickets += findings.iter().filter(|f| !f.severity.pages()).count();
        for finding in noise {
            println!(
                "false: day {:.1} {} {}",
                (finding.raised_at - START) as f64 / DAY as f64,
                finding.detector,
                finding.sentence
            );
        }
    }
    for (name, (hits, of, hours)) in &found {
        println!("{name:20} {hits}/{of} after {:.2} h", hours / (*hits).max(1) as f64);
    }
    let days = (seeds * DAYS as u64) as f64;
    println!(
        "{events} events, {:.3} false pages a day, {:.2} tickets a day, {} ns an event",
        pages as f64 / days,
        tickets as f64 / days,
        nanos / events.max(1) as u128
    );
    let (hits, of) = found.values().fold((0, 0), |sum, (hits, of, _)| (sum.0 + hits, sum.1 + of));
    assert!(hits * 100 >= of * 85, "{hits} of {of} attacks paged");
    assert!(pages as f64 / days < 0.5, "{pages} false pages in {days} days");
}
