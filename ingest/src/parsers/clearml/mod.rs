//! ClearML: what the agent writes to its console, the API server's log, and the JSON access log of
//! a gateway in front of the server, whose header names tell it.
//!
//! - Agent: no identity but the worker's and no time of its own. A line without a time takes that
//!   of its envelope (Docker's `{"log":…,"time":…}`, CloudWatch's `timestamp`), of the last line
//!   that had one, else the time of reading; its event id is where it stands. The worker is
//!   remembered from `pulled … by worker` and `agent.worker_id`, by task where it is known; a
//!   worker that serves (`<worker>:service:<task>`) keeps the task in `session_id`.
//!   Vaults are `secret_read` on their user; what `--use-owner-token` is refused is `impersonation`.
//! - SDK: what it logs as `clearml.…` or `trains.…` about its tokens and about calls that failed.
//! - API server: `[time] [pid] [level] [logger] message`, milliseconds behind a comma, UTC. It
//!   knows calls, status, latency and refused impersonations, and no caller.
//! - Gateway: any object with headers `X-ClearML-…` (or `X-Trains-…`, or `http_x_clearml_…`).
//!   `Impersonate-As` and `Act-As` are the target.
//!
//! Lines that say nothing about identities are passed over.
//! <https://github.com/clearml/clearml-agent>, <https://github.com/clearml/clearml-server>

mod console;
mod gateway;
mod line;
mod server;

use super::Parser;
use crate::json;
use crate::payload::{Payload, Rejects};
use crate::value::content_id;
use console::Console;
use line::Line;
use telltale_schema::{EventId, Events, Micros};

const LOG: &str = "clearml";

pub struct ClearMl;

impl Parser for ClearMl {
    fn name(&self) -> &'static str {
        LOG
    }

    fn help(&self) -> &'static str {
        "ClearML agent console, SDK log, API server log, gateway access log with X-ClearML headers"
    }

    fn source(&self) -> &'static str {
        include_str!("mod.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        if record.starts_with('{') {
            return gateway::recognises(record);
        }
        let line = Line::of(record);
        match line.logger {
            Some(logger) if line.is_server => is_own_logger(logger),
            _ => console::recognises(&line),
        }
    }

    fn is_dated(&self, record: &str) -> bool {
        record.starts_with('{') || Line::of(record).at.is_some()
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        let mut console = Console::default();
        for (number, (position, record)) in payload.records().enumerate() {
            let place = Place { origin: payload.origin(), position, record };
            if record.starts_with('{') {
                match json::from_str::<gateway::Facts<'_>>(record) {
                    Ok(facts) if facts.has_header => facts.append_to(&place, events),
                    Ok(_) => match super::recognise(record).filter(|own| own.name() != LOG) {
                        Some(other) => {
                            payload.refuse(
                                number,
                                format_args!("it is of {}", other.name()),
                                rejects,
                            );
                        }
                        None => payload.pass_over(number, rejects),
                    },
                    Err(cause) => payload.refuse(number, cause, rejects),
                }
                continue;
            }
            let line = Line::of(record);
            if !line.is_server {
                console.append(&line, &place, events);
                // Another log's record may stand behind a collector's prefix.
                if record.ends_with('}') && !console::recognises(&line) {
                    payload.pass_over(number, rejects);
                }
            } else if line.logger.is_some_and(is_own_logger) {
                match line.at {
                    Some(at) => server::append(line.text, at, &place, events),
                    None => payload.refuse(number, "the line's time is no date and time", rejects),
                }
            }
        }
    }
}

fn is_own_logger(logger: &str) -> bool {
    matches!(logger.split('.').next(), Some("clearml" | "trains"))
}

/// Where a record stands, for events that have neither an id nor a time.
struct Place<'a> {
    origin: &'a str,
    position: u64,
    record: &'a str,
}

impl Place<'_> {
    /// `at`: the record's own time. The same line with the same time is the same event; without
    /// one only the same place makes it so.
    fn event_id(&self, at: Option<Micros>) -> EventId {
        match at {
            Some(_) => content_id(LOG, None, &[self.record]),
            None => content_id(LOG, None, &[self.origin, &self.position.to_string(), self.record]),
        }
    }
}

/// A worker's id without the run: `<worker>:service:<task>` gives both.
fn worker_and_run(id: &str) -> (&str, Option<&str>) {
    match id.split_once(":service:") {
        Some((worker, task)) => (worker, Some(task)),
        None => (id, None),
    }
}

/// Text that is there and not masked.
fn unmasked(text: &str) -> Option<&str> {
    let text = text.trim();
    text.bytes().any(|byte| byte != b'*').then_some(text)
}
