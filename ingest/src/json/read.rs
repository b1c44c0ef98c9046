//! serde over the marks of a record.

use super::index::Index;
use super::text::{RAW, Raw};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;

/// Nesting that is looked into; deeper values are refused, or jumped over when nobody asks.
pub(super) const MAX_DEPTH: u8 = 96;

/// Why a record is not what its parser expects.
///
/// It is behind a pointer, so that what goes well costs no room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Cause>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    /// Fields from the outside in, as the provider spells them, joined by dots.
    field: String,
    message: String,
}

impl Error {
    #[cold]
    pub fn message(text: impl fmt::Display) -> Self {
        Self(Box::new(Cause { field: String::new(), message: text.to_string() }))
    }

    #[cold]
    fn within(mut self, key: &str) -> Self {
        // A key is somebody else's text: shown, but not at any length.
        let mut field: String = key.chars().take(60).collect();
        if !self.0.field.is_empty() {
            field.push('.');
            field.push_str(&self.0.field);
        }
        self.0.field = field;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.field.is_empty() {
            write!(f, "`{}`: ", self.0.field)?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::message(message)
    }
}

/// Reads the value that `record` is.
pub(super) fn value<'a, T: de::Deserialize<'a>>(
    record: &'a str,
    index: &Index,
) -> Result<T, Error> {
    let mut reader = Reader { record, index, at: 0, quote: 0, depth: 0 };
    reader.white_space();
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads the value that `record` is into `place`.
pub(super) fn value_into<'a, T: de::Deserialize<'a>>(
    record: &'a str,
    index: &Index,
    place: &mut T,
) -> Result<(), Error> {
    let mut reader = Reader { record, index, at: 0, quote: 0, depth: 0 };
    reader.white_space();
    T::deserialize_in_place(&mut reader, place)?;
    reader.end()
}

/// What `look` makes of the first member of the outermost object of which it makes anything.
///
/// Errors: it makes nothing of any; with the byte behind the object, where it has an end.
pub(super) fn find<'a, T>(
    record: &'a str,
    index: &Index,
    mut look: impl FnMut(&'a str, Raw<'a>) -> Option<T>,
) -> Result<T, Option<usize>> {
    let mut reader = Reader { record, index, at: 0, quote: 0, depth: 0 };
    reader.white_space();
    if reader.peek() != Some(b'{') {
        return Err(None);
    }
    let open = reader.at;
    reader.at += 1;
    loop {
        let (key, value) = match reader.member() {
            Ok(Some(member)) => member,
            Ok(None) => return Err(Some(reader.at + 1)),
            // It is no JSON from here on, but its brackets still say where it ends.
            Err(_) => return Err(index.close_of(open).map(|close| close + 1)),
        };
        if let Some(found) = look(key, value) {
            return Ok(found);
        }
    }
}

struct Reader<'a, 'i> {
    record: &'a str,
    index: &'i Index,
    at: usize,
    /// Number of the first quote at or behind `at`.
    quote: usize,
    depth: u8,
}

impl<'a> Reader<'a, '_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.record.as_bytes().get(self.at).copied()
    }

    #[inline(always)]
    fn white_space(&mut self) {
        // As a rule there is none.
        while let Some(byte) = self.peek()
            && byte <= b' '
            && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
        {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Error> {
        self.white_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        self.white_space();
        Ok(())
    }

    #[cold]
    fn unexpected(&self, expected: &str) -> Error {
        match self.record.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) if found.is_control() => Error::message(format_args!(
                "expected {expected}, found a control character at byte {}",
                self.at
            )),
            Some(found) => Error::message(format_args!(
                "expected {expected}, found `{found}` at byte {}",
                self.at
            )),
            None => Error::message(format_args!("expected {expected}, the record ends")),
        }
    }

    /// The next member of an object, its key still escaped; `None` where the object ends at `at`.
    fn member(&mut self) -> Result<Option<(&'a str, Raw<'a>)>, Error> {
        self.white_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.white_space();
        }
        if self.peek() == Some(b'}') {
            return Ok(None);
        }
        let key = self.string()?;
        self.colon()?;
        let start = self.at;
        self.skip()?;
        Ok(Some((key, Raw(&self.record[start..self.at]))))
    }

    /// The text between the quotes at `at`, still escaped; leaves `at` behind it.
    #[inline(always)]
    fn string(&mut self) -> Result<&'a str, Error> {
        if self.index.quote(self.quote) != Some(self.at) {
            return Err(self.unexpected("a string"));
        }
        let start = self.at + 1;
        let Some(end) = self.index.quote(self.quote + 1) else { return Err(endless()) };
        self.at = end + 1;
        self.quote += 2;
        // SAFETY: the index of this record has a quote right before `start` and the next one at
        // `end`; both are ASCII, so the text between is whole characters.
        Ok(unsafe { self.record.get_unchecked(start..end) })
    }

    /// Whether there is a backslash in the string that was read last.
    #[inline(always)]
    fn has_escape(&self, text: &str) -> bool {
        let end = self.at - 1;
        self.index.may_escape(end - text.len(), end)
            && memchr::memchr(b'\\', text.as_bytes()).is_some()
    }

    /// Leaves `at` behind the value, whatever it is.
    #[inline(always)]
    fn skip(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            _ => self.skip_other(),
        }
    }

    #[inline(never)]
    fn skip_other(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'{' | b'[') => {
                self.at = self
                    .index
                    .close_of(self.at)
                    .ok_or_else(|| Error::message("an object or array without an end"))?
                    + 1;
                self.quote = self.index.quotes_before(self.at);
                Ok(())
            }
            Some(_) => self.scalar().map(drop),
            None => Err(self.unexpected("a value")),
        }
    }

    /// A number, `true`, `false` or `null`, unchecked; leaves `at` behind it.
    #[inline]
    fn scalar(&mut self) -> Result<&'a str, Error> {
        let start = self.at;
        let bytes = self.record.as_bytes();
        // Most are a word, which needs no look at each letter.
        self.at += match bytes[start..] {
            [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => 4,
            [b'f', b'a', b'l', b's', b'e', ..] => 5,
            _ => 0,
        };
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.' => self.at += 1,
                _ => break,
            }
        }
        match self.at == start {
            true => Err(self.unexpected("a value")),
            false => Ok(&self.record[start..self.at]),
        }
    }

    fn visit_scalar<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let text = self.scalar()?;
        match text {
            "null" => visitor.visit_unit(),
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Err(Error::message(format_args!("`{}` is no JSON value", short(text))))
            }
            _ => {
                if let Ok(number) = text.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = text.parse::<i64>() {
                    visitor.visit_i64(number)
                } else if let Ok(number) = text.parse::<f64>() {
                    visitor.visit_f64(number)
                } else {
                    Err(Error::message(format_args!("`{}` is no number", short(text))))
                }
            }
        }
    }

    /// A value that is no text.
    #[inline(never)]
    fn visit_other<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(b'{') => self.visit_object(visitor),
            Some(b'[') => {
                self.deeper()?;
                let value = visitor.visit_seq(Elements { reader: self, first: true })?;
                self.white_space();
                if self.peek() != Some(b']') {
                    return Err(self.unexpected("`]`"));
                }
                self.at += 1;
                self.depth -= 1;
                Ok(value)
            }
            Some(_) => self.visit_scalar(visitor),
            None => Err(self.unexpected("a value")),
        }
    }

    /// The object that begins at `at`.
    #[inline]
    fn visit_object<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.deeper()?;
        let value = visitor.visit_map(Members { reader: self, first: true, key: "" })?;
        self.white_space();
        if self.peek() != Some(b'}') {
            return Err(self.unexpected("`}`"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(value)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.white_space();
        match self.at == self.record.len() {
            true => Ok(()),
            false => Err(Error::message("more text after the end of the JSON value")),
        }
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.at += 1;
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(Error::message(format_args!("nested deeper than {MAX_DEPTH}"))),
            false => Ok(()),
        }
    }
}

