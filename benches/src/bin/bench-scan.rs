//! `scan` as a whole (read, parse, dedup, three detectors, SLIs) against the bare typed
//! `serde_json` parse of the same bytes, in processor time of all threads; and how much sooner two
//! threads are done than one.
//!
//! `cargo run --release --bin bench-scan [-- FILE]`, as for `parse`.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use serde_json::value::RawValue;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use telltale::analysis::{Gather, analyse, timeline_for};
use telltale::config::Config;
use telltale::pipeline::{Progress, Reading};
use telltale_benches::{Contender, Yardstick, folder, input, race};
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::sources::{Files, Limits};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn scan(path: &str, redactor: &Redactor, threads: usize) {
    let files = Files::expand(&[path.to_owned()]).expect("the file was written");
    let timeline = Mutex::new(timeline_for(files.bytes()));
    let reading = Reading {
        files,
        forced: None,
        redactor,
        received_at: 1,
        threads,
        limits: Limits::default(),
        progress: Arc::new(Progress::default()),
    };
    let started = Instant::now();
    let intake = reading.run(|| Gather::new(&timeline));
    assert_eq!(intake.rejected, 0, "every record is read");
    let read = started.elapsed();
    let mut timeline = timeline.into_inner().expect("no thread panics");
    timeline.sort(threads);
    let sorted = started.elapsed();
    black_box(analyse(&timeline, &Config::default(), threads).expect("it can be analysed"));
    if std::env::var_os("PHASES").is_some() {
        let analysed = started.elapsed();
        println!(
            "  {threads} threads: read {:.3} s, sort {:.3} s, analyse {:.3} s",
            read.as_secs_f64(),
            (sorted - read).as_secs_f64(),
            (analysed - sorted).as_secs_f64()
        );
    }
}

fn main() {
    telltale::memory::keep_freed();
    let bytes = input("aws_cloudtrail");
    let folder = folder();
    let path = folder.join("input.json");
    std::fs::write(&path, &bytes).expect("there is room for the input");
    let path = path.display().to_string();
    let redactor = Redactor::new(&Key::from_bytes([1; 32]));
    let contenders = [
        Contender::new("serde_json typed", |bytes| {
            for line in std::str::from_utf8(&bytes).expect("the input is text").lines() {
                black_box(
                    serde_json::from_str::<Yardstick<'_, &RawValue>>(line).expect("it is a record"),
                );
            }
        }),
        Contender::new("telltale scan, one thread", |_| scan(&path, &redactor, 1)),
    ];
    race(&[bytes], &contenders);
    let mut gains: Vec<f64> = (0..5)
        .map(|_| {
            let time = |threads| {
                let start = Instant::now();
                scan(&path, &redactor, threads);
                start.elapsed().as_secs_f64()
            };
            time(1) / time(2)
        })
        .collect();
    gains.sort_by(f64::total_cmp);
    println!("two threads are done {:.2} times as soon as one (wall time, median of 5)", gains[2]);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}
