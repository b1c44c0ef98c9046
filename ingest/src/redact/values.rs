//! Where the value behind a name ends, and what of it is a secret.

use super::names::{self, Class};
use super::text::Quote;
use super::{shapes, text};
use std::ops::Range;

/// A name, where it stands and what it announces.
pub(super) struct Name {
    pub range: Range<usize>,
    pub class: Class,
}

/// How a value stands behind its name, from the most to the least certain to be a value at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A string behind a quoted name, or in quotes of its own.
    Quoted,
    /// `name=value`, `name = value`, `--name value`.
    Assigned,
    /// `name%3Dvalue` in a URL within a URL.
    Escaped,
    /// `--name+value` of a command in a URL.
    UrlWord,
    /// `name: value`, which prose has as well.
    Colon,
    /// `name:value`, which scopes, ARNs and names of images have as well.
    TightColon,
    /// `set secret_access_key value`, which any sentence may look like.
    Spaced,
}

/// Words that stand before the credentials of `Authorization`, and of tokens at times.
const SCHEMES: &[&str] = &["bearer", "basic", "ssws", "token", "apikey", "negotiate", "ntlm"];

/// The extent of a value without quotes.
pub(super) fn unquoted(bytes: &[u8], name: &Name, place: Place, start: usize) -> Range<usize> {
    let word_end = |start| text::word_end(bytes, start, place == Place::Escaped);
    let mut end = word_end(start);
    match name.class {
        _ if place == Place::UrlWord => end = text::url_word_end(bytes, start),
        // `a=b; c=d`.
        Class::Cookie => {
            while let [b';', b' ', ..] = bytes[end..] {
                end = word_end(end + 2);
            }
        }
        Class::Password if place == Place::Assigned => {
            end = end.max(line_end(bytes, name.range.start, start));
        }
        _ => {}
    }
    start..end
}

/// The end of the line where nothing but `name = value` stands on it, as words with spaces between
/// are a passphrase.
fn line_end(bytes: &[u8], name: usize, start: usize) -> usize {
    let begins_line = name == 0 || bytes[name - 1] == b'\n';
    let line = &bytes[start..bytes.len().min(start + 256)];
    let line = &line[..line.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(line.len())];
    let is_alone = !line.iter().any(|byte| b"=:\"'\\".contains(byte));
    match begins_line && bytes[start - 1] == b' ' && is_alone {
        true => start + line.trim_ascii_end().len(),
        false => start,
    }
}

/// The part of the value in `range` that is a secret: all of it, or what follows the scheme.
pub(super) fn secret(
    bytes: &[u8],
    name: &Name,
    place: Place,
    range: Range<usize>,
) -> Option<Range<usize>> {
    if bytes[range.clone()].starts_with(b"-----BEGIN ") {
        // Line ends within belong to the key.
        let key = shapes::pem(bytes, range.start + 4)?;
        return Some(range.start..range.end.max(key.end));
    }
    if let Some(credentials) = behind_scheme(bytes, name.class, place, &range) {
        let is_masked = names::is_masked(&bytes[credentials.clone()]);
        return (!is_masked).then_some(credentials);
    }
    let value = &bytes[range.clone()];
    let is_secret = place_is_safe(bytes, name, place, &range)
        && (is_secret(name.class, place, value)
            || name.class == Class::Uuid && is_of_app_role(bytes, name, &range));
    is_secret.then_some(range)
}

/// Whether a `secret_id` is that of an AppRole of Vault, which may be any text: the member before or
/// behind it belongs to one too. Vault writes members in alphabetical order.
fn is_of_app_role(bytes: &[u8], name: &Name, value: &Range<usize>) -> bool {
    let Some((quote, _)) = Quote::at(bytes, name.range.end) else { return false };
    let own = |at: usize| Quote::at(bytes, at).filter(|(found, _)| *found == quote);
    let behind = || {
        let comma = text::skip_blanks(bytes, own(value.end)?.1);
        if bytes.get(comma) != Some(&b',') {
            return None;
        }
        Some(&bytes[own(text::skip_blanks(bytes, comma + 1))?.1..])
    };
    let before = || {
        let opening = |inside: usize| inside.checked_sub(quote.escapes + 1);
        let comma = bytes[..opening(name.range.start)?].trim_ascii_end().strip_suffix(b",")?;
        let value = quote.string_before(bytes, comma.trim_ascii_end().len())?;
        let colon = bytes[..opening(value.start)?].trim_ascii_end().strip_suffix(b":")?;
        Some(&bytes[quote.string_before(bytes, colon.trim_ascii_end().len())?])
    };
    let is_role = before() == Some(b"role_id")
        || behind().is_some_and(|key| {
            key.starts_with(b"role_id") || key.starts_with(b"secret_id_accessor")
        });
    is_role && !names::is_masked(&bytes[value.clone()])
}