#[cold]
fn endless() -> Error {
    Error::message("a string without an end")
}

fn short(text: &str) -> &str {
    text.get(..20).unwrap_or(text)
}

/// The text that a JSON string with escapes stands for. A lone surrogate becomes U+FFFD.
fn unescape(text: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied();
        let mut used = 2;
        match escape {
            Some(b'n') => out.push('\n'),
            Some(b't') => out.push('\t'),
            Some(b'r') => out.push('\r'),
            Some(b'b') => out.push('\u{8}'),
            Some(b'f') => out.push('\u{c}'),
            Some(c @ (b'"' | b'\\' | b'/')) => out.push(c as char),
            Some(b'u') => {
                let unit = |from: usize| -> Option<u32> {
                    u32::from_str_radix(rest.get(from..from + 4)?, 16).ok()
                };
                let high = unit(at + 2)
                    .ok_or_else(|| Error::message("`\\u` without four hexadecimal digits"))?;
                used = 6;
                let low = match high {
                    0xD800..=0xDBFF if rest.get(at + 6..at + 8) == Some("\\u") => unit(at + 8),
                    _ => None,
                };
                match low {
                    Some(low @ 0xDC00..=0xDFFF) => {
                        used = 12;
                        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    _ => out.push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            _ => return Err(Error::message("a backslash that escapes nothing")),
        }
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    Ok(out)
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de, '_> {
    type Error = Error;

    /// Text is what nearly every field has: the rest is kept out of the way.
    #[inline(always)]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek() != Some(b'"') {
            return self.visit_other(visitor);
        }
        let text = self.string()?;
        match self.has_escape(text) {
            true => visitor.visit_string(unescape(text)?),
            false => visitor.visit_borrowed_str(text),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.peek() {
            Some(b'{') => self.visit_object(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.record.as_bytes()[self.at..].starts_with(b"null") {
            self.at += 4;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    #[inline(always)]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != RAW {
            return visitor.visit_newtype_struct(self);
        }
        let start = self.at;
        self.skip()?;
        visitor.visit_borrowed_str(&self.record[start..self.at])
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.string()?;
        visitor.visit_enum(text.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

struct Members<'r, 'de, 'i> {
    reader: &'r mut Reader<'de, 'i>,
    first: bool,
    key: &'de str,
}

impl<'de> MapAccess<'de> for Members<'_, 'de, '_> {
    type Error = Error;

    #[inline(always)]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let reader = &mut *self.reader;
        reader.white_space();
        match reader.peek() {
            Some(b'}') => return Ok(None),
            Some(b',') if !self.first => {
                reader.at += 1;
                reader.white_space();
            }
            _ if self.first => {}
            _ => return Err(reader.unexpected("`,` or `}`")),
        }
        self.first = false;
        let key = reader.string()?;
        self.key = key;
        let value = if reader.has_escape(key) {
            seed.deserialize(unescape(key)?.into_deserializer())?
        } else {
            seed.deserialize(de::value::BorrowedStrDeserializer::new(key))?
        };
        reader.colon()?;
        Ok(Some(value))
    }

    #[inline(always)]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match seed.deserialize(&mut *self.reader) {
            Ok(value) => Ok(value),
            Err(cause) => Err(cause.within(self.key)),
        }
    }
}

struct Elements<'r, 'de, 'i> {
    reader: &'r mut Reader<'de, 'i>,
    first: bool,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de, '_> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let reader = &mut *self.reader;
        reader.white_space();
        match reader.peek() {
            Some(b']') => return Ok(None),
            Some(b',') if !self.first => {
                reader.at += 1;
                reader.white_space();
            }
            _ if self.first => {}
            _ => return Err(reader.unexpected("`,` or `]`")),
        }
        self.first = false;
        seed.deserialize(reader).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::json::{self, Raw, Text};
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "camelCase")]
    struct Sample<'a> {
        #[serde(borrow, default)]
        name: Text<'a>,
        #[serde(borrow, default)]
        inner: Option<Raw<'a>>,
        event_time: Option<u64>,
    }

    #[test]
    fn asked_fields_are_read_and_others_are_jumped_over() {
        let sample: Sample<'_> = json::from_str(
            r#" {"skip":{"a":[1,{"b":"}]"}],"c":"\"{"},"name":"a\u00e9\n\"b","inner":{"x":[1,2]},"more":-1.5e3,"eventTime":7} "#,
        )
        .unwrap();
        assert_eq!(sample.name.get(), Some("aé\n\"b"));
        assert_eq!(sample.inner, Some(Raw(r#"{"x":[1,2]}"#)));
        assert_eq!(sample.event_time, Some(7));
        let odd: Sample<'_> = json::from_str(r#"{"name":["x"],"inner":null}"#).unwrap();
        assert_eq!((odd.name.get(), odd.inner), (None, None));
    }

    #[test]
    fn what_is_broken_says_where() {
        let error = |text: &str| json::from_str::<Sample<'_>>(text).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"eventTime":"now"}"#),
            r#"`eventTime`: invalid type: string "now", expected u64"#
        );
        assert_eq!(error(r#"{"name":"x"#), "`name`: a string without an end");
        assert_eq!(error(r#"{"name":"x","#), "expected a string, the record ends");
        assert_eq!(error(r#"{"name" "x"}"#), "expected `:`, found `\"` at byte 8");
        assert_eq!(error("{} {}"), "more text after the end of the JSON value");
        let bomb = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json::from_str::<Value>(&bomb).unwrap_err().to_string().contains("nested deeper"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<u32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            ".{0,80}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec((".{0,20}", inner), 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_writes(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            prop_assert_eq!(json::from_str::<Value>(&text.unwrap()).unwrap(), value);
        }

        #[test]
        fn never_panics_and_never_accepts_what_is_unbalanced(text in r#"[\[\]{}",:a1 \\u\n]{0,200}"#) {
            let ours = json::from_str::<Value>(&text);
            let theirs = serde_json::from_str::<Value>(&text);
            if let Ok(value) = theirs {
                prop_assert_eq!(ours.unwrap(), value);
            }
            let _ = json::field(&text, "a");
            let _ = json::from_str::<Sample<'_>>(&text);
        }

        #[test]
        fn a_value_is_found_by_its_key(value in any_json(), before in any_json()) {
            let text = format!(r#"{{"before":{before},"wanted":{value},"after":1}}"#);
            let found = json::field(&text, "wanted").unwrap();
            prop_assert_eq!(found.0, value.to_string());
        }
    }
}
