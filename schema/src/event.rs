//! One canonical event, borrowed from wherever its text lies, and the vocabulary of its columns.

use crate::time::{Micros, UNKNOWN, format_instant};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// Identity of an event: 16 bytes of a hash of log, tenant and the provider's own event id.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct EventId(pub [u8; 16]);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A closed vocabulary whose members have one spelling each.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name { $($(#[$item_doc])* $item,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$item),+];

            /// The spelling in the column.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$item => $text),+ }
            }

            /// The member of that spelling; `None` for any other text.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$item),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// What sort of thing happened.
    Kind {
        Authentication = "authentication",
        TokenIssued = "token_issued",
        SecretRead = "secret_read",
        CredentialCreated = "credential_created",
        CredentialRotated = "credential_rotated",
        CredentialRevoked = "credential_revoked",
        Impersonation = "impersonation",
        PolicyChanged = "policy_changed",
        IdentityChanged = "identity_changed",
        ExposureReported = "exposure_reported",
        LoggingChanged = "logging_changed",
        AgentTask = "agent_task",
        ApiCall = "api_call",
    }
}

vocabulary! {
    /// How it ended.
    Outcome {
        Success = "success",
        /// The caller was not believed: bad password, expired token (401-like).
        Failure = "failure",
        /// The caller was believed and not allowed (403-like).
        Denied = "denied",
        /// Anything else that went wrong: throttled, not found, invalid, broken.
        Error = "error",
        Unknown = "unknown",
    }
}

vocabulary! {
    /// What acted.
    PrincipalKind {
        ServiceAccount = "service_account",
        Workload = "workload",
        Role = "role",
        Human = "human",
        AiAgent = "ai_agent",
        /// The provider or platform itself, on its own behalf.
        System = "system",
        Anonymous = "anonymous",
        Unknown = "unknown",
    }
}

/// One event. Absent is `None`, never an empty string; the builder turns empty text into null.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub event_id: EventId,
    /// [`UNKNOWN`] where the record has no time.
    pub event_time: Micros,
    pub received_at: Micros,
    /// The parser's name.
    pub log: &'a str,
    /// Account, project, organisation or cluster.
    pub tenant: Option<&'a str>,
    pub kind: Kind,
    /// As the provider spells it.
    pub operation: Option<&'a str>,
    pub service: Option<&'a str>,
    pub outcome: Outcome,
    /// HTTP status or its equivalent.
    pub status_code: Option<i16>,
    /// The provider's own code.
    pub error_code: Option<&'a str>,
    /// Who acted, without the session part.
    pub principal_id: Option<&'a str>,
    pub principal_kind: PrincipalKind,
    pub principal_name: Option<&'a str>,
    /// The identity acted as or acted on.
    pub target_id: Option<&'a str>,
    /// Who acted through whom, first caller first; empty is null.
    pub delegation_chain: &'a [&'a str],
    /// An id or a keyed hash, never the secret.
    pub credential_id: Option<&'a str>,
    pub credential_kind: Option<&'a str>,
    pub credential_issued_at: Option<Micros>,
    pub credential_expires_at: Option<Micros>,
    /// The child credential that this event minted.
    pub issued_credential_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    /// An IP address in canonical form, or nothing.
    pub source_ip: Option<&'a str>,
    pub source_asn: Option<i64>,
    pub source_country: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    /// What was touched.
    pub resource: Option<&'a str>,
    pub region: Option<&'a str>,
    /// Which pod, host, worker or replica acted.
    pub instance_id: Option<&'a str>,
    pub latency_us: Option<i64>,
    pub change_id: Option<&'a str>,
    /// The source's own counter, for gaps.
    pub sequence: Option<i64>,
    /// The original record, with secrets redacted.
    pub raw: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// An event of `log` at `event_time` of which nothing else is known yet.
    #[inline]
    pub const fn new(log: &'a str, event_time: Micros) -> Self {
        Self {
            event_id: EventId([0; 16]),
            event_time,
            received_at: 0,
            log,
            tenant: None,
            kind: Kind::ApiCall,
            operation: None,
            service: None,
            outcome: Outcome::Unknown,
            status_code: None,
            error_code: None,
            principal_id: None,
            principal_kind: PrincipalKind::Unknown,
            principal_name: None,
            target_id: None,
            delegation_chain: &[],
            credential_id: None,
            credential_kind: None,
            credential_issued_at: None,
            credential_expires_at: None,
            issued_credential_id: None,
            session_id: None,
            source_ip: None,
            source_asn: None,
            source_country: None,
            user_agent: None,
            resource: None,
            region: None,
            instance_id: None,
            latency_us: None,
            change_id: None,
            sequence: None,
            raw: None,
        }
    }
}

/// Where a parser puts what it finds: an [`EventBuilder`](crate::EventBuilder), or whatever takes
/// events one by one.
pub trait Events {
    /// Takes one event. Its `received_at` does not count, and empty text is null.
    fn push(&mut self, event: &Event<'_>);

    /// When the events were read; the event time of logs that carry none.
    fn received_at(&self) -> Micros;
}

/// The text form: columns in their order, absent ones left out, ids as hex, times as RFC 3339.
impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        macro_rules! entry {
            ($($field:ident)+) => { $(if let Some(value) = self.$field {
                map.serialize_entry(stringify!($field), &value)?;
            })+ };
        }
        macro_rules! instant {
            ($($field:ident)+) => { $(if let Some(value) = self.$field {
                map.serialize_entry(stringify!($field), &format_instant(value))?;
            })+ };
        }
        map.serialize_entry("event_id", &self.event_id.to_string())?;
        if self.event_time != UNKNOWN {
            map.serialize_entry("event_time", &format_instant(self.event_time))?;
        }
        map.serialize_entry("received_at", &format_instant(self.received_at))?;
        map.serialize_entry("log", self.log)?;
        entry!(tenant);
        map.serialize_entry("kind", self.kind.as_str())?;
        entry!(operation service);
        map.serialize_entry("outcome", self.outcome.as_str())?;
        entry!(status_code error_code principal_id);
        map.serialize_entry("principal_kind", self.principal_kind.as_str())?;
        entry!(principal_name target_id);
        if !self.delegation_chain.is_empty() {
            map.serialize_entry("delegation_chain", self.delegation_chain)?;
        }
        entry!(credential_id credential_kind);
        instant!(credential_issued_at credential_expires_at);
        entry!(issued_credential_id session_id source_ip source_asn source_country user_agent);
        entry!(resource region instance_id latency_us change_id sequence raw);
        map.end()
    }
}
