//! A span for each batch, to a collector that speaks OTLP over HTTP.
//!
//! Nothing waits for the collector: what does not fit into the queue, and what the collector does not
//! take, is dropped and counted.

use super::stats::Stats;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// Batches that wait for the collector.
const WAITING: usize = 2048;
/// Batches of one request.
const REQUEST: usize = 512;
/// How long batches are gathered for one.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said of a batch.
pub struct Batch {
    pub source: String,
    pub partition: String,
    /// Parser of its first event; empty where no event was stored.
    pub parser: String,
    /// Events that were stored.
    pub rows: u64,
    /// Its bytes in the journal.
    pub bytes: u64,
    pub to_journal: Duration,
    pub to_detectors: Duration,
    /// When detectors had seen it.
    pub ended_at: SystemTime,
}

/// The way to the collector.
#[derive(Clone)]
pub struct Traces {
    queue: SyncSender<Batch>,
    stats: Arc<Stats>,
}

impl Traces {
    /// The way in, and what is to run on a thread of its own until all ways in are gone.
    pub fn new(endpoint: &str, stats: Arc<Stats>) -> (Self, impl FnOnce() + Send + use<>) {
        let (queue, waiting) = sync_channel(WAITING);
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let of_thread = Arc::clone(&stats);
        (Self { queue, stats }, move || export(&url, &waiting, &of_thread))
    }

    /// Puts a batch into the queue, or drops it where that is full.
    pub fn send(&self, batch: Batch) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(batch)
        {
            self.stats.spans("dropped", 1);
        }
    }
}

fn export(url: &str, waiting: &Receiver<Batch>, stats: &Stats) {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
    let agent: ureq::Agent = config.into();
    let mut failing = false;
    while let Ok(first) = waiting.recv() {
        let until = Instant::now() + GATHER;
        let mut spans = vec![span(first)];
        while spans.len() < REQUEST {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(next) = waiting.recv_timeout(left) else { break };
            spans.push(span(next));
        }
        let count = spans.len() as u64;
        let request = agent.post(url).header("content-type", "application/x-protobuf");
        match request.send(&message(spans).encode_to_vec()[..]) {
            Ok(_) => {
                stats.spans("exported", count);
                if std::mem::take(&mut failing) {
                    info!("the collector takes spans again");
                }
            }
            Err(cause) => {
                stats.spans("dropped", count);
                if !std::mem::replace(&mut failing, true) {
                    warn!(%cause, "spans are dropped until the collector takes them");
                }
            }
        }
    }
}

fn message(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let attributes =
        vec![text("service.name", "telltale".into()), text("service.version", version.into())];
    let scope = InstrumentationScope { name: "telltale".into(), ..Default::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..Default::default() };
    let resource = Resource { attributes, ..Default::default() };
    let spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// From the arrival of a batch until detectors have seen it.
fn span(batch: Batch) -> Span {
    let Batch { source, partition, parser, rows, bytes, to_journal, to_detectors, ended_at } =
        batch;
    let mut ids = [0; 24];
    // Without randomness the collector takes it for no span, and says so.
    let _ = getrandom::fill(&mut ids);
    let nanos = |at: SystemTime| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    };
    let began_at = ended_at.checked_sub(to_journal + to_detectors).unwrap_or(ended_at);
    Span {
        trace_id: ids[..16].to_vec(),
        span_id: ids[16..].to_vec(),
        name: "batch".into(),
        kind: SpanKind::Consumer as i32,
        start_time_unix_nano: nanos(began_at),
        end_time_unix_nano: nanos(ended_at),
        attributes: vec![
            text("telltale.source", source),
            text("telltale.partition", partition),
            text("telltale.parser", parser),
            of("telltale.rows", Value::IntValue(i64::try_from(rows).unwrap_or(i64::MAX))),
            of("telltale.bytes", Value::IntValue(i64::try_from(bytes).unwrap_or(i64::MAX))),
            of("telltale.source_to_journal_seconds", Value::DoubleValue(to_journal.as_secs_f64())),
            of(
                "telltale.journal_to_detectors_seconds",
                Value::DoubleValue(to_detectors.as_secs_f64()),
            ),
        ],
        ..Default::default()
    }
}

fn text(key: &str, value: String) -> KeyValue {
    of(key, Value::StringValue(value))
}

fn of(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}
