//! One file for each log, in alphabetical order: what the bytes of a record mean.

mod aws_cloudtrail;
mod clearml;
mod hashicorp_vault_audit;
mod okta_system_log;

use crate::json;
use crate::payload::{Payload, Rejects};
use telltale_schema::EventBuilder;

/// Turns the records of one log into events.
///
/// A parser has no clock, no network and no state; it never fails as a whole and never panics.
pub trait Parser: Sync {
    /// The log's name, which is also the `log` column of its events.
    fn name(&self) -> &'static str;

    /// One line of help.
    fn help(&self) -> &'static str;

    /// The source of its module, whose head is its page.
    fn source(&self) -> &'static str;

    /// Whether a record looks like one of this log: cheap, by names that only this log has.
    fn recognises(&self, record: &str) -> bool;

    /// Appends every event of the payload to `events`, and what is none to `rejects`.
    ///
    /// A line that belongs to the log and is no audit record (a banner, a blank) is passed over.
    fn parse(&self, payload: &Payload, events: &mut EventBuilder, rejects: &mut Rejects);
}

/// Every parser, in alphabetical order.
pub static PARSERS: &[&dyn Parser] = &[
    &aws_cloudtrail::AwsCloudtrail,
    &clearml::ClearMl,
    &hashicorp_vault_audit::HashicorpVaultAudit,
    &okta_system_log::OktaSystemLog,
];

/// The parser of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Parser> {
    PARSERS.iter().find(|parser| parser.name() == name).copied()
}

/// The parser whose log a record belongs to.
pub fn recognise(record: &str) -> Option<&'static dyn Parser> {
    PARSERS.iter().find(|parser| parser.recognises(record)).copied()
}

/// Keys under which exporters put somebody else's record, as an object or as JSON in a string.
const ENVELOPES: [&str; 13] = [
    "_raw",
    "_source",
    "message",
    "detail",
    "event",
    "events",
    "original",
    "logEvents",
    "log",
    "line",
    "data",
    "body",
    "payload",
];

/// The records inside an exporter's envelope (Splunk's `_raw`, Elastic's `_source`, EventBridge's
/// `detail`, CloudWatch's `logEvents[].message` …), through at most three envelopes.
pub fn open_envelope(record: &str, found: &mut Vec<String>) {
    open(record, 3, found);
}

fn open(record: &str, depth: u8, found: &mut Vec<String>) {
    if depth == 0 || !record.starts_with('{') {
        return;
    }
    for key in ENVELOPES {
        let Some(inner) = json::field(record, key) else { continue };
        let texts: Vec<String> = match inner.0.as_bytes().first() {
            Some(b'"') => inner.read::<String>().into_iter().collect(),
            Some(b'{') => vec![inner.0.to_owned()],
            Some(b'[') => inner
                .read::<Vec<json::Raw<'_>>>()
                .map(|all| all.iter().map(|raw| raw.0.to_owned()).collect())
                .unwrap_or_default(),
            _ => continue,
        };
        for text in texts {
            if recognise(text.trim()).is_some() {
                found.push(text.trim().to_owned());
            } else {
                open(text.trim(), depth - 1, found);
            }
        }
        if !found.is_empty() {
            return;
        }
    }
}
