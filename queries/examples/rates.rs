//! How fast SLIs and exports go, on events of one log that lie in payloads of 4 MB.
//!
//! `cargo run --release -p telltale-queries --example rates -- 1000000`

#![allow(clippy::print_stdout, reason = "this is its output")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::io::{Write, sink};
use std::time::Instant;
use telltale_queries::{ExportFormat, ExportWriter, SliStream, slis};
use telltale_schema::EventBatch;

fn main() -> Result<(), Box<dyn Error>> {
    let rows: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    // A hundred batches stand for all: what is measured does not depend on what was seen before.
    let batches: Vec<EventBatch> =
        (0..100).map(|i| common::synthetic("aws_cloudtrail", 3000, i * 3000)).collect();
    let stream = || batches.iter().cycle().take(rows / 3000);

    let start = Instant::now();
    let cpu = cpu_secs();
    let slis = SliStream::start(slis())?;
    for batch in stream() {
        slis.push(batch)?;
    }
    let results = slis.finish()?;
    let measured: usize = results.iter().map(|result| result.rows.len()).sum();
    report("slis", rows, start, cpu);
    assert!(measured > 0, "something was measured");

    for (name, format) in [
        ("ndjson", ExportFormat::Ndjson),
        ("arrow", ExportFormat::ArrowStream),
        ("parquet", ExportFormat::Parquet),
    ] {
        let start = Instant::now();
        let cpu = cpu_secs();
        let mut writer = ExportWriter::new(format, Counted { bytes: 0, out: sink() })?;
        for batch in stream() {
            writer.write(batch)?;
        }
        let bytes = writer.finish()?.bytes;
        report(name, rows, start, cpu);
        let mb_per_sec = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("{:8} {} MB, {mb_per_sec:.0} MB/s", "", bytes / 1_000_000);
    }
    Ok(())
}

fn report(name: &str, rows: usize, start: Instant, cpu: f64) {
    let wall = start.elapsed().as_secs_f64();
    let per_event = |secs: f64| secs / rows as f64 * 1e9;
    println!(
        "{name:8} {rows} events in {wall:.3} s; {:.0} ns wall and {:.0} ns of CPU per event",
        per_event(wall),
        per_event(cpu_secs() - cpu)
    );
}

/// Seconds of CPU of all threads so far, in the kernel's ticks of 10 ms; 0 where there is no procfs.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

struct Counted<W> {
    bytes: usize,
    out: W,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes += bytes.len();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
