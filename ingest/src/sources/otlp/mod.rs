//! OTLP logs: what the OpenTelemetry Collector and SDKs send, over gRPC here and over HTTP in
//! `http::otlp`. The body of a log record is an audit record, as text or as an object; the attribute
//! `telltale.parser` of the record, its scope or its resource may name the parser.
//! <https://opentelemetry.io/docs/specs/otlp/>
//!
//! `grpc` the service · `json` and `protobuf` what a request says

mod grpc;
mod json;
mod protobuf;

use super::delivery::{Delivery, Receipt, Rejected, Take};
use super::messages::Messages;
use crate::parsers::Parser;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use serde_json::Value;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;

/// What the source is called.
pub const SOURCE: &str = "otlp";
/// The attribute that names a parser.
const PARSER_ATTRIBUTE: &str = "telltale.parser";
/// Log records of a request; one that has no body takes two bytes of it.
const MAX_RECORDS: usize = 100_000;

/// Why nothing was read of a request.
#[derive(Debug, Error)]
pub enum Unread {
    #[error("no OTLP logs: {0}; raw logs are posted to /v1/logs/PARSER")]
    Malformed(String),
    #[error("a request may have {MAX_RECORDS} log records; send it in parts")]
    TooMany,
}

impl From<serde_json::Error> for Unread {
    fn from(cause: serde_json::Error) -> Self {
        Self::Malformed(cause.to_string())
    }
}

impl From<prost::DecodeError> for Unread {
    fn from(cause: prost::DecodeError) -> Self {
        Self::Malformed(cause.to_string())
    }
}

/// The gRPC service.
pub struct Otlp {
    pub take: Arc<dyn Take>,
    /// The tokens of which a sender has to show one; anybody may send where there is none.
    /// They may change meanwhile.
    pub tokens: watch::Receiver<Arc<[String]>>,
    /// Bytes of a request.
    pub body_bytes: usize,
}

/// What a sender is told: dead letters are what it calls rejected.
pub fn told(receipt: &Receipt) -> ExportLogsServiceResponse {
    let partial_success = (receipt.rejected > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(receipt.rejected).unwrap_or(i64::MAX),
        error_message: receipt.rejects.first().map_or_else(String::new, |r| r.reason.clone()),
    });
    ExportLogsServiceResponse { partial_success }
}

/// Reads the bytes of a request, of JSON or of protobuf, into a delivery with the records of each parser
/// together.
///
/// Errors: what is no request, and one of too many records.
pub fn delivery(partition: &str, request: &[u8], is_json: bool) -> Result<Delivery, Unread> {
    let mut gathered = Gathered::default();
    match is_json {
        true => json::read(request, &mut gathered)?,
        false => protobuf::read(request, &mut gathered)?,
    }
    Ok(gathered.into_delivery(partition))
}

/// Log records on their way into a delivery.
#[derive(Default)]
struct Gathered {
    messages: Messages,
    rejected: Vec<Rejected>,
    records: usize,
}

