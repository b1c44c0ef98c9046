//! One file for each log, in alphabetical order: what the bytes of a record mean.

mod aws_cloudtrail;
mod clearml;
mod gcp_audit;
mod hashicorp_vault_audit;
mod kubernetes_audit;
mod okta_system_log;

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

    /// Whether a record says when it was written. Before one that does not stands the time of the
    /// envelope that it lay in.
    fn is_dated(&self, _record: &str) -> bool {
        true
    }

    /// Appends every event of the payload to `events`, and what is none to `rejects`: by
    /// [`Payload::refuse`], so that it is read where it is another log's or lies in an envelope.
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

/// Hands every record to `append`; what that refuses may still be another log's, or lie in an
/// exporter's envelope.
fn append_or_refuse<E: Display>(
    payload: &Payload,
    rejects: &mut Rejects,
    mut append: impl FnMut(&str) -> Result<(), E>,
) {
    for (number, (_, record)) in payload.records().enumerate() {
        if let Err(cause) = append(record) {
            payload.refuse(number, cause, rejects);
        }
    }
}
