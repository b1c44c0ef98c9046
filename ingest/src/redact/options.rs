//! Secrets behind options whose meaning depends on the command that they belong to:
//! `curl -u user:password`, `mysql -ppassword`, `docker login -p password`.

use super::Secret;
use super::text::{self, Quote, skip_blanks};
use memchr::memmem;
use std::ops::Range;

/// How an option holds a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Password,
    /// The same, but only without a space before it; what comes behind one is something else.
    AttachedPassword,
    /// `user:password`.
    UserInfo,
    /// A port, of a command that another one starts.
    Port,
}

/// Commands, or words of them, and their options.
const COMMANDS: &[(&str, &str, Holds)] = &[
    ("curl", "-u", Holds::UserInfo),
    ("curl", "--user", Holds::UserInfo),
    ("sshpass", "-p", Holds::Password),
    ("ssh", "-p", Holds::Port),
    // Of Docker, Podman, Helm, Azure, OpenShift.
    ("login", "-p", Holds::Password),
    ("mysql", "-p", Holds::AttachedPassword),
    ("mysqldump", "-p", Holds::AttachedPassword),
    ("mysqladmin", "-p", Holds::AttachedPassword),
    ("mariadb", "-p", Holds::AttachedPassword),
];

/// How far before an option its command is looked for, and how long its value may be.
const MAX_COMMAND_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 4096;

/// The secret behind the option that begins at `option`; `secrets` are those found before it.
pub(super) fn secret(bytes: &[u8], option: usize, secrets: &[Secret]) -> Option<Range<usize>> {
    let in_url = text::ends_with_url_blank(&bytes[..option]);
    let known = |(_, name, _): &&(&str, &str, Holds)| bytes[option..].starts_with(name.as_bytes());
    let before = Before::of(bytes, option, secrets, in_url);
    let last = COMMANDS.iter().filter(known).filter_map(|(command, name, holds)| {
        Some((before.last(command.as_bytes())?, (name.len(), *holds)))
    });
    let (_, (length, holds)) = last.max_by_key(|(at, _)| *at)?;
    let Value { start, quote, is_attached } = match in_url {
        true => url_value(bytes, option + length),
        false => value(bytes, option, option + length)?,
    };
    if holds == Holds::Port {
        return None;
    }
    if is_attached && length > 2 || !is_attached && holds == Holds::AttachedPassword {
        return None;
    }
    let window = &bytes[..bytes.len().min(start + MAX_VALUE_BYTES)];
    let end = match quote {
        Some(quote) => quote.string_end(window, start, true),
        None if in_url => text::url_word_end(window, start),
        None => text::word_end(window, start, false),
    };
    if end == window.len() && end < bytes.len() {
        return None;
    }
    let start = match holds {
        Holds::UserInfo => {
            let (colon, length) = colon(&bytes[start..end], in_url)?;
            let colon = start + colon;
            // The user was a token, and an earlier redaction saw to the password too.
            if text::is_fingerprint(bytes, colon.saturating_sub(8)) {
                return None;
            }
            colon + length
        }
        _ => start,
    };
    // `-p -x`: another option and no value.
    let is_option = bytes.get(start) == Some(&b'-') && holds == Holds::Password;
    (start < end && !is_option).then_some(start..end)
}

/// Where the first colon of a value stands, and how long it is.
fn colon(value: &[u8], in_url: bool) -> Option<(usize, usize)> {
    let plain = memchr::memchr(b':', value).map(|at| (at, 1));
    let escaped = |form: &[u8]| memmem::find(value, form).map(|at| (at, form.len()));
    match in_url {
        true => [plain, escaped(b"%3A"), escaped(b"%3a")].into_iter().flatten().min(),
        false => plain,
    }
}

/// Text before an option, without what is within the secrets that were found in it.
struct Before<'a> {
    bytes: &'a [u8],
    from: usize,
    secrets: &'a [Secret],
    in_url: bool,
}

