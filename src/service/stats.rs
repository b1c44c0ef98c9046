//! What the service says of itself in `/metrics`.

use crate::journal::Ledger;
use crate::pipeline::lock;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use telltale_detect::detectors::KINDS;
use telltale_ingest::sources::{objects, tail};
use telltale_queries::{SliResult, slis};
use telltale_schema::Severity;

/// Counters and latencies of one service.
pub struct Stats {
    registry: Registry,
    records: IntCounterVec,
    in_flight: IntGaugeVec,
    source_to_journal: Histogram,
    journal_to_detectors: Histogram,
    event_to_finding: Histogram,
    sync: Histogram,
    /// One for each SLI, in their order. Locked while they are set, so that none is seen half.
    slis: Mutex<Vec<GaugeVec>>,
    slis_at: Gauge,
    pub sli_failures: IntCounter,
    spans: IntCounterVec,
    pub memory_bytes: IntGauge,
    pub memory_limit_bytes: IntGauge,
    pub journal_bytes: IntGauge,
    pub journal_failures: IntCounter,
    pub lake_failures: IntCounter,
    pub snapshot_failures: IntCounter,
    /// Whether the last snapshot failed, so that a failure is said once.
    pub snapshots_fail: AtomicBool,
    pub lake_entry: IntGauge,
    pub snapshot_entry: IntGauge,
    pub journal_entry: IntGauge,
    pub detected_entry: IntGauge,
    pub detectors_running: IntGauge,
    pub detectors_evicted: IntCounter,
    pub findings: IntCounterVec,
    pub source_failures: IntCounterVec,
    pub sink_findings: IntCounterVec,
    pub sink_failures: IntCounterVec,
    pub sink_waiting: IntGaugeVec,
    pub sink_evicted: IntCounterVec,
}

/// The labels of what belongs to a partition.
const PARTITION: [&str; 2] = ["source", "partition"];
/// Upper bounds of the latency histograms, in seconds: from what a fast disk takes to sync to an hour.
const LATENCY_SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 600.0, 3600.0,
];

