//! Access logs of a gateway in front of the API server: JSON objects of any layout in which the
//! `X-ClearML-…` headers stand somewhere.

use super::{LOG, Place, server, worker_and_run};
use crate::json::Text;
use crate::value::{address, outcome_of_status};
use chrono::DateTime;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use telltale_schema::time::{SECOND, from_epoch, parse_lenient};
use telltale_schema::{Event, Events, Kind, Micros, Outcome, PrincipalKind};

/// Objects in one another that are looked into.
const MAX_DEPTH: u8 = 8;

/// Whether a key of the record is one of the headers, in whatever case and with `_` for `-`.
pub(super) fn recognises(record: &str) -> bool {
    let bytes = record.as_bytes();
    // Parts of the header's name that stand in it in whatever case proxies write it.
    ["lear", "rains", "LEAR", "RAINS"].iter().any(|part| {
        memchr::memmem::find_iter(bytes, part.as_bytes()).any(|at| {
            let start = at.saturating_sub(10);
            let end = (at + part.len() + 12).min(bytes.len());
            bytes[start..end].to_ascii_lowercase().split(|b| *b == b'"').any(|key| {
                header(&String::from_utf8_lossy(key)).is_some_and(|rest| {
                    ["impers", "act-as", "worker", "client", "agent", "tenant"].iter().any(|name| {
                        rest.starts_with(name) || rest.starts_with(&name.replace('-', "_"))
                    })
                })
            })
        })
    })
}

/// What follows `X-ClearML-` in a lower-case key.
fn header(key: &str) -> Option<&str> {
    let key = key.strip_prefix("http_").unwrap_or(key);
    let rest = key.strip_prefix("x-").or_else(|| key.strip_prefix("x_"))?;
    let rest = rest.strip_prefix("clearml").or_else(|| rest.strip_prefix("trains"))?;
    rest.strip_prefix(['-', '_'])
}

/// What a record says, wherever it says it. The first of several values counts.
#[derive(Default)]
pub(super) struct Facts<'a> {
    impersonate_as: Option<Cow<'a, str>>,
    act_as: Option<Cow<'a, str>>,
    worker: Option<Cow<'a, str>>,
    client: Option<Cow<'a, str>>,
    tenant: Option<Cow<'a, str>>,
    company: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    role: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    issued_at: Option<Micros>,
    expires_at: Option<Micros>,
    at: Option<Micros>,
    status: Option<i64>,
    path: Option<Cow<'a, str>>,
    address: Option<Cow<'a, str>>,
    forwarded_for: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    latency_us: Option<i64>,
    /// Whether any of the headers is there: without one it is no call of ClearML.
    pub has_header: bool,
}

