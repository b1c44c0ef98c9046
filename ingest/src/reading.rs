//! One block to batches of events: secrets out, records found, each read by its parser.

use crate::parsers::{self, PARSERS, Parser};
use crate::payload::{Block, Payload, Rejects};
use crate::redact::Redactor;
use crate::sources::Plan;
use telltale_schema::{EventBatch, EventBuilder, Micros};

/// Reads a block as `plan` says and hands each batch, with the name of its log, to `take`.
///
/// Errors: what is no event goes to `rejects`, with its text where singles are kept.
pub fn read_block(
    block: Block,
    plan: Plan,
    redactor: &Redactor,
    received_at: Micros,
    rejects: &mut Rejects,
    mut take: impl FnMut(&'static str, EventBatch),
) {
    read_records(block, plan, redactor, rejects, |parser, payload, rejects| {
        if let Some(batch) = batch_of(parser, payload, received_at, rejects) {
            take(parser.name(), batch);
        }
    });
}

/// The events of a payload; `None` where there are none.
pub fn batch_of(
    parser: &dyn Parser,
    payload: &Payload,
    received_at: Micros,
    rejects: &mut Rejects,
) -> Option<EventBatch> {
    let mut builder = EventBuilder::new(parser.name(), payload.buffer(), received_at);
    parser.parse(payload, &mut builder, rejects);
    (!builder.is_empty()).then(|| builder.finish())
}

/// Finds the records of a block as `plan` says and hands them to `parse`, with their parser.
///
/// Errors: as for [`read_block`].
pub fn read_records(
    block: Block,
    plan: Plan,
    redactor: &Redactor,
    rejects: &mut Rejects,
    mut parse: impl FnMut(&'static dyn Parser, &Payload, &mut Rejects),
) {
    let mut payload = Payload::new(block, redactor, rejects);
    if plan.envelope {
        payload = payload.unwrapped(parsers::open_envelope);
    }
    match plan.parser {
        Some(parser) => parse(parser, &payload, rejects),
        None => {
            let unknown = each_for_itself(&payload, |parser, own| parse(parser, own, rejects));
            // What no parser knows may lie in an exporter's envelope.
            let opened = unknown.unwrapped(parsers::open_envelope);
            let strange = each_for_itself(&opened, |parser, own| parse(parser, own, rejects));
            for (position, _) in strange.records() {
                rejects.push(position, "no parser recognises the record");
            }
        }
    }
    payload.explain(rejects);
}

/// Hands records to the parsers that recognise them, and gives back those that none does.
fn each_for_itself(
    payload: &Payload,
    mut append: impl FnMut(&'static dyn Parser, &Payload),
) -> Payload {
    let parsers: Vec<Option<&'static dyn Parser>> =
        payload.records().map(|(_, record)| parsers::recognise(record)).collect();
    let of = |parser: Option<&str>| {
        let mut all = parsers.iter();
        payload.only(|_| all.next().is_some_and(|p| p.map(|p| p.name()) == parser))
    };
    for parser in PARSERS {
        let own = of(Some(parser.name()));
        if !own.is_empty() {
            append(*parser, &own);
        }
    }
    of(None)
}
