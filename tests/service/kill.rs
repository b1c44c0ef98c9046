//! The service is killed again and again while it is fed: everything that was acknowledged is there
//! once, and the findings are those of a run that nobody disturbed.
//!
//! `TELLTALE_KILLS=200 cargo test --release --test service killed -- --nocapture` is a full run; the tally is
//! printed.

#![expect(clippy::print_stdout, reason = "the tally is for whoever runs it by hand")]

use crate::files::{append, gzip};
use crate::run::{Running, Site, post, record};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};
use telltale_simulate::Estate;

fn kills() -> usize {
    std::env::var("TELLTALE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Spreads moments without a clock or a library.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Days of a simulated company under attack, cut where the log changes.
pub fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    bodies_of(7, 60)
}

/// The same of so many days and identities.
pub fn bodies_of(days: u32, identities: u32) -> Vec<(&'static str, Vec<u8>)> {
    let estate = Estate { seed: 5, days, identities, ..Estate::default() };
    let mut bodies: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for record in estate.stream() {
        match bodies.last_mut() {
            Some((log, body)) if *log == record.log && body.len() < 100_000 => {
                body.extend_from_slice(record.text.as_bytes());
                body.push(b'\n');
            }
            _ => bodies.push((record.log, format!("{}\n", record.text).into_bytes())),
        }
    }
    // Short bodies are many requests; the tail of the days is enough for a kill at any moment.
    let mut joined: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (log, body) in bodies {
        match joined
            .iter_mut()
            .rev()
            .take(6)
            .find(|(known, body)| *known == log && body.len() < 60_000)
        {
            Some((_, known)) => known.extend_from_slice(&body),
            None => joined.push((log, body)),
        }
    }
    joined
}

/// Posts a body until it is acknowledged, wherever the service is by then.
pub fn send(port: &AtomicU16, log: &str, body: &[u8]) {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let path = format!("/v1/logs/{log}");
        match post(port.load(Ordering::SeqCst), &path, body, &[]) {
            Some((200, _)) => return,
            Some((status, _)) => assert!([429, 503].contains(&status), "answers {status}"),
            None => {}
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("a body is never acknowledged");
}

fn findings(site: &Site) -> Vec<String> {
    let columns = "finding_id, detector, severity, principal_id, event_count, evidence";
    let rows = site.query(&format!("SELECT {columns} FROM findings ORDER BY finding_id"));
    rows.iter().map(ToString::to_string).collect()
}

const SINK: &str = "[[sink]]\nkind = \"ndjson\"\npath = \"told.ndjson\"\n";

/// The last line of each finding in the file of the sink.
pub fn told(site: &Site) -> BTreeMap<String, String> {
    let lines = std::fs::read_to_string(site.file("told.ndjson")).unwrap_or_default();
    let lines = lines.lines().map(|line| {
        let finding: Value = serde_json::from_str(line).expect("a line is JSON");
        (finding["finding_info"]["uid"].as_str().unwrap_or_default().to_owned(), line.to_owned())
    });
    lines.collect()
}

/// Kills and restarts until `done`, at most `most` times; gives the last one and the count.
fn torment(
    site: &Site,
    first: Running,
    port: &AtomicU16,
    done: &AtomicBool,
    most: usize,
) -> (Running, usize) {
    let (mut service, mut count, mut dice) = (first, 0, Dice(17));
    while count < most && !done.load(Ordering::SeqCst) {
        std::thread::park_timeout(Duration::from_millis(dice.below(500)));
        service.kill();
        service = site.start();
        port.store(service.port, Ordering::SeqCst);
        count += 1;
    }
    (service, count)
}

#[test]
fn killed_at_any_moment_it_loses_and_invents_nothing() {
    let bodies = bodies();
    let quiet = Site::new(&[]);
    let service = quiet.start();
    let port = AtomicU16::new(service.port);
    bodies.iter().for_each(|(log, body)| send(&port, log, body));
    service.stop();
    let (expected, events) = (findings(&quiet), quiet.held());
    assert!(expected.len() > 3, "there is something to find: {expected:?}");

    let site = Site::new(&[]).configured(SINK);
    let service = site.start();
    let (port, done, kills) = (AtomicU16::new(service.port), AtomicBool::new(false), kills());
    let pause = Duration::from_millis((kills as u64 * 300) / bodies.len() as u64);
    let (service, count) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for (log, body) in &bodies {
                send(&port, log, body);
                std::thread::park_timeout(pause);
            }
            done.store(true, Ordering::SeqCst);
        });
        torment(&site, service, &port, &done, kills)
    });
    service.stop();
    let held = site.held();
    let doubled = held.values().filter(|count| **count != 1).count();
    println!(
        "{count} kills, {} bodies, {} events held of {}, {doubled} doubled, {} findings",
        bodies.len(),
        held.len(),
        events.len(),
        expected.len()
    );
    assert!(count > 0, "it was killed at all");
    assert_eq!(doubled, 0);
    assert!(held.keys().eq(events.keys()), "the same events as undisturbed");
    assert_eq!(findings(&site), expected);
    let told = told(&site);
    for row in site.query("SELECT finding_id, ocsf FROM findings") {
        let (id, ocsf) = (row["finding_id"].as_str(), row["ocsf"].as_str());
        let last = id.and_then(|id| told.get(id));
        assert_eq!(last.map(String::as_str), ocsf, "the sink heard last what is known");
    }
    assert_eq!(site.status()["residue"], 0, "{}", site.said());
}

