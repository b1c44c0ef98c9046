//! Secrets that show by the name before them: fields of JSON at any depth, parameters of URLs and
//! forms, headers, variables, settings and options of a command.

use super::Scan;
use super::kubernetes::Mention;
use super::names::{self, Class, MAX_NAME_BYTES};
use super::text::{self, Mark, Quote, skip_blanks};
use super::values::{self, Name, Place};
use std::ops::Range;

impl Scan<'_> {
    /// Judges the name around a candidate and what stands behind it; returns where to go on.
    pub(super) fn judge_name(&mut self, candidate: usize) -> usize {
        let go_on = candidate + 1;
        if candidate < self.judged_name.end {
            return go_on;
        }
        let Some(end) = name_end(self.bytes, candidate) else { return go_on };
        // Few names are more than they seem; that of `code` begins two letters before.
        if !names::may_announce(&self.bytes[candidate.saturating_sub(2)..end])
            && !Mention::may_be(&self.bytes[candidate..end])
        {
            self.judged_name = candidate..end;
            return go_on;
        }
        let start = name_start(self.bytes, candidate, end);
        if start >= end {
            return go_on;
        }
        let range = start..end;
        self.judged_name = range.clone();
        // A token may stand within the name.
        let may_hold_token = range.end - candidate > 12;
        match self.judge_behind(range) {
            Some(behind) if !may_hold_token => behind,
            _ => go_on,
        }
    }

    fn judge_behind(&mut self, range: Range<usize>) -> Option<usize> {
        let bytes = self.bytes;
        let end = range.end;
        if let Some((quote, behind)) = Quote::at(bytes, end) {
            let behind_spaces = skip_spaces(bytes, behind);
            return match bytes.get(behind_spaces)? {
                b':' | b'=' => {
                    if matches!(&bytes[range.clone()], b"client_token" | b"mount_accessor") {
                        self.kubernetes.search_entries(bytes, quote.escapes);
                    }
                    let name = self.classified(quoted_name(bytes, &range, quote))?;
                    let value = skip_spaces(bytes, behind_separator(bytes, behind_spaces)?);
                    self.judge_member(&name, quote, value)
                }
                b',' | b'}' => {
                    self.judge_kind(range.clone(), quote);
                    self.judge_neighbours(range, quote, behind_spaces)
                }
                b']' => self.judge_behind_separator(range, behind_spaces + 1),
                _ => None,
            };
        }
        let behind = if bytes.get(end) == Some(&b']') { end + 1 } else { end };
        self.judge_behind_separator(range, behind)
    }

    /// A name without quotes: `name=value`, `name: value`, `--name value`, `<name>value<`.
    fn judge_behind_separator(&mut self, range: Range<usize>, behind: usize) -> Option<usize> {
        let bytes = self.bytes;
        let separator = skip_blanks(bytes, behind);
        let before = range.start.checked_sub(1).map(|at| bytes[at]);
        let (place, value) = match bytes[separator..] {
            [b':', b'=', ..] | [b'=', b'>' | b'=', ..] => (Place::Assigned, separator + 2),
            [b'=', ..] => (Place::Assigned, separator + 1),
            [b':', b' ' | b'\t' | b'"' | b'\'' | b'\\', ..] => (Place::Colon, separator + 1),
            // `net use /password:…`.
            [b':', ..] if before == Some(b'/') && is_windows_option(bytes, range.start) => {
                (Place::Assigned, separator + 1)
            }
            [b':', ..] if !matches!(before, Some(b':' | b'/' | b'.' | b'@')) => {
                (Place::TightColon, separator + 1)
            }
            [b'>', ..] if opens_element(bytes, range.start) => (Place::Assigned, separator + 1),
            _ if separator > behind && bytes[range.start] == b'-' => (Place::Assigned, separator),
            _ if let blank @ 1.. = url_blank(bytes, &range, behind) => {
                (Place::UrlWord, behind + blank)
            }
            _ => match behind_escaped_separator(bytes, range.start, behind) {
                Some(found) => found,
                None if separator > behind => (Place::Spaced, separator),
                None => return None,
            },
        };
        let name = self.classified(range)?;
        // `ALTER ROLE app PASSWORD '…'`.
        let is_quoted = name.class == Class::Password && bytes.get(value) == Some(&b'\'');
        if place == Place::Spaced && !is_quoted && Quote::at(bytes, value).is_some() {
            return None;
        }
        self.judge_value(&name, place, skip_blanks(bytes, value))
    }

    fn classified(&self, range: Range<usize>) -> Option<Name> {
        let class = names::classify(&self.bytes[range.clone()])?;
        // A code comes as a parameter of a URL, else it is a number or a word.
        let is_secret = class != Class::Parameter || begins_parameter(self.bytes, range.start);
        is_secret.then_some(Name { range, class })
    }

    /// The value of a member of an object: a string, an array of strings, or an object that wraps
    /// a string.
    fn judge_member(&mut self, name: &Name, quote: Quote, value: usize) -> Option<usize> {
        if name.class == Class::Encoded {
            self.judge_encoded_member(name, quote, value);
            // What is no base64 is looked at inside.
            return None;
        }
        if self.bytes.get(value) != Some(&b'[') {
            let value = self.behind_wrapper(quote, value);
            return self.judge_string(name, quote, value);
        }
        let mut at = value + 1;
        loop {
            at = skip_spaces(self.bytes, at);
            at = match self.bytes.get(at)? {
                b',' => at + 1,
                _ => match self.string_at(quote, at) {
                    Some(string) => {
                        self.judge_text(name, Place::Quoted, string.clone(), quote.depth());
                        behind_quote(self.bytes, string.end, quote)
                    }
                    None => break,
                },
            };
        }
        (at > value + 1).then_some(at)
    }

    /// A string, or an object of strings: `"binaryData":{"setup.sh":"…"}`, `"userData":{"value":"…"}`.
    fn judge_encoded_member(&mut self, name: &Name, quote: Quote, value: usize) {
        let bytes = self.bytes;
        if bytes.get(value) != Some(&b'{') || quote.mark == Mark::Single {
            self.judge_string(name, quote, value);
            return;
        }
        let string = |at: usize| match Quote::at(bytes, skip_spaces(bytes, at)) {
            Some((found, start)) if found == quote => {
                Some(start..quote.string_end(bytes, start, false))
            }
            _ => None,
        };
        let mut at = value;
        while let Some(b'{' | b',') = bytes.get(at) {
            let Some(key) = string(at + 1) else { return };
            let colon = skip_spaces(bytes, behind_quote(bytes, key.end, quote));
            if bytes.get(colon) != Some(&b':') {
                return;
            }
            let Some(value) = string(colon + 1) else { return };
            at = skip_spaces(bytes, behind_quote(bytes, value.end, quote));
            self.judge_text(name, Place::Quoted, value, quote.depth());
        }
    }

    /// A string that has to begin at `at`, in quotes like those of the name.
    fn judge_string(&mut self, name: &Name, quote: Quote, at: usize) -> Option<usize> {
        let string = self.string_at(quote, at)?;
        self.judge_text(name, Place::Quoted, string, quote.depth())
    }

    /// The inside of the string that begins at `at` with quotes like `quote`.
    fn string_at(&mut self, quote: Quote, at: usize) -> Option<Range<usize>> {
        let (found, start) = Quote::at(self.bytes, at)?;
        if found.escapes != quote.escapes {
            return None;
        }
        // Quotes of the name's own kind need no look at the line around.
        let is_own = found == quote && found.mark != Mark::Single;
        let in_json = !is_own && self.in_string(at);
        if found != quote && in_json {
            return None;
        }
        Some(start..found.string_end(self.bytes, start, in_json))
    }

    /// Where the value itself begins: behind `{"value":` of Okta's users, `{"stringValue":` of
    /// OpenTelemetry or `{"raw":` of an object that is decoded beside it, else at `at`.
    fn behind_wrapper(&mut self, quote: Quote, at: usize) -> usize {
        let bytes = self.bytes;
        if bytes.get(at) != Some(&b'{') {
            return at;
        }
        let Some(key) = self.string_at(quote, skip_spaces(bytes, at + 1)) else { return at };
        let behind = skip_spaces(bytes, behind_quote(bytes, key.end, quote));
        match bytes.get(behind) {
            Some(b':') if ends_with(&bytes[key.clone()], b"value") || bytes[key] == *b"raw" => {
                skip_spaces(bytes, behind + 1)
            }
            _ => at,
        }
    }

    /// A name that is a string of its own, as options of a command and variables are.
    fn judge_neighbours(
        &mut self,
        range: Range<usize>,
        quote: Quote,
        behind: usize,
    ) -> Option<usize> {
        if !quote.is_before(self.bytes, range.start) {
            return None;
        }
        let name = self.classified(range)?;
        let next = match self.bytes[behind] {
            b',' => self.judge_next_strings(&name, quote, behind + 1),
            _ => None,
        };
        if next.is_none() {
            self.judge_string_before(&name, quote);
        }
        next.filter(|_| name.class != Class::Encoded)
    }

    /// `"--password","value"` of a command, `"name":"DB_PASSWORD","value":"…"` of a variable.
    fn judge_next_strings(
        &mut self,
        name: &Name,
        quote: Quote,
        behind_comma: usize,
    ) -> Option<usize> {
        let bytes = self.bytes;
        let mut at = skip_spaces(bytes, behind_comma);
        let mut next = None;
        while let Some(string) = self.string_at(quote, at) {
            let behind = skip_spaces(bytes, behind_quote(bytes, string.end, quote));
            if bytes.get(behind) != Some(&b':') {
                let is_option = bytes[name.range.start] == b'-' && next.is_none();
                let is_value = is_option && bytes.get(string.start) != Some(&b'-');
                return if is_value { self.judge_string(name, quote, at) } else { next };
            }
            if !ends_with(&bytes[string], b"value") {
                break;
            }
            let value = self.behind_wrapper(quote, skip_spaces(bytes, behind + 1));
            let Some(string) = self.string_at(quote, value) else { return next };
            self.judge_text(name, Place::Quoted, string.clone(), quote.depth());
            let behind = behind_quote(bytes, string.end, quote);
            next = Some(behind);
            let comma = skip_spaces(bytes, behind);
            if bytes.get(comma) != Some(&b',') {
                break;
            }
            at = skip_spaces(bytes, comma + 1);
        }
        next
    }

    /// `"value":"…","name":"DB_PASSWORD"` of a variable.
    fn judge_string_before(&mut self, name: &Name, quote: Quote) -> Option<usize> {
        let bytes = self.bytes;
        // The string that ends before a separator, and where its quote begins.
        let before = |at: usize, separator: u8| -> Option<(Range<usize>, usize)> {
            let end =
                bytes[..at].trim_ascii_end().strip_suffix(&[separator])?.trim_ascii_end().len();
            let string = quote.string_before(bytes, end)?;
            let opening = string.start - quote.escapes - 1;
            Some((string, opening))
        };
        let (key, opening) = before(name.range.start - quote.escapes - 1, b':')?;
        if !ends_with(&bytes[key.clone()], b"name") && !ends_with(&bytes[key], b"key") {
            return None;
        }
        let (value, opening) = before(opening, b',')?;
        let (key, _) = before(opening, b':')?;
        let is_value = ends_with(&bytes[key], b"value");
        is_value.then(|| self.judge_text(name, Place::Quoted, value, quote.depth()))?
    }

    /// `"kind":"Secret"`, `"resource":"secrets"`: the object around it is, or is about, a
    /// Kubernetes Secret.
    fn judge_kind(&mut self, range: Range<usize>, quote: Quote) {
        let is_type = |byte: &&u8| text::is_name(**byte) || matches!(byte, b'/' | b'\\');
        let before = self.bytes[..range.start].iter().rev().take(MAX_NAME_BYTES);
        let start = range.start - before.take_while(is_type).count();
        if !quote.is_before(self.bytes, start) {
            return;
        }
        match Mention::of(&self.bytes[start..range.end]) {
            Some(Mention::Secret) => self.kubernetes.search(quote.escapes),
            Some(Mention::Secrets) => self.kubernetes.search_bodies(self.bytes, quote.escapes),
            None => {}
        }
    }

    /// `"auths":{"registry.example.org":{"auth":"…"}}`: Docker's registries, whose fragment `uths`
    /// stands at `candidate`.
    pub(super) fn judge_registries(&mut self, candidate: usize) {
        let Some(before) = self.bytes[..candidate].strip_suffix(b"a") else { return };
        if let Some((quote, _)) = Quote::at(self.bytes, candidate + b"uths".len())
            && quote.mark == Mark::Double
            && quote.is_before(self.bytes, before.len())
        {
            self.kubernetes.search(quote.escapes);
        }
    }

    /// A value behind a name without quotes.
    fn judge_value(&mut self, name: &Name, place: Place, start: usize) -> Option<usize> {
        let bytes = self.bytes;
        // What a command gives is the value; of `echo` that is known.
        let start = match bytes[start..] {
            [b'$', b'(', ..] => behind_echo(bytes, start + 2)?,
            _ => start,
        };
        if let Some((quote, inside)) = Quote::at(bytes, start) {
            // It may as well end a string that ends with the name: `"x?token="`.
            let may_end = bytes.get(inside).is_none_or(|behind| {
                behind.is_ascii_whitespace()
                    || matches!(behind, b',' | b'}' | b']' | b')' | b':' | b';')
            });
            let in_string = self.in_string(start);
            let is_plain = quote.escapes == 0 && quote.mark == Mark::Double;
            if may_end && (in_string || !is_plain) {
                return None;
            }
            let string = inside..quote.string_end(bytes, inside, in_string);
            return self.judge_text(name, Place::Quoted, string, quote.depth());
        }
        // What has its own structure is looked at inside.
        let is_own = match name.class {
            Class::Authorization => {
                matches!(bytes[start..], [b'{' | b'[', ..] | [b'A', b'W', b'S', b'4', ..])
            }
            _ => false,
        };
        let is_object = matches!(bytes.get(start..start + 1), Some(b"{" | b"["))
            && !matches!(bytes.get(start + 1), Some(b'{' | b'A'..=b'Z' | b'a'..=b'z'));
        if is_own || is_object {
            return None;
        }
        let range = values::unquoted(bytes, name, place, start);
        self.judge_text(name, place, range, 1)
    }

    /// Notes what of a value is a secret; returns where to go on.
    fn judge_text(
        &mut self,
        name: &Name,
        place: Place,
        range: Range<usize>,
        depth: u32,
    ) -> Option<usize> {
        if name.class == Class::Encoded {
            return self.judge_encoded(range, depth);
        }
        let secret = values::secret(self.bytes, name, place, range)?;
        Some(self.note(secret, depth as u8))
    }
}

