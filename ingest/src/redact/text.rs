//! How values are written: quotes at any depth of JSON within JSON, words of a line, escapes.

use memchr::{memchr, memchr3, memrchr2};
use std::ops::Range;

/// A quotation mark as it is written where it stands.
///
/// JSON within a JSON string has `\"`, one level deeper `\\\"`, then seven backslashes; what
/// escapes quotes as `\u0022` has `\\u0022` one level deeper, then four backslashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    /// Backslashes before the mark.
    pub escapes: usize,
    pub mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Double,
    Single,
    /// `\u0022`; the backslash before the `u` counts as an escape.
    Unicode,
}

/// Deepest level of JSON within JSON that is understood, as the backslashes before its quotes.
const MAX_ESCAPES: usize = 7;

/// How often what stands at that level was escaped.
pub(super) const MAX_DEPTH: u32 = 4;

impl Quote {
    /// The quote that begins at `at` with its escapes, and where it ends.
    pub fn at(bytes: &[u8], at: usize) -> Option<(Quote, usize)> {
        let escapes = bytes[at..].iter().take(MAX_ESCAPES + 1).take_while(|b| **b == b'\\').count();
        let mark_at = at + escapes;
        let (mark, length) = match bytes[mark_at..] {
            [b'"', ..] if is_level(escapes) => (Mark::Double, 1),
            [b'\'', ..] if is_level(escapes) => (Mark::Single, 1),
            [b'u', b'0', b'0', b'2', b'2', ..]
                if escapes.is_power_of_two() || is_level(escapes) && escapes > 0 =>
            {
                (Mark::Unicode, 5)
            }
            _ => return None,
        };
        Some((Quote { escapes, mark }, mark_at + length))
    }

    /// Whether this quote ends right before `end`.
    pub fn is_before(self, bytes: &[u8], end: usize) -> bool {
        let mark: &[u8] = match self.mark {
            Mark::Double => b"\"",
            Mark::Single => b"'",
            Mark::Unicode => b"u0022",
        };
        let Some(before) = bytes[..end].strip_suffix(mark) else { return false };
        let escapes = before.iter().rev().take(MAX_ESCAPES + 1).take_while(|b| **b == b'\\');
        escapes.count() == self.escapes
    }

    /// The inside of the string that ends with this quote right before `end`, on one line.
    pub fn string_before(self, bytes: &[u8], end: usize) -> Option<Range<usize>> {
        if self.mark != Mark::Double || !self.is_before(bytes, end) {
            return None;
        }
        let closing = end - self.escapes - 1;
        let mut at = closing;
        loop {
            at = memrchr2(b'"', b'\n', &bytes[..at])?;
            let escapes = bytes[..at].iter().rev().take(MAX_ESCAPES + 1);
            match escapes.take_while(|byte| **byte == b'\\').count() {
                escapes if bytes[at] == b'\n' || escapes < self.escapes => return None,
                escapes if escapes == self.escapes => return Some(at + 1..closing),
                _ => {}
            }
        }
    }

    /// How often the text behind this quote was escaped.
    pub fn depth(self) -> u32 {
        let levels = usize::BITS - self.escapes.leading_zeros();
        levels + u32::from(self.mark != Mark::Unicode)
    }

    /// Where the string ends that begins at `start`, right behind this quote: before its closing
    /// quote, else before whatever ends the text around it. A line end always does.
    /// `in_json`: an unescaped `"` ends the string around, as `'…'` stands in JSON.
    pub fn string_end(self, bytes: &[u8], start: usize, in_json: bool) -> usize {
        let mut at = start;
        loop {
            let next = match self.mark {
                Mark::Single => {
                    let ends = |byte: &u8| matches!(byte, b'\'' | b'"' | b'\\' | b'\n');
                    bytes[at..].iter().position(ends)
                }
                Mark::Double | Mark::Unicode => memchr3(b'"', b'\\', b'\n', &bytes[at..]),
            };
            let Some(next) = next else { return bytes.len() };
            at += next;
            let escapes = bytes[at..].iter().take_while(|byte| **byte == b'\\').count();
            let Some(byte) = bytes.get(at + escapes) else { return at };
            let ended = match (self.mark, byte) {
                (_, b'\n') => return before_line_end(bytes, start, at + escapes),
                (Mark::Double, b'"') => match escapes % (2 * (self.escapes + 1)) {
                    rest if rest == self.escapes => return at + escapes - self.escapes,
                    rest => rest % (self.escapes + 1) != self.escapes,
                },
                (Mark::Single, b'\'') => escapes <= self.escapes,
                (Mark::Single, b'"') => escapes % 2 == 0 && in_json,
                (Mark::Unicode, b'"') => escapes <= self.escapes,
                (Mark::Unicode, b'u') => {
                    escapes <= self.escapes && bytes[at + escapes..].starts_with(b"u0022")
                }
                _ => false,
            };
            if ended {
                return at;
            }
            at += escapes + 1;
        }
    }
}