#[test]
fn killed_while_it_reads_kafka_it_reads_every_message_once() {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic("audit", 3, 1).expect("a topic is made");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let site = Site::new(&["--kafka", &brokers, "--topic", "audit"]);
    let service = site.start();
    let (port, done, total) = (AtomicU16::new(service.port), AtomicBool::new(false), 3000);
    let (service, count) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                let (line, key) = (record(number), number.to_string());
                let poison = ["{\"x\":", "no json", "\u{0}"][number % 3];
                let payload = if number % 500 == 499 { poison } else { &line };
                producer
                    .send(BaseRecord::to("audit").key(&key).payload(payload))
                    .expect("a message is taken");
                if number % 50 == 0 {
                    producer.poll(Duration::from_millis(20));
                }
            }
            producer.flush(Duration::from_secs(30)).expect("messages are sent");
            done.store(true, Ordering::SeqCst);
        });
        torment(&site, service, &port, &done, kills().min(20))
    });
    let (wanted, until) = (total - total / 500, Instant::now() + Duration::from_secs(90));
    while site.held().len() < wanted && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(200));
    }
    service.stop();
    let held = site.held();
    println!("{count} kills, {} messages, {} events held", total, held.len());
    assert_eq!(held.len(), wanted, "{}", site.said());
    assert!(held.values().all(|count| *count == 1));
    let status = site.status();
    assert_eq!(status["residue"], 0);
    assert_eq!(site.query("SELECT count(*) AS n FROM dead_letters")[0]["n"], total / 500);
}

/// Writes numbered lines to `audit.log` in a folder that is rotated as often as not: by renaming, by
/// copying and truncating, and by compressing what was rotated; lines come in halves.
fn write_rotated(logs: &std::path::Path, total: usize) {
    let log = logs.join("audit.log");
    let (mut dice, mut rotated, mut uncompressed) = (Dice(29), 0, Vec::new());
    let pause = Duration::from_millis(kills().min(100) as u64 * 250 * 50 / total as u64);
    for number in 0..total {
        let line = format!("{}\n", record(number));
        let poison = ["{\"x\":\n", "no json\n", "\u{0}x\n"][number % 3];
        let line = if number % 500 == 499 { poison } else { &line };
        let (first, rest) = line.split_at(line.len() / 2);
        append(&log, first);
        if number % 50 == 0 {
            std::thread::park_timeout(pause);
        }
        append(&log, rest);
        if dice.below(60) == 0 {
            rotated += 1;
            let old = logs.join(format!("audit.log.{rotated}"));
            if dice.below(2) == 0 {
                std::fs::rename(&log, &old).expect("it is renamed");
            } else {
                std::fs::copy(&log, &old).expect("it is copied");
                std::fs::write(&log, "").expect("it is truncated");
            }
            uncompressed.push(old);
        }
        if uncompressed.len() > 2 {
            let old = uncompressed.remove(0);
            let bytes = gzip(&std::fs::read(&old).expect("it is there"));
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            let new = old.with_extension(format!("{rotated}.gz"));
            std::fs::write(&new, head).expect("it is written");
            std::thread::park_timeout(Duration::from_millis(5));
            std::fs::write(&new, [head, tail].concat()).expect("it is written");
            std::fs::remove_file(old).expect("it is removed");
        }
    }
}

#[test]
fn killed_while_it_reads_rotated_files_it_reads_every_line_once() {
    let source = "[[source]]\nkind = \"files\"\npaths = [\"logs\"]\npoll_interval = \"10ms\"\n";
    let site = Site::new(&[]).configured(source);
    let logs = site.folder().join("logs");
    std::fs::create_dir(&logs).expect("a folder is made");
    let service = site.start();
    let (port, done, total) = (AtomicU16::new(service.port), AtomicBool::new(false), 3000);
    let (service, count) = std::thread::scope(|scope| {
        scope.spawn(|| {
            write_rotated(&logs, total);
            done.store(true, Ordering::SeqCst);
        });
        torment(&site, service, &port, &done, kills().min(100))
    });
    let wanted = total - total / 500;
    site.wait_until_stored(wanted as u64);
    service.stop();
    let held = site.held();
    let status = site.status();
    let duplicates: u64 = status["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .filter_map(|source| source["duplicate"].as_u64())
        .sum();
    println!("{count} kills, {total} lines, {} events held, {duplicates} read twice", held.len());
    assert!(count > 0, "it was killed at all");
    assert_eq!(held.len(), wanted, "{}", site.said());
    assert!(held.values().all(|count| *count == 1));
    assert_eq!(status["residue"], 0);
    assert_eq!(site.query("SELECT count(*) AS n FROM dead_letters")[0]["n"], total / 500);
}
