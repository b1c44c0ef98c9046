//! A batch of events: an Arrow `RecordBatch` of the schema, and its rows as [`Event`].

use crate::columns::{Column, schema};
use crate::event::{Event, EventId, Kind, Outcome, PrincipalKind};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch, StringViewArray};
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

    /// Text of a row; `None` where it is null.
    #[inline]
    fn text_at(&self, column: Column, row: usize) -> Option<&str> {
        let array = self.text(column);
        array.is_valid(row).then(|| array.value(row))
    }

    fn long_at(&self, column: Column, row: usize) -> Option<i64> {
        let array = self.0.column(column as usize).as_primitive::<Int64Type>();
        array.is_valid(row).then(|| array.value(row))
    }

    fn instant_at(&self, column: Column, row: usize) -> Option<i64> {
        let array = self.0.column(column as usize).as_primitive::<TimestampMicrosecondType>();
        array.is_valid(row).then(|| array.value(row))
    }

    #[inline]
    pub fn event_id(&self, row: usize) -> EventId {
        let bytes = self.0.column(Column::EventId as usize).as_binary::<i32>().value(row);
        EventId(bytes.try_into().unwrap_or_default())
    }

    #[inline]
    pub fn event_time(&self, row: usize) -> i64 {
        self.0
            .column(Column::EventTime as usize)
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
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
    /// no allocation.
    pub fn event(&self, row: usize) -> Event<'_> {
        let text = |column| self.text_at(column, row);
        let status = self.0.column(Column::StatusCode as usize).as_primitive::<Int16Type>();
        Event {
            event_id: self.event_id(row),
            event_time: self.event_time(row),
            received_at: self.instant_at(Column::ReceivedAt, row).unwrap_or_default(),
            log: text(Column::Log).unwrap_or_default(),
            tenant: text(Column::Tenant),
            kind: text(Column::Kind).and_then(Kind::from_text).unwrap_or(Kind::ApiCall),
            operation: text(Column::Operation),
            service: text(Column::Service),
            outcome: text(Column::Outcome).and_then(Outcome::from_text).unwrap_or(Outcome::Unknown),
            status_code: status.is_valid(row).then(|| status.value(row)),
            error_code: text(Column::ErrorCode),
            principal_id: text(Column::PrincipalId),
            principal_kind: text(Column::PrincipalKind)
                .and_then(PrincipalKind::from_text)
                .unwrap_or(PrincipalKind::Unknown),
            principal_name: text(Column::PrincipalName),
            target_id: text(Column::TargetId),
            delegation_chain: &[],
            credential_id: text(Column::CredentialId),
            credential_kind: text(Column::CredentialKind),
            credential_issued_at: self.instant_at(Column::CredentialIssuedAt, row),
            credential_expires_at: self.instant_at(Column::CredentialExpiresAt, row),
            issued_credential_id: text(Column::IssuedCredentialId),
            session_id: text(Column::SessionId),
            source_ip: text(Column::SourceIp),
            source_asn: self.long_at(Column::SourceAsn, row),
            source_country: text(Column::SourceCountry),
            user_agent: text(Column::UserAgent),
            resource: text(Column::Resource),
            region: text(Column::Region),
            instance_id: text(Column::InstanceId),
            latency_us: self.long_at(Column::LatencyUs, row),
            change_id: text(Column::ChangeId),
            sequence: self.long_at(Column::Sequence, row),
            raw: text(Column::Raw),
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
