//! What a file's bytes are wrapped in: lines, JSON values one after another, arrays, and objects
//! whose only purpose is to hold an array (`{"Records":[…]}`).

use crate::json;
use std::ops::Range;

/// How records lie in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One record a line: NDJSON and text logs. A line may itself hold an array or a wrapper.
    Lines,
    /// The same, where a line's position is the byte at which it begins in its source.
    LinesAt,
    /// JSON values with white space, commas, array brackets or wrapper objects around them.
    Values,
}

/// Objects whose array under this key is what the file is about.
const WRAPPERS: [&str; 11] = [
    "Records",
    "records",
    "value",
    "events",
    "Events",
    "items",
    "logEvents",
    "entries",
    "results",
    "Messages",
    "receivedMessages",
];

/// Arrays and wrappers in one another; more is no log file.
const MAX_NESTING: usize = 4;

/// One record found by [`Walk::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// `start..end` of a JSON object.
    Record(usize, usize),
    /// Something between records that is none, which is left behind.
    Junk(&'static str),
    /// The bytes end inside a record that begins here.
    Cut(usize),
    /// Nothing but the ends of containers is left.
    End,
}

/// A walk over JSON values that steps into arrays and wrappers. Its state outlives the bytes, so a
/// long file can be walked in pieces that begin where the last one was cut.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// `true` for a wrapper object, `false` for an array.
    containers: Vec<bool>,
}

impl Walk {
    /// The next record of `bytes` at or after `at`, which moves behind it.
    pub fn next(&mut self, marks: &json::Marks, bytes: &[u8], at: &mut usize) -> Found {
        while let Some(byte) = bytes.get(*at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' | b',' | 0x1e => *at += 1,
                b'{' => {
                    match wrapper(&bytes[*at..]) {
                        Wrapper::Opens(len) if self.containers.len() < MAX_NESTING => {
                            self.containers.extend([true, false]);
                            *at += len;
                            continue;
                        }
                        Wrapper::Maybe => return Found::Cut(*at),
                        _ => {}
                    }
                    let start = *at;
                    return match marks.close_of(start) {
                        Some(close) => {
                            *at = close + 1;
                            Found::Record(start, close + 1)
                        }
                        None => Found::Cut(start),
                    };
                }
                b'[' if self.containers.len() < MAX_NESTING => {
                    self.containers.push(false);
                    *at += 1;
                }
                b'[' => return self.skip(marks, at, "arrays nested deeper than any log has them"),
                b']' | b'}' => {
                    self.containers.pop();
                    *at += 1;
                }
                // Inside a wrapper stand its other members: `"nextToken": "x"`.
                _ if self.containers.last() == Some(&true) => {
                    if *byte != b'"' {
                        *at += 1;
                    } else if let Some(end) = marks.string_end(*at) {
                        *at = end + 1;
                    } else {
                        return Found::Cut(*at);
                    }
                }
                b'"' => match marks.string_end(*at) {
                    Some(end) => {
                        *at = end + 1;
                        return Found::Junk("a record is text where an object is expected");
                    }
                    None => return Found::Cut(*at),
                },
                _ => {
                    let end = bytes[*at..].iter().position(|b| b",]}[{ \n\r\t\"".contains(b));
                    *at = end.map_or(bytes.len(), |len| *at + len.max(1));
                    return Found::Junk("a record is no JSON object");
                }
            }
        }
        Found::End
    }

    fn skip(&mut self, marks: &json::Marks, at: &mut usize, why: &'static str) -> Found {
        match marks.close_of(*at) {
            Some(close) => {
                *at = close + 1;
                Found::Junk(why)
            }
            None => Found::Cut(*at),
        }
    }

    /// Whether the file may end here.
    pub fn is_closed(&self) -> bool {
        self.containers.is_empty()
    }
}

/// Whether an object begins as a wrapper does, all of it in `bytes`.
pub fn is_wrapper(bytes: &[u8]) -> bool {
    matches!(wrapper(bytes), Wrapper::Opens(_))
}