/// The credentials behind `Bearer` and the like. An unquoted value ends with the scheme, and the
/// credentials are the next word.
fn behind_scheme(
    bytes: &[u8],
    class: Class,
    place: Place,
    range: &Range<usize>,
) -> Option<Range<usize>> {
    if !matches!(class, Class::Token { .. } | Class::Authorization) {
        return None;
    }
    let value = &bytes[range.clone()];
    let is_scheme = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
    let scheme = &value[..value.iter().take(16).take_while(is_scheme).count()];
    let behind = range.start + scheme.len();
    let spaces = bytes[behind..].iter().take(8).take_while(|byte| **byte == b' ').count();
    let start = behind + spaces;
    let end = match place {
        Place::Quoted => range.end,
        _ if behind == range.end => text::word_end(bytes, start, false),
        _ => return None,
    };
    if spaces == 0 || start >= end {
        return None;
    }
    let credentials = &bytes[start..end];
    let is_known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
    let is_certain = match (class, place) {
        // "token: basic check failed"
        (_, Place::Quoted | Place::Assigned) => is_known,
        (Class::Authorization, _) => is_known && !is_word(credentials),
        _ => false,
    };
    let looks_random = credentials.len() >= 8 && is_opaque(credentials);
    let is_likely = (is_known || class == Class::Authorization) && looks_random;
    // AWS's has an access key id, and its signature has a name of its own.
    let has_parts = scheme.starts_with(b"AWS4-") || scheme.eq_ignore_ascii_case(b"digest");
    ((is_certain || is_likely) && !has_parts).then_some(start..end)
}

/// Whether a value that stands so is likely to be one at all, and no part of a sentence.
fn place_is_safe(bytes: &[u8], name: &Name, place: Place, range: &Range<usize>) -> bool {
    let value = &bytes[range.clone()];
    let has_follower =
        matches!(bytes[range.end..], [b' ', next, ..] if next.is_ascii_alphanumeric());
    let spelled = &bytes[name.range.clone()];
    let rises = |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
    let has_words = spelled.iter().any(|b| b"_-.".contains(b)) || spelled.windows(2).any(rises);
    let is_common_word = !has_words && matches!(name.class, Class::Token { .. } | Class::Opaque);
    match place {
        Place::Quoted | Place::Assigned | Place::Escaped | Place::UrlWord => true,
        // "Invalid password: try again", "secret: not found".
        Place::Colon if is_word(value) && has_follower => false,
        Place::Colon => !is_common_word || value.len() >= 8 && is_opaque(value),
        // `token:reader1` names a role or a scope.
        Place::TightColon if matches!(name.class, Class::Token { .. }) => {
            value.len() >= 6 && is_opaque(value) && !is_numbered_word(value)
        }
        Place::TightColon => value.len() >= 6 && is_opaque(value),
        Place::Spaced => has_words && value.len() >= 16 && is_opaque(value) && !is_uuid(value),
    }
}

fn is_secret(class: Class, place: Place, value: &[u8]) -> bool {
    if names::is_masked(value) {
        return false;
    }
    let is_number = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    match class {
        Class::Password => !is_number || place == Place::Quoted || value.len() >= 4,
        Class::Token { bare } => {
            let names_resource = bare && names::is_resource_name(value);
            !is_number && !names_resource && !names::is_identifier(value)
        }
        Class::Cookie => {
            !is_number && (place == Place::Quoted || value.contains(&b'=') || is_opaque(value))
        }
        // Azure has an object of that name, at times as JSON in a string.
        Class::Authorization => {
            !matches!(value[0], b'{' | b'[') && !is_word(value) && !has_space(value)
        }
        Class::Opaque => {
            let names_thing = names::is_identifier(value) || is_uuid(value);
            value.len() >= 16 && is_opaque(value) && !names_thing
        }
        Class::Uuid => is_uuid(value),
        Class::Parameter => value.len() >= 16 && is_opaque(value),
        // It is by what it stands for.
        Class::Encoded => false,
    }
}

fn is_word(value: &[u8]) -> bool {
    match value {
        [first, rest @ ..] => {
            rest.len() < 20
                && first.is_ascii_alphabetic()
                && rest.iter().all(u8::is_ascii_lowercase)
        }
        [] => true,
    }
}

/// A word and up to four digits.
fn is_numbered_word(value: &[u8]) -> bool {
    let digits = value.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    digits <= 4 && digits < value.len() && is_word(&value[..value.len() - digits])
}

fn is_opaque(value: &[u8]) -> bool {
    text::looks_random(value) && !has_space(value)
}

fn has_space(value: &[u8]) -> bool {
    value.iter().take(64).any(u8::is_ascii_whitespace)
}

/// `3f2b8c1e-…`, which names a key more often than it is one.
fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
