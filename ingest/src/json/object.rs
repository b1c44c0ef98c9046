//! Objects of which a parser reads some keys.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use std::fmt;

/// Declares structs for JSON objects, each field with the keys that it may stand under.
///
/// ```ignore
/// object! {
///     struct Record<'a> {
///         event_id: Text<'a> = "eventID",
///         user_agent: Text<'a> = "userAgent" | "user_agent",
///     }
/// }
/// ```
///
/// It writes what `#[derive(Deserialize)]` with `default`, `borrow` and `rename` on each field
/// would, for any serde reader. A record goes through it a thousand times in a millisecond, so a key
/// is looked up in a table without collisions, made when the program is compiled, and compared by
/// whole words of its bytes; what is read goes straight into its field, objects within objects too.
/// Of a key that comes twice the last one counts. `null` in place of an
/// object leaves its fields as they are. Keys have at most 32 bytes.
macro_rules! object {
    ($(
        $(#[$about:meta])*
        $public:vis struct $name:ident<'a> {
            $(
                $(#[$about_field:meta])*
                $public_field:vis $field:ident: $type:ty = $key:literal $(| $other:literal)*,
            )*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Default)]
        $public struct $name<'a> {
            $($(#[$about_field])* $public_field $field: $type,)*
        }

        impl<'de: 'a, 'a> serde::de::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::de::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                let mut object = Self::default();
                Self::deserialize_in_place(reader, &mut object)?;
                Ok(object)
            }

            #[inline]
            fn deserialize_in_place<D: serde::de::Deserializer<'de>>(
                reader: D,
                object: &mut Self,
            ) -> Result<(), D::Error> {
                struct Members<'o, 'a>(&'o mut $name<'a>);

                #[derive(Clone, Copy)]
                #[allow(non_camel_case_types, reason = "they are called as the fields are")]
                enum Field { $($field,)* }

                const FIELDS: &[($crate::json::Key, Field)] = &[
                    $(
                        ($crate::json::Key::of($key), Field::$field),
                        $(($crate::json::Key::of($other), Field::$field),)*
                    )*
                ];
                const PLACES: $crate::json::Places = $crate::json::Places::of(&[
                    $($crate::json::Key::of($key), $($crate::json::Key::of($other),)*)*
                ]);

                impl<'de: 'a, 'a> $crate::json::Fill<'de> for Members<'_, 'a> {
                    #[inline(always)]
                    fn fill<A: serde::de::MapAccess<'de>>(
                        self,
                        mut members: A,
                    ) -> Result<(), A::Error> {
                        use $crate::json::{InPlace, Key};
                        while let Some(key) =
                            members.next_key_seed(std::marker::PhantomData::<Key>)?
                        {
                            match FIELDS.get(PLACES.of_key(&key)) {
                                $(
                                    Some((own, Field::$field)) if *own == key => {
                                        members.next_value_seed(InPlace(&mut self.0.$field))?;
                                    }
                                )*
                                _ => {
                                    members.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(())
                    }
                }

                let keys = &[$($key, $($other,)*)*];
                let members = $crate::json::OrNull(Members(object));
                reader.deserialize_struct(stringify!($name), keys, members)
            }
        }
    )*};
}
pub(crate) use object;

/// Reads a value into the place where it belongs.
pub struct InPlace<'p, T>(pub &'p mut T);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for InPlace<'_, T> {
    type Value = ();

    #[inline(always)]
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        T::deserialize_in_place(reader, self.0)
    }
}

/// What is done with the members of an object.
pub trait Fill<'de> {
    fn fill<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error>;
}

/// Takes an object, or `null` in its place.
pub struct OrNull<F>(pub F);

impl<'de, F: Fill<'de>> Visitor<'de> for OrNull<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    #[inline(always)]
    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.0.fill(members)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key as words that can be compared at once: its first and last eight bytes, and where it has
/// more than sixteen, those behind and before them. Exact up to 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    head: u64,
    tail: u64,
    len: usize,
    inner: [u64; 2],
}

impl Key {
    const MAX_BYTES: usize = 32;

    /// The key that `text` is; longer ones than [`Self::MAX_BYTES`] are all alike.
    #[inline(always)]
    pub const fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let len = bytes.len();
        if len > Self::MAX_BYTES {
            return Self { head: 0, tail: 0, len: usize::MAX, inner: [0, 0] };
        }
        if len < 8 {
            let (head, tail) = match len {
                4.. => (half(bytes, 0), half(bytes, len - 4)),
                // The middle one of three lies beside the first.
                1.. => (bytes[0] as u64, (bytes[len / 2] as u64) << 8 | bytes[len - 1] as u64),
                _ => (0, 0),
            };
            return Self { head, tail, len, inner: [0, 0] };
        }
        let inner = match len {
            17.. => [word(bytes, 8), word(bytes, len - 16)],
            _ => [0, 0],
        };
        Self { head: word(bytes, 0), tail: word(bytes, len - 8), len, inner }
    }
}

/// Where each of some keys stands in their list: a hash table without collisions.
pub struct Places {
    factor: u64,
    slots: [u8; Self::SLOTS],
}

impl Places {
    const SLOTS: usize = 128;
    const NONE: u8 = u8::MAX;

