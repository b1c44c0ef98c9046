//! Events as bytes of an entry: columns as an Arrow IPC stream, and behind them what their text
//! lies in, once for all columns.
//!
//! A text column goes into the stream as its views, sixteen bytes each, so nothing that a batch
//! points to is copied or written twice: `raw` and what was read out of it are the same bytes.
//! Columns without any value are left out; a reader takes what is missing for null.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, ListArray, RecordBatch, StringViewArray, new_null_array,
};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use telltale_schema::EventBatch;
use telltale_schema::columns::{Column, schema};

/// Bytes of a view.
const VIEW: i32 = 16;
/// What a batch keeps alive is written as it is where at most so many times what its records need;
/// else text is copied out of it.
const SPARSE: usize = 2;

/// Batches of events as bytes, in parts.
#[derive(Debug, Default)]
pub struct Encoded {
    columns: Vec<u8>,
    /// Of each batch, what its text lies in.
    texts: Vec<Vec<Buffer>>,
}

impl Encoded {
    /// Bytes that an event takes at most, besides the text of its record.
    pub const ROW_BYTES: usize = 40 * VIEW as usize;

    /// No parts where there are no events.
    pub fn of(events: &[EventBatch]) -> Self {
        let parts = events.iter().filter(|batch| !batch.is_empty()).map(split);
        let (columns, texts): (Vec<_>, Vec<_>) = parts.unzip();
        if columns.is_empty() {
            return Self::default();
        }
        let has_values = |column: usize| {
            columns.iter().any(|of: &Vec<ArrayRef>| of[column].null_count() < of[column].len())
        };
        let kept: Vec<usize> = (0..Column::ALL.len()).filter(|at| has_values(*at)).collect();
        let schema = stored_schema(&kept);
        let bytes: usize = columns.iter().flatten().map(|it| it.get_array_memory_size()).sum();
        let write = || {
            let mut writer =
                StreamWriter::try_new(Vec::with_capacity(bytes.min(64 << 20)), &schema)?;
            for columns in &columns {
                let columns = kept.iter().map(|at| Arc::clone(&columns[*at])).collect();
                writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
            }
            writer.into_inner()
        };
        let columns = write().expect("a batch of events can be written to memory");
        Self { columns, texts }
    }

    /// The bytes, in their order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let texts = self.texts.iter().flatten().map(Buffer::as_slice);
        std::iter::once(self.columns.as_slice()).chain(texts)
    }

    /// The lengths of the texts of each batch, without which the bytes cannot be read.
    pub fn texts(&self) -> Vec<Vec<u64>> {
        let lengths = |texts: &Vec<Buffer>| texts.iter().map(|text| text.len() as u64).collect();
        self.texts.iter().map(lengths).collect()
    }

    pub fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads events back.
///
/// Shape: all the bytes of [`Encoded::parts`], and the lengths of [`Encoded::texts`]. What is
/// returned lies in those bytes.
/// Errors: bytes that are no such events. That the messages of the stream are as they were written
/// is what the checksum of a frame says before: Arrow panics on some that are not.
pub fn decode(bytes: Buffer, texts: &[Vec<u64>]) -> Result<Vec<EventBatch>, String> {
    let length = |it: &u64| usize::try_from(*it).ok();
    let total = texts.iter().flatten().try_fold(0_usize, |sum, it| sum.checked_add(length(it)?));
    let mut at = total
        .and_then(|total| bytes.len().checked_sub(total))
        .ok_or_else(|| "its text is cut off".to_owned())?;
    let mut columns = bytes.slice_with_length(0, at);
    let (mut decoder, mut texts, mut events) = (StreamDecoder::new(), texts.iter(), Vec::new());
    while !columns.is_empty() {
        let Some(batch) = decoder.decode(&mut columns).map_err(|cause| cause.to_string())? else {
            continue;
        };
        let lengths = texts.next().ok_or_else(|| "it has more events than text".to_owned())?;
        let texts = lengths.iter().filter_map(length).map(|length| {
            let text = bytes.slice_with_length(at, length);
            at += length;
            text
        });
        let batch = join(&batch, &texts.collect()).map_err(|cause| cause.to_string())?;
        events.push(EventBatch::try_from(batch).map_err(|cause| cause.to_string())?);
    }
    match texts.next() {
        Some(_) => Err("it has more text than events".to_owned()),
        None => Ok(events),
    }
}

