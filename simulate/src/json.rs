//! Writes one JSON object on one line, keys in the order in which the vendor writes them.

use std::fmt::{Display, Write};

pub(crate) struct Json(String);

/// An object that `fill` writes the members of.
pub(crate) fn object(fill: impl FnOnce(&mut Json)) -> String {
    let mut json = Json(String::with_capacity(1536));
    json.braces(fill);
    json.0
}

/// The same for small ones, that end up inside another.
pub(crate) fn part(fill: impl FnOnce(&mut Json)) -> String {
    let mut json = Json(String::with_capacity(192));
    json.braces(fill);
    json.0
}

/// A list of strings.
pub(crate) fn texts<T: AsRef<str>>(items: &[T]) -> String {
    let mut json = Json(String::with_capacity(64));
    json.0.push('[');
    for item in items {
        json.comma();
        json.quote(item.as_ref());
    }
    json.0.push(']');
    json.0
}

impl Json {
    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.quote(value);
        self
    }

    /// A number, a boolean, `null`, or JSON that is already written.
    pub(crate) fn raw(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.key(key);
        // Writing into a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    pub(crate) fn null(&mut self, key: &str) -> &mut Self {
        self.raw(key, "null")
    }

    pub(crate) fn maybe(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    pub(crate) fn nest(&mut self, key: &str, fill: impl FnOnce(&mut Json)) -> &mut Self {
        self.key(key);
        self.braces(fill);
        self
    }

    fn braces(&mut self, fill: impl FnOnce(&mut Json)) {
        self.0.push('{');
        fill(self);
        self.0.push('}');
    }

    fn key(&mut self, key: &str) {
        self.comma();
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    fn comma(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    fn quote(&mut self, value: &str) {
        self.0.push('"');
        if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.0.push_str(value);
        } else {
            for char in value.chars() {
                match char {
                    '"' => self.0.push_str("\\\""),
                    '\\' => self.0.push_str("\\\\"),
                    '\n' => self.0.push_str("\\n"),
                    '\t' => self.0.push_str("\\t"),
                    // No text of this crate holds another control sign.
                    char => self.0.push(char),
                }
            }
        }
        self.0.push('"');
    }
}