enum Wrapper {
    /// `{"Records":[` of this length.
    Opens(usize),
    /// The bytes end before one can tell.
    Maybe,
    No,
}

/// Whether an object begins as a wrapper does. Only the first key counts: records have many keys.
fn wrapper(bytes: &[u8]) -> Wrapper {
    let mut at = 1;
    let white = |at: &mut usize| -> Option<u8> {
        while let Some(byte) = bytes.get(*at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            *at += 1;
        }
        None
    };
    match white(&mut at) {
        Some(b'"') => at += 1,
        Some(_) => return Wrapper::No,
        None => return Wrapper::Maybe,
    }
    let rest = &bytes[at..];
    let Some(key) = WRAPPERS.iter().find(|key| {
        let len = key.len().min(rest.len());
        rest.first().is_none_or(|first| *first == key.as_bytes()[0])
            && (rest.len() <= key.len() || rest[key.len()] == b'"')
            && rest[..len] == key.as_bytes()[..len]
    }) else {
        return Wrapper::No;
    };
    if rest.len() <= key.len() {
        return Wrapper::Maybe;
    }
    at += key.len() + 1;
    for expected in [b':', b'['] {
        match white(&mut at) {
            Some(byte) if byte == expected => at += 1,
            Some(_) => return Wrapper::No,
            None => return Wrapper::Maybe,
        }
    }
    Wrapper::Opens(at)
}

/// The action of a line of Elasticsearch's `_bulk`, behind which its document stands unless it is
/// `delete`: `{"create":{"_index":"logs"}}`.
pub fn bulk_action(line: &str) -> Option<&'static str> {
    let (mut action, mut members) = (None, 0);
    let end = json::members(line, |key, value| {
        let known = ["create", "delete", "index", "update"].into_iter().find(|name| *name == key);
        action = known.filter(|_| value.is_object());
        members += 1;
    });
    action.filter(|_| members == 1 && end == Some(line.len()))
}

/// Whether a text that begins with an object or array has another value behind it, as senders
/// write them that put nothing between records.
pub fn holds_several(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'['))
        && json::Marks::of(text).close_of(0).is_some_and(|close| {
            matches!(text[close + 1..].trim_ascii_start().first(), Some(b'{' | b'[' | b','))
        })
}

/// Where the values of a text lie that holds several of them, and whatever else stands between them.
pub fn pieces(text: &[u8], mut take: impl FnMut(Range<usize>)) {
    let marks = json::Marks::of(text);
    let (mut walk, mut at) = (Walk::default(), 0);
    let mut junk: Option<Range<usize>> = None;
    loop {
        let before = at;
        let found = walk.next(&marks, text, &mut at);
        if found == Found::End {
            return junk.into_iter().for_each(take);
        }
        if let Found::Junk(_) = found {
            // Words of a sentence are one piece.
            let start = text[before..at].iter().position(|byte| !is_between(*byte));
            junk = Some(junk.map_or(before + start.unwrap_or(0), |junk| junk.start)..at);
            continue;
        }
        junk.take().into_iter().for_each(&mut take);
        match found {
            Found::Record(start, end) => take(start..end),
            Found::Cut(start) => return take(start..text.len()),
            Found::Junk(_) | Found::End => {}
        }
    }
}

/// What may stand behind a value and before the next.
fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | 0x1e)
}

/// Whether one of the lines is a JSON object, or an array of them, and nothing else.
pub fn has_record(lines: &[u8]) -> bool {
    lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).any(|line| {
        matches!(line, [b'{', ..] | [b'[', b'{', ..])
            && line.len() > 2
            && json::Marks::of(line).close_of(0) == Some(line.len() - 1)
    })
}

