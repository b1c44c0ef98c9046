//! Canonical events that own their text, as fixtures and generators make them.
#![allow(dead_code)]

use serde::Deserialize;
use telltale_detect::{Engine, detectors};
use telltale_schema::time::parse_instant;
use telltale_schema::{Event, EventId, Finding, Kind, Micros, Outcome, PrincipalKind};

/// The text form of an event, as far as detectors read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    pub event_id: String,
    pub event_time: String,
    pub received_at: String,
    pub log: String,
    pub tenant: Option<String>,
    pub kind: String,
    pub operation: Option<String>,
    pub service: Option<String>,
    pub outcome: String,
    pub status_code: Option<i16>,
    pub error_code: Option<String>,
    pub principal_id: Option<String>,
    pub principal_kind: String,
    pub principal_name: Option<String>,
    pub target_id: Option<String>,
    pub delegation_chain: Vec<String>,
    pub credential_id: Option<String>,
    pub credential_kind: Option<String>,
    pub credential_issued_at: Option<String>,
    pub credential_expires_at: Option<String>,
    pub issued_credential_id: Option<String>,
    pub session_id: Option<String>,
    pub source_ip: Option<String>,
    pub source_asn: Option<i64>,
    pub source_country: Option<String>,
    pub user_agent: Option<String>,
    pub resource: Option<String>,
    pub region: Option<String>,
    pub instance_id: Option<String>,
    pub latency_us: Option<i64>,
    pub change_id: Option<String>,
    pub sequence: Option<i64>,
    pub raw: Option<String>,
    /// Microseconds, once read.
    #[serde(skip)]
    pub at: Micros,
    #[serde(skip)]
    pub id: [u8; 16],
}

impl Record {
    /// Reads the text form of an id and an instant.
    pub fn settle(mut self) -> Self {
        self.at = parse_instant(&self.event_time).expect("a fixture's event_time is an instant");
        for (at, byte) in self.id.iter_mut().enumerate() {
            let digits = self.event_id.get(2 * at..2 * at + 2).expect("an event_id is 32 digits");
            *byte = u8::from_str_radix(digits, 16).expect("an event_id is hex");
        }
        self
    }

    pub fn event(&self) -> Event<'_> {
        let mut event = Event::new(&self.log, self.at);
        event.event_id = EventId(self.id);
        event.tenant = self.tenant.as_deref();
        event.kind = Kind::from_text(&self.kind).expect("a known kind");
        event.operation = self.operation.as_deref();
        event.service = self.service.as_deref();
        event.outcome = Outcome::from_text(&self.outcome).expect("a known outcome");
        event.status_code = self.status_code;
        event.error_code = self.error_code.as_deref();
        event.principal_id = self.principal_id.as_deref();
        event.principal_kind =
            PrincipalKind::from_text(&self.principal_kind).expect("a known principal kind");
        event.principal_name = self.principal_name.as_deref();
        event.target_id = self.target_id.as_deref();
        event.credential_id = self.credential_id.as_deref();
        event.credential_kind = self.credential_kind.as_deref();
        event.issued_credential_id = self.issued_credential_id.as_deref();
        event.session_id = self.session_id.as_deref();
        event.source_ip = self.source_ip.as_deref();
        event.user_agent = self.user_agent.as_deref();
        event.resource = self.resource.as_deref();
        event.region = self.region.as_deref();
        event.instance_id = self.instance_id.as_deref();
        event
    }
}

/// Reads canonical events, one JSON object a line.
pub fn read(text: &str) -> Vec<Record> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str::<Record>(line).expect("a canonical event").settle())
        .collect()
}

/// All findings of the default detectors over events in the order given.
pub fn run(records: &[Record], lateness: Micros) -> Vec<Finding> {
    let mut engine = Engine::new(detectors::defaults(), lateness);
    for record in records {
        engine.observe(&record.event());
    }
    engine.finish();
    engine.findings()
}
