//! Removes secrets from a payload before anything else looks at it, so that every column, `raw`,
//! every reject and every log line are clean by construction.
//!
//! A secret shows by its own shape ([`shapes`]) or by the name that stands before it ([`fields`],
//! [`names`], [`values`]), or by the command whose option it is ([`options`]); the values of a
//! Kubernetes Secret and of Vault's key-value stores show by their object ([`kubernetes`]), base64 by
//! what it stands for. None of
//! this parses the payload: a search for rare fragments ([`fragments`]) finds the few places worth
//! a look, and what is decided there holds for JSON, JSON within strings of JSON, URLs, forms and
//! console lines alike, whether well-formed or cut off.
//!
//! In a secret's place stands a fingerprint keyed with the installation's key. It is the same for
//! the same secret wherever it turns up, so a stolen token can be followed without being known.
//!
//! Ids are no secrets and stay: access key ids, ARNs, names of secrets, key ids, cursors of
//! listings, what is masked already.

mod fields;
mod fragments;
mod kubernetes;
mod names;
mod options;
mod shapes;
mod text;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use text::decode_base64;

use fragments::{FRAGMENTS, Rule};
use std::fmt;
use std::ops::Range;

/// The installation's fingerprint key. Who has it can test guesses of a secret.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Key(bytes)
    }

    /// A key from text, the same for the same text. The text should be as hard to guess as a key.
    pub fn derive(passphrase: &str) -> Self {
        Key(blake3::derive_key("telltale 2026-01 fingerprints of secrets", passphrase.as_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// Replaces secrets by a keyed fingerprint.
#[derive(Clone, Debug)]
pub struct Redactor {
    key: Key,
}

impl Redactor {
    pub fn new(key: &Key) -> Self {
        Redactor { key: key.clone() }
    }

    /// The payload with every secret replaced; `None` when there is none.
    ///
    /// Shape: any bytes, whole records, best many at once. Line ends stay where they are, valid
    /// JSON stays valid, and so does UTF-8. Doing it again changes nothing, where quotes are in pairs.
    /// Cost: linear in the payload whatever it holds. Memory: two words for each secret.
    pub fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let secrets = find(bytes);
        (!secrets.is_empty()).then(|| self.replace(bytes, &secrets, 0))
    }

    /// Replaces every secret in the payload, as [`Redactor::redact`] does; without another buffer
    /// where fingerprints are no longer than what they replace, as they mostly are. Then spaces
    /// before the end of a line make up for what it lost, so that other lines stay where they are.
    pub fn redact_in_place(&self, bytes: &mut Vec<u8>) {
        let secrets = find(bytes);
        let mut gap = Gap { filled: 0, copied: 0 };
        for (number, secret) in secrets.iter().enumerate() {
            gap.move_to(bytes, secret.start);
            let value = &bytes[secret.start..secret.end];
            let fingerprint = self.fingerprint(&text::decode(value, secret.depth.into()));
            let line_ends = memchr::memchr_iter(b'\n', value).count();
            let fingerprinted = gap.filled + fingerprint.len();
            if fingerprinted + line_ends > secret.end {
                // Too short for its fingerprint, and nothing before it has made room.
                let rest = &bytes[secret.start..];
                let rest = self.replace(rest, &secrets[number..], secret.start);
                bytes.truncate(gap.filled);
                bytes.extend_from_slice(&rest);
                return;
            }
            bytes[gap.filled..fingerprinted].copy_from_slice(fingerprint.as_bytes());
            bytes[fingerprinted..fingerprinted + line_ends].fill(b'\n');
            gap = Gap { filled: fingerprinted + line_ends, copied: secret.end };
        }
        let end = bytes.len();
        gap.move_to(bytes, end);
        bytes.truncate(gap.filled);
    }

    /// What stands in place of `secret`: `redacted:` and 16 hex digits of its keyed BLAKE3 hash.
    ///
    /// Shape: the secret as it is used, without escapes of JSON or URLs.
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.key.0, secret).to_hex();
        format!("redacted:{}", &hash[..16])
    }

    /// A copy of `bytes`, which begin at `from` of the payload that `secrets` were found in.
    fn replace(&self, bytes: &[u8], secrets: &[Secret], from: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        for secret in secrets {
            let (start, end) = (secret.start - from, secret.end - from);
            let value = &bytes[start..end];
            out.extend_from_slice(&bytes[copied..start]);
            out.extend_from_slice(
                self.fingerprint(&text::decode(value, secret.depth.into())).as_bytes(),
            );
            // A private key on lines of its own leaves them empty.
            out.extend(value.iter().filter(|byte| **byte == b'\n'));
            copied = end;
        }
        out.extend_from_slice(&bytes[copied..]);
        out
    }
}