impl Stats {
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels);
            let counters = counters.expect("names and labels are those of Prometheus");
            let own = Box::new(counters.clone());
            registry.register(own).expect("each metric is registered once");
            counters
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is one of Prometheus");
            registry.register(Box::new(counter.clone())).expect("each metric is registered once");
            counter
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels);
            let gauges = gauges.expect("names and labels are those of Prometheus");
            registry.register(Box::new(gauges.clone())).expect("each metric is registered once");
            gauges
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is one of Prometheus");
            registry.register(Box::new(gauge.clone())).expect("each metric is registered once");
            gauge
        };
        let records = counters(
            "telltale_records_total",
            "Records by what became of them: received = stored + duplicate + dead_letter + refused + in flight",
            &[PARTITION[0], PARTITION[1], "result"],
        );
        let latency = HistogramVec::new(
            HistogramOpts::new("telltale_stage_latency_seconds", "Time that a stage takes")
                .buckets(LATENCY_SECONDS.to_vec()),
            &["stage"],
        )
        .expect("names and labels are those of Prometheus");
        registry.register(Box::new(latency.clone())).expect("each metric is registered once");
        let slis = slis().iter().map(|sli| {
            let name = format!("telltale_sli_{}", sli.name);
            let labels: Vec<&str> = sli.labels.iter().map(String::as_str).collect();
            let values = GaugeVec::new(Opts::new(name, &sli.help), &labels);
            let values = values.expect("an SLI has a name and labels as Prometheus wants them");
            registry.register(Box::new(values.clone())).expect("each SLI has a name of its own");
            values
        });
        let slis = Mutex::new(slis.collect());
        let slis_at = Gauge::new(
            "telltale_sli_timestamp_seconds",
            "When all SLIs were computed last, in seconds since 1970",
        );
        let slis_at = slis_at.expect("the name is one of Prometheus");
        registry.register(Box::new(slis_at.clone())).expect("each metric is registered once");
        let process = Box::new(super::process::Process::new());
        registry.register(process).expect("each metric is registered once");
        let findings = counters(
            "telltale_findings_total",
            "Findings raised or grown",
            &["detector", "severity"],
        );
        // There from the start: Prometheus sees no increase in the first value of a series.
        for kind in KINDS {
            for severity in Severity::ALL {
                findings.with_label_values(&[kind.name, severity.as_str()]);
            }
        }
        Self {
            records,
            in_flight: gauges(
                "telltale_records_in_flight",
                "Records read and not yet settled",
                &PARTITION,
            ),
            source_to_journal: latency.with_label_values(&["source_to_journal"]),
            journal_to_detectors: latency.with_label_values(&["journal_to_detectors"]),
            event_to_finding: latency.with_label_values(&["event_to_finding"]),
            sync: latency.with_label_values(&["journal_sync"]),
            slis,
            slis_at,
            spans: counters(
                "telltale_spans_total",
                "Spans by what became of them: exported, dropped",
                &["result"],
            ),
            sli_failures: counter(
                "telltale_sli_failures_total",
                "Times that the SLIs, or one of them, could not be computed",
            ),
            memory_bytes: gauge(
                "telltale_memory_in_flight_bytes",
                "Memory held for what was received and is not settled",
            ),
            memory_limit_bytes: gauge(
                "telltale_memory_in_flight_limit_bytes",
                "Memory that it may take; above it senders are told to wait",
            ),
            journal_bytes: gauge("telltale_journal_bytes", "Bytes of the journal on disk"),
            journal_failures: counter(
                "telltale_journal_failures_total",
                "Groups that could not be written to the journal",
            ),
            lake_failures: counter(
                "telltale_lake_failures_total",
                "Times that the lake could not be written",
            ),
            snapshots_fail: AtomicBool::new(false),
            snapshot_failures: counter(
                "telltale_snapshot_failures_total",
                "Times that what detectors know could not be saved",
            ),
            lake_entry: gauge(
                "telltale_lake_entry",
                "Number of the last entry that is in the lake",
            ),
            snapshot_entry: gauge(
                "telltale_snapshot_entry",
                "Number of the last entry that the last snapshot covers",
            ),
            journal_entry: gauge(
                "telltale_journal_entry",
                "Number of the last entry of the journal",
            ),
            detectors_running: gauge(
                "telltale_detectors_running",
                "1 while detectors are shown what is stored; 0 after they panicked",
            ),
            detected_entry: gauge(
                "telltale_detected_entry",
                "Number of the last entry that detectors have seen",
            ),
            detectors_evicted: counter(
                "telltale_detectors_evicted_total",
                "Times that a bound on what detectors know was hit and the oldest of it forgotten",
            ),
            findings,
            source_failures: counters(
                "telltale_source_failures_total",
                "Times that a source could not be read",
                &["source"],
            ),
            sink_findings: counters(
                "telltale_sink_findings_total",
                "Findings of a sink by what became of them: delivered, refused for good, dropped because too many waited",
                &["sink", "result"],
            ),
            sink_failures: counters(
                "telltale_sink_failures_total",
                "Times that a sink did not take findings, which are offered again",
                &["sink"],
            ),
            sink_waiting: gauges(
                "telltale_sink_waiting",
                "Findings that wait until a sink takes them",
                &["sink"],
            ),
            sink_evicted: counters(
                "telltale_sink_evicted_total",
                "Times that a bound on what a sink holds was hit and the oldest of it left to itself",
                &["sink"],
            ),
            registry,
        }
    }

    fn count(&self, ledger: &Ledger, result: &str, records: u64) {
        let labels = [ledger.source.as_str(), partition(ledger), result];
        self.records.with_label_values(&labels).inc_by(records);
    }

    fn flight(
        &self,
        ledger: &Ledger,
    ) -> prometheus::core::GenericGauge<prometheus::core::AtomicI64> {
        self.in_flight.with_label_values(&[ledger.source.as_str(), partition(ledger)])
    }

    /// A delivery was read and goes to the journal.
    pub fn received(&self, ledger: &Ledger) {
        self.count(ledger, "received", ledger.received);
        // So that the first refusal is an increase.
        self.count(ledger, "refused", 0);
        self.flight(ledger).add(signed(ledger.received));
    }

    /// A delivery is in the journal.
    pub fn stored(&self, ledger: &Ledger, since_arrival: Duration) {
        self.count(ledger, "stored", ledger.stored);
        self.count(ledger, "duplicate", ledger.duplicate);
        self.count(ledger, "dead_letter", ledger.dead_letter);
        self.flight(ledger).sub(signed(ledger.received));
        self.source_to_journal.observe(since_arrival.as_secs_f64());
    }

    /// A delivery went back to its sender.
    pub fn refused(&self, ledger: &Ledger) {
        self.count(ledger, "refused", ledger.received);
        self.flight(ledger).sub(signed(ledger.received));
    }

    /// A group is on disk after so long.
    pub fn synced(&self, took: Duration) {
        self.sync.observe(took.as_secs_f64());
    }

    /// Detectors have seen an entry, so long after it was on disk.
    pub fn detected(&self, number: u64, since_stored: Duration) {
        self.detected_entry.set(signed(number));
        self.journal_to_detectors.observe(since_stored.as_secs_f64());
    }

    /// A finding was raised so long after its last event arrived.
    pub fn found(&self, detector: &str, severity: &str, since_arrival: Duration) {
        self.findings.with_label_values(&[detector, severity]).inc();
        self.event_to_finding.observe(since_arrival.as_secs_f64());
    }

    /// The SLIs as they are now; what has no value any more goes. One that could not be computed
    /// keeps its values, and the time stays that at which all of them were.
    pub fn measured(&self, results: Vec<SliResult>) {
        let slis = lock(&self.slis);
        let mut is_whole = true;
        for (values, (sli, result)) in slis.iter().zip(telltale_queries::slis().iter().zip(results))
        {
            if result.problem.is_some() {
                is_whole = false;
                continue;
            }
            values.reset();
            for row in result.rows {
                let label = |name: &String| row.labels.get(name).map_or("", String::as_str);
                let labels: Vec<&str> = sli.labels.iter().map(label).collect();
                values.with_label_values(&labels).set(row.value);
            }
        }
        if is_whole {
            self.slis_at.set(crate::commands::now() as f64 / 1e6);
        }
    }

    /// So many spans were exported or dropped.
    pub fn spans(&self, result: &str, count: u64) {
        self.spans.with_label_values(&[result]).inc_by(count);
    }

    /// A source is there, of which nothing is to be said yet.
    pub fn source_begins(&self, name: &str) {
        self.source_failures.with_label_values(&[name]);
    }

    /// A sink is there, of which nothing is to be said yet.
    pub fn sink_begins(&self, name: &str) {
        self.sink_failures.with_label_values(&[name]);
        self.sink_evicted.with_label_values(&[name]);
        for result in ["delivered", "refused", "dropped"] {
            self.sink_findings.with_label_values(&[name, result]);
        }
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let _whole = lock(&self.slis);
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => String::from_utf8(out).unwrap_or_default(),
            Err(cause) => format!("# {cause}\n"),
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// The partition as a label. Files and folders of objects are none: there is no end of them.
fn partition(ledger: &Ledger) -> &str {
    let is_endless = [tail::SOURCE, objects::SOURCE].contains(&ledger.source.as_str());
    if is_endless { "" } else { &ledger.partition }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