/// 0, 1, 3, 7: what unescaping a level leaves of a quote's backslashes.
fn is_level(escapes: usize) -> bool {
    escapes <= MAX_ESCAPES && (escapes + 1).is_power_of_two()
}

fn before_line_end(bytes: &[u8], start: usize, newline: usize) -> usize {
    match newline > start && bytes[newline - 1] == b'\r' {
        true => newline - 1,
        false => newline,
    }
}

/// Behind the blanks at `at`, on the same line.
pub(super) fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Where an unquoted value ends that begins at `start`: a word of a line, of a URL or a form.
/// `in_url`: of a URL within a URL, where `%26` stands between parameters.
pub(super) fn word_end(bytes: &[u8], start: usize, in_url: bool) -> usize {
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'`' | b'<' | b'>' => break,
            b'&' | b',' | b';' if begins_pair(bytes, at + 1) => break,
            b')' | b']' | b'}' if ends_group(bytes, at + 1) => break,
            b'%' if in_url && is_escaped_separator(&bytes[at + 1..]) => break,
            b'\\' => match escaped(&bytes[at..]) {
                Escape::Part(length) => length,
                Escape::End => break,
            },
            _ => 1,
        };
    }
    at
}

enum Escape {
    /// Part of the value, so many bytes.
    Part(usize),
    /// Stands for what ends a value.
    End,
}

/// Judges a run of backslashes and what follows it.
fn escaped(bytes: &[u8]) -> Escape {
    let escapes = bytes.iter().take_while(|byte| **byte == b'\\').count();
    match bytes[escapes..] {
        [] | [b'"' | b'\'' | b'n' | b'r' | b't' | b' ' | b'\n' | b'\r' | b'\t', ..] => Escape::End,
        [b'u', b'0', b'0', high, low, ..] => match (high, low.to_ascii_lowercase()) {
            (b'0', _) | (b'2', b'0' | b'2' | b'6' | b'7') | (b'3', b'c' | b'e') => Escape::End,
            (high, low) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                Escape::Part(escapes + 5)
            }
            _ => Escape::Part(escapes),
        },
        [byte, ..] if byte < 0x80 => Escape::Part(escapes + 1),
        _ => Escape::Part(escapes),
    }
}

/// Length of what stands between two words of a command in a URL and begins `text`: a blank, or the
/// next `command` of Kubernetes' exec; 0 where there is none.
pub(super) fn url_blank(text: &[u8]) -> usize {
    let escapes = text.iter().take(MAX_ESCAPES).take_while(|byte| **byte == b'\\').count();
    let forms: &[&[u8]] = match escapes {
        0 => &[b"+", b"%20", b"&command="],
        _ => &[b"u0026command="],
    };
    let form = forms.iter().find(|form| text[escapes..].starts_with(form));
    form.map_or(0, |form| escapes + form.len())
}

/// Whether a word of a command in a URL begins behind `before`.
pub(super) fn ends_with_url_blank(before: &[u8]) -> bool {
    before.ends_with(b"+") || before.ends_with(b"%20") || before.ends_with(b"command=")
}

/// Where a word of a command in a URL ends that begins at `start`.
pub(super) fn url_word_end(bytes: &[u8], start: usize) -> usize {
    // As far as the next blank first, so that many words cost no more than all of them.
    let ends = |at: &usize| bytes[*at] == b'&' || url_blank(&bytes[*at..]) > 0;
    let end = (start..bytes.len()).find(|at| bytes[*at].is_ascii_whitespace() || ends(at));
    word_end(&bytes[..end.unwrap_or(bytes.len())], start, false)
}

/// What names of fields, headers and variables consist of.
#[inline]
pub(super) fn is_name(byte: u8) -> bool {
    const NAME: [bool; 256] = {
        let mut name = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let letter = (byte as u8).is_ascii_alphanumeric();
            name[byte] = letter || matches!(byte as u8, b'_' | b'-' | b'.');
            byte += 1;
        }
        name
    };
    NAME[usize::from(byte)]
}

