//! Where findings go: one file for each sink, in alphabetical order.
//!
//! A sink delivers at least once. The stable id of a finding makes a repeat harmless, so a sink
//! that is not sure whether something arrived says that it did not.

pub mod alertmanager;
pub(crate) mod http;
pub mod ndjson;

use std::io;
use std::time::SystemTime;
use telltale_schema::Finding;
use thiserror::Error;

/// Takes findings to the outside.
pub trait Sink: Send {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// Makes what it needs outside, before the first delivery. Making the sink makes nothing there:
    /// `telltale check` does that alone.
    fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Delivers findings, oldest first; of two with the same id the later counts.
    ///
    /// Errors: none of them counts as delivered, and the caller offers all of them again.
    fn deliver(&mut self, findings: &[Finding]) -> Result<(), SinkError>;

    /// Whether a new one takes its place whenever the configuration is read again, also where its
    /// settings are the same.
    fn is_made_anew(&self) -> bool {
        false
    }

    /// Findings that a program about to end should stay for, calling [`Sink::tick`].
    fn held(&self) -> usize {
        0
    }

    /// How often a bound was hit and the oldest of what is held left to itself.
    fn evicted_total(&self) -> u64 {
        0
    }

    /// Called every few seconds, news or not: keeps alerts firing and lets the others end.
    fn tick(&mut self, now: SystemTime) -> Result<(), SinkError> {
        let _ = now;
        Ok(())
    }
}

/// What a sink is called and how it is made.
pub struct SinkKind {
    /// Its name in the configuration.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The source of its module, whose head is its page.
    pub source: &'static str,
    /// Makes one from the settings of its `[[sink]]` table (without `kind`).
    pub build: fn(toml::Table) -> Result<Box<dyn Sink>, ConfigError>,
}

/// Every sink, in alphabetical order.
pub static SINKS: &[&SinkKind] = &[&alertmanager::KIND, &ndjson::KIND];

/// Makes the sink of that name from the settings of its `[[sink]]` table.
pub fn build(name: &str, settings: toml::Table) -> Result<Box<dyn Sink>, ConfigError> {
    match SINKS.iter().find(|kind| kind.name == name) {
        Some(kind) => (kind.build)(settings),
        None => Err(ConfigError::Unknown { name: name.to_owned(), hint: hint(name) }),
    }
}

/// A sink and what it is called.
pub type Named = (String, Box<dyn Sink>);

/// The sinks of `[[sink]]` tables with their names: `name`, or `kind` where there is none.
pub fn named(tables: &[toml::Table]) -> Result<Vec<Named>, ConfigError> {
    let mut all: Vec<Named> = Vec::new();
    for table in tables {
        let mut settings = table.clone();
        let Some(toml::Value::String(kind)) = settings.remove("kind") else {
            return Err(ConfigError::NoKind);
        };
        let name = match settings.remove("name") {
            None => kind.clone(),
            Some(toml::Value::String(name)) if is_name(&name) => name,
            Some(_) => return Err(ConfigError::Name),
        };
        if all.iter().any(|(known, _)| *known == name) {
            return Err(ConfigError::Twice(name));
        }
        all.push((name, build(&kind, settings)?));
    }
    Ok(all)
}

/// What `toml` says of settings, with the key, on one line.
fn said_of(cause: &toml::de::Error) -> String {
    cause.to_string().trim_end().replace('\n', ", ")
}

/// Whether a file may be called so.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Why a `[[sink]]` table was not understood.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("a `[[sink]]` table has no `kind`; it names the sink, see `telltale list sinks`")]
    NoKind,
    #[error("`name` in a `[[sink]]` table is to be of letters, digits, `-` and `_`, at most 64")]
    Name,
    #[error("two `[[sink]]` tables are called `{0}`; give one of them another `name`")]
    Twice(String),
    #[error("unknown sink `{name}` in `[[sink]]`{hint}")]
    Unknown { name: String, hint: String },
    #[error("settings of sink `{name}`: {cause}")]
    Settings { name: &'static str, cause: String },
}

/// Why findings did not arrive. The text names no password and no token.
#[derive(Debug, Error)]
pub enum SinkError {
    #[error("sink `{sink}` could not write to {target}")]
    Write {
        sink: &'static str,
        target: String,
        #[source]
        cause: io::Error,
    },
    #[error("sink `{sink}` could not reach {endpoint}, attempts {attempts}")]
    Unreachable {
        sink: &'static str,
        endpoint: String,
        attempts: u32,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("sink `{sink}` was refused by {endpoint} with status {status}: {body}")]
    Refused { sink: &'static str, endpoint: String, status: u16, body: String },
}

impl SinkError {
    /// Whether the other side will refuse the same findings at any time.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 413 | 422, .. })
    }
}

/// `; did you mean …?` where a name is near, else what there is.
fn hint(name: &str) -> String {
    let names = SINKS.iter().map(|kind| kind.name);
    let near = names.clone().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match near.filter(|known| strsim::damerau_levenshtein(name, known) <= 3) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => {
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            format!("; there are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use telltale_schema::{PrincipalKind, Severity};

    /// A finding that says nothing.
    pub(crate) fn finding(id: &str) -> Finding {
        Finding {
            id: id.into(),
            detector: "dormant_account".into(),
            severity: Severity::High,
            title: String::new(),
            sentence: "It slept\nand woke.".into(),
            next_steps: Vec::new(),
            log: "okta_system_log".into(),
            tenant: None,
            principal_id: "svc@example.com".into(),
            principal_kind: PrincipalKind::ServiceAccount,
            credential_id: None,
            child_credential_ids: Vec::new(),
            target_ids: Vec::new(),
            source_ips: Vec::new(),
            operations: Vec::new(),
            raised_at: 0,
            first_seen: 0,
            last_seen: 0,
            dimensions: Vec::new(),
            event_ids: Vec::new(),
            event_count: 0,
            attack: Vec::new(),
            owasp_nhi: Vec::new(),
        }
    }

    #[test]
    fn registry_is_sorted_and_each_sink_has_a_page() {
        assert!(SINKS.is_sorted_by(|a, b| a.name < b.name));
        for kind in SINKS {
            assert!(kind.source.starts_with("//! "), "{}", kind.name);
            assert!(!kind.help.is_empty() && !kind.help.contains('\n'), "{}", kind.name);
        }
    }

    #[test]
    fn unknown_sink_is_named_with_a_hint() {
        let message = |name| build(name, toml::Table::new()).err().map(|e| e.to_string());
        assert_eq!(
            message("alertmanger").as_deref(),
            Some("unknown sink `alertmanger` in `[[sink]]`; did you mean `alertmanager`?")
        );
        assert_eq!(
            message("carrier_pigeon").as_deref(),
            Some("unknown sink `carrier_pigeon` in `[[sink]]`; there are `alertmanager`, `ndjson`")
        );
    }
}
