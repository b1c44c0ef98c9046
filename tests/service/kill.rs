//! The service is killed again and again while three feeds reach it at once: everything that was
//! acknowledged is in the lake once, and the findings are those of a run that nobody disturbed.
//!
//! `TELLTALE_KILLS=200 cargo test --test service killed_at_any_moment -- --nocapture` is a full run; the
//! tally is printed.
//!
//! A kill falls anywhere, or is aimed at what can be seen from outside: the journal waits for its disk,
//! a table of the lake has files that no commit names yet, a snapshot is half written, the consumer
//! group is being shared out anew. That happens at every start, because the group still waits for the
//! member that was killed, and when a second member joins and leaves. This one is the test's own: what
//! it reads it never tells the group, so that it takes nothing away from the service.

#![expect(clippy::print_stdout, reason = "the tally is for whoever runs it by hand")]

use crate::feeds::{Dice, Feeds, HOURS, Step, member, steps};
use crate::run::{Running, Site, wait_until};
use crate::sinks::told;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn kills() -> usize {
    std::env::var("TELLTALE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

const SINK: &str = "[[sink]]\nkind = \"ndjson\"\npath = \"told.ndjson\"\n";

/// Of a service that nobody disturbs. What is stored is counted from the last snapshot on.
const CALM: &str = "[service]\nsnapshot_interval = \"500ms\"\n";

/// How far feeds and kills are: neither is done long before the other.
struct Pace {
    kills: usize,
    /// Kills come one in each step of an hour, then there are some hours without: the group takes
    /// seconds until it gives up a member that was killed.
    steps_an_hour: usize,
    begun: AtomicUsize,
    killed: AtomicUsize,
}

impl Pace {
    /// So many kills and no sender yet.
    fn of(kills: usize) -> Self {
        let steps_an_hour = kills.div_ceil(HOURS).max(5);
        Self { kills, steps_an_hour, begun: AtomicUsize::new(0), killed: AtomicUsize::new(0) }
    }

    /// The step in which a kill falls.
    fn step_of(&self, kill: usize) -> usize {
        let every = HOURS / self.kills.div_ceil(self.steps_an_hour).max(1);
        kill / self.steps_an_hour * every * self.steps_an_hour + kill % self.steps_an_hour
    }

    fn begin_step(&self, step: usize) {
        let due = (0..self.kills).filter(|kill| self.step_of(*kill) < step).count();
        self.wait(|| self.killed.load(Ordering::SeqCst) >= due);
        self.begun.store(step + 1, Ordering::SeqCst);
    }

    fn wait_for_kill(&self, kill: usize) {
        self.wait(|| self.begun.load(Ordering::SeqCst) > self.step_of(kill));
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(300);
        while !done() {
            assert!(Instant::now() < until, "feeds and kills wait for each other");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Where a kill is meant to fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    Sync,
    Flush,
    Snapshot,
    Rebalance,
    Anywhere,
}

const AIMS: [Aim; 5] = [Aim::Sync, Aim::Flush, Aim::Snapshot, Aim::Rebalance, Aim::Anywhere];

/// How long what is aimed at is waited for; then the kill falls anywhere.
const AIMING: Duration = Duration::from_millis(700);

/// Kills the service while feeds reach it.
struct Killer<'s> {
    site: &'s Site,
    brokers: String,
    dice: Dice,
    /// Kills that fell where they were meant to.
    struck: BTreeMap<Aim, usize>,
}

impl Killer<'_> {
    /// Kills and restarts as often as `pace` says; gives the last service.
    fn torment(&mut self, mut service: Running, port: &AtomicU16, pace: &Pace) -> Running {
        for kill in 0..pace.kills {
            pace.wait_for_kill(kill);
            let aim = AIMS[kill % AIMS.len()];
            let second = (aim == Aim::Rebalance).then(|| member(&self.brokers));
            let left = self.unnamed();
            let is_there = self.take_aim(aim, service.id(), &left, second.as_ref());
            service.kill();
            pace.killed.fetch_add(1, Ordering::SeqCst);
            let strikes = match aim {
                // What is left says it.
                Aim::Flush => !self.unnamed().is_subset(&left),
                Aim::Snapshot => self.half_snapshot().exists(),
                Aim::Sync | Aim::Rebalance | Aim::Anywhere => is_there,
            };
            if aim != Aim::Anywhere {
                *self.struck.entry(aim).or_default() += usize::from(strikes);
            }
            service = self.site.start();
            port.store(service.port, Ordering::SeqCst);
        }
        service
    }

    /// Waits for the moment; whether it is there.
    fn take_aim(
        &mut self,
        aim: Aim,
        pid: u32,
        left: &BTreeSet<PathBuf>,
        second: Option<&BaseConsumer>,
    ) -> bool {
        let random = Duration::from_millis(self.dice.below(400));
        let began = Instant::now();
        let until = began + if aim == Aim::Anywhere { random } else { AIMING };
        loop {
            let is_there = match aim {
                Aim::Sync => is_syncing(pid),
                Aim::Flush => !self.unnamed().is_subset(left),
                Aim::Snapshot => self.half_snapshot().exists(),
                Aim::Rebalance => {
                    let second = second.expect("a second member joins");
                    second.poll(Duration::ZERO);
                    let assigned = second.assignment().map_or(0, |list| list.count());
                    assigned == 0 && began.elapsed() >= random
                }
                Aim::Anywhere => false,
            };
            if is_there || Instant::now() >= until {
                return is_there;
            }
            if aim != Aim::Sync {
                std::thread::park_timeout(Duration::from_micros(200));
            }
        }
    }

    fn half_snapshot(&self) -> PathBuf {
        self.site.data().join("snapshot.new")
    }

    /// Files of the lake that are newer than the last commit of their table.
    fn unnamed(&self) -> BTreeSet<PathBuf> {
        let tables = ["events", "findings", "dead_letters"];
        let tables = tables.map(|table| {
            let table = self.site.data().join("lake").join(table);
            let (mut data, mut commits) = (Vec::new(), Vec::new());
            files_of(&table, &mut data);
            data.retain(|(path, _)| !path.starts_with(table.join("_delta_log")));
            files_of(&table.join("_delta_log"), &mut commits);
            let committed = commits.into_iter().map(|(_, at)| at).max();
            let newer = move |at: &SystemTime| committed.is_none_or(|committed| *at > committed);
            data.into_iter().filter(move |(_, at)| newer(at)).map(|(path, _)| path)
        });
        tables.into_iter().flatten().collect()
    }
}

fn files_of(folder: &Path, files: &mut Vec<(PathBuf, SystemTime)>) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match file.metadata() {
            Ok(metadata) if metadata.is_dir() => files_of(&file.path(), files),
            Ok(metadata) => files.extend(metadata.modified().ok().map(|at| (file.path(), at))),
            Err(_) => {}
        }
    }
}

