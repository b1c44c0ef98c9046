//! One file for each log, in alphabetical order: what the bytes of a record mean.

mod aws_cloudtrail;
mod clearml;
mod gcp_audit;
mod hashicorp_vault_audit;
mod kubernetes_audit;
mod okta_system_log;

use crate::json;
use crate::payload::{Payload, Rejects};
use std::fmt::Display;
use telltale_schema::Events;

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
    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects);
}

/// Every parser, in alphabetical order.
pub static PARSERS: &[&dyn Parser] = &[
    &aws_cloudtrail::AwsCloudtrail,
    &clearml::ClearMl,
    &gcp_audit::GcpAudit,
    &hashicorp_vault_audit::HashicorpVaultAudit,
    &kubernetes_audit::KubernetesAudit,
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
const ENVELOPES: [&str; 16] = [
    "_raw",
    "_source",
    "message",
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
    "payload",
    "properties",
    "items",
];

/// The records inside an exporter's envelope (Splunk's `_raw`, Elastic's `_source`, EventBridge's
/// `detail`, CloudWatch's `logEvents[].message`, Azure's `properties.log`, the `items` of a
/// Kubernetes list …), through at most three envelopes.
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
        for text in texts.iter().map(|text| text.trim()) {
            // Innermost first: an envelope of objects holds the very words that it is known by.
            let before = found.len();
            open(text, depth - 1, found);
            if found.len() == before && recognise(text).is_some() {
                found.push(text.to_owned());
            }
        }
        if !found.is_empty() {
            return;
        }
    }
}

/// Hands every record to `append`; what that refuses is opened, so that a parser also reads its
/// records in an exporter's envelope, and rejected when there is nothing inside.
fn append_or_open<E: Display>(
    payload: &Payload,
    rejects: &mut Rejects,
    mut append: impl FnMut(&str) -> Result<(), E>,
) {
    let mut inside = Vec::new();
    for (position, record) in payload.records() {
        let Err(cause) = append(record) else { continue };
        inside.clear();
        open_envelope(record, &mut inside);
        if inside.is_empty() {
            rejects.push(position, cause);
        }
        for record in &inside {
            if let Err(cause) = append(record) {
                rejects.push(position, cause);
            }
        }
    }
}
