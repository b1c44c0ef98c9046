//! `telltale run` against `telltale scan` of the same events, as processes of their own: events a
//! second over HTTP with journal, lake and detectors on, and the latencies that the service itself
//! reports at half of that rate.
//!
//! `cargo run --release --bin bench-service [-- FILE]`, as for `parse`; the `telltale` binary of the
//! same build lies beside it.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use telltale_benches::input;

/// Bytes of a body: what a shipper sends at once.
const BODY_BYTES: usize = 512 << 10;
/// Connections that post at the same time.
const SENDERS: usize = 4;
/// Stages of the service whose latency is told.
const STAGES: [&str; 4] =
    ["source_to_journal", "journal_sync", "journal_to_detectors", "event_to_finding"];

struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(binary: &Path, folder: &Path, more: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let config = folder.join("telltale.toml");
        std::fs::write(&config, "[service]\nflush_interval = \"1s\"\nsnapshot_interval = \"5s\"\n")
            .expect("there is room");
        let child = Command::new(binary)
            .args(["run", "--http", &address.to_string(), "--data"])
            .arg(folder.join("data"))
            .arg("--config")
            .arg(&config)
            .args(more)
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let service = Self { child, url: format!("http://{address}") };
        while service.get("/readyz").is_none() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        service
    }

    fn get(&self, path: &str) -> Option<String> {
        ureq::get(format!("{}{path}", self.url)).call().ok()?.body_mut().read_to_string().ok()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Posts every body, at most `rate` events a second, and returns when detectors have seen all.
    fn feed(&self, bodies: &[(usize, Vec<u8>)], rate: Option<f64>) -> f64 {
        let (next, sent, started) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    let agent = ureq::Agent::new_with_defaults();
                    while let Some((events, body)) =
                        bodies.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if let Some(rate) = rate {
                            let due = sent.load(Ordering::Relaxed) as f64 / rate;
                            let ahead = due - started.elapsed().as_secs_f64();
                            if ahead > 0.0 {
                                std::thread::park_timeout(Duration::from_secs_f64(ahead));
                            }
                        }
                        sent.fetch_add(*events, Ordering::Relaxed);
                        let url = format!("{}/v1/logs/aws_cloudtrail", self.url);
                        while agent.post(&url).send(body).is_err() {
                            std::thread::park_timeout(Duration::from_millis(50));
                        }
                    }
                });
            }
        });
        self.settle();
        started.elapsed().as_secs_f64()
    }

    /// Returns when detectors have seen everything that came.
    fn settle(&self) {
        while self.metric("telltale_records_in_flight") > 0.0
            || self.metric("telltale_detected_entry") + 2.0 < self.metric("telltale_journal_entry")
        {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Records that are in the journal.
    fn stored(&self) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("telltale_records_total{"));
        let stored = lines.filter(|line| line.contains("result=\"stored\""));
        stored.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Events a second, from the first that is stored until detectors have seen `total`.
    fn drain(&self, total: f64) -> f64 {
        let wait = || std::thread::park_timeout(Duration::from_millis(5));
        let mut first = self.stored();
        while first == 0.0 {
            wait();
            first = self.stored();
        }
        let started = Instant::now();
        while self.stored() < total {
            wait();
        }
        self.settle();
        (total - first) / started.elapsed().as_secs_f64()
    }

    /// Upper bound in seconds of the latency that a share `q` stays within.
    fn quantile(&self, stage: &str, q: f64) -> Option<f64> {
        let text = self.get("/metrics")?;
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
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    let bytes = input("aws_cloudtrail");
    let folder = std::env::temp_dir().join(format!("telltale-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room for the input");
    let path = folder.join("input.json");
    std::fs::write(&path, &bytes).expect("there is room for the input");
    let binary = std::env::current_exe().expect("a program has a name").with_file_name("telltale");
    let (mut bodies, mut body, mut events) = (Vec::new(), Vec::new(), 0);
    let mut total = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        body.extend_from_slice(line);
        (events, total) = (events + 1, total + 1);
        if body.len() >= BODY_BYTES {
            bodies.push((std::mem::take(&mut events), std::mem::take(&mut body)));
        }
    }
    bodies.push((events, body));
    let (mut scans, mut runs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let started = Instant::now();
        let scanned = Command::new(&binary)
            .args(["scan", "--no-progress", "--output", "json"])
            .arg(&path)
            .stdout(Stdio::null())
            .status();
        assert!(scanned.is_ok_and(|status| status.code() <= Some(1)), "scan runs");
        scans.push(f64::from(total) / started.elapsed().as_secs_f64());
        let own = folder.join(round.to_string());
        std::fs::create_dir_all(&own).expect("there is room");
        let service = Service::start(&binary, &own, &[]);
        runs.push(f64::from(total) / service.feed(&bodies, None));
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
    let service = Service::start(&binary, &folder, &[]);
    service.feed(&bodies, Some(runs[2] / 2.0));
    println!("at half of that rate, at most:");
    for stage in STAGES {
        let [p50, p99] = [0.5, 0.99].map(|q| service.quantile(stage, q).unwrap_or(f64::NAN));
        println!("  {stage}: p50 {:.1} ms, p99 {:.1} ms", p50 * 1e3, p99 * 1e3);
    }
    drop(service);
    if let Ok(brokers) = std::env::var("KAFKA_BROKERS") {
        let topic = format!("telltale-bench-{}", std::process::id());
        fill(&brokers, &topic, &bytes);
        let own = folder.join("kafka");
        std::fs::create_dir_all(&own).expect("there is room");
        let more = ["--kafka", &brokers, "--topic", &topic, "--group", &topic];
        let rate = Service::start(&binary, &own, &more).drain(f64::from(total));
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