/// Length of what stands for a blank behind an option of a command in a URL; 0 elsewhere.
fn url_blank(bytes: &[u8], name: &Range<usize>, behind: usize) -> usize {
    let is_option = bytes[name.start] == b'-' && text::ends_with_url_blank(&bytes[..name.start]);
    match is_option {
        true => text::url_blank(&bytes[behind..]),
        false => 0,
    }
}

/// Whether `<` or `<prefix:` stands before a name.
fn opens_element(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[at.saturating_sub(32)..at];
    let before = match before.strip_suffix(b":") {
        Some(prefixed) => {
            let prefix = prefixed.iter().rev().take_while(|byte| text::is_name(**byte));
            &prefixed[..prefixed.len() - prefix.count()]
        }
        None => before,
    };
    before.ends_with(b"<")
}

/// Whether a name stands behind a `/` that begins a word.
fn is_windows_option(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[..at], [b'/'] | [.., b' ' | b'"', b'/'])
}

/// Whether a name stands behind `?` or `&`, escaped or not.
fn begins_parameter(bytes: &[u8], at: usize) -> bool {
    let forms: [&[u8]; 8] =
        [b"?", b"&", b"\\u0026", b"\\u003f", b"%26", b"%3f", b"%2526", b"%253f"];
    forms.iter().any(|form| ends_with(&bytes[..at], form))
}