/// Where a secret stands, and how often it was escaped for JSON.
#[derive(Clone, Copy, Debug)]
struct Secret {
    start: usize,
    end: usize,
    depth: u8,
}

/// Where the secrets of a payload stand, in order.
fn find(bytes: &[u8]) -> Vec<Secret> {
    let mut scan = Scan::new(bytes);
    FRAGMENTS.for_each(bytes, |candidate, rule| scan.judge(candidate, rule));
    scan.into_secrets()
}

/// Whether the text that was in base64 holds a secret.
///
/// Cost: linear, as what is in base64 within it again is shorter each time; and none for the search
/// that it is called from, whose code stays as it is.
#[inline(never)]
fn holds_secret(text: &[u8]) -> bool {
    !find(text).is_empty()
}

/// Base64 that tells whether text is in UTF-16.
const WIDE_HEAD_BYTES: usize = 80;

/// Shortest base64 that is looked into; `{"otp":"123456"}` has 24 bytes.
const MIN_BASE64_BYTES: usize = 20;

/// How gzip begins in base64.
const GZIP_IN_BASE64: &[u8] = b"H4sI";

/// Whether base64 stands for text that holds a secret, its signs escaped or not.
fn stands_for_secret(base64: &[u8]) -> bool {
    let is_escaped = memchr::memchr2(b'\\', b'%', base64).is_some();
    let text = match is_escaped {
        true => text::decode_base64(&text::decode(base64, text::MAX_DEPTH)),
        false => text::decode_base64(base64),
    };
    match text::is_wide(&text) {
        true => holds_secret(&text.into_iter().step_by(2).collect::<Vec<u8>>()),
        false => holds_secret(&text),
    }
}

/// The room that shorter fingerprints have made: what is done ends at `filled`, what is to come
/// begins at `copied`.
struct Gap {
    filled: usize,
    copied: usize,
}

impl Gap {
    /// Closes the gap up to `end`, or up to the end of its line.
    fn move_to(&mut self, bytes: &mut [u8], end: usize) {
        if self.filled == self.copied {
            (self.filled, self.copied) = (end, end);
            return;
        }
        let line_end = memchr::memchr(b'\n', &bytes[self.copied..end]);
        let moved = line_end.map_or(end, |at| self.copied + at);
        bytes.copy_within(self.copied..moved, self.filled);
        self.filled += moved - self.copied;
        self.copied = moved;
        if line_end.is_some() {
            bytes[self.filled..moved].fill(b' ');
            (self.filled, self.copied) = (end, end);
        }
    }
}