/// Whether the thread that writes the journal waits for the disk, as Linux tells it.
fn is_syncing(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.contains("(journal) D ")
    })
}

fn findings(site: &Site) -> Vec<String> {
    let columns = "finding_id, detector, severity, principal_id, event_count, evidence, ocsf";
    let rows = site.query(&format!("SELECT {columns} FROM findings ORDER BY finding_id"));
    rows.iter().map(ToString::to_string).collect()
}

/// What is left of a run.
#[derive(PartialEq, Eq)]
struct Outcome {
    held: BTreeMap<String, u64>,
    numbered: Value,
    findings: Vec<String>,
    dead_letters: Vec<String>,
    residue: Value,
}

impl Outcome {
    fn of(site: &Site, service: Running) -> Self {
        service.stop();
        let numbered = "SELECT count(*) AS n FROM events WHERE log <> 'clearml'";
        let letters = site.query("SELECT text FROM dead_letters ORDER BY text");
        Self {
            held: site.held(),
            numbered: site.query(numbered)[0]["n"].clone(),
            findings: findings(site),
            dead_letters: letters.iter().map(|row| text(&row["text"])).collect(),
            residue: site.status()["residue"].clone(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn undisturbed(steps: &[Step]) -> Outcome {
    let site = Site::with(CALM, &[]);
    let mut feeds = Feeds::to(&site, "");
    let service = site.start();
    let port = AtomicU16::new(service.port);
    steps.iter().for_each(|step| feeds.send(step, &site, &port));
    Outcome::of(&site, service)
}

#[test]
fn killed_at_any_moment_it_loses_and_invents_nothing() {
    let kills = kills();
    let pace = Pace::of(kills);
    let steps = steps(pace.steps_an_hour);
    let expected = undisturbed(&steps);
    let site = Site::new(&[]);
    let mut feeds = Feeds::to(&site, SINK);
    let service = site.start();
    let port = AtomicU16::new(service.port);
    let (brokers, dice) = (feeds.brokers(), Dice(17));
    let mut killer = Killer { site: &site, brokers, dice, struck: BTreeMap::new() };
    let service = std::thread::scope(|scope| {
        let killing = scope.spawn(|| killer.torment(service, &port, &pace));
        for (number, step) in steps.iter().enumerate() {
            pace.begin_step(number);
            feeds.send(step, &site, &port);
        }
        killing.join().expect("the service starts again")
    });
    let behind = || {
        let entry = |name| service.metric(&format!("telltale_{name}_entry"), "");
        entry("journal") - entry("lake")
    };
    wait_until("in the lake", || behind() == 0.0, || site.said());
    let outcome = Outcome::of(&site, service);
    let mut poison: Vec<_> = steps.iter().flat_map(|step| step.poison.clone()).collect();
    poison.sort();
    let sent: usize = steps.iter().map(Step::numbered).sum();
    let doubled = outcome.held.values().filter(|count| **count != 1).count();
    println!(
        "{kills} kills, of those aimed at fell {:?}; {} of {} events held, {doubled} doubled; {} of {} dead letters; {} of {} findings",
        killer.struck,
        outcome.held.len(),
        expected.held.len(),
        outcome.dead_letters.len(),
        poison.len(),
        outcome.findings.len(),
        expected.findings.len(),
    );
    assert_eq!((&expected.numbered, &expected.dead_letters), (&sent.into(), &poison));
    assert!(expected.findings.len() > 3, "there is something to find: {:?}", expected.findings);
    assert_eq!(doubled, 0);
    assert!(outcome.held == expected.held, "the same events as undisturbed");
    assert_eq!(outcome.dead_letters, poison);
    assert_eq!(outcome.findings, expected.findings);
    assert_eq!(outcome.residue, 0, "{}", site.said());
    let told = told(&site);
    for row in site.query("SELECT finding_id, ocsf FROM findings") {
        let last = told.get(&text(&row["finding_id"]));
        assert_eq!(last, Some(&text(&row["ocsf"])), "the sink heard last what is known");
    }
    // One in ten is few: what is aimed at may be over before the kill.
    for aim in [Aim::Flush, Aim::Snapshot, Aim::Rebalance] {
        let struck = killer.struck.get(&aim).copied().unwrap_or_default();
        assert!(kills < 100 || struck * AIMS.len() * 10 >= kills, "{aim:?}: {:?}", killer.struck);
    }
}
