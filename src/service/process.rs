//! What the system says of this process, under the names that Prometheus' own clients give it.

use cpu_time::ProcessTime;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use std::time::{SystemTime, UNIX_EPOCH};

/// Processor time, memory and files. What the system does not say stays 0.
pub struct Process {
    cpu: Counter,
    gauges: [Gauge; 4],
}

impl Process {
    pub fn new() -> Self {
        let gauge =
            |name: &str, help: &str| Gauge::new(name, help).expect("the name is one of Prometheus");
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "Processor time of user and system in seconds",
        );
        let started = gauge("process_start_time_seconds", "Start of the process, since 1970");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        started.set(since.map_or(0.0, |since| since.as_secs_f64()));
        let gauges = [
            gauge("process_resident_memory_bytes", "Memory in use, in bytes"),
            gauge("process_open_fds", "Open files and sockets"),
            gauge("process_max_fds", "Files and sockets that may be open"),
            started,
        ];
        Self { cpu: cpu.expect("the name is one of Prometheus"), gauges }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.cpu.desc().into_iter().chain(self.gauges.iter().flat_map(|own| own.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        if let Ok(used) = ProcessTime::try_now() {
            self.cpu.inc_by((used.as_duration().as_secs_f64() - self.cpu.get()).max(0.0));
        }
        let [memory, open, most, _] = &self.gauges;
        memory.set(number(&read("/proc/self/status"), "VmRSS:") * 1024.0);
        open.set(std::fs::read_dir("/proc/self/fd").map_or(0.0, |files| files.count() as f64));
        most.set(number(&read("/proc/self/limits"), "Max open files"));
        let gauges = self.gauges.iter().flat_map(Collector::collect);
        self.cpu.collect().into_iter().chain(gauges).collect()
    }
}

/// The first number behind `name` in a text of lines.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}
