//! Requests of OTLP as protobuf. What is between the request and the bodies of its records is walked
//! where it lies: a few bytes of it would take hundreds as structs.
//! <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>

use super::{Gathered, PARSER_ATTRIBUTE, Unread, json_of};
use crate::parsers::{self, Parser};
use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message;
use serde_json::Value;

/// Numbers of fields, by their messages.
mod field {
    pub const REQUEST_RESOURCE_LOGS: usize = 1;
    pub const RESOURCE_LOGS_RESOURCE: usize = 1;
    pub const RESOURCE_LOGS_SCOPE_LOGS: usize = 2;
    pub const RESOURCE_ATTRIBUTES: usize = 1;
    pub const SCOPE_LOGS_SCOPE: usize = 1;
    pub const SCOPE_LOGS_LOG_RECORDS: usize = 2;
    pub const SCOPE_ATTRIBUTES: usize = 3;
    pub const RECORD_BODY: usize = 5;
    pub const RECORD_ATTRIBUTES: usize = 6;
    pub const PAIR_KEY: usize = 1;
    pub const PAIR_VALUE: usize = 2;
    pub const ANY_STRING: usize = 1;
}

/// Reads a request.
///
/// Errors: what is no request, and one of too many records.
pub(super) fn read(request: &[u8], gathered: &mut Gathered) -> Result<(), Unread> {
    let mut is_one = request.is_empty();
    each(request, |number, of_resource| {
        if number != field::REQUEST_RESOURCE_LOGS {
            return Ok(());
        }
        is_one = true;
        let of_owner =
            parser_of(of_resource, field::RESOURCE_LOGS_RESOURCE, field::RESOURCE_ATTRIBUTES)?;
        each(of_resource, |number, of_scope| match number {
            field::RESOURCE_LOGS_SCOPE_LOGS => {
                let own = parser_of(of_scope, field::SCOPE_LOGS_SCOPE, field::SCOPE_ATTRIBUTES)?;
                records(of_scope, own.or(of_owner), gathered)
            }
            _ => Ok(()),
        })
    })?;
    match is_one {
        true => Ok(()),
        false => Err(Unread::Malformed("no field `resource_logs`".to_owned())),
    }
}

fn records(
    of_scope: &[u8],
    of_owner: Option<&'static dyn Parser>,
    gathered: &mut Gathered,
) -> Result<(), Unread> {
    each(of_scope, |number, record| {
        if number != field::SCOPE_LOGS_LOG_RECORDS {
            return Ok(());
        }
        let (mut body, mut parser) = (None, None);
        each(record, |number, value| {
            match number {
                field::RECORD_BODY => body = Some(value),
                field::RECORD_ATTRIBUTES if parser.is_none() => parser = named(value)?,
                _ => {}
            }
            Ok(())
        })?;
        let value = match body {
            Some(body) => json_of(AnyValue::decode(body)?.value),
            None => Value::Null,
        };
        gathered.body(parser.or(of_owner), value)
    })
}

/// The parser that attributes of the owner of records name.
fn parser_of(
    message: &[u8],
    owner: usize,
    attributes: usize,
) -> Result<Option<&'static dyn Parser>, Unread> {
    let mut parser = None;
    each(message, |number, value| match number == owner {
        true => each(value, |number, pair| {
            if number == attributes && parser.is_none() {
                parser = named(pair)?;
            }
            Ok(())
        }),
        false => Ok(()),
    })?;
    Ok(parser)
}

/// The parser that an attribute names.
fn named(pair: &[u8]) -> Result<Option<&'static dyn Parser>, Unread> {
    let (mut is_own, mut value) = (false, None);
    each(pair, |number, bytes| {
        match number {
            field::PAIR_KEY => is_own = bytes == PARSER_ATTRIBUTE.as_bytes(),
            field::PAIR_VALUE => value = Some(bytes),
            _ => {}
        }
        Ok(())
    })?;
    let mut parser = None;
    if let (true, Some(value)) = (is_own, value) {
        each(value, |number, name| {
            if number == field::ANY_STRING {
                parser = std::str::from_utf8(name).ok().and_then(parsers::by_name);
            }
            Ok(())
        })?;
    }
    Ok(parser)
}

/// Shows `see` the number and the bytes of every field of a message that has bytes.
fn each<'a>(
    message: &'a [u8],
    mut see: impl FnMut(usize, &'a [u8]) -> Result<(), Unread>,
) -> Result<(), Unread> {
    let mut rest = message;
    while !rest.is_empty() {
        let key = prost::decode_length_delimiter(&mut rest)?;
        let len = match key & 7 {
            0 => {
                prost::decode_length_delimiter(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => prost::decode_length_delimiter(&mut rest)?,
            5 => 4,
            _ => return Err(Unread::Malformed("a field of an unknown type".to_owned())),
        };
        let Some((value, behind)) = rest.split_at_checked(len) else {
            return Err(Unread::Malformed("a field ends too early".to_owned()));
        };
        if key & 7 == 2 {
            see(key >> 3, value)?;
        }
        rest = behind;
    }
    Ok(())
}
