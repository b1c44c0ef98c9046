//! `telltale run` against `telltale scan` of the same events, as processes of their own: events a
//! second over HTTP with journal, lake and detectors on, and the latencies that the service itself
//! reports at half of that rate.
//!
//! `cargo run --release --bin bench-service [-- FILE]`, as for `parse`; the `telltale` binary of the
//! same build lies beside it.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use telltale_benches::service::{SENDERS, Service, binary, bodies};
use telltale_benches::{folder, input};

/// Stages of the service whose latency is told.
const STAGES: [&str; 4] =
    ["source_to_journal", "journal_sync", "journal_to_detectors", "event_to_finding"];

/// Flushes and snapshots so often that a short run has its share of them.
const TABLE: &str = "flush_interval = \"1s\"\nsnapshot_interval = \"5s\"";

fn main() {
    let bytes = input("aws_cloudtrail");
    let folder = folder();
    let path = folder.join("input.json");
    std::fs::write(&path, &bytes).expect("there is room for the input");
    let bodies = bodies(&bytes);
    let total = bodies.iter().map(|(events, _)| *events as f64).sum::<f64>();
    let (mut scans, mut runs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let started = Instant::now();
        let scanned = Command::new(binary())
            .args(["scan", "--no-progress", "--output", "json"])
            .arg(&path)
            .stdout(Stdio::null())
            .status();
        assert!(scanned.is_ok_and(|status| status.code() <= Some(1)), "scan runs");
        scans.push(total / started.elapsed().as_secs_f64());
        let own = folder.join(round.to_string());
        std::fs::create_dir_all(&own).expect("there is room");
        let service = Service::start(&own, TABLE, &[]);
        runs.push(total / feed(&service, &bodies, None));
        drop(service);
        std::fs::remove_dir_all(&own).expect("the folder is ours");
    }
    scans.sort_by(f64::total_cmp);
    runs.sort_by(f64::total_cmp);
    println!(
        "{total} events: scan {:.0} a second, run over HTTP {:.0}, {:.2} times (medians of 5)",
        scans[2],
        runs[2],
        runs[2] / scans[2]
    );
    let service = Service::start(&folder, TABLE, &[]);
    feed(&service, &bodies, Some(runs[2] / 2.0));
    println!("at half of that rate, at most:");
    for stage in STAGES {
        let [p50, p99] = [0.5, 0.99].map(|q| quantile(&service, stage, q).unwrap_or(f64::NAN));
        println!("  {stage}: p50 {:.1} ms, p99 {:.1} ms", p50 * 1e3, p99 * 1e3);
    }
    drop(service);
    if let Ok(brokers) = std::env::var("KAFKA_BROKERS") {
        let topic = format!("telltale-bench-{}", std::process::id());
        fill(&brokers, &topic, &bytes);
        let own = folder.join("kafka");
        std::fs::create_dir_all(&own).expect("there is room");
        let more = ["--kafka", &brokers, "--topic", &topic, "--group", &topic];
        let rate = drain(&Service::start(&own, TABLE, &more), total);
        println!("run from Kafka {rate:.0} a second, {:.2} times scan", rate / scans[2]);
    }
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// Puts each line into a topic.
fn fill(brokers: &str, topic: &str, bytes: &[u8]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .create()
        .expect("a producer is made");
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(line);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(20));
        }
    }
    producer.flush(Duration::from_secs(120)).expect("the topic is filled");
}

/// Posts every body, at most `rate` events a second, and returns when detectors have seen all.
fn feed(service: &Service, bodies: &[(usize, Vec<u8>)], rate: Option<f64>) -> f64 {
    let (next, sent, started) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let agent = ureq::Agent::new_with_defaults();
                while let Some((events, body)) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(rate) = rate {
                        let due = sent.load(Ordering::Relaxed) as f64 / rate;
                        let ahead = due - started.elapsed().as_secs_f64();
                        if ahead > 0.0 {
                            std::thread::park_timeout(Duration::from_secs_f64(ahead));
                        }
                    }
                    sent.fetch_add(*events, Ordering::Relaxed);
                    service.post(&agent, body);
                }
            });
        }
    });
    service.settle();
    started.elapsed().as_secs_f64()
}

/// Records that are in the journal.
fn stored(service: &Service) -> f64 {
    let text = service.get("/metrics").unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("telltale_records_total{"));
    let stored = lines.filter(|line| line.contains("result=\"stored\""));
    stored.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Events a second, from the first that is stored until detectors have seen `total`.
fn drain(service: &Service, total: f64) -> f64 {
    let wait = || std::thread::park_timeout(Duration::from_millis(5));
    let mut first = stored(service);
    while first == 0.0 {
        wait();
        first = stored(service);
    }
    let started = Instant::now();
    while stored(service) < total {
        wait();
    }
    service.settle();
    (total - first) / started.elapsed().as_secs_f64()
}

/// Upper bound in seconds of the latency that a share `q` stays within.
fn quantile(service: &Service, stage: &str, q: f64) -> Option<f64> {
    let text = service.get("/metrics")?;
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| line.starts_with("telltale_stage_latency_seconds_bucket{"))
        .filter(|line| line.contains(&format!("stage=\"{stage}\"")))
        .filter_map(|line| {
            let bound = line.split_once("le=\"")?.1.split_once('"')?.0;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    let all = buckets.last()?.1;
    Some(buckets.iter().find(|(_, count)| *count >= q * all)?.0)
}
