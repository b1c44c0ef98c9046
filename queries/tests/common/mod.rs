//! Batches of events for tests: out of canonical NDJSON, and many of them out of nothing.

#![allow(dead_code, reason = "each test file uses its part")]

use arrow_buffer::Buffer;
use serde_json::{Map, Value};
use std::path::Path;
use telltale_schema::time::{Micros, parse_instant};
use telltale_schema::{Event, EventBatch, EventBuilder, EventId, Kind, Outcome, PrincipalKind};

/// Reads canonical events, one JSON object a line; absent columns are null.
pub fn read_events(path: &Path) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One batch of events. All rows have the log of the first, as a parser's batches do.
pub fn batch_of(events: &[Map<String, Value>]) -> EventBatch {
    fn text<'a>(event: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
        event.get(name).map(|value| value.as_str().unwrap())
    }
    let number = |event: &Map<String, Value>, name| event.get(name).map(|v| v.as_i64().unwrap());
    let instant = |event, name| text(event, name).map(|t| parse_instant(t).unwrap());
    let log = events.first().and_then(|event| text(event, "log")).unwrap_or("none");
    let received_at = events.first().and_then(|event| instant(event, "received_at")).unwrap_or(0);
    let mut builder = EventBuilder::new(log, Buffer::from_vec(Vec::<u8>::new()), received_at);
    for event in events {
        assert_eq!(text(event, "log"), Some(log), "a batch is of one log");
        let chain: Vec<&str> = match event.get("delegation_chain") {
            Some(links) => links.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect(),
            None => Vec::new(),
        };
        let id = text(event, "event_id").map_or(0, |hex| u128::from_str_radix(hex, 16).unwrap());
        builder.push(&Event {
            event_id: EventId(id.to_be_bytes()),
            tenant: text(event, "tenant"),
            kind: text(event, "kind").map_or(Kind::ApiCall, |t| Kind::from_text(t).unwrap()),
            operation: text(event, "operation"),
            service: text(event, "service"),
            outcome: text(event, "outcome")
                .map_or(Outcome::Unknown, |t| Outcome::from_text(t).unwrap()),
            status_code: number(event, "status_code").map(|n| n as i16),
            error_code: text(event, "error_code"),
            principal_id: text(event, "principal_id"),
            principal_kind: text(event, "principal_kind")
                .map_or(PrincipalKind::Unknown, |t| PrincipalKind::from_text(t).unwrap()),
            principal_name: text(event, "principal_name"),
            target_id: text(event, "target_id"),
            delegation_chain: &chain,
            credential_id: text(event, "credential_id"),
            credential_kind: text(event, "credential_kind"),
            credential_issued_at: instant(event, "credential_issued_at"),
            credential_expires_at: instant(event, "credential_expires_at"),
            issued_credential_id: text(event, "issued_credential_id"),
            session_id: text(event, "session_id"),
            source_ip: text(event, "source_ip"),
            source_asn: number(event, "source_asn"),
            source_country: text(event, "source_country"),
            user_agent: text(event, "user_agent"),
            resource: text(event, "resource"),
            region: text(event, "region"),
            instance_id: text(event, "instance_id"),
            latency_us: number(event, "latency_us"),
            change_id: text(event, "change_id"),
            sequence: number(event, "sequence"),
            raw: text(event, "raw"),
            ..Event::new(log, instant(event, "event_time").unwrap())
        });
    }
    builder.finish()
}

/// `rows` events of `log` that lie in one payload, as a parser makes them: most are API calls,
/// every tenth is an authentication and every twentieth an impersonation, some of them refused.
pub fn synthetic(log: &str, rows: usize, first: usize) -> EventBatch {
    let mut lines = String::new();
    let mut ends = Vec::new();
    for row in first..first + rows {
        let principal = row % 97;
        lines += &format!(
            "{{\"who\":\"arn:aws:iam::123456789012:role/service-{principal:04}\",\
             \"why\":\"AccessDeniedException\",\"what\":\"GetSecretValue\",\"filler\":\"{}\"}}\n",
            "x".repeat(600),
        );
        ends.push(lines.len());
    }
    let payload = Buffer::from_vec(lines.into_bytes());
    let text = payload.clone();
    let text = std::str::from_utf8(text.as_slice()).unwrap();
    let mut builder = EventBuilder::new(log, payload, 1_767_225_600_000_000);
    let mut start = 0;
    for (row, end) in (first..).zip(ends) {
        let line = &text[start..end - 1];
        let value = |key: &str| {
            let from = line.find(key).unwrap() + key.len() + 3;
            let len = line[from..].find('"').unwrap();
            &line[from..from + len]
        };
        let kind = match row % 20 {
            0 | 10 => Kind::Authentication,
            5 => Kind::Impersonation,
            _ => Kind::ApiCall,
        };
        let refused = row % 50 == 0 || row % 35 == 0;
        builder.push(&Event {
            event_id: EventId((row as u128).to_be_bytes()),
            kind,
            operation: Some(value("what")),
            outcome: if refused { Outcome::Denied } else { Outcome::Success },
            error_code: refused.then(|| value("why")),
            principal_id: Some(value("who")),
            principal_kind: PrincipalKind::Role,
            raw: Some(line),
            ..Event::new(log, 1_767_225_600_000_000 + row as Micros * 1000)
        });
        start = end;
    }
    builder.finish()
}
