//! `telltale run` under a steady load over HTTP: its memory in each part of the time, how far the
//! lake falls behind, how it ends and how soon it is ready again; and how long a start takes that has
//! a minute of journal to read.
//!
//! `RATE=88000 SECONDS=3600 cargo run --release --bin bench-soak -- FILE`. The records of FILE are
//! sent again and again, each time with ids of their own and the time at which they are sent. An
//! hour at that rate takes about 40 GB below the folder for temporary files.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use telltale_benches::service::{Load, Sent, Service, feed, loads};
use telltale_benches::{folder, input, variable};

/// Parts into which the time is divided.
const PARTS: u64 = 12;

fn main() {
    let (rate, seconds) = (variable("RATE", 88_000.0), variable("SECONDS", 3600.0));
    let mut loads = loads(&input("aws_cloudtrail"));
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
        let now = service.resident();
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
        again.resident() / f64::from(1 << 20),
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