impl Facts<'_> {
    /// Appends the call.
    pub fn append_to(&self, place: &Place<'_>, events: &mut dyn Events) {
        let endpoint = self.path.as_deref().and_then(endpoint);
        let target_id = self.impersonate_as.as_deref().or(self.act_as.as_deref());
        let (worker, run) = self.worker.as_deref().map(worker_and_run).unzip();
        let principal_id = self.user.as_deref().or(worker);
        let chain = [principal_id.unwrap_or_default(), target_id.unwrap_or_default()];
        let kind = match target_id {
            Some(_) => Kind::Impersonation,
            None => endpoint.map_or(Kind::ApiCall, server::kind_of),
        };
        let outcome = match self.status {
            // How the server refuses to let somebody act as somebody else.
            Some(400) if target_id.is_some() => Outcome::Denied,
            Some(status) => outcome_of_status(status),
            None => Outcome::Unknown,
        };
        let forwarded = self.forwarded_for.as_deref().and_then(|all| all.split(',').next());
        let source_ip =
            self.address.as_deref().and_then(address).or_else(|| forwarded.and_then(address));
        events.push(&Event {
            event_id: place.event_id(self.at),
            tenant: self.tenant.as_deref().or(self.company.as_deref()),
            kind,
            operation: endpoint.or(self.path.as_deref()),
            service: Some("gateway"),
            outcome,
            status_code: self.status.and_then(|status| i16::try_from(status).ok()),
            principal_id,
            principal_kind: self.principal_kind(),
            target_id,
            delegation_chain: match chain {
                [caller, target] if !caller.is_empty() && !target.is_empty() => &chain,
                _ => &[],
            },
            credential_issued_at: self.issued_at,
            credential_expires_at: self.expires_at,
            session_id: self.session.as_deref().or(run.flatten()),
            source_ip: source_ip.as_deref(),
            user_agent: self.client.as_deref().or(self.user_agent.as_deref()),
            resource: self.path.as_deref(),
            instance_id: self.worker.as_deref(),
            latency_us: self.latency_us,
            raw: Some(place.record),
            ..Event::new(LOG, self.at.unwrap_or(events.received_at()))
        });
    }

    fn principal_kind(&self) -> PrincipalKind {
        match (&self.user, self.role.as_deref()) {
            (Some(_), Some("system" | "root")) => PrincipalKind::System,
            (Some(_), Some("user" | "admin" | "superuser" | "annotator" | "guest")) => {
                PrincipalKind::Human
            }
            (None, _) if self.worker.is_some() => PrincipalKind::Workload,
            _ => PrincipalKind::Unknown,
        }
    }
}

/// `tasks.get_by_id` of `/api/v2.30/tasks.get_by_id?x` or `POST /tasks.get_by_id HTTP/1.1`.
fn endpoint(path: &str) -> Option<&str> {
    let path = path.split(' ').find(|part| part.contains('/'))?;
    let last = path.split(['?', '#']).next()?.rsplit('/').next()?;
    let (service, action) = last.split_once('.')?;
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    (plain(service) && plain(action)).then_some(last)
}

impl<'a> Facts<'a> {
    /// Takes a value by the key that it stands under.
    fn note(&mut self, parent: &str, key: &str, value: Text<'a>) {
        let Some(text) = value.0.filter(|text| !text.is_empty() && text != "-") else { return };
        let key = key.to_ascii_lowercase();
        let slot = match header(&key) {
            Some(name) => {
                self.has_header = true;
                match name {
                    "impersonate-as" | "impersonate_as" => &mut self.impersonate_as,
                    "act-as" | "act_as" => &mut self.act_as,
                    "worker" => &mut self.worker,
                    "client" | "agent" => &mut self.client,
                    "tenant" => &mut self.tenant,
                    _ => return,
                }
            }
            None => match key.as_str() {
                "user" if parent == "identity" || self.user.is_none() => {
                    self.user = Some(text);
                    return;
                }
                "remote_user" | "user_id" | "x-forwarded-user" => &mut self.user,
                "role" => &mut self.role,
                "company" => &mut self.company,
                "session_id" => &mut self.session,
                "path" | "uri" | "url" | "request_uri" | "request_path" | "endpoint"
                | "request" => &mut self.path,
                "remote_addr"
                | "client_ip"
                | "source_ip"
                | "remote_ip"
                | "clientip"
                | "x-real-ip"
                | "remote_address"
                | "downstream_remote_address" => &mut self.address,
                "x-forwarded-for" | "x_forwarded_for" | "http_x_forwarded_for" => {
                    &mut self.forwarded_for
                }
                "user-agent" | "user_agent" | "http_user_agent" => &mut self.user_agent,
                "time" | "timestamp" | "@timestamp" | "ts" | "time_iso8601" | "time_local"
                | "start_time" | "msec" => {
                    self.at = self.at.or_else(|| instant(&text));
                    return;
                }
                "status" | "status_code" | "response_code" | "response_status" => {
                    self.status = self.status.or_else(|| text.parse().ok());
                    return;
                }
                "iat" => {
                    self.issued_at = text.parse().ok().and_then(from_epoch);
                    return;
                }
                "exp" => {
                    self.expires_at = text.parse().ok().and_then(from_epoch);
                    return;
                }
                key => {
                    self.latency_us = self.latency_us.or_else(|| latency(key, &text));
                    return;
                }
            },
        };
        if slot.is_none() {
            *slot = Some(text);
        }
    }
}