/// How the bytes at the beginning of a file are framed. `whole`: the file ends with them.
pub fn sniff(head: &[u8], whole: bool) -> Framing {
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    let head = &head[start..];
    let second = head.iter().skip(1).find(|b| !b.is_ascii_whitespace());
    match head.first() {
        Some(b'{') if matches!(wrapper(head), Wrapper::Opens(_)) && !one_line_each(head) => {
            Framing::Values
        }
        // A line that has no end here may still be one record.
        Some(b'{') if !whole && !head.contains(&b'\n') && !holds_several(head) => Framing::Lines,
        Some(b'{') if one_line_each(head) => Framing::Lines,
        Some(b'{') => Framing::Values,
        Some(b'[') if matches!(second, Some(b'{' | b'[' | b']' | b'"')) => {
            if one_line_each(head) && !whole { Framing::Lines } else { Framing::Values }
        }
        // JSON text sequences, RFC 7464.
        Some(0x1e) => Framing::Values,
        _ => Framing::Lines,
    }
}

/// Whether one of the first lines is a JSON value by itself and another line follows it.
fn one_line_each(head: &[u8]) -> bool {
    let complete = head.split_inclusive(|b| *b == b'\n').take(8).filter(|line| {
        let text = line.trim_ascii();
        matches!(text.first(), Some(b'{' | b'['))
            && line.ends_with(b"\n")
            && text.len() > 2
            && !text.starts_with(b"[]")
            && json::Marks::of(text).close_of(0) == Some(text.len() - 1)
    });
    // A pretty-printed record may hold one short object on a line of its own, but does not begin
    // with it.
    let first = head.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    let starts = json::Marks::of(first).close_of(0) == Some(first.len().saturating_sub(1));
    (starts && first.len() > 1 && complete.count() > 0) || complete_after_bad(head)
}

