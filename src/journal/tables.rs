//! Findings and dead letters as tables.

use super::DeadLetter;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use std::sync::Arc;
use telltale_schema::{Finding, Micros, ocsf};

/// A row with the number of the entry that it is from, and when that was written.
pub struct Numbered<T> {
    pub entry: u64,
    pub received_at: Micros,
    pub row: T,
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns have one length")
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.map(|text| text.filter(|text| !text.is_empty())).collect::<StringViewArray>())
}

fn instants(values: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|n| i64::try_from(n).unwrap_or(i64::MAX))))
}

/// The table `findings`.
pub fn findings(all: &[Numbered<Finding>]) -> RecordBatch {
    let rows = || all.iter().map(|numbered| &numbered.row);
    let text = |of: fn(&Finding) -> &str| texts(rows().map(|finding| Some(of(finding))));
    let ocsf: StringViewArray =
        rows().map(|finding| Some(ocsf::detection_finding(finding).to_string())).collect();
    table(vec![
        ("finding_id", text(|finding| &finding.id)),
        ("detector", text(|finding| &finding.detector)),
        ("severity", text(|finding| finding.severity.as_str())),
        ("log", text(|finding| &finding.log)),
        ("tenant", texts(rows().map(|finding| finding.tenant.as_deref()))),
        ("principal_id", text(|finding| &finding.principal_id)),
        ("principal_kind", text(|finding| finding.principal_kind.as_str())),
        ("credential_id", texts(rows().map(|finding| finding.credential_id.as_deref()))),
        ("raised_at", instants(rows().map(|finding| finding.raised_at))),
        ("first_seen", instants(rows().map(|finding| finding.first_seen))),
        ("last_seen", instants(rows().map(|finding| finding.last_seen))),
        ("event_count", numbers(rows().map(|finding| finding.event_count))),
        ("title", text(|finding| &finding.title)),
        ("evidence", text(|finding| &finding.sentence)),
        // The whole as OCSF Detection Finding, one line of JSON.
        ("ocsf", Arc::new(ocsf)),
        ("entry", numbers(all.iter().map(|numbered| numbered.entry))),
    ])
}

/// The table `dead_letters`.
pub fn dead_letters(all: &[Numbered<DeadLetter>]) -> RecordBatch {
    let text = |of: fn(&DeadLetter) -> &str| texts(all.iter().map(|n| Some(of(&n.row))));
    table(vec![
        ("received_at", instants(all.iter().map(|numbered| numbered.received_at))),
        ("source", text(|letter| &letter.source)),
        ("partition", text(|letter| &letter.partition)),
        ("position", numbers(all.iter().map(|numbered| numbered.row.position))),
        ("parser", text(|letter| &letter.parser)),
        ("reason", text(|letter| &letter.reason)),
        ("text", text(|letter| &letter.text)),
        ("entry", numbers(all.iter().map(|numbered| numbered.entry))),
    ])
}