impl<'a> Before<'a> {
    /// What stands on the line of `option` and belongs to its command, as far as it is looked at.
    fn of(bytes: &'a [u8], option: usize, secrets: &'a [Secret], in_url: bool) -> Self {
        let from = option.saturating_sub(MAX_COMMAND_BYTES);
        let first = secrets.iter().rposition(|secret| secret.end <= from).map_or(0, |at| at + 1);
        let secrets = &secrets[first..];
        let mut before = Self { bytes: &bytes[..option], from, secrets, in_url };
        let ends = |at: &usize| match bytes[*at] {
            b'\n' | b';' | b'|' => before.is_open(*at),
            b'&' => *at > from && bytes[at - 1] == b'&' && before.is_open(*at),
            // What is around the URL, and `;`, `|` and `&&` in it.
            b' ' | b'"' | b'\'' => in_url && before.is_open(*at),
            b'%' if in_url => {
                let forms: [&[u8]; 5] = [b"%3B", b"%3b", b"%7C", b"%7c", b"%26%26"];
                forms.iter().any(|form| bytes[*at..option].starts_with(form))
            }
            _ => false,
        };
        before.from = (from..option).rev().find(ends).map_or(from, |at| at + 1);
        before
    }

    fn is_open(&self, at: usize) -> bool {
        !self.secrets.iter().any(|secret| (secret.start..secret.end).contains(&at))
    }

    /// Where `word` stands last by itself, or behind the path of a program.
    fn last(&self, word: &[u8]) -> Option<usize> {
        let is_word = |at: &usize| {
            let is_path = self.bytes[..*at].ends_with(b"/");
            let behind = self.bytes.get(at + word.len());
            let is_behind_blank = self.in_url && text::ends_with_url_blank(&self.bytes[..*at]);
            (is_path || is_behind_blank || text::begins_word(self.bytes, *at))
                && behind.is_some_and(|b| !b.is_ascii_alphanumeric() && !b"_-".contains(b))
                && self.is_open(*at)
        };
        let found = memmem::find_iter(&self.bytes[self.from..], word);
        found.map(|at| self.from + at).filter(is_word).last()
    }
}

/// Where an option's value begins, in which quotes.
struct Value {
    start: usize,
    quote: Option<Quote>,
    /// Nothing stands between it and the option.
    is_attached: bool,
}

/// The value of the option that ends at `end`, in a URL.
fn url_value(bytes: &[u8], end: usize) -> Value {
    let rest = &bytes[end..];
    let assigned: [&[u8]; 3] = [b"=", b"%3D", b"%3d"];
    let length = match assigned.iter().find(|form| rest.starts_with(form)) {
        Some(form) => form.len(),
        None => text::url_blank(rest),
    };
    Value { start: end + length, quote: None, is_attached: length == 0 }
}

/// The value of the option that begins at `option` and ends at `end`.
fn value(bytes: &[u8], option: usize, end: usize) -> Option<Value> {
    if let Some((quote, behind)) = Quote::at(bytes, end) {
        // `"-u","user:password"`.
        let comma = skip_blanks(bytes, behind);
        if bytes.get(comma) != Some(&b',') {
            return None;
        }
        let (opening, start) = Quote::at(bytes, skip_blanks(bytes, comma + 1))?;
        let is_list = quote.is_before(bytes, option) && opening == quote;
        return is_list.then_some(Value { start, quote: Some(quote), is_attached: false });
    }
    let behind = skip_blanks(bytes, end);
    let behind = if bytes.get(behind) == Some(&b'=') { behind + 1 } else { behind };
    match Quote::at(bytes, behind) {
        Some((quote, start)) => {
            // It may as well end a string that ends with the option.
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b",}]):;".contains(byte);
            let is_value = !bytes.get(start).is_none_or(ends);
            is_value.then_some(Value { start, quote: Some(quote), is_attached: false })
        }
        None => Some(Value { start: behind, quote: None, is_attached: behind == end }),
    }
}
