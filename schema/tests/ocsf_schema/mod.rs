//! As much of an OCSF schema compiler as it takes to check one event class.
//!
//! Attributes are inherited with `extends`, put in with `$include`, take their type from the
//! dictionary and belong to a profile unless it is null. The `datetime` profile gives every
//! `timestamp_t` a sibling `…_dt` of `datetime_t`.
//! <https://github.com/ocsf/ocsf-schema>, `metaschema/`

use serde_json::{Map, Value};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use telltale_schema::time::parse_instant;

const CLASS: &str = "events/findings/detection_finding.json";

pub struct Schema {
    root: PathBuf,
    dictionary: Map<String, Value>,
    types: Map<String, Value>,
}

/// A class or object with everything it inherits.
#[derive(Default)]
struct Shape {
    attributes: Map<String, Value>,
    at_least_one: Vec<String>,
}

impl Schema {
    /// `None` when there is no schema at `root`.
    pub fn open(root: &Path) -> Option<Self> {
        let mut dictionary = read(&root.join("dictionary.json"))?;
        let types = take(&mut dictionary, "types").remove("attributes")?;
        let dictionary = take(&mut dictionary, "attributes");
        Some(Self { root: root.to_owned(), dictionary, types: types.as_object()?.clone() })
    }

    /// What is wrong with a Detection Finding, one sentence each.
    pub fn faults(&self, event: &Value) -> Vec<String> {
        let mut check = Check { schema: self, event, faults: Vec::new() };
        check.object("", event, &self.shape(&self.root.join(CLASS)));
        check.classification();
        check.observables();
        check.faults
    }

    fn shape(&self, path: &Path) -> Shape {
        let Some(mut file) = read(path) else { return Shape::default() };
        let parent = file.get("extends").and_then(Value::as_str).map(|name| self.find(path, name));
        let mut shape = parent.map(|parent| self.shape(&parent)).unwrap_or_default();
        let mut own = take(&mut file, "attributes");
        if let Some(Value::Array(includes)) = own.remove("$include") {
            for include in includes.iter().filter_map(Value::as_str) {
                let mut profile = read(&self.root.join(include)).unwrap_or_default();
                let name = profile.get("name").cloned().unwrap_or_default();
                for (attribute, mut definition) in take(&mut profile, "attributes") {
                    if let Some(definition) = definition.as_object_mut() {
                        definition.entry("profile").or_insert_with(|| name.clone());
                    }
                    merge(&mut shape.attributes, attribute, definition);
                }
            }
        }
        for (attribute, definition) in own {
            merge(&mut shape.attributes, attribute, definition);
        }
        let at_least_one = file.get("constraints").and_then(|c| c["at_least_one"].as_array());
        if let Some(names) = at_least_one {
            shape.at_least_one = names.iter().filter_map(Value::as_str).map(Into::into).collect();
        }
        shape
    }

    /// The file of a parent, which for a class lies in its folder or above it.
    fn find(&self, child: &Path, name: &str) -> PathBuf {
        let file = format!("{name}.json");
        child.ancestors().skip(1).map(|dir| dir.join(&file)).find(|p| p.is_file()).unwrap_or(
            self.root.join("objects").join(&file), // which does not exist either
        )
    }

    /// The dictionary's definition of an attribute, overridden by the one of its owner.
    fn definition(&self, name: &str, shape: &Shape) -> Option<Value> {
        if let Some(own) = shape.attributes.get(name) {
            let mut whole = Map::new();
            let general = self.dictionary.get(name).cloned().unwrap_or(Value::Object(Map::new()));
            merge(&mut whole, name.into(), general);
            merge(&mut whole, name.into(), own.clone());
            return whole.remove(name);
        }
        let instant = self.definition(name.strip_suffix("_dt")?, shape)?;
        (instant["type"] == "timestamp_t")
            .then(|| serde_json::json!({ "type": "datetime_t", "requirement": "optional" }))
    }
}