/// Microseconds of a duration, whose unit its name tells; bare `duration` is seconds with a
/// fraction (Caddy, Traefik's JSON) and milliseconds without one (Envoy).
fn latency(key: &str, text: &str) -> Option<i64> {
    let unit = match key {
        "request_time" | "upstream_response_time" | "duration_s" => SECOND as f64,
        "duration_ms" | "latency_ms" | "response_time_ms" | "request_time_ms" | "elapsed_ms" => 1e3,
        "duration_us" | "latency_us" => 1.0,
        "duration" if text.contains('.') => SECOND as f64,
        "duration" => 1e3,
        _ => return None,
    };
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number * unit).round() as i64)
}

fn instant(text: &str) -> Option<Micros> {
    parse_lenient(text).or_else(|| {
        // nginx's `time_local`.
        let time = DateTime::parse_from_str(text, "%d/%b/%Y:%H:%M:%S %z").ok()?;
        Some(time.timestamp_micros())
    })
}

impl<'de: 'a, 'a> Deserialize<'de> for Facts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut facts = Facts::<'de>::default();
        Walk { facts: &mut facts, parent: "", key: "", depth: 0 }.deserialize(deserializer)?;
        Ok(facts)
    }
}

/// A walk over every value of a record.
struct Walk<'w, 'a> {
    facts: &'w mut Facts<'a>,
    parent: &'w str,
    key: &'w str,
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.depth < MAX_DEPTH {
            true => deserializer.deserialize_any(self),
            false => deserializer.deserialize_ignored_any(serde::de::IgnoredAny).map(drop),
        }
    }
}

macro_rules! number {
    ($($visit:ident $type:ty)+) => { $(
        fn $visit<E>(self, value: $type) -> Result<(), E> {
            self.facts.note(self.parent, self.key, Text(Some(Cow::Owned(value.to_string()))));
            Ok(())
        }
    )+ };
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    number!(visit_bool bool visit_i64 i64 visit_u64 u64 visit_f64 f64 visit_str &str);
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.facts.note(self.parent, self.key, Text(Some(Cow::Borrowed(text))));
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            map.next_value_seed(Walk {
                facts: &mut *self.facts,
                parent: self.key,
                key: key.get().unwrap_or_default(),
                depth: self.depth + 1,
            })?;
        }
        Ok(())
    }
    /// Go and Envoy write a header's values as a list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq
            .next_element_seed(Walk {
                facts: &mut *self.facts,
                parent: self.parent,
                key: self.key,
                depth: self.depth + 1,
            })?
            .is_some()
        {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_header_is_recognised_and_a_mention_is_not() {
        for (record, expected) in [
            (r#"{"headers":{"X-ClearML-Impersonate-As":"u1"}}"#, true),
            (r#"{"headers":{"X-Clearml-Act-As":["u1"]}}"#, true),
            (r#"{"http_x_clearml_worker":"node:0"}"#, true),
            (r#"{"a":1,"x-trains-worker":"node:0"}"#, true),
            (r#"{"HTTP_X_CLEARML_IMPERSONATE_AS":"u1"}"#, true),
            (r#"{"text":"the X-ClearML-Worker header"}"#, false),
            (r#"{"clear":true,"brains":2}"#, false),
            (r#"{"userAgent":"clearml"}"#, false),
        ] {
            assert_eq!(recognises(record), expected, "{record}");
        }
    }

    #[test]
    fn an_endpoint_is_the_last_segment_of_the_path() {
        for (path, expected) in [
            ("/api/v2.30/tasks.get_by_id?x=a.b", Some("tasks.get_by_id")),
            ("POST /auth.login HTTP/1.1", Some("auth.login")),
            ("/index.html", Some("index.html")),
            ("/v2.30/", None),
            ("tasks", None),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