/// Behind `echo` and its options, where they stand at `at`.
fn behind_echo(bytes: &[u8], at: usize) -> Option<usize> {
    let at = skip_blanks(bytes, at);
    let mut words = bytes[at..].strip_prefix(b"echo ")?.trim_ascii_start();
    while let [b'-', b'n' | b'e' | b'E', b' ', ..] = words {
        words = words[3..].trim_ascii_start();
    }
    Some(bytes.len() - words.len())
}

/// Where the name ends that the candidate belongs to; what goes on for more than
/// [`MAX_NAME_BYTES`] is none.
fn name_end(bytes: &[u8], candidate: usize) -> Option<usize> {
    let is_name = |byte: &&u8| text::is_name(**byte);
    // A pattern may begin or end with what is no part of the name.
    let head = bytes[candidate..].iter().take(MAX_NAME_BYTES + 1).take_while(is_name).count();
    let end = candidate + head;
    let end = end - bytes[candidate..end].iter().rev().take_while(|b| **b == b'.').count();
    (head <= MAX_NAME_BYTES).then_some(end)
}

/// Where it begins, or begins to count: a name is looked at from its end.
fn name_start(bytes: &[u8], candidate: usize, end: usize) -> usize {
    let is_name = |byte: &&u8| text::is_name(**byte);
    let before = bytes[..candidate].iter().rev().take(MAX_NAME_BYTES - (end - candidate));
    let mut start = candidate - before.take_while(is_name).count();
    // A fingerprint right before the name is no part of it.
    if start >= 9 && text::is_fingerprint(bytes, start - 9) {
        start += 16;
        start += bytes[start..end].iter().take_while(|byte| **byte == b'-').count();
    }
    // The letter of an escape before the name is none of its letters: `\ntoken`, `%26token`.
    start + text::escape_length(&bytes[..start], &bytes[start..end])
}

