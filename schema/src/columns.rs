//! The Arrow schema of `events`: names, order and types. Meaning in `docs/reference/events.md`.

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::{Arc, LazyLock};

macro_rules! columns {
    ($($variant:ident = $name:literal,)+) => {
        /// A column, in the order of the schema; `as usize` is its index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Column { $($variant,)+ }

        impl Column {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

columns! {
    EventId = "event_id",
    EventTime = "event_time",
    ReceivedAt = "received_at",
    Log = "log",
    Tenant = "tenant",
    Kind = "kind",
    Operation = "operation",
    Service = "service",
    Outcome = "outcome",
    StatusCode = "status_code",
    ErrorCode = "error_code",
    PrincipalId = "principal_id",
    PrincipalKind = "principal_kind",
    PrincipalName = "principal_name",
    TargetId = "target_id",
    DelegationChain = "delegation_chain",
    CredentialId = "credential_id",
    CredentialKind = "credential_kind",
    CredentialIssuedAt = "credential_issued_at",
    CredentialExpiresAt = "credential_expires_at",
    IssuedCredentialId = "issued_credential_id",
    SessionId = "session_id",
    SourceIp = "source_ip",
    SourceAsn = "source_asn",
    SourceCountry = "source_country",
    UserAgent = "user_agent",
    Resource = "resource",
    Region = "region",
    InstanceId = "instance_id",
    LatencyUs = "latency_us",
    ChangeId = "change_id",
    Sequence = "sequence",
    Raw = "raw",
}

impl Column {
    pub fn data_type(self) -> DataType {
        match self {
            Self::EventId => DataType::Binary,
            Self::EventTime
            | Self::ReceivedAt
            | Self::CredentialIssuedAt
            | Self::CredentialExpiresAt => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            Self::StatusCode => DataType::Int16,
            Self::SourceAsn | Self::LatencyUs | Self::Sequence => DataType::Int64,
            Self::DelegationChain => DataType::List(list_item()),
            _ => DataType::Utf8View,
        }
    }

    const fn nullable(self) -> bool {
        !matches!(
            self,
            Self::EventId
                | Self::ReceivedAt
                | Self::Log
                | Self::Kind
                | Self::Outcome
                | Self::PrincipalKind
        )
    }
}

pub(crate) fn list_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8View, true))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields = Column::ALL.iter().map(|c| Field::new(c.name(), c.data_type(), c.nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
});

/// The schema of every batch of events.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}
