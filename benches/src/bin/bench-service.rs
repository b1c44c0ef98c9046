//! `telltale run` against `telltale scan` of the same events, as processes of their own: events a
//! second over HTTP with journal, lake and detectors on, and the latencies that the service itself
//! reports at half of that rate.
//!
//! A service is up for long, so it runs for a while before it is measured, and the events come again
//! and again, each time with ids of their own. A round is over when detectors have seen all that was
//! sent in it; flushes are so frequent that the lake has nearly all of it by then.
//!
//! `cargo run --release --bin bench-service [-- FILE]`, as for `parse`; the `telltale` binary of the
//! same build lies beside it.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use telltale_benches::service::{Sent, Service, binary, feed, loads, processor_time};
use telltale_benches::{folder, input};

/// Stages of the service whose latency is told.
const STAGES: [&str; 4] =
    ["source_to_journal", "journal_sync", "journal_to_detectors", "event_to_finding"];

/// Flushes and snapshots so often that a short run has its share of them.
const TABLE: &str = "flush_interval = \"1s\"\nsnapshot_interval = \"5s\"";

/// How often both are measured, and for how long the service is.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(8);

fn main() {
    let bytes = input("aws_cloudtrail");
    let folder = folder();
    let path = folder.join("input.json");
    std::fs::write(&path, &bytes).expect("there is room for the input");
    let total = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as f64;
    let (mut loads, sent) = (loads(&bytes), Sent::default());
    let (mut scans, before) = (Vec::new(), processor_time(std::process::id())[1]);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let scanned = Command::new(binary())
            .args(["scan", "--no-progress", "--output", "json"])
            .arg(&path)
            .stdout(Stdio::null())
            .status();
        assert!(scanned.is_ok_and(|status| status.code() <= Some(1)), "scan runs");
        scans.push(total / started.elapsed().as_secs_f64());
    }
    let scan_time = (processor_time(std::process::id())[1] - before) / total / ROUNDS as f64;
    let own = folder.join("http");
    std::fs::create_dir_all(&own).expect("there is room");
    let service = Service::start(&own, TABLE, &[]);
    let mut run = |service: &Service, rate: f64| {
        let (before, started) = (sent.events.load(Ordering::Relaxed), Instant::now());
        feed(service, &mut loads, &sent, rate, ROUND, |_| {});
        service.settle();
        let events = (sent.events.load(Ordering::Relaxed) - before) as f64;
        (events / started.elapsed().as_secs_f64(), events)
    };
    run(&service, f64::INFINITY);
    let (mut runs, mut events, before) = (Vec::new(), 0.0, processor_time(service.id())[0]);
    for _ in 0..ROUNDS {
        let (rate, in_round) = run(&service, f64::INFINITY);
        events += in_round;
        runs.push(rate);
    }
    let run_time = (processor_time(service.id())[0] - before) / events;
    scans.sort_by(f64::total_cmp);
    runs.sort_by(f64::total_cmp);
    let [scan, most] = [&scans, &runs].map(|rates| rates[ROUNDS / 2]);
    println!(
        "{total} events: scan {scan:.0} a second, run over HTTP {most:.0}, {:.2} times (medians of {ROUNDS})",
        most / scan
    );
    println!(
        "processor time of an event: scan {:.2} us, run {:.2} us, {:.2} times; the rest is the senders'",
        scan_time * 1e6,
        run_time * 1e6,
        scan_time / run_time
    );
    drop(service);
    std::fs::remove_dir_all(&own).expect("the folder is ours");
    let service = Service::start(&folder, TABLE, &[]);
    run(&service, most / 2.0);
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
        println!("run from Kafka {rate:.0} a second, {:.2} times scan", rate / scan);
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