impl Gathered {
    /// Adds the body of a log record.
    fn body(&mut self, parser: Option<&'static dyn Parser>, body: Value) -> Result<(), Unread> {
        let text = match body {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let text = text.trim();
        if text.is_empty() {
            return self.reject("the log record has no body".to_owned());
        }
        let position = self.next()?;
        match text.contains(['\n', '\0']) {
            true => self.messages.other(parser, text.as_bytes(), position),
            false => self.messages.line(parser, text.as_bytes(), position),
        }
        Ok(())
    }

    /// Adds a log record that cannot be one of a log.
    fn reject(&mut self, reason: String) -> Result<(), Unread> {
        let position = self.next()?;
        self.rejected.push(Rejected { position, reason, head: Bytes::new() });
        Ok(())
    }

    /// The number of the next record.
    fn next(&mut self) -> Result<u64, Unread> {
        if self.records == MAX_RECORDS {
            return Err(Unread::TooMany);
        }
        self.records += 1;
        Ok(self.records as u64)
    }

    fn into_delivery(self, partition: &str) -> Delivery {
        let Self { messages, rejected, .. } = self;
        // The same records again are the same.
        let pieces =
            messages.into_pieces(|_, piece| format!("otlp:{}", blake3::hash(&piece.bytes)));
        let (source, partition) = (SOURCE.into(), partition.into());
        Delivery { source, partition, pieces, rejected, position: None }
    }
}

fn json_of(value: Option<Any>) -> Value {
    match value {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(value)) => value.into(),
        Some(Any::IntValue(value)) => value.into(),
        Some(Any::DoubleValue(value)) => value.into(),
        Some(Any::BytesValue(bytes)) => String::from_utf8_lossy(&bytes).into_owned().into(),
        Some(Any::ArrayValue(items)) => {
            items.values.into_iter().map(|item| json_of(item.value)).collect()
        }
        Some(Any::KvlistValue(pairs)) => pairs
            .values
            .into_iter()
            .map(|pair| (pair.key, json_of(pair.value.and_then(|value| value.value))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;
    use serde_json::json;

    /// Position, parser and text of every record, and position and reason of what is rejected.
    type Read = (Vec<(u64, &'static str, String)>, Vec<(u64, String)>);

    fn read(request: &[u8], is_json: bool) -> Result<Read, Unread> {
        let Delivery { pieces, rejected, .. } = delivery("test", request, is_json)?;
        let mut records = Vec::new();
        for piece in pieces {
            let name = piece.parser.map_or("", |parser| parser.name());
            let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
            match piece.are_lines {
                true => records.extend(
                    text.lines().zip(&*piece.offsets).map(|(line, at)| (*at, name, line.into())),
                ),
                false => records.push((piece.offsets[0], name, text)),
            }
        }
        records.sort();
        Ok((records, rejected.into_iter().map(|own| (own.position, own.reason)).collect()))
    }

    fn of_json(record: Value) -> Read {
        let request = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [record] }] }] });
        read(request.to_string().as_bytes(), true).unwrap()
    }

    fn any(value: Any) -> Option<AnyValue> {
        Some(AnyValue { value: Some(value) })
    }

    fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
        ExportLogsServiceRequest { resource_logs }
    }

    #[test]
    fn an_odd_attribute_harms_no_record() {
        for (key, odd) in [
            ("attributes", json!([{ "key": "a", "value": { "arrayValue": {} } }])),
            ("attributes", json!([{ "key": "a", "value": { "kvlistValue": {} } }])),
            ("attributes", json!([{ "key": "a", "value": { "doubleValue": "NaN" } }])),
            ("attributes", json!([{ "key": "a", "value": null }, null, 5, { "key": "a" }])),
            ("attributes", Value::Null),
            ("traceId", Value::Null),
            ("traceId", json!("no hex")),
            ("severityNumber", json!("SEVERITY_NUMBER_INFO")),
            ("unknown", json!({ "a": [1] })),
        ] {
            let read = of_json(json!({ "body": { "stringValue": "x" }, key: odd }));
            assert_eq!(read, (vec![(1, "", "x".to_owned())], vec![]), "{key}");
        }
        let request = br#"{"resourceLogs":[{"resource":{"entityRefs":[{"type":"host"}]},"scopeLogs":
            [{"scope":null,"logRecords":[{"body":{"stringValue":"x"}}]},{"logRecords":null}]},{}]}"#;
        assert_eq!(read(request, true).unwrap().0.len(), 1);
    }

    #[test]
    fn bodies_say_the_same_as_json_and_as_protobuf() {
        let pair = |key: &str, value| KeyValue {
            key: key.to_owned(),
            value: any(value),
            ..Default::default()
        };
        let values = vec![
            pair("text", Any::StringValue("x\n".to_owned())),
            pair("number", Any::IntValue(-5)),
            pair("share", Any::DoubleValue(0.5)),
            pair("bytes", Any::BytesValue(b"hello".to_vec())),
            pair("is", Any::BoolValue(true)),
        ];
        let body = any(Any::KvlistValue(KeyValueList { values }));
        let record = LogRecord { body, ..Default::default() };
        let of_protobuf = read(&request(vec![record]).encode_to_vec(), false).unwrap();
        let of_json = of_json(json!({ "body": { "kvlistValue": { "values": [
            { "key": "is", "value": { "boolValue": true } },
            { "key": "text", "value": { "stringValue": "x\n" } },
            { "value": { "intValue": "-5" }, "key": "number" },
            { "key": "share", "value": { "doubleValue": 0.5 } },
            { "key": "bytes", "value": { "bytesValue": "aGVsbG8=" } },
        ] } } }));
        assert_eq!(of_protobuf, of_json);
        let text = r#"{"bytes":"hello","is":true,"number":-5,"share":0.5,"text":"x\n"}"#;
        assert_eq!(of_json.0, [(1, "", text.to_owned())]);
    }

    #[test]
    fn the_nearest_attribute_names_the_parser() {
        let named = |name: &str| KeyValue {
            key: PARSER_ATTRIBUTE.to_owned(),
            value: any(Any::StringValue(name.to_owned())),
            ..Default::default()
        };
        let body = || any(Any::StringValue("x".to_owned()));
        let own =
            LogRecord { body: body(), attributes: vec![named("clearml")], ..Default::default() };
        let mut request = request(vec![own, LogRecord { body: body(), ..Default::default() }]);
        request.resource_logs[0].resource =
            Some(Resource { attributes: vec![named("gcp_audit")], ..Default::default() });
        let expected = [(1, "clearml", "x".to_owned()), (2, "gcp_audit", "x".to_owned())];
        assert_eq!(read(&request.encode_to_vec(), false).unwrap().0, expected);
        let named =
            |name: &str| json!([{ "key": PARSER_ATTRIBUTE, "value": { "stringValue": name } }]);
        let body = json!({ "stringValue": "x" });
        let request = json!({ "resourceLogs": [{
            "scopeLogs": [{ "logRecords": [
                { "body": body, "attributes": named("clearml") }, { "body": body },
            ] }],
            "resource": { "attributes": named("gcp_audit") },
        }] });
        assert_eq!(read(request.to_string().as_bytes(), true).unwrap().0, expected);
    }

    #[test]
    fn a_record_without_a_body_is_rejected() {
        for record in [
            json!({ "eventName": "x" }),
            json!({ "attributes": [{ "key": "a" }] }),
            json!({ "body": {} }),
            json!({ "body": null }),
            json!({ "body": { "stringValue": " \n" } }),
        ] {
            let expected = (vec![], vec![(1, "the log record has no body".to_owned())]);
            assert_eq!(of_json(record), expected);
        }
        let records = vec![LogRecord { event_name: "x".to_owned(), ..Default::default() }];
        let (kept, rejected) = read(&request(records).encode_to_vec(), false).unwrap();
        assert_eq!((kept.len(), rejected.len()), (0, 1));
        let deep = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(999), "]}}".repeat(999));
        let request = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{deep}}},{{"body":{{"stringValue":"x"}}}}]}}]}}]}}"#
        );
        let (kept, rejected) = read(request.as_bytes(), true).unwrap();
        assert_eq!((kept.len(), rejected.len()), (1, 1));
        assert!(rejected[0].1.contains("cannot be read"), "{rejected:?}");
    }

    #[test]
    fn what_is_no_request_is_said_and_one_without_records_is_nothing() {
        for (request, is_json) in [
            (br#"{"eventVersion":"1.08"}"#.as_slice(), true),
            (b"{\"resourceLogs\":", true),
            (b"hello", true),
            (b"hello", false),
            (b"\xff\xff\xff\xff", false),
            (b"{\"eventVersion\":1}", false),
        ] {
            let read = read(request, is_json);
            assert!(matches!(read, Err(Unread::Malformed(_))), "{read:?}");
        }
        for (request, is_json) in
            [(b"{}".as_slice(), true), (b"{\"resourceLogs\":[]}", true), (b"", false)]
        {
            assert_eq!(read(request, is_json).unwrap(), (vec![], vec![]));
        }
    }

    #[test]
    fn a_request_has_a_bounded_number_of_records() {
        let of = |records: usize| {
            let list = vec!["{}"; records].join(",");
            let json =
                format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{list}]}}]}}]}}"#);
            let protobuf = request(vec![LogRecord::default(); records]).encode_to_vec();
            [read(json.as_bytes(), true), read(&protobuf, false)]
                .map(|read| read.map(|r| r.1.len()))
        };
        for read in of(MAX_RECORDS) {
            assert_eq!(read.unwrap(), MAX_RECORDS);
        }
        for read in of(MAX_RECORDS + 1) {
            assert!(matches!(read, Err(Unread::TooMany)), "{read:?}");
        }
    }
}
