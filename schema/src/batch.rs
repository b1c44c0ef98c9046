//! A batch of events: an Arrow `RecordBatch` of the schema, and its rows as [`Event`].

use crate::columns::{Column, schema};
use crate::event::{Event, EventId, Kind, Outcome, PrincipalKind};
use crate::time::UNKNOWN;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{
    Array, BinaryArray, BooleanArray, Int16Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow_select::filter::filter_record_batch;
use std::ops::Range;
use thiserror::Error;

/// Why a `RecordBatch` is not a batch of events.
#[derive(Debug, Error)]
#[error("column {position} is `{found}`, a batch of events has `{expected}` there")]
pub struct NotEvents {
    position: usize,
    found: String,
    expected: &'static str,
}

/// Events as columns.
///
/// Shape: the columns of [`crate::columns::schema`], all of one length.
#[derive(Clone, Debug)]
pub struct EventBatch(RecordBatch);

impl EventBatch {
    pub(crate) fn from_own(batch: RecordBatch) -> Self {
        Self(batch)
    }

    pub fn record_batch(&self) -> &RecordBatch {
        &self.0
    }

    pub fn into_record_batch(self) -> RecordBatch {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn rows(&self) -> Range<usize> {
        0..self.len()
    }

    /// A text column; panics on a column of another type, which is a fault of the caller.
    pub fn text(&self, column: Column) -> &StringViewArray {
        self.0.column(column as usize).as_string_view()
    }

    #[inline]
    pub fn event_id(&self, row: usize) -> EventId {
        let bytes = self.0.column(Column::EventId as usize).as_binary::<i32>().value(row);
        EventId(bytes.try_into().unwrap_or_default())
    }

    /// When it happened; [`UNKNOWN`] where it has no time.
    #[inline]
    pub fn event_time(&self, row: usize) -> i64 {
        let times =
            self.0.column(Column::EventTime as usize).as_primitive::<TimestampMicrosecondType>();
        if times.is_valid(row) { times.value(row) } else { UNKNOWN }
    }

    /// Who acted through whom, first caller first.
    pub fn chain(&self, row: usize) -> impl Iterator<Item = &str> {
        let list = self.0.column(Column::DelegationChain as usize).as_list::<i32>();
        let items = list.values().as_string_view();
        let range = match list.is_valid(row) {
            true => list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize,
            false => 0..0,
        };
        range.map(|at| items.value(at))
    }

    /// The rows for which `keep`, one flag a row, is true.
    pub fn filter(&self, keep: &[bool]) -> Self {
        let mask = BooleanArray::from(keep.to_vec());
        let kept = filter_record_batch(&self.0, &mask)
            .expect("there is one flag for each row, and every column type can be filtered");
        Self(kept)
    }

    /// A row as an event. `delegation_chain` stays empty: see [`EventBatch::chain`], which needs
    /// no allocation. Who reads many rows takes [`EventBatch::events`].
    pub fn event(&self, row: usize) -> Event<'_> {
        Reader::new(self).event(row)
    }

    /// Every row as an event, as [`EventBatch::event`] gives it.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let reader = Reader::new(self);
        self.rows().map(move |row| reader.event(row))
    }
}

/// The columns of a batch, each looked up once.
struct Reader<'a> {
    event_id: &'a BinaryArray,
    event_time: &'a TimestampMicrosecondArray,
    received_at: &'a TimestampMicrosecondArray,
    status_code: &'a Int16Array,
    issued_at: &'a TimestampMicrosecondArray,
    expires_at: &'a TimestampMicrosecondArray,
    source_asn: &'a Int64Array,
    latency_us: &'a Int64Array,
    sequence: &'a Int64Array,
    log: &'a StringViewArray,
    kind: &'a StringViewArray,
    outcome: &'a StringViewArray,
    principal_kind: &'a StringViewArray,
    text: [&'a StringViewArray; 19],
}

