//! Requests of OTLP as JSON, of which only bodies and one attribute matter: whatever else is odd in a
//! record is no reason to refuse it.
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

use super::{Gathered, MAX_RECORDS, PARSER_ATTRIBUTE, Unread};
use crate::json::{Object, Text};
use crate::parsers::{self, Parser};
use crate::redact::decode_base64;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logs<'a> {
    #[serde(borrow, default)]
    resource_logs: Option<Bounded<OfResource<'a>>>,
}

/// What a request without records may look like.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NoLogs {
    #[serde(default, rename = "resourceLogs")]
    _resource_logs: Option<IgnoredAny>,
}

/// Lists in it are read one after another, so that few elements are held at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfResource<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    scope_logs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfScope<'a> {
    #[serde(borrow, default)]
    scope: Option<&'a RawValue>,
    #[serde(borrow, default)]
    log_records: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Attributed<'a> {
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
}

/// Reads a request.
///
/// Errors: what is no request, and one of too many records.
pub(super) fn read(request: &[u8], gathered: &mut Gathered) -> Result<(), Unread> {
    let logs: Logs<'_> = serde_json::from_slice(request)?;
    let Some(of_resources) = logs.resource_logs else {
        let empty = serde_json::from_slice::<NoLogs>(request);
        return empty.map(|_| ()).map_err(|_| Unread::Malformed("no `resourceLogs`".to_owned()));
    };
    for of_resource in of_resources.all()? {
        let of_resource_parser = of_resource.resource.and_then(parser_of_owner);
        for of_scope in list::<OfScope<'_>>(of_resource.scope_logs)? {
            let of_scope_parser = of_scope.scope.and_then(parser_of_owner).or(of_resource_parser);
            for record in list::<Record<'_>>(of_scope.log_records)? {
                let parser = record.attributes.and_then(parser_of).or(of_scope_parser);
                match record.body.map(|body| serde_json::from_str::<Any>(body.get())) {
                    Some(Err(cause)) => {
                        let reason = format!("the body of a log record cannot be read: {cause}");
                        gathered.reject(reason)?;
                    }
                    Some(Ok(Any(Object(Some(Spelled(value)))))) => gathered.body(parser, value)?,
                    None | Some(Ok(Any(Object(None)))) => gathered.body(parser, Value::Null)?,
                }
            }
        }
    }
    Ok(())
}

fn list<'a, T: Deserialize<'a>>(list: Option<&'a RawValue>) -> Result<Vec<T>, Unread> {
    let Some(list) = list else { return Ok(Vec::new()) };
    serde_json::from_str::<Bounded<T>>(list.get())?.all()
}

fn parser_of_owner(owner: &RawValue) -> Option<&'static dyn Parser> {
    let Attributed { attributes } = serde_json::from_str(owner.get()).ok()?;
    attributes.and_then(parser_of)
}

fn parser_of(attributes: &RawValue) -> Option<&'static dyn Parser> {
    // Most records have no such attribute, and then there is nothing to be read.
    memchr::memmem::find(attributes.get().as_bytes(), PARSER_ATTRIBUTE.as_bytes())?;
    let Named(name) = serde_json::from_str(attributes.get()).ok()?;
    parsers::by_name(&name?)
}

/// A list of at most [`MAX_RECORDS`]; `more` where it was longer.
struct Bounded<T> {
    items: Vec<T>,
    more: bool,
}

impl<T> Bounded<T> {
    fn all(self) -> Result<Vec<T>, Unread> {
        if self.more { Err(Unread::TooMany) } else { Ok(self.items) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bounded<T>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_RECORDS {
                    match seq.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Bounded { items, more: false }),
                    }
                }
                let mut more = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(Bounded { items, more })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// The value of the first attribute that names a parser.
struct Named(Option<String>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Attributes;
        impl<'de> Visitor<'de> for Attributes {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Named, A::Error> {
                let mut name = None;
                while let Some(Object(pair)) = seq.next_element::<Object<Pair<'de>>>()? {
                    let own = pair.filter(|pair| pair.key.is(PARSER_ATTRIBUTE));
                    if let Some(Pair { value: Some(Any(Object(Some(Spelled(value))))), .. }) = own
                        && let Value::String(text) = value
                    {
                        name.get_or_insert(text);
                    }
                }
                Ok(Named(name))
            }
        }
        deserializer.deserialize_seq(Attributes)
    }
}

/// A value as OTLP spells it, or something else in its place.
#[derive(Deserialize)]
#[serde(transparent)]
struct Any(Object<Spelled>);

/// What `{"stringValue":"x"}` and its like say.
struct Spelled(Value);

#[derive(Deserialize)]
struct Values<T> {
    values: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow, default)]
    key: Text<'a>,
    #[serde(default)]
    value: Option<Any>,
}

impl Any {
    fn value(self) -> Value {
        self.0.0.map_or(Value::Null, |Spelled(value)| value)
    }
}

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Spelled;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of OTLP")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spelled, A::Error> {
                let mut value = Value::Null;
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    let own = match key.get().unwrap_or_default() {
                        "arrayValue" => elements(map.next_value()?),
                        "kvlistValue" => members(map.next_value()?),
                        name @ ("stringValue" | "boolValue" | "intValue" | "doubleValue"
                        | "bytesValue") => scalar(name, map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if !own.is_null() {
                        value = own;
                    }
                }
                Ok(Spelled(value))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn elements(Object(list): Object<Values<Any>>) -> Value {
    let list = list.and_then(|list| list.values).unwrap_or_default();
    list.into_iter().map(Any::value).collect()
}

fn members(Object(list): Object<Values<Object<Pair<'_>>>>) -> Value {
    let list = list.and_then(|list| list.values).unwrap_or_default();
    let pairs = list.into_iter().filter_map(|Object(pair)| pair);
    let pairs = pairs.map(|Pair { key, value }| {
        (key.0.unwrap_or_default().into_owned(), value.map_or(Value::Null, Any::value))
    });
    pairs.collect::<serde_json::Map<_, _>>().into()
}

/// Numbers may be text, and not a number is `null`.
fn scalar(name: &str, Text(text): Text<'_>) -> Value {
    let Some(text) = text else { return Value::Null };
    match name {
        "stringValue" => text.into_owned().into(),
        "boolValue" => text.parse::<bool>().ok().into(),
        "intValue" => text.parse::<i64>().ok().into(),
        "doubleValue" => text.parse::<f64>().ok().into(),
        _ => String::from_utf8_lossy(&decode_base64(text.as_bytes())).into_owned().into(),
    }
}
