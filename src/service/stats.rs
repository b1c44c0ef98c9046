//! What the service says of itself in `/metrics`.

use crate::journal::Ledger;
use crate::pipeline::lock;
use hdrhistogram::Histogram;
use prometheus::{
    Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::Mutex;
use std::time::Duration;
use telltale_detect::detectors::KINDS;
use telltale_ingest::sources::{objects, tail};
use telltale_schema::Severity;

/// Counters and latencies of one service.
pub struct Stats {
    registry: Registry,
    records: IntCounterVec,
    in_flight: IntGaugeVec,
    latency: GaugeVec,
    source_to_journal: Mutex<Histogram<u64>>,
    journal_to_detectors: Mutex<Histogram<u64>>,
    event_to_finding: Mutex<Histogram<u64>>,
    sync: Mutex<Histogram<u64>>,
    pub journal_failures: IntCounter,
    pub lake_failures: IntCounter,
    pub snapshot_failures: IntCounter,
    pub lake_entry: IntGauge,
    pub snapshot_entry: IntGauge,
    pub journal_entry: IntGauge,
    pub detected_entry: IntGauge,
    pub findings: IntCounterVec,
    pub source_failures: IntCounterVec,
    pub sink_findings: IntCounterVec,
    pub sink_failures: IntCounterVec,
    pub sink_waiting: IntGaugeVec,
}

/// The labels of what belongs to a partition.
const PARTITION: [&str; 2] = ["source", "partition"];
/// What is measured in the histograms: microseconds up to an hour, three digits.
const LONGEST_MICROS: u64 = 3_600_000_000;

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
        let latency = GaugeVec::new(
            Opts::new(
                "telltale_stage_latency_seconds",
                "Time that a stage takes, by quantile, since the start",
            ),
            &["stage", "quantile"],
        )
        .expect("names and labels are those of Prometheus");
        registry.register(Box::new(latency.clone())).expect("each metric is registered once");
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
        let histogram = || {
            let histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
            Mutex::new(histogram.expect("the bounds are in order"))
        };
        Self {
            records,
            in_flight: gauges(
                "telltale_records_in_flight",
                "Records read and not yet settled",
                &PARTITION,
            ),
            latency,
            source_to_journal: histogram(),
            journal_to_detectors: histogram(),
            event_to_finding: histogram(),
            sync: histogram(),
            journal_failures: counter(
                "telltale_journal_failures_total",
                "Groups that could not be written to the journal",
            ),
            lake_failures: counter(
                "telltale_lake_failures_total",
                "Times that the lake could not be written",
            ),
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
            detected_entry: gauge(
                "telltale_detected_entry",
                "Number of the last entry that detectors have seen",
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
        record(&self.source_to_journal, since_arrival);
    }

    /// A delivery went back to its sender.
    pub fn refused(&self, ledger: &Ledger) {
        self.count(ledger, "refused", ledger.received);
        self.flight(ledger).sub(signed(ledger.received));
    }

    /// A group is on disk after so long.
    pub fn synced(&self, took: Duration) {
        record(&self.sync, took);
    }

    /// Detectors have seen an entry.
    pub fn detected(&self, number: u64, since_stored: Duration) {
        self.detected_entry.set(signed(number));
        record(&self.journal_to_detectors, since_stored);
    }

    /// A finding was raised so long after its last event arrived.
    pub fn found(&self, detector: &str, severity: &str, since_arrival: Duration) {
        self.findings.with_label_values(&[detector, severity]).inc();
        record(&self.event_to_finding, since_arrival);
    }

    /// A sink is there, of which nothing is to be said yet.
    pub fn sink_begins(&self, name: &str) {
        self.sink_failures.with_label_values(&[name]);
        for result in ["delivered", "refused", "dropped"] {
            self.sink_findings.with_label_values(&[name, result]);
        }
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let stages = [
            ("source_to_journal", &self.source_to_journal),
            ("journal_sync", &self.sync),
            ("journal_to_detectors", &self.journal_to_detectors),
            ("event_to_finding", &self.event_to_finding),
        ];
        for (stage, histogram) in stages {
            let histogram = lock(histogram);
            if histogram.is_empty() {
                continue;
            }
            for quantile in ["0.5", "0.9", "0.99", "0.999", "1"] {
                let at = quantile.parse().unwrap_or(1.0);
                let seconds = histogram.value_at_quantile(at) as f64 / 1e6;
                self.latency.with_label_values(&[stage, quantile]).set(seconds);
            }
        }
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

fn record(histogram: &Mutex<Histogram<u64>>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    lock(histogram).saturating_record(micros.max(1));
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
