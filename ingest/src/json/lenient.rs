//! More field types for parsers: an object, a number or the head of a list, and nothing where the
//! log has something else there. A strange value in one field is no reason to lose the event.

use super::Text;
use serde::de::{
    Deserialize, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{BorrowedStrDeserializer, MapAccessDeserializer},
};
use std::fmt;
use std::marker::PhantomData;

/// An object; absent when the log has `null`, text, a number or a list in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T>(pub Option<T>);

impl<T> Object<T> {
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            #[inline]
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|value| Object(Some(value)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
            fn visit_unit<E>(self) -> Result<Object<T>, E> {
                Ok(Object(None))
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// A whole number, also one that is written as text; absent when it is anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub Option<i64>);

impl<'de> Deserialize<'de> for Number {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl<'de> Visitor<'de> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            #[inline]
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(i64::try_from(value).ok()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(Some(value)))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value.is_finite().then_some(value as i64)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().ok()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Number, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

/// The first of a list, or the text or object itself where the log has it without a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct First<T>(pub T);

impl First<Text<'_>> {
    #[inline]
    pub fn get(&self) -> Option<&str> {
        self.0.get()
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for First<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for FirstVisitor<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            #[inline]
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
                let first = seq.next_element::<T>()?.unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<First<T>, E> {
                T::deserialize(BorrowedStrDeserializer::new(text)).map(First)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<First<T>, E> {
                T::deserialize(text.into_deserializer()).map(First)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<First<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(First)
            }
            fn visit_bool<E>(self, _: bool) -> Result<First<T>, E> {
                Ok(First::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<First<T>, E> {
                Ok(First::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<First<T>, E> {
                Ok(First::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<First<T>, E> {
                Ok(First::default())
            }
            fn visit_unit<E>(self) -> Result<First<T>, E> {
                Ok(First::default())
            }
        }
        deserializer.deserialize_any(FirstVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Inner<'a> {
        #[serde(borrow, default)]
        name: Text<'a>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample<'a> {
        #[serde(borrow)]
        object: Object<Inner<'a>>,
        number: Number,
        #[serde(borrow)]
        first: First<Text<'a>>,
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let sample: Sample<'_> = crate::json::from_str(
            r#"{"object":{"name":"x","more":[1]},"number":403,"first":["a","b"]}"#,
        )
        .unwrap();
        assert_eq!(sample.object.get().and_then(|inner| inner.name.get()), Some("x"));
        assert_eq!((sample.number, sample.first.get()), (Number(Some(403)), Some("a")));
        let spelled: Sample<'_> =
            crate::json::from_str(r#"{"number":"-7","first":"a\"b"}"#).unwrap();
        assert_eq!((spelled.number, spelled.first.get()), (Number(Some(-7)), Some("a\"b")));
    }

    #[test]
    fn anything_else_is_absent() {
        for odd in [r#""text""#, r#""t\n""#, "1", "-1", "1.5", "true", "null", "[]", "[{}]", "{}"] {
            let text = format!(r#"{{"object":{odd},"number":{odd},"first":{odd},"z":1}}"#);
            let sample: Sample<'_> = crate::json::from_str(&text).unwrap();
            assert!(sample.object.get().is_none_or(|inner| inner.name.get().is_none()), "{odd}");
            assert!(sample.first.get().is_none_or(|text| text.starts_with('t')), "{odd}");
            assert!(sample.number.0.is_none_or(|number| number.abs() == 1), "{odd}");
        }
    }
}
