//! How well attacks are found, on simulated estates: recall by family, false pages a day, and the
//! time from an attack's first event to the finding.
//!
//! `cargo run --release --bin bench-quality [-- SEED…]`. A finding belongs to an attack when
//! one of its evidence events is one of the attack's; a page (high or critical) that belongs to none
//! is a false one.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use telltale_benches::seeds;
use telltale_detect::detectors;
use telltale_detect::engine::{Engine, merge};
use telltale_detect::timeline::{Digest, Timeline};
use telltale_ingest::container::{Framing, Walk};
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::{Block, Payload, Rejects, parsers};
use telltale_schema::time::{HOUR, MINUTE};
use telltale_schema::{Event, EventId, Events, Finding, Micros};
use telltale_simulate::{Attack, Estate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that nothing was tuned on.
const SEEDS: [u64; 5] = [9001, 9002, 9003, 9004, 9005];
/// What a page may cost in evidence of something else and still be the attack's.
const LATENESS: i64 = 15 * MINUTE;

/// What came of one attack.
struct Fate {
    family: &'static str,
    paged: bool,
    noted: bool,
    delay: Option<i64>,
}

/// The ids of events.
#[derive(Default)]
struct Ids(Vec<EventId>);

impl Events for Ids {
    fn push(&mut self, event: &Event<'_>) {
        self.0.push(event.event_id);
    }

    fn received_at(&self) -> Micros {
        0
    }
}

fn parse(log: &str, bytes: Vec<u8>, redactor: &Redactor, events: &mut dyn Events) {
    let mut rejects = Rejects::default();
    let block = Block {
        origin: log.into(),
        bytes,
        framing: Framing::Lines,
        walk: Walk::default(),
        first_position: 1,
        positions: Default::default(),
    };
    let payload = Payload::new(block, redactor, &mut rejects);
    let parser = parsers::by_name(log).expect("the estate writes logs that there are parsers of");
    parser.parse(&payload, events, &mut rejects);
    assert_eq!(rejects.total(), 0, "{log}: {:?}", rejects.into_sorted());
}

/// An estate's events in order of time, and whose the malicious ones are.
fn read(estate: &Estate) -> (Timeline, HashMap<EventId, u32>) {
    let redactor = Redactor::new(&Key::from_bytes([1; 32]));
    let (mut timeline, mut digest) = (Timeline::default(), Digest::default());
    let mut malicious = HashMap::new();
    let mut gathered: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    for record in estate.stream() {
        if let Some(attack) = record.attack {
            let mut ids = Ids::default();
            parse(record.log, record.text.clone().into_bytes(), &redactor, &mut ids);
            malicious.extend(ids.0.into_iter().map(|id| (id, attack)));
        }
        let lines = gathered.entry(record.log).or_default();
        lines.extend_from_slice(record.text.as_bytes());
        lines.push(b'\n');
        if lines.len() > 1 << 20 {
            parse(record.log, std::mem::take(lines), &redactor, &mut digest.read_at(0));
            timeline.merge(&mut digest);
        }
    }
    for (log, lines) in gathered {
        parse(log, lines, &redactor, &mut digest.read_at(0));
        timeline.merge(&mut digest);
    }
    timeline.sort(1);
    (timeline, malicious)
}

fn detect(timeline: &Timeline) -> Vec<Finding> {
    merge(detectors::defaults().into_iter().map(|detector| {
        let mut engine = Engine::new(vec![detector], LATENESS);
        timeline.observations().for_each(|observation| engine.show(&observation));
        engine.finish();
        engine.findings()
    }))
}

fn fate(attack: &Attack, findings: &[Finding], malicious: &HashMap<EventId, u32>) -> Fate {
    let own = findings
        .iter()
        .filter(|finding| finding.event_ids.iter().any(|id| malicious.get(id) == Some(&attack.id)));
    let (mut noted, mut page): (bool, Option<i64>) = (false, None);
    for finding in own {
        noted = true;
        if finding.severity.pages() {
            page = Some(page.map_or(finding.raised_at, |at| at.min(finding.raised_at)));
        }
    }
    Fate {
        family: attack.family,
        paged: page.is_some(),
        noted,
        delay: page.map(|at| (at - attack.first_at).max(0)),
    }
}

fn main() {
    let verbose = std::env::var_os("VERBOSE").is_some();
    let (mut fates, mut days, mut false_pages, mut tickets) = (Vec::new(), 0, 0, 0);
    for seed in seeds(&SEEDS) {
        let estate = Estate { seed, ..Estate::default() };
        let (timeline, malicious) = read(&estate);
        let findings = detect(&timeline);
        let attacks = estate.attacks();
        let (mut paged, mut noted) = (0, 0);
        for attack in &attacks {
            let fate = fate(attack, &findings, &malicious);
            paged += u32::from(fate.paged);
            noted += u32::from(fate.noted);
            if verbose && !fate.paged {
                let how = if fate.noted { "noted" } else { "missed" };
                println!(
                    "  {how} {} ({}): {} [{}]",
                    attack.name, attack.family, attack.story, attack.principal_id
                );
            }
            fates.push(fate);
        }
        let is_false =
            |finding: &&Finding| finding.event_ids.iter().all(|id| !malicious.contains_key(id));
        let wrong: Vec<_> = findings.iter().filter(is_false).collect();
        let pages = wrong.iter().filter(|finding| finding.severity.pages()).count();
        if verbose {
            for finding in wrong.iter().filter(|finding| finding.severity.pages()) {
                println!(
                    "  false {} {}: {}",
                    finding.detector, finding.principal_id, finding.sentence
                );
            }
        }
        println!(
            "seed {seed}: {} events, {} attacks, {paged} paged, {noted} noted, {pages} false pages and {} other lesser findings in {} days",
            timeline.len(),
            attacks.len(),
            wrong.len() - pages,
            estate.days
        );
        days += estate.days;
        false_pages += pages;
        tickets += wrong.len() - pages;
    }
    println!(
        "\n| family | attacks | paged | paged or noted | median time to the page |\n|---|---|---|---|---|"
    );
    let families: BTreeSet<_> = fates.iter().map(|fate| fate.family).collect();
    for family in families.into_iter().map(Some).chain([None]) {
        let own: Vec<_> =
            fates.iter().filter(|f| family.is_none_or(|family| f.family == family)).collect();
        let mut delays: Vec<_> = own.iter().filter_map(|fate| fate.delay).collect();
        delays.sort_unstable();
        let median = delays.get(delays.len() / 2).map_or("".to_owned(), |delay| match *delay {
            d if d < HOUR => format!("{:.0} min", d as f64 / MINUTE as f64),
            d => format!("{:.1} h", d as f64 / HOUR as f64),
        });
        let share = |count: usize| {
            format!("{count} ({:.0} %)", 100.0 * count as f64 / own.len().max(1) as f64)
        };
        println!(
            "| {} | {} | {} | {} | {median} |",
            family.unwrap_or("all"),
            own.len(),
            share(own.iter().filter(|fate| fate.paged).count()),
            share(own.iter().filter(|fate| fate.noted).count())
        );
    }
    println!(
        "\nFalse pages a day: {:.2}. Lesser findings a day that belong to no attack: {:.2}.",
        false_pages as f64 / f64::from(days),
        tickets as f64 / f64::from(days)
    );
}