/// A quoted name with the words before its last: `"API Key"`, `"next token"`.
fn quoted_name(bytes: &[u8], range: &Range<usize>, quote: Quote) -> Range<usize> {
    let is_name = |byte: &&u8| text::is_name(**byte) || **byte == b' ';
    let before = bytes[..range.start].iter().rev().take(MAX_NAME_BYTES).take_while(is_name);
    let start = range.start - before.count();
    match quote.is_before(bytes, start) {
        true => start..range.end,
        false => range.clone(),
    }
}

/// Behind `=`, `:`, `:=`, `=>` or `==`.
fn behind_separator(bytes: &[u8], at: usize) -> Option<usize> {
    let length = match bytes[at..] {
        [b':', b'=', ..] | [b'=', b'>' | b'=', ..] => 2,
        [b':' | b'=', ..] => 1,
        _ => return None,
    };
    Some(at + length)
}

/// Behind an `=` that is escaped for a URL within a URL or for JSON, or the `>` of an element.
fn behind_escaped_separator(bytes: &[u8], name: usize, at: usize) -> Option<(Place, usize)> {
    let escapes = bytes[at..].iter().take(8).take_while(|byte| **byte == b'\\').count();
    let rest = &bytes[at + escapes..];
    let forms: &[&[u8]] = match escapes {
        0 => &[b"%3D", b"%3d", b"%253D", b"%253d"],
        _ if bytes[..name].ends_with(b"u003c") || bytes[..name].ends_with(b"u003C") => {
            &[b"u003e", b"u003E"]
        }
        _ => &[b"u003d", b"u003D"],
    };
    let form = forms.iter().find(|form| rest.starts_with(form))?;
    let place = if escapes == 0 { Place::Escaped } else { Place::Assigned };
    Some((place, at + escapes + form.len()))
}

/// Behind the quote that ends a string, if one does.
fn behind_quote(bytes: &[u8], end: usize, quote: Quote) -> usize {
    match Quote::at(bytes, end) {
        Some((found, behind)) if found == quote => behind,
        _ => end,
    }
}

fn skip_spaces(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Whether `text` ends so in either case: `parameterValue`, `newValue` with `value`.
fn ends_with(text: &[u8], ending: &[u8]) -> bool {
    let start = text.len().checked_sub(ending.len());
    start.is_some_and(|start| text[start..].eq_ignore_ascii_case(ending))
}