/// One pass over a payload.
struct Scan<'a> {
    bytes: &'a [u8],
    secrets: Vec<Secret>,
    /// A secret was noted that does not begin behind the one before.
    is_unordered: bool,
    lines: Lines,
    /// The last name that was judged.
    judged_name: Range<usize>,
    /// End of the last run that was looked at for a JWT.
    judged_jwt: usize,
    /// End of the last run of base64 that was looked into; none is twice.
    judged_base64: usize,
    /// End of the last run that was looked at for UTF-16.
    judged_wide: usize,
    kubernetes: kubernetes::Searched,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Scan {
            bytes,
            secrets: Vec::new(),
            is_unordered: false,
            lines: Lines::default(),
            judged_name: 0..0,
            judged_jwt: 0,
            judged_base64: 0,
            judged_wide: 0,
            kubernetes: kubernetes::Searched::default(),
        }
    }

    /// Looks around a candidate, notes the secrets there, and returns where to go on.
    fn judge(&mut self, candidate: usize, rule: Rule) -> usize {
        if let Some(last) = self.secrets.last()
            && (last.start..last.end).contains(&candidate)
        {
            return last.end;
        }
        let found = match rule {
            Rule::Name => return self.judge_name(candidate),
            Rule::Bearer => match shapes::bearer(self.bytes, candidate) {
                None => return self.judge_name(candidate),
                found => found,
            },
            Rule::Basic => shapes::basic(self.bytes, candidate),
            Rule::UserInfo => {
                let slashes = if self.bytes[candidate + 1] == b'/' { 3 } else { 5 };
                if let Some(password) = shapes::user_info(self.bytes, candidate + slashes) {
                    self.note_unless_masked(password);
                }
                // The user may be a token too.
                return candidate + 1;
            }
            Rule::EscapedUserInfo => {
                if let Some(password) = shapes::escaped_user_info(self.bytes, candidate) {
                    self.note_unless_masked(password);
                }
                return candidate + 1;
            }
            Rule::Pem => shapes::pem(self.bytes, candidate),
            Rule::Option | Rule::ShortOption => {
                let option = candidate + usize::from(matches!(rule, Rule::ShortOption));
                if let Some(password) = options::secret(self.bytes, option, &self.secrets) {
                    self.note_unless_masked(password);
                }
                // The user may be a token too.
                return candidate + 1;
            }
            Rule::Jwt => self.judge_jwt(candidate).or_else(|| self.judge_base64(candidate)),
            Rule::Base64 => self.judge_base64(candidate),
            Rule::WideBase64 => self.judge_wide_base64(candidate),
            Rule::Decoder => {
                self.judge_decoder(candidate);
                None
            }
            Rule::Registries => {
                self.judge_registries(candidate);
                None
            }
            Rule::Prefix(shape) => shape.token(self.bytes, candidate),
        };
        found.and_then(|range| self.note_unless_masked(range)).unwrap_or(candidate + 1)
    }

    fn judge_jwt(&mut self, candidate: usize) -> Option<Range<usize>> {
        if candidate < self.judged_jwt {
            return None;
        }
        let (header, end) = shapes::jwt(self.bytes, candidate);
        self.judged_jwt = header;
        Some(candidate..end?)
    }

    fn judge_base64(&mut self, candidate: usize) -> Option<Range<usize>> {
        if candidate < self.judged_base64 || !text::begins_word(self.bytes, candidate) {
            return None;
        }
        self.judge_run(candidate)
    }

    /// The same where the candidate is somewhere in the run, and only if that is in UTF-16.
    fn judge_wide_base64(&mut self, candidate: usize) -> Option<Range<usize>> {
        let before = self.bytes.get(self.judged_base64.max(self.judged_wide)..candidate)?;
        let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let start = candidate - before.iter().rev().take_while(is_base64).count();
        let start =
            start + text::escape_length(&self.bytes[..start], &self.bytes[start..candidate]);
        self.judged_wide = shapes::base64(self.bytes, start).end;
        let head = &self.bytes[start..self.judged_wide.min(start + WIDE_HEAD_BYTES)];
        text::is_wide(&text::decode_base64(head)).then(|| self.judge_run(start))?
    }

    /// The run of base64 that begins at `start`, if it stands for text with a secret.
    fn judge_run(&mut self, start: usize) -> Option<Range<usize>> {
        let run = shapes::base64(self.bytes, start);
        self.judged_base64 = run.end;
        let is_secret =
            run.len() >= MIN_BASE64_BYTES && stands_for_secret(&self.bytes[run.clone()]);
        is_secret.then_some(run)
    }

    /// The value of a field that holds base64 of anything, if it is some.
    fn judge_encoded(&mut self, value: Range<usize>, depth: u32) -> Option<usize> {
        if value.len() < MIN_BASE64_BYTES || value.start < self.judged_base64 {
            return None;
        }
        // Most are text as it is, which shows by its first bytes.
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
        if !self.bytes[value.clone()].iter().take(16).all(is_base64) {
            return None;
        }
        let mut base64 = text::decode(&self.bytes[value.clone()], depth);
        base64.retain(|byte| !byte.is_ascii_whitespace());
        if !base64.iter().all(is_base64) {
            return None;
        }
        self.judged_base64 = value.end;
        // What is compressed cannot be looked into.
        let is_compressed = base64.starts_with(GZIP_IN_BASE64);
        (is_compressed || stands_for_secret(&base64)).then(|| self.note(value, depth as u8))
    }

    fn judge_decoder(&mut self, candidate: usize) {
        let Some(base64) = shapes::before_decoder(self.bytes, candidate) else { return };
        if base64.start < self.judged_base64 {
            return;
        }
        self.judged_base64 = base64.end;
        let text = text::decode_base64(&self.bytes[base64.clone()]);
        // What is compressed cannot be looked into.
        if simdutf8::basic::from_utf8(&text).is_err() || holds_secret(&text) {
            self.note_unless_masked(base64);
        }
    }

    /// Whether `place`, behind the name being judged, lies within a `"…"` of its line.
    fn in_string(&mut self, place: usize) -> bool {
        self.lines.move_to(self.bytes, self.judged_name.start);
        let mut ahead = self.lines;
        ahead.move_to(self.bytes, place);
        ahead.in_string
    }

    fn note_unless_masked(&mut self, range: Range<usize>) -> Option<usize> {
        let is_masked = names::is_masked(&self.bytes[range.clone()]);
        (!is_masked).then(|| self.note(range, 1))
    }

    /// Notes a secret and returns where to go on.
    fn note(&mut self, range: Range<usize>, depth: u8) -> usize {
        self.is_unordered |= self.secrets.last().is_some_and(|last| range.start < last.end);
        self.secrets.push(Secret { start: range.start, end: range.end, depth });
        range.end
    }

    /// All secrets in order, no two of them overlapping.
    fn into_secrets(self) -> Vec<Secret> {
        let mut secrets = self.secrets;
        if self.is_unordered {
            put_in_order(&mut secrets);
        }
        let found = self.kubernetes.found(self.bytes, &secrets);
        if !found.is_empty() {
            secrets.extend(found);
            put_in_order(&mut secrets);
        }
        secrets
    }
}

/// Sorts secrets, and ends each where the one that began before it does.
fn put_in_order(secrets: &mut Vec<Secret>) {
    secrets.sort_unstable_by_key(|secret| (secret.start, std::cmp::Reverse(secret.end)));
    let mut end = 0;
    secrets.retain_mut(|secret| {
        secret.start = secret.start.max(end);
        end = end.max(secret.end);
        secret.start < secret.end
    });
}

/// Knows at one place of the payload whether it lies within a `"…"` of its line.
#[derive(Clone, Copy, Default)]
struct Lines {
    at: usize,
    in_string: bool,
}

impl Lines {
    /// Moves on to `place`; stays where it is if that lies behind.
    fn move_to(&mut self, bytes: &[u8], place: usize) {
        let passed = bytes.get(self.at..place).unwrap_or_default();
        if let Some(newline) = memchr::memrchr(b'\n', passed) {
            *self = Lines { at: self.at + newline + 1, in_string: false };
        }
        while let Some(next) =
            bytes.get(self.at..place).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            let step = match bytes[self.at + next] {
                b'"' => {
                    self.in_string = !self.in_string;
                    1
                }
                _ => 2,
            };
            self.at += next + step;
        }
        self.at = self.at.max(place);
    }
}
