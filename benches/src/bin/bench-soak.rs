//! `telltale run` under a steady load over HTTP: its memory in each part of the time, how far the
//! lake falls behind, how it ends and how soon it is ready again; and how long a start takes that has
//! a minute of journal to read.
//!
//! `RATE=88000 SECONDS=3600 cargo run --release --bin bench-soak -- FILE`. The records of FILE are
//! sent again and again, each time with ids of their own and the time at which they are sent. An
//! hour at that rate takes about 40 GB below the folder for temporary files.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use telltale_benches::service::{SENDERS, Service, bodies};
use telltale_benches::{folder, input, variable};
use telltale_schema::time::format_instant;

/// Parts into which the time is divided.
const PARTS: u64 = 12;

/// A body and where in it the ids and the times of its records lie.
struct Load {
    events: usize,
    body: Vec<u8>,
    ids: Vec<usize>,
    times: Vec<usize>,
}

impl Load {
    fn of((events, body): (usize, Vec<u8>)) -> Self {
        let all = |name: &[u8]| -> Vec<usize> {
            let at = |(at, found): (usize, &[u8])| (found == name).then_some(at + name.len());
            body.windows(name.len()).enumerate().filter_map(at).collect()
        };
        let (ids, times) = (all(b"\"eventID\":\""), all(b"\"eventTime\":\""));
        Self { events, ids, times, body }
    }

    /// Gives each record an id that none had and the time `now`.
    fn renew(&mut self, next: &AtomicU64, now: &str) {
        let first = next.fetch_add(self.ids.len() as u64, Ordering::Relaxed);
        for (number, at) in (first..).zip(&self.ids) {
            // An odd factor spreads the numbers like a hash.
            let id = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            let hex = format!("{id:032x}");
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            self.body[*at..at + 36].copy_from_slice(parts.join("-").as_bytes());
        }
        for at in &self.times {
            self.body[*at..at + now.len()].copy_from_slice(now.as_bytes());
        }
    }
}

/// What was sent.
#[derive(Default)]
struct Sent {
    events: AtomicUsize,
    refused: AtomicUsize,
    ids: AtomicU64,
}

/// Posts `rate` events a second until `length` is over, while `watch` is called every second.
fn feed(
    service: &Service,
    loads: &mut [Load],
    sent: &Sent,
    rate: f64,
    length: Duration,
    mut watch: impl FnMut(Duration),
) {
    let (started, before) = (Instant::now(), sent.events.load(Ordering::Relaxed));
    let share = loads.len().div_ceil(SENDERS);
    std::thread::scope(|scope| {
        for own in loads.chunks_mut(share) {
            scope.spawn(|| {
                let agent = ureq::Agent::new_with_defaults();
                let mut turn = 0;
                while started.elapsed() < length {
                    let events = sent.events.load(Ordering::Relaxed) - before;
                    let due = events as f64 / rate - started.elapsed().as_secs_f64();
                    if due > 0.0 {
                        std::thread::park_timeout(Duration::from_secs_f64(due));
                        continue;
                    }
                    turn = (turn + 1) % own.len();
                    let load = &mut own[turn];
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                    let now = now.map_or(0, |now| now.as_micros() as i64);
                    // Records have whole seconds.
                    load.renew(&sent.ids, &format_instant(now)[.."2026-01-01T00:00:00".len()]);
                    sent.events.fetch_add(load.events, Ordering::Relaxed);
                    let refused = service.post(&agent, &load.body);
                    sent.refused.fetch_add(refused, Ordering::Relaxed);
                }
            });
        }
        while started.elapsed() < length {
            std::thread::park_timeout(Duration::from_secs(1));
            watch(started.elapsed());
        }
    });
}

/// Bytes of memory that a process holds.
fn resident(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0
}

fn main() {
    let (rate, seconds) = (variable("RATE", 88_000.0), variable("SECONDS", 3600.0));
    let mut loads: Vec<Load> = bodies(&input("aws_cloudtrail")).into_iter().map(Load::of).collect();
    let folder = folder();
    let sent = Sent::default();
    hold(&folder, &mut loads, &sent, rate, Duration::from_secs_f64(seconds));
    recover(&folder, &mut loads, &sent, rate);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// The load for so long, and an orderly end.
fn hold(folder: &Path, loads: &mut [Load], sent: &Sent, rate: f64, length: Duration) {
    let own = folder.join("hold");
    std::fs::create_dir_all(&own).expect("there is room");
    let table = "flush_interval = \"10s\"\nsnapshot_interval = \"30s\"";
    let service = Service::start(&own, table, &[]);
    println!("{rate:.0} events a second for {:.0} s", length.as_secs_f64());
    let part = (length.as_secs_f64() / PARTS as f64).max(1.0);
    let (mut samples, mut peak, mut parts) = (Vec::new(), 0f64, 1.0);
    let started = Instant::now();
    feed(&service, loads, sent, rate, length, |elapsed| {
        let now = resident(service.id());
        peak = peak.max(now);
        samples.push(now);
        if elapsed.as_secs_f64() >= parts * part {
            let mean = samples.iter().sum::<f64>() / samples.len() as f64;
            samples.clear();
            parts += 1.0;
            let [journal, lake, seen] = ["journal", "lake", "detected"]
                .map(|what| service.metric(&format!("telltale_{what}_entry")));
            println!(
                "  {:>5.0} s: mean {:.0} MiB, peak so far {:.0} MiB; of {journal} entries the lake \
                 lacks {}, detectors {}",
                elapsed.as_secs_f64(),
                mean / f64::from(1 << 20),
                peak / f64::from(1 << 20),
                journal - lake,
                journal - seen,
            );
        }
    });
    let events = sent.events.load(Ordering::Relaxed);
    println!(
        "{events} events sent, {:.0} a second; {} posts were refused and sent again",
        events as f64 / started.elapsed().as_secs_f64(),
        sent.refused.load(Ordering::Relaxed),
    );
    let ending = Instant::now();
    let status = service.terminate();
    let ended = ending.elapsed().as_secs_f64();
    let starting = Instant::now();
    let again = Service::start(&own, table, &[]);
    println!(
        "SIGTERM: {status} after {ended:.1} s; ready again after {:.1} s with {:.0} MiB",
        starting.elapsed().as_secs_f64(),
        resident(again.id()) / f64::from(1 << 20),
    );
    drop(again);
    std::fs::remove_dir_all(&own).expect("the folder is ours");
}

/// A minute that neither lake nor snapshot has, a kill, and a start.
fn recover(folder: &Path, loads: &mut [Load], sent: &Sent, rate: f64) {
    let own = folder.join("recover");
    std::fs::create_dir_all(&own).expect("there is room");
    let table = "flush_interval = \"1h\"\nsnapshot_interval = \"1h\"";
    let service = Service::start(&own, table, &[]);
    let before = sent.events.load(Ordering::Relaxed);
    feed(&service, loads, sent, rate, Duration::from_secs(60), |_| {});
    service.settle();
    let bytes = service.metric("telltale_journal_bytes");
    drop(service);
    let started = Instant::now();
    drop(Service::start(&own, table, &[]));
    println!(
        "killed with {} events in {:.1} GB of journal: ready again after {:.1} s",
        sent.events.load(Ordering::Relaxed) - before,
        bytes / 1e9,
        started.elapsed().as_secs_f64(),
    );
}
