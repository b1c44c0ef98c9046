//! What exporters put around a record: an object that holds it under a key of their own, as JSON, as
//! JSON in a string or in base64; and the words that a collector writes before it on its line.

use crate::container::pieces;
use crate::json::{self, Raw, Text};
use crate::parsers::recognise;
use crate::redact::{Redactor, decode_base64};
use telltale_schema::Micros;
use telltale_schema::time::{format_instant, parse_lenient};

/// Keys under which exporters put somebody else's record, the one to look under first first.
const ENVELOPES: [&str; 47] = [
    "_raw",
    "_source",
    "CloudTrailEvent",
    "message",
    "@message",
    "Message",
    "detail",
    "event",
    "events",
    "original",
    "logEvents",
    "log",
    "log_s",
    "line",
    "data",
    "body",
    "Body",
    "payload",
    "properties",
    "items",
    "result",
    "results",
    "hits",
    "json",
    "Records",
    "records",
    "Events",
    "entries",
    "value",
    "Messages",
    "receivedMessages",
    "Sns",
    "kinesis",
    "full_message",
    "audit",
    "kubernetes",
    "hashicorp_vault",
    "doc",
    "text",
    "structured",
    "MESSAGE",
    "aws",
    "gcp",
    "full_log",
    "logs",
    "jsonPayload",
    "textPayload",
];

/// Envelopes and arrays in one another that are looked into: an answer of Elasticsearch is
/// `hits.hits[]._source.event.original`.
const MAX_DEPTH: u8 = 6;

/// How base64 of a JSON object begins, as Pub/Sub carries it.
const BASE64_OBJECT: &str = "eyJ";

/// Finds records inside an exporter's envelope (Splunk's `_raw`, Elastic's `_source`, EventBridge's
/// `detail`, CloudWatch's `logEvents[].message`, Azure's `properties.log`, the `items` of a
/// Kubernetes list …), or behind a collector's prefix.
///
/// What lay in base64 was no text yet when the payload was redacted: `redactor` does it here. It may
/// be missing where nobody sees what is found.
pub struct Opener<'r> {
    redactor: Option<&'r Redactor>,
    found: Vec<String>,
}

impl<'r> Opener<'r> {
    pub fn new(redactor: Option<&'r Redactor>) -> Self {
        Self { redactor, found: Vec::new() }
    }

    /// Hands over what lies in the record; whether anything does. Where it holds several values one
    /// behind another, each of them is a record and whatever stands between them is too.
    pub fn open(&mut self, record: &str, take: &mut dyn FnMut(&str)) -> bool {
        let mut opening = Opening { redactor: self.redactor, found: &mut self.found };
        if opening.open(record, None, MAX_DEPTH) == Holds::Several {
            pieces(record.as_bytes(), |at| {
                let Some(piece) = record.get(at) else { return };
                let mut opening = Opening { redactor: self.redactor, found: &mut self.found };
                opening.open(piece, None, MAX_DEPTH);
                if self.found.is_empty() {
                    take(piece);
                }
                self.found.drain(..).for_each(|text| take(&text));
            });
            return true;
        }
        let is_any = !self.found.is_empty();
        self.found.drain(..).for_each(|text| take(&text));
        is_any
    }
}

/// The time that an envelope says, as text or as a number since 1970.
fn instant(time: Raw<'_>) -> Option<Micros> {
    match time.0.starts_with('"') {
        true => parse_lenient(time.read::<Text<'_>>().ok()?.get()?),
        false => parse_lenient(time.0),
    }
}

/// What a text is at its outermost level.
#[derive(PartialEq, Eq)]
enum Holds {
    /// One object, or what is none.
    One,
    /// An object with something behind it, which was not looked into.
    Several,
}

struct Opening<'o> {
    redactor: Option<&'o Redactor>,
    found: &'o mut Vec<String>,
}