/// The schema of the stream for some columns.
fn stored_schema(kept: &[usize]) -> SchemaRef {
    let all = schema();
    let fields = kept.iter().map(|at| {
        let field = all.field(*at);
        field.clone().with_data_type(stored_type(field.data_type()))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn stored_type(of: &DataType) -> DataType {
    match of {
        DataType::Utf8View => DataType::FixedSizeBinary(VIEW),
        DataType::List(item) => DataType::List(stored_item(item)),
        other => other.clone(),
    }
}

fn stored_item(item: &Field) -> Arc<Field> {
    Arc::new(item.clone().with_data_type(stored_type(item.data_type())))
}

/// The columns of a batch with views in place of text, and what those point into.
fn split(batch: &EventBatch) -> (Vec<ArrayRef>, Vec<Buffer>) {
    let raw = batch.text(Column::Raw);
    let needed: usize = raw.lengths().map(|length| length as usize).sum();
    let held: usize = raw.data_buffers().iter().map(Buffer::len).sum();
    let is_whole = held <= SPARSE.saturating_mul(needed).saturating_add(4096);
    let shared = is_whole.then(|| raw.data_buffers().to_vec());
    let mut own = Vec::new();
    let mut views = |array: &StringViewArray| -> ArrayRef {
        let is_shared = |shared: &Vec<Buffer>| {
            let same = shared.iter().zip(array.data_buffers());
            shared.len() == array.data_buffers().len() && same.into_iter().all(|(a, b)| a.ptr_eq(b))
        };
        let values = match &shared {
            Some(shared) if is_shared(shared) => array.views().inner().clone(),
            _ => copied(array, shared.iter().flatten().count(), &mut own),
        };
        Arc::new(FixedSizeBinaryArray::new(VIEW, values, array.nulls().cloned()))
    };
    let columns = batch.record_batch().columns().iter().map(|array| match array.data_type() {
        DataType::Utf8View => views(array.as_string_view()),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = views(list.values().as_string_view());
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::new(stored_item(item), offsets, values, nulls))
        }
        _ => Arc::clone(array),
    });
    let columns = columns.collect();
    let texts = shared.into_iter().flatten().chain(own).collect();
    (columns, texts)
}

/// The views of a column whose text is copied to buffers of its own, which come behind `before`
/// others.
fn copied(array: &StringViewArray, before: usize, own: &mut Vec<Buffer>) -> Buffer {
    let array = array.gc();
    let first = (before + own.len()) as u128;
    own.extend(array.data_buffers().iter().cloned());
    let moved = array.views().iter().map(|view| match *view as u32 {
        0..=12 => *view,
        _ => *view + (first << 64),
    });
    moved.collect::<Vec<u128>>().into()
}

/// Whether a view is text: up to twelve bytes of its own, or a part of one of `texts`, which are
/// UTF-8, that begins and ends between two characters.
fn is_text(view: u128, texts: &[Buffer]) -> bool {
    let len = view as u32 as usize;
    if let len @ 0..=12 = len {
        let bytes = &view.to_le_bytes()[4..];
        return bytes[len..].iter().all(|byte| *byte == 0)
            && (bytes.is_ascii() || std::str::from_utf8(&bytes[..len]).is_ok());
    }
    let (prefix, text) = ((view >> 32) as u32, texts.get((view >> 64) as u32 as usize));
    let start = (view >> 96) as usize;
    let Some((text, end)) = text.map(Buffer::as_slice).zip(start.checked_add(len)) else {
        return false;
    };
    let is_boundary = |at: usize| text.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    text.get(start..end).is_some_and(|value| value.starts_with(&prefix.to_le_bytes()))
        && is_boundary(start)
        && is_boundary(end)
}

/// A batch of the stream with its text.
fn join(batch: &RecordBatch, texts: &Vec<Buffer>) -> Result<RecordBatch, ArrowError> {
    let texts: Arc<[Buffer]> = texts.as_slice().into();
    let is_utf8 = texts.iter().all(|text| simdutf8::basic::from_utf8(text).is_ok());
    let text = |array: &ArrayRef| -> Result<ArrayRef, ArrowError> {
        let views = array.as_fixed_size_binary_opt().filter(|it| it.value_length() == VIEW);
        let views = views.ok_or_else(|| {
            ArrowError::SchemaError(format!("text is stored as {}", array.data_type()))
        })?;
        let mut values = views.values().slice_with_length(0, views.len() * VIEW as usize);
        if values.as_ptr().align_offset(align_of::<u128>()) != 0 {
            values = Buffer::from(values.as_slice());
        }
        let (views, nulls) = (ScalarBuffer::new(values, 0, views.len()), views.nulls().cloned());
        if is_utf8 && views.iter().all(|view| is_text(*view, &texts)) {
            // SAFETY: every view is text, as was just looked at, and there is a null flag for each,
            // because both come from one array.
            let text = unsafe { StringViewArray::new_unchecked(views, Arc::clone(&texts), nulls) };
            return Ok(Arc::new(text));
        }
        // Where a payload holds more than text, each value is looked at by itself.
        Ok(Arc::new(StringViewArray::try_new(views, Arc::clone(&texts), nulls)?))
    };
    let columns = Column::ALL.iter().map(|column| {
        let wanted = column.data_type();
        let Some(array) = batch.column_by_name(column.name()) else {
            return Ok(new_null_array(&wanted, batch.num_rows()));
        };
        match (&wanted, array.data_type()) {
            (DataType::Utf8View, _) => text(array),
            (DataType::List(item), DataType::List(_)) => {
                let list = array.as_list::<i32>();
                let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
                let values = text(list.values())?;
                Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
                    as ArrayRef)
            }
            _ => Ok(Arc::clone(array)),
        }
    });
    RecordBatch::try_new(schema(), columns.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::simulation::Dice;
    use proptest::prelude::*;
    use telltale_schema::{Event, EventBuilder, EventId};

    /// Events whose text lies in the payload, as a parser makes them, but for the chain.
    fn batch(records: &[String], keep: &[bool]) -> EventBatch {
        let payload = Buffer::from(records.concat().into_bytes());
        let text = std::str::from_utf8(payload.as_slice()).unwrap();
        let mut builder = EventBuilder::new("hashicorp_vault_audit", payload.clone(), 5);
        let mut at = 0;
        for (number, record) in (0_u8..).zip(records) {
            let raw = &text[at..at + record.len()];
            at += record.len();
            let half = raw.char_indices().nth(raw.chars().count() / 2).map_or(0, |(at, _)| at);
            let chain = ["a caller of some length", &raw[half..]];
            builder.push(&Event {
                event_id: EventId([number; 16]),
                principal_id: Some(&raw[..half]),
                resource: (number % 2 == 0).then_some("a resource that lies elsewhere"),
                status_code: (number % 3 == 0).then_some(200),
                delegation_chain: if number % 4 == 0 { &chain } else { &[] },
                raw: Some(raw),
                ..Event::new("hashicorp_vault_audit", i64::from(number))
            });
        }
        let keep: Vec<bool> = keep.iter().copied().cycle().take(records.len()).collect();
        builder.finish().filter(&keep)
    }

    fn bytes(encoded: &Encoded) -> Vec<u8> {
        encoded.parts().collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(
            batches in prop::collection::vec(prop::collection::vec(".{1,60}", 1..30), 1..4),
            keep in prop::collection::vec(any::<bool>(), 1..9),
            shift in 0_usize..16,
        ) {
            let events: Vec<_> = batches.iter().map(|records| batch(records, &keep)).collect();
            let encoded = Encoded::of(&events);
            let mut shifted = vec![0; shift];
            shifted.extend(bytes(&encoded));
            let read = decode(Buffer::from_vec(shifted).slice(shift), &encoded.texts()).unwrap();
            let whole: Vec<_> = events.iter().filter(|batch| !batch.is_empty()).collect();
            prop_assert_eq!(read.len(), whole.len());
            for (read, whole) in read.iter().zip(whole) {
                prop_assert_eq!(read.record_batch(), whole.record_batch());
            }
        }

        #[test]
        fn what_is_cut_or_points_elsewhere_is_an_error(
            records in prop::collection::vec("[a-z]{20,60}", 1..30),
            cut in 1_usize..400,
        ) {
            let records: Vec<_> = (0..).zip(records).map(|(at, it)| format!("{at:04}{it}")).collect();
            let encoded = Encoded::of(&[batch(&records, &[true])]);
            let bytes = bytes(&encoded);
            let texts = encoded.texts();
            let cut = bytes.len().saturating_sub(cut);
            prop_assert!(decode(Buffer::from(&bytes[..cut]), &texts).is_err());
            let shorter: Vec<Vec<u64>> = texts.iter().map(|of| of.iter().map(|it| it / 2).collect()).collect();
            prop_assert!(decode(Buffer::from(&bytes[..]), &shorter).is_err());
            prop_assert!(decode(Buffer::from(&bytes[..]), &[vec![u64::MAX, u64::MAX]]).is_err());
            prop_assert!(decode(Buffer::from(&bytes[..]), &[]).is_err());
        }
    }

    #[test]
    fn mangled_columns_and_text_are_an_error_or_text() {
        /// Bytes that end a stream.
        const END: usize = 8;
        let records: Vec<String> = (0..9).map(|at| format!("{at}{}", "é".repeat(20))).collect();
        let encoded = Encoded::of(&[batch(&records, &[true])]);
        let whole = bytes(&encoded);
        // Behind the messages of the schema and of the batch, by whose lengths Arrow goes.
        let end = |message: usize| {
            let length = whole[message + 4..].first_chunk().unwrap();
            message + 8 + u32::from_le_bytes(*length) as usize
        };
        let (head, body) = whole.split_at(end(end(0)));
        let (body, behind) = body.split_at(encoded.columns.len() - head.len() - END);
        let mut dice = Dice(4);
        let mut read = 0;
        for _ in 0..3000 {
            let mut part = body.to_vec();
            for _ in 0..=dice.below(2) {
                part[dice.below(body.len())] ^= 1 << dice.below(8);
            }
            let mut text = behind[END..].to_vec();
            if dice.one_in(3) {
                text = dice.mangled(&text);
                text.resize(behind.len() - END, b'x');
            }
            let whole = [head, &part, &behind[..END], &text].concat();
            let mut lengths = encoded.texts();
            lengths[0].rotate_left(dice.one_in(4).into());
            for batch in decode(Buffer::from_vec(whole), &lengths).into_iter().flatten() {
                read += 1;
                for row in batch.rows() {
                    let text = serde_json::to_string(&batch.event(row)).unwrap();
                    let chain: Vec<&str> = batch.chain(row).collect();
                    let text = text + &chain.concat();
                    assert!(std::str::from_utf8(text.as_bytes()).is_ok(), "{text}");
                }
            }
        }
        assert!(read > 100, "{read} batches were read");
    }

    #[test]
    fn what_is_no_text_is_no_view_of_it() {
        let texts = [Buffer::from("aé, and more text than fits".as_bytes())];
        let view = |len: u128, prefix: &[u8; 4], buffer: u128, offset: u128| {
            len | u128::from(u32::from_le_bytes(*prefix)) << 32 | buffer << 64 | offset << 96
        };
        let short = |len: u128, bytes: &[u8]| {
            bytes.iter().rev().fold(0, |view, byte| view << 8 | u128::from(*byte)) << 32 | len
        };
        for (view, is_text) in [
            (0, true),
            (short(2, b"ab"), true),
            (short(2, b"abc"), false),
            (short(2, "é".as_bytes()), true),
            (short(1, "é".as_bytes()), false),
            (view(14, b"a\xc3\xa9,", 0, 0), true),
            (view(14, b"a\xc3\xa9;", 0, 0), false),
            (view(14, b"\xa9, a", 0, 2), false),
            (view(14, b"a\xc3\xa9,", 1, 0), false),
            (view(14, b"a\xc3\xa9,", 0, 20), false),
            (view(u128::from(u32::MAX), b"a\xc3\xa9,", 0, 0), false),
        ] {
            assert_eq!(super::is_text(view, &texts), is_text, "{view:x}");
            let whole = StringViewArray::try_new(vec![view].into(), texts.to_vec(), None);
            assert_eq!(whole.is_ok(), is_text, "Arrow of {view:x}");
        }
    }

    #[test]
    fn text_is_written_once_and_little_of_what_was_left_out() {
        let records: Vec<String> = (0..100).map(|at| format!("{at:0>1000}")).collect();
        let whole = Encoded::of(&[batch(&records, &[true])]);
        assert!(whole.len() < 125_000, "{}", whole.len());
        let mut keep = [false; 100];
        keep[7] = true;
        let few = Encoded::of(&[batch(&records, &keep)]);
        assert!(few.len() < 8_000, "{}", few.len());
    }
}