impl<'a> Reader<'a> {
    fn new(batch: &'a EventBatch) -> Self {
        let instants = |column: Column| batch.0.column(column as usize).as_primitive();
        let longs = |column: Column| batch.0.column(column as usize).as_primitive();
        let text = |column| batch.text(column);
        Self {
            event_id: batch.0.column(Column::EventId as usize).as_binary(),
            event_time: instants(Column::EventTime),
            received_at: instants(Column::ReceivedAt),
            status_code: batch.0.column(Column::StatusCode as usize).as_primitive(),
            issued_at: instants(Column::CredentialIssuedAt),
            expires_at: instants(Column::CredentialExpiresAt),
            source_asn: longs(Column::SourceAsn),
            latency_us: longs(Column::LatencyUs),
            sequence: longs(Column::Sequence),
            log: text(Column::Log),
            kind: text(Column::Kind),
            outcome: text(Column::Outcome),
            principal_kind: text(Column::PrincipalKind),
            text: [
                Column::Tenant,
                Column::Operation,
                Column::Service,
                Column::ErrorCode,
                Column::PrincipalId,
                Column::PrincipalName,
                Column::TargetId,
                Column::CredentialId,
                Column::CredentialKind,
                Column::IssuedCredentialId,
                Column::SessionId,
                Column::SourceIp,
                Column::SourceCountry,
                Column::UserAgent,
                Column::Resource,
                Column::Region,
                Column::InstanceId,
                Column::ChangeId,
                Column::Raw,
            ]
            .map(text),
        }
    }

    #[inline]
    fn event(&self, row: usize) -> Event<'a> {
        let long = |array: &Int64Array| array.is_valid(row).then(|| array.value(row));
        let instant =
            |array: &TimestampMicrosecondArray| array.is_valid(row).then(|| array.value(row));
        let text = self.text.map(|array| array.is_valid(row).then(|| array.value(row)));
        let [
            tenant,
            operation,
            service,
            error_code,
            principal_id,
            principal_name,
            target_id,
            credential_id,
            credential_kind,
            issued_credential_id,
            session_id,
            source_ip,
            source_country,
            user_agent,
            resource,
            region,
            instance_id,
            change_id,
            raw,
        ] = text;
        let principal_kind = PrincipalKind::from_text(self.principal_kind.value(row));
        Event {
            event_id: EventId(self.event_id.value(row).try_into().unwrap_or_default()),
            event_time: instant(self.event_time).unwrap_or(UNKNOWN),
            received_at: self.received_at.value(row),
            log: self.log.value(row),
            tenant,
            kind: Kind::from_text(self.kind.value(row)).unwrap_or(Kind::ApiCall),
            operation,
            service,
            outcome: Outcome::from_text(self.outcome.value(row)).unwrap_or(Outcome::Unknown),
            status_code: self.status_code.is_valid(row).then(|| self.status_code.value(row)),
            error_code,
            principal_id,
            principal_kind: principal_kind.unwrap_or(PrincipalKind::Unknown),
            principal_name,
            target_id,
            delegation_chain: &[],
            credential_id,
            credential_kind,
            credential_issued_at: instant(self.issued_at),
            credential_expires_at: instant(self.expires_at),
            issued_credential_id,
            session_id,
            source_ip,
            source_asn: long(self.source_asn),
            source_country,
            user_agent,
            resource,
            region,
            instance_id,
            latency_us: long(self.latency_us),
            change_id,
            sequence: long(self.sequence),
            raw,
        }
    }
}

impl TryFrom<RecordBatch> for EventBatch {
    type Error = NotEvents;

    fn try_from(batch: RecordBatch) -> Result<Self, NotEvents> {
        for (position, column) in Column::ALL.iter().enumerate() {
            let expected = schema();
            let found = batch.schema_ref().fields().get(position).cloned();
            match found {
                Some(field)
                    if field.name() == column.name()
                        && field.data_type() == expected.field(position).data_type() => {}
                other => {
                    let found = other.map_or("nothing".to_owned(), |f| {
                        format!("{} {}", f.name(), f.data_type())
                    });
                    return Err(NotEvents { position, found, expected: column.name() });
                }
            }
        }
        Ok(Self(batch))
    }
}