impl Opening<'_> {
    /// `at`: the time of the innermost envelope so far that says one.
    fn open(&mut self, record: &str, at: Option<Micros>, depth: u8) -> Holds {
        let Some(depth) = depth.checked_sub(1) else { return Holds::One };
        if record.starts_with('"') {
            // A message that was made JSON twice.
            if let Ok(value) = json::from_str::<Raw<'_>>(record) {
                self.value(value, at, depth);
            }
            return Holds::One;
        }
        if !record.starts_with('{') {
            // `<13>May  6 07:08:09 host vault[7]: {…}`, `2026-05-06T07:08:09Z stdout F {…}`.
            if let (Some(start), true) = (record.find('{'), record.ends_with('}')) {
                self.look(&record[start..], at, depth);
            }
            return Holds::One;
        }
        let mut inside: [Option<Raw<'_>>; ENVELOPES.len()] = [None; _];
        let mut time = None;
        let end = json::members(record, |key, value| match key {
            // Docker and Elastic; CloudWatch and Loki; Fluent Bit; Splunk; the journal.
            "time" | "@timestamp" | "timestamp" | "date" | "_time" | "__REALTIME_TIMESTAMP" => {
                time = time.or_else(|| instant(value));
            }
            _ => {
                if let Some(rank) = ENVELOPES.iter().position(|envelope| *envelope == key) {
                    inside[rank].get_or_insert(value);
                }
            }
        });
        if end.is_some_and(|end| end < record.trim_ascii_end().len()) {
            return Holds::Several;
        }
        let at = time.or(at);
        let before = self.found.len();
        for value in inside.into_iter().flatten() {
            self.value(value, at, depth);
            if self.found.len() > before {
                break;
            }
        }
        Holds::One
    }

    fn value(&mut self, value: Raw<'_>, at: Option<Micros>, depth: u8) {
        match value.0.as_bytes().first() {
            Some(b'{') => self.look(value.0, at, depth),
            Some(b'[') => self.elements(value.0, at, depth),
            Some(b'"') => {
                let Ok(text) = value.read::<Text<'_>>() else { return };
                let text = text.get().unwrap_or_default().trim();
                let decoded = self.decoded(text);
                match decoded.as_deref().unwrap_or(text).trim() {
                    text if text.starts_with("[{") => self.elements(text, at, depth),
                    text => self.look(text, at, depth),
                }
            }
            _ => {}
        }
    }

    /// The elements of an array in which something is found. Then each of them is a record, also
    /// one that nobody knows.
    fn elements(&mut self, array: &str, at: Option<Micros>, depth: u8) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let Ok(elements) = json::from_str::<Vec<Raw<'_>>>(array) else { return };
        let before = self.found.len();
        let mut strange = Vec::new();
        for element in elements {
            let found = self.found.len();
            self.value(element, at, depth);
            if self.found.len() == found {
                strange.push(element.0);
            }
        }
        self.keep_strange(strange, before);
    }

    /// The same for values that stand one behind another.
    fn pieces(&mut self, text: &str, at: Option<Micros>, depth: u8) {
        let before = self.found.len();
        let mut strange = Vec::new();
        pieces(text.as_bytes(), |place| {
            let (found, Some(piece)) = (self.found.len(), text.get(place)) else { return };
            self.look(piece, at, depth);
            if self.found.len() == found {
                strange.push(piece);
            }
        });
        self.keep_strange(strange, before);
    }

    fn keep_strange(&mut self, strange: Vec<&str>, before: usize) {
        if self.found.len() > before {
            self.found.extend(strange.into_iter().map(str::to_owned));
        }
    }

    /// Innermost first: an envelope of objects holds the very words that it is known by.
    fn look(&mut self, text: &str, at: Option<Micros>, depth: u8) {
        let before = self.found.len();
        if let (Holds::Several, Some(depth)) = (self.open(text, at, depth), depth.checked_sub(1)) {
            self.pieces(text, at, depth);
        }
        if self.found.len() == before
            && let Some(parser) = recognise(text)
        {
            self.found.push(match at {
                Some(at) if !parser.is_dated(text) => format!("{} {text}", format_instant(at)),
                _ => text.to_owned(),
            });
        }
    }

    fn decoded(&self, text: &str) -> Option<String> {
        if !text.starts_with(BASE64_OBJECT) {
            return None;
        }
        let bytes = decode_base64(text.as_bytes());
        let redacted = self.redactor.and_then(|redactor| redactor.redact(&bytes));
        String::from_utf8(redacted.unwrap_or(bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Key;

    const RECORD: &str = r#"{"eventVersion":"1.09","eventName":"ListKeys","eventSource":"iam.amazonaws.com","awsRegion":"eu-west-1","requestParameters":{"password":"correct horse battery"}}"#;
    /// [`RECORD`] in base64.
    const BASE64: &str = "eyJldmVudFZlcnNpb24iOiIxLjA5IiwiZXZlbnROYW1lIjoiTGlzdEtleXMiLCJldmVudFNvdXJjZSI6ImlhbS5hbWF6b25hd3MuY29tIiwiYXdzUmVnaW9uIjoiZXUtd2VzdC0xIiwicmVxdWVzdFBhcmFtZXRlcnMiOnsicGFzc3dvcmQiOiJjb3JyZWN0IGhvcnNlIGJhdHRlcnkifX0=";

    fn opened(envelope: &str) -> Vec<String> {
        let mut found = Vec::new();
        Opener::new(None).open(envelope, &mut |text| found.push(text.to_owned()));
        found
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn every_envelope_gives_its_record() {
        let text = quoted(RECORD);
        let notice = quoted(&format!(r#"{{"detail-type":"x","detail":{RECORD}}}"#));
        let message = quoted(&format!(r#"{{"Type":"Notification","Message":{notice}}}"#));
        let listed = quoted(&format!("[{RECORD}]"));
        for envelope in [
            format!(r#"{{"EventId":"1","EventName":"ListKeys","CloudTrailEvent":{text}}}"#),
            format!(r#"{{"preview":false,"result":{{"_raw":{text}}}}}"#),
            format!(r#"{{"preview":false,"results":[{{"_raw":{text}}}]}}"#),
            format!(
                r#"{{"took":1,"hits":{{"total":1,"hits":[{{"_id":"1","_source":{RECORD}}}]}}}}"#
            ),
            format!(r#"{{"hits":{{"hits":[{{"_source":{{"event":{{"original":{text}}}}}}}]}}}}"#),
            format!(r#"{{"@timestamp":"2026-05-06 07:08:09.000","@message":{RECORD}}}"#),
            format!(r#"{{"@timestamp":"2026-05-06 07:08:09.000","@message":{text}}}"#),
            format!(r#"{{"Body":{message}}}"#),
            format!(r#"{{"body":{listed}}}"#),
            format!(r#"{{"digest":"x","Records":[{RECORD}]}}"#),
            format!(r#"{{"count":1,"records":[{RECORD}]}}"#),
            format!(r#"{{"nextPageToken":"x","entries":[{RECORD}]}}"#),
            format!(r#"{{"@odata.context":"x","value":[{RECORD}]}}"#),
            format!(r#"{{"ResponseMetadata":{{}},"Messages":[{{"Body":{message}}}]}}"#),
            format!(r#"{{"x":1,"receivedMessages":[{{"message":{{"data":"{BASE64}"}}}}]}}"#),
            format!(
                r#"{{"Records":[{{"eventSource":"aws:kinesis","eventName":"aws:kinesis:record","awsRegion":"eu-west-1","kinesis":{{"data":"{BASE64}"}}}}]}}"#
            ),
            format!(r#"{{"@timestamp":"x","json":{RECORD}}}"#),
            format!(r#"{{"message":{{"data":"{BASE64}","messageId":"1"}},"subscription":"s"}}"#),
            format!("<13>May  6 07:08:09 host app[7]: {RECORD}"),
            format!("@cee: {RECORD}"),
            text.clone(),
            format!(r#"{{"kubernetes":{{"audit":{RECORD}}}}}"#),
            format!(r#"{{"doc":{RECORD},"doc_as_upsert":true}}"#),
            format!(r#"{{"@timestamp":"x","body":{{"text":{text}}},"attributes":{{}}}}"#),
            format!(r#"{{"body":{{"structured":{RECORD}}}}}"#),
            format!(r#"{{"PRIORITY":"6","_COMM":"vault","MESSAGE":{text}}}"#),
            format!(r#"{{"integration":"aws","aws":{RECORD}}}"#),
            format!(r#"{{"agent":{{"id":"1"}},"full_log":{text},"data":{{"aws":{{"x":1}}}}}}"#),
            format!(r#"{{"insertId":"1","jsonPayload":{{"message":{text}}}}}"#),
            format!(r#"{{"insertId":"1","textPayload":{text}}}"#),
            format!(r#"{{"logs":[{RECORD}]}}"#),
            format!(
                r#"{{"log":{}}}"#,
                quoted(&format!("2026-05-06T07:08:09Z stdout F {RECORD}\n"))
            ),
        ] {
            assert_eq!(opened(&envelope), [RECORD], "{envelope}");
        }
    }

    #[test]
    fn an_array_with_a_record_keeps_what_nobody_knows_and_one_without_is_nothing() {
        let found = opened(&format!(r#"{{"results":[{{"x":1}},{RECORD},{RECORD}]}}"#));
        assert_eq!(found, [RECORD, RECORD, r#"{"x":1}"#]);
        for other in [
            r#"{"results":[{"x":1}]}"#,
            r#"{"id":"1","value":[{"x":1}],"records":7,"entries":{}}"#,
            RECORD,
            r#"{"data":"eyJhIjoxfQ"}"#,
            "a { b }",
            "}{",
        ] {
            assert_eq!(opened(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn nothing_behind_the_first_value_is_lost() {
        let event = format!(r#"{{"event":{RECORD}}}"#);
        for (text, expected) in [
            (format!("{event}{event}"), vec![RECORD, RECORD]),
            (format!("{RECORD} {event}"), vec![RECORD, RECORD]),
            (format!("{event},[{event}]"), vec![RECORD, RECORD]),
            (format!(r#"{event}{{"x":1}} and more"#), vec![RECORD, r#"{"x":1}"#, "and more"]),
            (format!(r#"{{"x":1}}{event}"#), vec![r#"{"x":1}"#, RECORD]),
            (r#"{"x":1}{"y":1}"#.to_owned(), vec![r#"{"x":1}"#, r#"{"y":1}"#]),
            (format!(r#"{event}{{"event":"#), vec![RECORD, r#"{"event":"#]),
        ] {
            assert_eq!(opened(&text), expected, "{text}");
        }
        // Within an envelope, as within an array.
        let message = quoted(&format!(r#"{{"x":1}} {event}{RECORD}"#));
        let found = opened(&format!(r#"{{"message":{message}}}"#));
        assert_eq!(found, [RECORD, RECORD, r#"{"x":1}"#]);
        assert_eq!(opened(&format!("May  6 host app: {event}{event}")), [RECORD, RECORD]);
        assert_eq!(opened(r#"{"message":"{} {}"}"#), [""; 0]);
    }

    #[test]
    fn a_line_without_a_time_takes_that_of_its_envelope() {
        let line = "Running task '0123456789abcdef0123456789abcdef'";
        let log = |time: &str, text: &str| {
            opened(&format!(r#"{{"log":{},"time":"{time}"}}"#, quoted(&format!("{text}\n"))))
        };
        let dated = format!("2026-05-06T07:08:09.500000Z {line}");
        assert_eq!(log("2026-05-06T07:08:09.5Z", line), [dated.as_str()]);
        assert_eq!(log("2026-05-06T09:00:00Z", &dated), [dated.as_str()]);
        assert_eq!(log("yesterday", line), [line]);
        for envelope in [
            r#"{"timestamp":1778051289500,"message":"LINE"}"#,
            r#"{"logEvents":[{"id":"1","timestamp":1778051289500,"message":"LINE"}]}"#,
            r#"{"date":1778051289.5,"log":"LINE"}"#,
            r#"{"_time":"1778051289.500","_raw":"LINE"}"#,
            r#"{"__REALTIME_TIMESTAMP":"1778051289500000","MESSAGE":"LINE"}"#,
            r#"{"line":"LINE","timestamp":"2026-05-06T07:08:09.5Z"}"#,
            r#"{"time":1778051289.5,"event":"LINE"}"#,
        ] {
            assert_eq!(opened(&envelope.replace("LINE", line)), [dated.as_str()], "{envelope}");
        }
    }

    #[test]
    fn secrets_in_base64_are_replaced() {
        let (mut found, redactor) = (Vec::new(), Redactor::new(&Key::from_bytes([1; 32])));
        let envelope = format!(r#"{{"data":"{BASE64}"}}"#);
        Opener::new(Some(&redactor)).open(&envelope, &mut |text| found.push(text.to_owned()));
        assert!(found[0].contains("\"password\":\"redacted:"), "{found:?}");
    }

    #[test]
    fn what_is_nested_too_deep_is_nothing_and_costs_little() {
        let objects = format!("{}{RECORD}{}", r#"{"data":"#.repeat(20_000), "}".repeat(20_000));
        let arrays = format!(r#"{{"data":{}{RECORD}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let mut strings = RECORD.to_owned();
        for _ in 0..10 {
            strings = format!(r#"{{"data":{}}}"#, quoted(&strings));
        }
        let wide = format!("{{{}}}", r#""data":[{"data":[{}]}],"#.repeat(20_000));
        for bomb in [arrays, strings, wide] {
            assert!(opened(&bomb).is_empty(), "{bomb:.80}");
        }
        // Objects hold the words that a record is known by, and no parser reads them.
        assert_eq!(opened(&objects).len(), 1);
    }
}