/// A first line that was cut, and whole records in the lines behind it.
fn complete_after_bad(head: &[u8]) -> bool {
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).skip(1).take(3);
    lines.all(|line| {
        line.len() > 60
            && line.starts_with(b"{\"")
            && json::Marks::of(line).close_of(0) == Some(line.len() - 1)
    }) && head.iter().filter(|b| **b == b'\n').count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> (Vec<&str>, usize, bool) {
        let marks = json::Marks::of(text.as_bytes());
        let (mut walk, mut at, mut found, mut junk) = (Walk::default(), 0, vec![], 0);
        loop {
            match walk.next(&marks, text.as_bytes(), &mut at) {
                Found::Record(start, end) => found.push(&text[start..end]),
                Found::Junk(_) => junk += 1,
                Found::Cut(_) => return (found, junk, false),
                Found::End => return (found, junk, walk.is_closed()),
            }
        }
    }

    #[test]
    fn every_container_gives_its_records() {
        for text in [
            r#"{"a":1}{"b":[2]}"#,
            r#"[{"a":1},{"b":[2]}]"#,
            "[\n {\"a\":1} ,\n{\"b\":[2]}\n]\n",
            r#"{"Records":[{"a":1},{"b":[2]}]}"#,
            r#"{ "Records" : [{"a":1},{"b":[2]}], "next": "[x]{", "n": 4 }"#,
            r#"[[{"a":1}],[{"b":[2]}]]"#,
            "\u{1e}{\"a\":1}\n\u{1e}{\"b\":[2]}\n",
            r#"{"Records":[{"a":1}]}{"Records":[{"b":[2]}]}"#,
        ] {
            let expected: (Vec<&str>, usize, bool) = (vec![r#"{"a":1}"#, r#"{"b":[2]}"#], 0, true);
            assert_eq!(records(text), expected, "{text}");
        }
    }

    #[test]
    fn an_action_stands_alone_in_its_line() {
        for (line, action) in [
            (r#"{"create":{"_index":"logs"}}"#, Some("create")),
            (r#"{ "index" : {} }"#, Some("index")),
            (r#"{"create":{},"message":"x"}"#, None),
            (r#"{"message":"x","create":{}}"#, None),
            (r#"{"index":"logs"}"#, None),
            (r#"{"index":{}}{"message":"x"}"#, None),
            (r#"{"delete":{"_id":"1"}}"#, Some("delete")),
            (r#"{"get":{"_id":"1"}}"#, None),
            ("", None),
        ] {
            assert_eq!(bulk_action(line), action, "{line}");
        }
    }

    #[test]
    fn what_is_no_record_is_left_behind() {
        assert_eq!(records("null\n1\n\"text\"\n[]\n{}\n"), (vec!["{}"], 3, true));
        assert_eq!(records(r#"[{"a":1},{"b":"#), (vec![r#"{"a":1}"#], 0, false));
        assert_eq!(records(&"[".repeat(10_000)).0.len(), 0);
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(records(&deep).1, 1);
    }

    #[test]
    fn values_and_what_stands_between_them_are_all_pieces() {
        for (text, expected) in [
            (r#"{"a":1}{"b":[2]} , {}"#, vec![r#"{"a":1}"#, r#"{"b":[2]}"#, "{}"]),
            (r#"{"a":"}{"}[{"b":1},{"c":1}]"#, vec![r#"{"a":"}{"}"#, r#"{"b":1}"#, r#"{"c":1}"#]),
            (r#"{"a":1}{"Records":[{"b":1}],"n":2}"#, vec![r#"{"a":1}"#, r#"{"b":1}"#]),
            (
                r#"{"a":1} more text, "x" {"b":1}"#,
                vec![r#"{"a":1}"#, r#"more text, "x""#, r#"{"b":1}"#],
            ),
            (r#"{"a":1}]]{"b":"#, vec![r#"{"a":1}"#, r#"{"b":"#]),
            (r#"{"a":1}"text"#, vec![r#"{"a":1}"#, r#""text"#]),
            (r#"{"a":1}}x"#, vec![r#"{"a":1}"#, "x"]),
            (r#"{"a":1} [2, 3]{"b":1}"#, vec![r#"{"a":1}"#, "[2, 3", r#"{"b":1}"#]),
            (r#"{"a":1}[[[[[]]]]]"#, vec![r#"{"a":1}"#, "[[[[[]"]),
        ] {
            let mut found = vec![];
            pieces(text.as_bytes(), |at| found.push(&text[at]));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn framing_is_seen_from_the_beginning() {
        let sniffed = |text: &str| sniff(text.as_bytes(), true);
        assert_eq!(sniffed("{\"a\":1}\n{\"b\":2}\n"), Framing::Lines);
        assert_eq!(sniffed("{\"a\":1}"), Framing::Values);
        assert_eq!(sniffed("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n"), Framing::Values);
        assert_eq!(sniffed("{\n  \"a\":\n {\"b\":1}\n}\n"), Framing::Values);
        assert_eq!(sniffed("[{\"a\":1}]"), Framing::Values);
        assert_eq!(sniffed("{\"Records\":[{\"a\":1}]}"), Framing::Values);
        assert_eq!(sniffed("{\"Records\":[{\"a\":1}]}\n{\"Records\":[]}\n"), Framing::Lines);
        assert_eq!(sniffed("[2024-05-12 10:00:00,123] [8] [INFO] text\n"), Framing::Lines);
        assert_eq!(sniffed("task 1 pulled from 2 by worker 3\n"), Framing::Lines);
        assert_eq!(sniffed("\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n"), Framing::Values);
        assert_eq!(sniffed(""), Framing::Lines);
        let begun = |text: &str| sniff(text.as_bytes(), false);
        assert_eq!(begun("{\"a\":\"}{\",\"b\":"), Framing::Lines);
        assert_eq!(begun("{\"a\":1}"), Framing::Lines);
        assert_eq!(begun("{\"a\":1} x"), Framing::Lines);
        for next in ["{", " {\"b\"", "[{", ",{\"b\":1}", "{\"b\":1}\n{\"c\":1}\n"] {
            assert_eq!(begun(&format!("{{\"a\":1}}{next}")), Framing::Values, "{next}");
        }
    }
}