struct Check<'a> {
    schema: &'a Schema,
    event: &'a Value,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, path: &str, what: impl AsRef<str>) {
        self.faults.push(format!("`{}` {}", path.trim_start_matches('.'), what.as_ref()));
    }

    fn object(&mut self, path: &str, value: &Value, shape: &Shape) {
        let Some(fields) = value.as_object() else {
            return self.fault(path, "is not an object");
        };
        for (name, field) in fields {
            let path = format!("{path}.{name}");
            match self.schema.definition(name, shape) {
                None => self.fault(&path, "is not an attribute of its class or object"),
                Some(definition) => self.attribute(&path, fields, field, &definition),
            }
        }
        for (name, definition) in &shape.attributes {
            if definition["requirement"] == "required"
                && self.applies(definition)
                && !fields.contains_key(name)
            {
                self.fault(&format!("{path}.{name}"), "is required");
            }
        }
        let any = &shape.at_least_one;
        if !any.is_empty() && !any.iter().any(|name| fields.contains_key(name)) {
            self.fault(path, format!("has none of {any:?}"));
        }
    }

    fn applies(&self, definition: &Value) -> bool {
        let profiles = self.event["metadata"]["profiles"].as_array();
        match &definition["profile"] {
            Value::Null => true,
            profile => profiles.is_some_and(|profiles| profiles.contains(profile)),
        }
    }

    fn attribute(
        &mut self,
        path: &str,
        fields: &Map<String, Value>,
        value: &Value,
        definition: &Value,
    ) {
        if !self.applies(definition) {
            self.fault(path, format!("belongs to profile {}", definition["profile"]));
        }
        if definition.get("@deprecated").is_some() {
            self.fault(path, "is deprecated");
        }
        if definition["is_array"] == true {
            let Some(items) = value.as_array() else { return self.fault(path, "is not an array") };
            for (i, item) in items.iter().enumerate() {
                self.value(&format!("{path}[{i}]"), item, definition);
            }
        } else {
            self.value(path, value, definition);
        }
        let Some(values) = definition["enum"].as_object() else { return };
        // These values stand all over the schema, see `classification` and `observables`.
        if matches!(path, ".category_uid" | ".class_uid") || path.starts_with(".observables[") {
            return;
        }
        match values.get(&value.to_string()) {
            None => self.fault(path, format!("= {value} is not one of its values")),
            Some(member) => {
                let sibling = definition["sibling"].as_str().and_then(|name| fields.get(name));
                if value != 99 && sibling.is_some_and(|text| *text != member["caption"]) {
                    self.fault(path, format!("= {value} is not the caption {sibling:?}"));
                }
            }
        }
    }

    fn value(&mut self, path: &str, value: &Value, definition: &Value) {
        let Some(type_name) = definition["type"].as_str() else {
            return self.fault(path, "has no type in the dictionary");
        };
        let Some(scalar) = self.schema.types.get(type_name) else {
            if type_name != "object" {
                let file = format!("objects/{type_name}.json");
                self.object(path, value, &self.schema.shape(&self.schema.root.join(file)));
            }
            return;
        };
        let base = scalar["type"].as_str().unwrap_or(type_name);
        let fits = match base {
            "string_t" => value.is_string(),
            "integer_t" | "long_t" => value.is_i64() || value.is_u64(),
            "float_t" => value.is_number(),
            "boolean_t" => value.is_boolean(),
            "json_t" => true,
            _ => false,
        };
        let text = value.as_str().unwrap_or_default();
        let fits = fits
            && match type_name {
                "datetime_t" => parse_instant(text).is_some(),
                "ip_t" => text.parse::<IpAddr>().is_ok(),
                _ => true,
            };
        let longest = scalar["max_len"].as_u64().unwrap_or(u64::MAX);
        if !fits || text.len() as u64 > longest {
            self.fault(path, format!("= {value} is not {type_name}"));
        }
    }

    /// A class's number is made of its category's and its own, a type's of the class's and the
    /// activity's; their names likewise.
    fn classification(&mut self) {
        let root = &self.schema.root;
        let class = read(&root.join(CLASS)).unwrap_or_default();
        let mut categories = read(&root.join("categories.json")).unwrap_or_default();
        let category = take(&mut categories, "attributes").remove("findings").unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let caption = class.get("caption").cloned().unwrap_or_default();
        let class_uid =
            number(&category["uid"]) * 1000 + class.get("uid").map(number).unwrap_or_default();
        let type_uid = class_uid * 100 + number(&self.event["activity_id"]);
        let type_name = format!("{}: {}", text(&caption), text(&self.event["activity_name"]));
        for (name, expected) in [
            ("category_uid", category["uid"].clone()),
            ("category_name", category["caption"].clone()),
            ("class_uid", class_uid.into()),
            ("class_name", caption),
            ("type_uid", type_uid.into()),
            ("type_name", type_name.into()),
        ] {
            if self.event[name] != expected {
                self.fault(name, format!("is not {expected}"));
            }
        }
    }

    /// An observable names an attribute of the event, repeats its value, and has the type number
    /// that the schema gives to that attribute or to its type.
    fn observables(&mut self) {
        for observable in self.event["observables"].as_array().into_iter().flatten() {
            let name = observable["name"].as_str().unwrap_or_default();
            let pointer = format!("/{}", name.replace(['.', '['], "/").replace(']', ""));
            if self.event.pointer(&pointer) != Some(&observable["value"]) {
                self.fault(name, format!("points at another value than {}", observable["value"]));
            }
            let (number, caption) = self.observable_type(name);
            if observable["type_id"] != number || observable["type"] != caption {
                self.fault(name, format!("is of observable type {number}, {caption}"));
            }
        }
    }

    fn observable_type(&self, name: &str) -> (Value, Value) {
        let mut shape = self.schema.shape(&self.schema.root.join(CLASS));
        let mut owner = Map::new();
        let mut found = (Value::Null, Value::Null);
        for part in name.split('.') {
            let part = part.split('[').next().unwrap_or_default();
            let definition = self.schema.definition(part, &shape).unwrap_or_default();
            let type_name = definition["type"].as_str().unwrap_or_default().to_owned();
            let scalar = self.schema.types.get(&type_name);
            found = match (&definition["observable"], scalar) {
                (Value::Null, Some(scalar)) => {
                    (scalar["observable"].clone(), scalar["caption"].clone())
                }
                (number, _) => {
                    let owner = owner.get("caption").and_then(Value::as_str).unwrap_or_default();
                    (number.clone(), format!("{owner} Object: {part}").into())
                }
            };
            let file = self.schema.root.join(format!("objects/{type_name}.json"));
            shape = self.schema.shape(&file);
            owner = read(&file).unwrap_or_default();
        }
        found
    }
}

fn read(path: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn take(object: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match object.remove(name) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    }
}

/// Puts a definition over the one that is there, field by field; enumerations add up.
fn merge(attributes: &mut Map<String, Value>, name: String, definition: Value) {
    let Value::Object(definition) = definition else { return };
    let there = attributes.entry(name).or_insert_with(|| Value::Object(Map::new()));
    let Some(there) = there.as_object_mut() else { return };
    for (field, value) in definition {
        match (there.get_mut(&field), value) {
            (Some(Value::Object(old)), Value::Object(new)) if field == "enum" => old.extend(new),
            (_, value) => {
                there.insert(field, value);
            }
        }
    }
}
