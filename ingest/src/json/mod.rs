//! The one place that knows how JSON text is read. Parsers declare borrowed serde structs and call
//! [`from_str`]; another reader could stand behind it without a change to any parser.
//!
//! A record is read in two steps, as simdjson does it: one pass with vector instructions marks the
//! quotes and brackets that count ([`index`]), then serde walks the marks ([`read`]) and jumps over
//! every value that no field asks for. What is jumped over is not validated beyond its brackets
//! and quotes.
//! Source: Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB Journal 28, 2019.

mod index;
mod lenient;
mod object;
mod read;
mod text;

pub use lenient::{First, Number, Object};
pub(crate) use object::object;
pub use object::{Fill, InPlace, Key, OrNull, Places};
pub use read::Error;
pub use text::{Lenient, Raw, Text};

use index::Index;
use serde::de::Deserialize;
use std::cell::Cell;
use std::convert::Infallible;

thread_local! {
    /// The index of the last record, whose memory the next one uses again.
    static SCRATCH: Cell<Option<Box<Index>>> = const { Cell::new(None) };
}

/// Reads one JSON value, with nothing but white space around it.
///
/// Errors: what is wrong and in which field; strings that were cut, brackets that do not match,
/// nesting above [`read::MAX_DEPTH`] where it is looked at, and whatever `T` does not accept.
pub fn from_str<'a, T: Deserialize<'a>>(record: &'a str) -> Result<T, Error> {
    with_index(record, |index| read::value(record, index))
}

/// The same, into a value that is there already: what large records are spared is being moved.
pub fn read_into<'a, T: Deserialize<'a>>(record: &'a str, place: &mut T) -> Result<(), Error> {
    with_index(record, |index| read::value_into(record, index, place))
}

/// Where the brackets and strings of some bytes begin and end, for whoever cuts records apart.
pub struct Marks(Index);

impl Marks {
    pub fn of(bytes: &[u8]) -> Self {
        let mut index = Index::default();
        index.build(bytes);
        Self(index)
    }

    /// Position of the bracket that closes the one at `open`; `None` when the bytes end before.
    pub fn close_of(&self, open: usize) -> Option<usize> {
        self.0.close_of(open)
    }

    /// Position of the quote that ends the string whose first quote is at `open`.
    pub fn string_end(&self, open: usize) -> Option<usize> {
        self.0.quote_from(open + 1)
    }

    /// Whether a string has begun before `at` that has not ended there.
    pub fn is_in_string(&self, at: usize) -> bool {
        !self.0.quotes_before(at).is_multiple_of(2)
    }
}

fn with_index<R>(record: &str, body: impl FnOnce(&Index) -> R) -> R {
    let mut index = SCRATCH.take().unwrap_or_default();
    index.build(record.as_bytes());
    let result = body(&index);
    SCRATCH.set(Some(index));
    result
}

/// The text of the string or the JSON of the value behind `key` at the top level of an object.
pub fn field<'a>(record: &'a str, key: &str) -> Option<Raw<'a>> {
    with_index(record, |index| {
        read::find(record, index, |name, value| (name == key).then_some(value)).ok()
    })
}

/// Shows `see` the key, still escaped, and the JSON of every member at the top level of an object,
/// as far as it is one. What stands behind the object is the caller's to look at.
///
/// Errors: `None` where it has no end, else the byte behind it.
pub fn members<'a>(record: &'a str, mut see: impl FnMut(&'a str, Raw<'a>)) -> Option<usize> {
    with_index(record, |index| {
        let found = read::find(record, index, |key, value| {
            see(key, value);
            None::<Infallible>
        });
        match found {
            Err(end) => end,
            Ok(never) => match never {},
        }
    })
}