    /// Finds a factor that gives every key a slot of its own; there is one for any few keys, and
    /// where there is none the program does not compile.
    pub const fn of(keys: &[Key]) -> Self {
        // An odd number whose multiples are spread: 2⁶⁴ over the golden ratio.
        let mut factor = 0x9e37_79b9_7f4a_7c15;
        let mut tries = 0;
        while tries < 100_000 {
            let mut places = Self { factor, slots: [Self::NONE; Self::SLOTS] };
            let mut at = 0;
            while at < keys.len() && places.slots[places.slot(&keys[at])] == Self::NONE {
                places.slots[places.slot(&keys[at])] = at as u8;
                at += 1;
            }
            if at == keys.len() {
                return places;
            }
            factor = factor.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2);
            tries += 1;
        }
        panic!("keys of one object are alike, or too many")
    }

    /// Where `key` stands if it is one of them; any number if it is none.
    #[inline(always)]
    pub const fn of_key(&self, key: &Key) -> usize {
        self.slots[self.slot(key)] as usize
    }

    #[inline(always)]
    const fn slot(&self, key: &Key) -> usize {
        let all = key.head ^ key.tail.rotate_left(29) ^ (key.len as u64).rotate_left(56);
        (all.wrapping_mul(self.factor) >> (64 - Self::SLOTS.ilog2())) as usize
    }
}

#[inline(always)]
const fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.split_at(at).1.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => 0,
    }
}

#[inline(always)]
const fn half(bytes: &[u8], at: usize) -> u64 {
    match bytes.split_at(at).1.first_chunk::<4>() {
        Some(half) => u32::from_le_bytes(*half) as u64,
        None => 0,
    }
}

impl<'de> Deserialize<'de> for Key {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            #[inline]
            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key::of(text))
            }
        }
        reader.deserialize_identifier(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{self, Lenient, Text};
    use proptest::prelude::*;

    object! {
        struct Inner<'a> {
            name: Text<'a> = "name",
        }

        struct Sample<'a> {
            short: Text<'a> = "id",
            long: Text<'a> = "sessionCredentialFromConsole" | "session_credential_from_console",
            inner: Inner<'a> = "inner",
            lenient: Lenient<Inner<'a>> = "lenient",
        }
    }

    #[test]
    fn fields_are_found_by_any_of_their_keys() {
        let sample: Sample<'_> = json::from_str(
            r#"{"id":"1","skip":[{}],"session_credential_from_console":"yes","inner":{"name":"x","i":{}}}"#,
        )
        .unwrap();
        assert_eq!((sample.short.get(), sample.long.get()), (Some("1"), Some("yes")));
        assert_eq!(sample.inner.name.get(), Some("x"));
        let odd: Sample<'_> = json::from_str(r#"{"i\u0064":"1","id":"2","inner":null}"#).unwrap();
        assert_eq!((odd.short.get(), odd.inner.name.get()), (Some("2"), None));
    }

    #[test]
    fn what_is_no_object_is_an_error_and_null_is_nothing() {
        let read = |other: &str| {
            let text = format!(r#"{{"inner":{other},"id":"1"}}"#);
            json::from_str::<Sample<'_>>(&text).map(|sample| sample.inner.name.0.is_some())
        };
        assert_eq!(read("null"), Ok(false));
        assert_eq!(read(r#"{"name":"x"}"#), Ok(true));
        for other in ["true", "-1", "1.5", r#""text""#, "[]"] {
            let error = read(other).unwrap_err().to_string();
            assert!(error.starts_with("`inner`: invalid type: "), "{error}");
        }
    }

    #[test]
    fn what_is_no_object_is_nothing_where_that_is_asked_for() {
        let read = |other: &str| {
            let text = format!(r#"{{"lenient":{other},"id":"1"}}"#);
            let sample: Sample<'_> = json::from_str(&text).unwrap();
            assert_eq!(sample.short.get(), Some("1"), "{other}");
            sample.lenient.name.get().map(str::to_owned)
        };
        assert_eq!(read(r#"{"name":"x","more":[{}]}"#).as_deref(), Some("x"));
        for other in ["null", "true", "-1", "1", "1.5", r#""text""#, r#""t\n""#, "[{}]", "{}"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn every_key_has_a_place_of_its_own() {
        let names: Vec<String> =
            (0..40).map(|at| format!("{}Name{at}", "x".repeat(at % 24))).collect();
        let keys: Vec<Key> = names.iter().map(|name| Key::of(name)).collect();
        let places = Places::of(&keys[..24]);
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(places.of_key(key) == at, at < 24, "{}", names[at]);
        }
    }

    proptest! {
        #[test]
        fn keys_are_equal_when_their_text_is(a in "[ab]{0,34}", b in "[ab]{0,34}") {
            let fits = a.len() <= Key::MAX_BYTES || b.len() <= Key::MAX_BYTES;
            prop_assert_eq!(Key::of(&a) == Key::of(&b), if fits { a == b } else { true });
        }

        #[test]
        fn one_other_byte_is_another_key(a in "[ab]{1,32}", at in 0usize..32) {
            let at = at % a.len();
            let other = format!("{}c{}", &a[..at], &a[at + 1..]);
            prop_assert!(Key::of(&a) != Key::of(&other));
        }
    }
}
