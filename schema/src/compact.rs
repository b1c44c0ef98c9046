//! Text out of the payloads that a batch keeps alive.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch};
use arrow_schema::DataType;
use std::sync::Arc;

/// Copies text out of the payloads that the views of a batch share: whoever writes or keeps a
/// view column writes or keeps all that lies behind it, once for each column.
pub fn compact(batch: &RecordBatch) -> RecordBatch {
    with_columns(batch, compact_array)
}

/// [`compact`] for columns of lists only.
pub fn compact_lists(batch: &RecordBatch) -> RecordBatch {
    with_columns(batch, |array| match array.data_type() {
        DataType::List(_) => compact_array(array),
        _ => Arc::clone(array),
    })
}

fn compact_array(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = compact_array(list.values());
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::new(Arc::clone(item), offsets, values, nulls))
        }
        _ => Arc::clone(array),
    }
}

fn with_columns(batch: &RecordBatch, change: impl Fn(&ArrayRef) -> ArrayRef) -> RecordBatch {
    let columns = batch.columns().iter().map(change).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("columns keep their type and length")
}