/// Whether a separator is followed by the end of the words or by the next `name=`; a password may
/// hold the separator too.
fn begins_pair(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at..bytes.len().min(at + 64)];
    let name = rest.iter().take_while(|byte| is_name(**byte) || **byte == b'%').count();
    match rest.get(name) {
        Some(b'=' | b':') => name > 0,
        None => name == 0,
        Some(byte) => name == 0 && (byte.is_ascii_whitespace() || b"\"'\\".contains(byte)),
    }
}

/// Whether a closing bracket is followed by what may stand behind a group.
fn ends_group(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|b| b.is_ascii_whitespace() || b"\"'\\,;.)]}".contains(b))
}

/// `&` or a line end, escaped once or twice; without the first `%`.
fn is_escaped_separator(bytes: &[u8]) -> bool {
    let code = bytes.strip_prefix(b"25").unwrap_or(bytes);
    matches!(code, [b'2', b'6', ..] | [b'0', b'a' | b'A' | b'd' | b'D', ..])
}

/// Whether a fingerprint of an earlier redaction begins at `at`.
pub(super) fn is_fingerprint(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.strip_prefix(b"redacted:")
        .and_then(|rest| rest.first_chunk::<16>())
        .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}

/// How many bytes at the beginning of `text` belong to an escape that began in `before`: the `n` of
/// `\n`, the digits of `%26`.
pub(super) fn escape_length(before: &[u8], text: &[u8]) -> usize {
    match (before.last(), text) {
        (Some(b'\\'), [b'u', rest @ ..]) if rest.len() > 4 => 5,
        (Some(b'\\'), [b'n' | b'r' | b't' | b'b' | b'f', _, ..]) => 1,
        (Some(b'%'), [b'2', b'5', b'2' | b'3', _, _, ..]) => 4,
        (Some(b'%'), [b'0'..=b'9', _, _, ..]) => 2,
        _ => 0,
    }
}

/// Whether a word begins at `at`: what stands before is no letter or digit, or belongs to an
/// escape such as `\n`, `\u003d` or `%3D`.
pub(super) fn begins_word(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[at.saturating_sub(6)..at];
    match before {
        [] => true,
        [.., last] if !last.is_ascii_alphanumeric() => !b"_-+/".contains(last),
        [.., b'\\', b'n' | b't' | b'r'] => true,
        [.., b'%', high, _] => high.is_ascii_digit(),
        [b'\\', b'u', ..] => true,
        _ => false,
    }
}

/// Whether a word is more likely to come from a random generator than from a language.
pub(super) fn looks_random(word: &[u8]) -> bool {
    let head = &word[..word.len().min(256)];
    let rises =
        head.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    head.iter().any(u8::is_ascii_digit) || rises.count() >= 3 || word.len() >= 24
}

/// The text that `value` stands for, after it was escaped `depth` times for JSON and once for a URL.
pub(super) fn decode(value: &[u8], depth: u32) -> Vec<u8> {
    let mut text = value.to_vec();
    for _ in 0..depth {
        if !text.contains(&b'\\') {
            break;
        }
        text = unescape(&text);
    }
    if text.contains(&b'%') {
        text = decode_percent(&text);
    }
    if text.starts_with(b"-----BEGIN ") {
        text.retain(|byte| !byte.is_ascii_whitespace());
    }
    text
}

/// Undoes one level of JSON's escapes and leaves what is none.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let plain = match rest {
            [b'n', ..] => b'\n',
            [b'r', ..] => b'\r',
            [b't', ..] => b'\t',
            [byte @ (b'"' | b'\\' | b'/' | b'\''), ..] => *byte,
            [b'u', b'0', b'0', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) if high < 8 => {
                    rest = &rest[4..];
                    high << 4 | low
                }
                _ => {
                    out.push(b'\\');
                    continue;
                }
            },
            _ => {
                out.push(b'\\');
                continue;
            }
        };
        out.push(plain);
        rest = &rest[1..];
    }
    out.extend_from_slice(rest);
    out
}

fn decode_percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        };
        out.push(byte);
    }
    out
}

/// Whether text is in UTF-16, low bytes first, and mostly in letters of ASCII.
pub(super) fn is_wide(text: &[u8]) -> bool {
    let head = text.as_chunks::<2>().0;
    let head = &head[..head.len().min(30)];
    let letters = head.iter().filter(|[low, high]| *low != 0 && *high == 0);
    letters.count() * 4 > head.len() * 3
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The bytes of base64 in either alphabet, as far as it goes.
pub(crate) fn decode_base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
