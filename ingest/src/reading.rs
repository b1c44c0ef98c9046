//! One block to batches of events: secrets out, records found, each read by its parser.

use crate::container::bulk_action;
use crate::envelope::Opener;
use crate::parsers::{self, PARSERS, Parser};
use crate::payload::{Block, Payload, Refused, Rejects, Span};
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
/// What that parser refuses may lie in an exporter's envelope, be several values on a line or, where
/// nobody named the parser, be another log's: it is looked at again before it is rejected. Records
/// that are read at once pay nothing for that.
///
/// Errors: as for [`read_block`].
pub fn read_records(
    block: Block,
    plan: Plan,
    redactor: &Redactor,
    rejects: &mut Rejects,
    mut parse: impl FnMut(&'static dyn Parser, &Payload, &mut Rejects),
) {
    let mut opener = Opener::new(Some(redactor));
    let mut payload = Payload::new(block, redactor, rejects);
    payload.reject_longer(plan.record_bytes, rejects);
    if plan.envelope {
        payload = payload.unwrapped(&mut opener);
    }
    let refused = rejects.refused_by(|rejects| match plan.parser {
        Some(parser) => parse(parser, &payload, rejects),
        None => each_for_itself(&payload, rejects, &mut parse),
    });
    if !refused.is_empty() {
        let (opened, others) = payload.opened(refused, &mut opener);
        match plan.parser.filter(|_| plan.named) {
            Some(parser) => parse(parser, &opened, rejects),
            None => each_for_itself(&opened, rejects, &mut parse),
        }
        // Where the parser was named nobody else may have them, where there is none all were asked.
        let own = plan.parser.filter(|_| !plan.named);
        let mut strangers = Vec::new();
        for Refused { span, cause } in others {
            let record = payload.text(span);
            let other = own.and_then(|own| {
                parsers::recognise(record).filter(|other| other.name() != own.name())
            });
            match (other, cause) {
                (Some(parser), _) => strangers.push((span, parser)),
                (None, Some(cause)) if bulk_action(record).is_none() => {
                    rejects.push_text(span.position, cause, record.as_bytes());
                }
                (None, _) => {}
            }
        }
        hand_out(&payload, &strangers, rejects, &mut parse);
    }
}

/// Hands records to the parsers that recognise them, and refuses those that none does.
fn each_for_itself(
    payload: &Payload,
    rejects: &mut Rejects,
    parse: &mut impl FnMut(&'static dyn Parser, &Payload, &mut Rejects),
) {
    let mut known = Vec::new();
    for (number, span) in payload.spans().iter().enumerate() {
        match parsers::recognise(payload.text(*span)) {
            Some(parser) => known.push((*span, parser)),
            None => payload.refuse(number, "no parser recognises the record", rejects),
        }
    }
    hand_out(payload, &known, rejects, parse);
}

/// Hands each parser its records.
fn hand_out(
    payload: &Payload,
    known: &[(Span, &'static dyn Parser)],
    rejects: &mut Rejects,
    parse: &mut impl FnMut(&'static dyn Parser, &Payload, &mut Rejects),
) {
    for parser in PARSERS {
        let own = known.iter().filter(|(_, other)| other.name() == parser.name());
        let own = payload.of(own.map(|(span, _)| *span));
        if !own.is_empty() {
            parse(*parser, &own, rejects);
        }
    }
}
