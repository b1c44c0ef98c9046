//! Secrets that show by their own shape, wherever they stand.

use super::text;
use std::ops::Range;

/// A token that begins with a prefix its maker reserved for it.
///
/// Sources: GitHub, GitLab, Slack, Stripe, npm and the other makers publish these for secret
/// scanning; AWS session tokens are the base64 of a binary header that has stayed the same.
pub(super) struct Shape {
    /// Four bytes to search for, in the notation of `fragments`.
    pub fragment: &'static str,
    /// Where the prefix begins, counted from the fragment.
    start: isize,
    prefixes: &'static [&'static str],
    /// What may follow the prefix, and how many bytes of it there are at least.
    alphabet: Alphabet,
    at_least: usize,
    /// The prefix is short or ordinary: it counts at the beginning of a word only.
    word: bool,
    /// The prefix says where the secret is and is no part of it.
    keep_prefix: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    Alphanumeric,
    /// Letters, digits, `_`, `-`.
    UrlSafe,
    /// The same and `.`, `~`.
    Dotted,
    /// Base64 with padding, its signs possibly escaped for JSON or a URL.
    Base64,
    Hex,
    /// As `UrlSafe`, and has digits and both cases, which words joined by `-` have not.
    Mixed,
}

const PLAIN: Shape = Shape {
    fragment: "",
    start: 0,
    prefixes: &[],
    alphabet: Alphabet::UrlSafe,
    at_least: 20,
    word: false,
    keep_prefix: false,
};

pub(super) static PREFIXES: &[Shape] = &[
    // HashiCorp Vault, today's and the old form, and Terraform Cloud.
    Shape { fragment: "hv[sbr].", prefixes: &["hvs.", "hvb.", "hvr."], ..PLAIN },
    Shape {
        fragment: "[\"'=: ]s.?",
        start: 1,
        prefixes: &["s."],
        alphabet: Alphabet::Alphanumeric,
        at_least: 24,
        ..PLAIN
    },
    Shape { fragment: "lasv", start: -2, prefixes: &["atlasv1."], ..PLAIN },
    // GitHub, GitLab, npm, PyPI.
    Shape {
        fragment: "gh[pousr]_",
        prefixes: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        alphabet: Alphabet::Alphanumeric,
        ..PLAIN
    },
    Shape { fragment: "b_pa", start: -5, prefixes: &["github_pat_"], ..PLAIN },
    Shape {
        fragment: "lpat",
        start: -1,
        prefixes: &["glpat-"],
        alphabet: Alphabet::Dotted,
        at_least: 16,
        ..PLAIN
    },
    Shape {
        fragment: "npm_",
        prefixes: &["npm_"],
        alphabet: Alphabet::Alphanumeric,
        at_least: 30,
        ..PLAIN
    },
    Shape { fragment: "ypi-", start: -1, prefixes: &["pypi-AgE"], at_least: 40, ..PLAIN },
    // AWS session tokens.
    Shape {
        fragment: "IQoJ",
        prefixes: &["IQoJb3JpZ2lu"],
        alphabet: Alphabet::Base64,
        at_least: 40,
        word: true,
        ..PLAIN
    },
    Shape {
        fragment: "F[wQ]oG",
        prefixes: &["FwoGZXIvYXdz", "FQoGZXIvYXdz", "FwoDYXdz", "FQoDYXdz"],
        alphabet: Alphabet::Base64,
        at_least: 40,
        word: true,
        ..PLAIN
    },
    // Google: OAuth access token and refresh token, API key, OAuth client secret.
    Shape { fragment: "ya29", prefixes: &["ya29."], alphabet: Alphabet::Dotted, ..PLAIN },
    Shape { fragment: "1//0", prefixes: &["1//0"], at_least: 30, word: true, ..PLAIN },
    Shape { fragment: "AIza", prefixes: &["AIza"], at_least: 35, word: true, ..PLAIN },
    Shape { fragment: "OCSP", start: -1, prefixes: &["GOCSPX-"], ..PLAIN },
    // Entra client secrets have `8Q~` at their fourth byte.
    Shape {
        fragment: "[78]Q~?",
        start: -3,
        prefixes: &[""],
        alphabet: Alphabet::Dotted,
        at_least: 37,
        word: true,
        ..PLAIN
    },
    // Slack tokens and webhooks.
    Shape {
        fragment: "xox[abceprs]",
        prefixes: &["xoxa-", "xoxb-", "xoxc-", "xoxe-", "xoxe.", "xoxp-", "xoxr-", "xoxs-"],
        alphabet: Alphabet::Dotted,
        at_least: 10,
        ..PLAIN
    },
    Shape {
        fragment: "k.co",
        start: -10,
        prefixes: &["hooks.slack.com/services/", "hooks.slack.com\\/services\\/"],
        alphabet: Alphabet::Base64,
        keep_prefix: true,
        ..PLAIN
    },
    // Okta: `Authorization: SSWS 00…`.
    Shape { fragment: "SSWS", prefixes: &["SSWS ", "SSWS%20"], keep_prefix: true, ..PLAIN },
    // Stripe, OpenAI and Anthropic, SendGrid, DigitalOcean, Databricks.
    Shape {
        fragment: "k_[lt][ie]",
        start: -1,
        prefixes: &["sk_live_", "rk_live_", "sk_test_", "rk_test_"],
        at_least: 16,
        ..PLAIN
    },
    Shape { fragment: "sk-?", prefixes: &["sk-"], alphabet: Alphabet::Mixed, word: true, ..PLAIN },
    Shape {
        fragment: "SG.?",
        prefixes: &["SG."],
        alphabet: Alphabet::Dotted,
        at_least: 60,
        word: true,
        ..PLAIN
    },
    Shape {
        fragment: "op_v",
        start: -1,
        prefixes: &["dop_v1_", "doo_v1_", "dor_v1_"],
        alphabet: Alphabet::Hex,
        at_least: 40,
        ..PLAIN
    },
    Shape {
        fragment: "dapi",
        prefixes: &["dapi"],
        alphabet: Alphabet::Hex,
        at_least: 32,
        word: true,
        ..PLAIN
    },
];

/// A run above this length is a secret without a look at what it is made of, so that many
/// candidates in one run cost no more than the run.
const MAX_JUDGED_BYTES: usize = 512;

impl Shape {
    /// The token whose fragment stands at `candidate`.
    pub fn token(&self, bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
        let start = candidate.checked_add_signed(self.start)?;
        if self.word && !text::begins_word(bytes, start) {
            return None;
        }
        let rest = &bytes[start..];
        let prefix = self.prefixes.iter().find(|prefix| rest.starts_with(prefix.as_bytes()))?;
        let body = start + prefix.len();
        let end = self.alphabet.run(bytes, body);
        let is_token = end - body >= self.at_least
            && (self.alphabet != Alphabet::Mixed || is_mixed(&bytes[body..end]));
        is_token.then_some(if self.keep_prefix { body..end } else { start..end })
    }
}

impl Alphabet {
    /// Where the run of this alphabet ends that begins at `start`.
    fn run(self, bytes: &[u8], start: usize) -> usize {
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            let allowed = match self {
                Alphabet::Alphanumeric => byte.is_ascii_alphanumeric(),
                Alphabet::UrlSafe | Alphabet::Mixed => is_url_safe(*byte),
                Alphabet::Dotted => is_url_safe(*byte) || matches!(byte, b'.' | b'~'),
                Alphabet::Base64 => is_url_safe(*byte) || matches!(byte, b'+' | b'/' | b'='),
                Alphabet::Hex => byte.is_ascii_hexdigit(),
            };
            at += match (allowed, self) {
                (true, _) => 1,
                (false, Alphabet::Base64) => match escaped_sign(&bytes[at..]) {
                    0 => break,
                    length => length,
                },
                (false, _) => break,
            };
        }
        // The word of a fingerprint that stands right behind is no part of the token.
        let before = at.saturating_sub(b"redacted".len());
        if before >= start && text::is_fingerprint(bytes, before) { before } else { at }
    }
}

/// Length of an escape for `+`, `/` or `=`; 0 where there is none.
fn escaped_sign(bytes: &[u8]) -> usize {
    let escapes: [&[u8]; 9] =
        [b"\\/", b"\\u003d", b"\\u003D", b"\\u002b", b"\\u002B", b"%2B", b"%2F", b"%3D", b"%3d"];
    escapes.iter().find(|escape| bytes.starts_with(escape)).map_or(0, |escape| escape.len())
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_mixed(token: &[u8]) -> bool {
    token.len() > MAX_JUDGED_BYTES
        || token.iter().any(u8::is_ascii_digit)
            && token.iter().any(u8::is_ascii_lowercase)
            && token.iter().any(u8::is_ascii_uppercase)
}

/// Where the first segment of a possible JWT ends, and the end of the token if it is one.
///
/// Compact serialisation: two to five segments of base64url, the first a JSON object (`eyJ`), the
/// second of an encrypted one possibly empty. Sources: RFC 7515, RFC 7516.
pub(super) fn jwt(bytes: &[u8], start: usize) -> (usize, Option<usize>) {
    let segment = |start: usize| Alphabet::UrlSafe.run(bytes, start);
    let header = segment(start);
    let mut end = header;
    let mut longest = 0;
    for _ in 0..4 {
        if bytes.get(end) != Some(&b'.') {
            break;
        }
        let next = segment(end + 1);
        let is_empty = next == end + 1;
        if is_empty && bytes.get(next) != Some(&b'.') {
            break;
        }
        longest = longest.max(next - end - 1);
        end = next;
    }
    let is_token = header - start >= 12 && longest >= 8;
    (header, is_token.then_some(end))
}

/// The base64 that begins at `start`, with its padding.
pub(super) fn base64(bytes: &[u8], start: usize) -> Range<usize> {
    start..Alphabet::Base64.run(bytes, start)
}

/// The base64 in `echo '…' | base64 --decode`, whose fragment `e64 ` stands at `candidate`.
/// ClearML's glue for Kubernetes hands its configuration and the owner's token to a pod so.
pub(super) fn before_decoder(bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
    let command = candidate.checked_sub(3)?;
    let option = bytes[command..].strip_prefix(b"base64 ")?.trim_ascii_start();
    if !matches!(option, [b'-', b'd' | b'D' | b'i', ..] | [b'-', b'-', b'd', ..]) {
        return None;
    }
    let before = bytes[..command].trim_ascii_end().strip_suffix(b"|")?.trim_ascii_end();
    let before = without_last(before, &[b"'", b"\"", b"\\u0027", b"\\u0022"]);
    let end = before.len() - before.iter().rev().take_while(|byte| **byte == b'\\').count();
    let padding: &[&[u8]] = &[b"=", b"\\u003d", b"\\u003D"];
    let before = without_last(without_last(&bytes[..end], padding), padding);
    let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let run = before.iter().rev().take_while(is_base64).count();
    let mut start = before.len() - run;
    // The letters of an escaped quote are none of its letters.
    if let ([.., b'\\'], [b'u', b'0', b'0', b'2', b'2' | b'7', ..]) = before.split_at(start) {
        start += 5;
    }
    if start >= 9 && text::is_fingerprint(bytes, start - 9) {
        start += 16;
    }
    // `cat /path/of/a/file | base64 -d`.
    let is_path = bytes.get(start) == Some(&b'/');
    (start + 16 <= end && !is_path).then_some(start..end)
}

/// `text` without the first of `endings` that it has.
fn without_last<'a>(text: &'a [u8], endings: &[&[u8]]) -> &'a [u8] {
    endings.iter().find_map(|ending| text.strip_suffix(*ending)).unwrap_or(text)
}

/// The token after `Bearer`, whose fragment `arer` stands at `candidate`.
pub(super) fn bearer(bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
    let start = after_scheme(bytes, candidate.checked_sub(2)?, b"bearer")?;
    let end = Alphabet::Base64.run_with(bytes, start, b".~");
    let token = &bytes[start..end];
    let is_token = token.len() >= 8 && text::looks_random(token);
    is_token.then_some(start..end)
}

/// The credentials after `Basic`, whose fragment `asic` stands at `candidate`: base64 of a user
/// name, a colon and a password.
pub(super) fn basic(bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
    let start = after_scheme(bytes, candidate.checked_sub(1)?, b"basic")?;
    let end = Alphabet::Base64.run(bytes, start);
    let user = text::decode_base64(&bytes[start..end.min(start + MAX_JUDGED_BYTES)]);
    let has_user =
        user.iter().take_while(|byte| (b' '..=b'~').contains(*byte)).any(|byte| *byte == b':');
    (end - start >= 6 && has_user).then_some(start..end)
}

/// Behind `scheme` and the spaces after it.
fn after_scheme(bytes: &[u8], start: usize, scheme: &[u8]) -> Option<usize> {
    let (word, rest) = bytes[start..].split_at_checked(scheme.len())?;
    if !word.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let spaces = match rest {
        [b'%', b'2', b'0', ..] => 3,
        [b'+', ..] => 1,
        _ => rest.iter().take(8).take_while(|byte| **byte == b' ').count(),
    };
    (spaces > 0).then_some(start + scheme.len() + spaces)
}

impl Alphabet {
    /// As [`Alphabet::run`], with a few more bytes allowed.
    fn run_with(self, bytes: &[u8], start: usize, more: &[u8]) -> usize {
        let mut at = self.run(bytes, start);
        while bytes.get(at).is_some_and(|byte| more.contains(byte)) {
            at = self.run(bytes, at + 1);
        }
        at
    }
}

/// The password in `scheme://user:password@host`, or a token that stands there alone; `slashes` is
/// where the user begins.
pub(super) fn user_info(bytes: &[u8], slashes: usize) -> Option<Range<usize>> {
    let rest = bytes.get(slashes..)?;
    let rest = &rest[..rest.len().min(MAX_JUDGED_BYTES)];
    // Most URLs have no user, and it is found soonest that there is none.
    let rest = &rest[..memchr::memrchr(b'@', rest)? + 1];
    let is_end = |byte: &u8| {
        matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\' | b'<' | b'>' | b'`')
            || byte.is_ascii_whitespace()
    };
    let authority = &rest[..rest.iter().position(is_end).unwrap_or(rest.len())];
    let user_info = &authority[..authority.iter().rposition(|byte| *byte == b'@')?];
    let password = match user_info.iter().position(|byte| *byte == b':') {
        // The user was a token, and an earlier redaction saw to the password too.
        Some(colon) if text::is_fingerprint(user_info, colon.saturating_sub(8)) => return None,
        Some(colon) => colon + 1,
        None if user_info.len() >= 20 && text::looks_random(user_info) => 0,
        None => return None,
    };
    Some(slashes + password..slashes + user_info.len())
}

/// The same in a URL within a URL, `scheme%3A%2F%2Fuser%3Apassword%40host`, whose fragment `2F%2`
/// stands at `candidate`; the signs may be escaped twice.
pub(super) fn escaped_user_info(bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
    let (before, behind) = bytes.split_at(candidate);
    let (percent, colon, slashes): (&[u8], &[u8], &[u8]) = match before.ends_with(b"%25") {
        true => (b"%25", b"%253A%25", b"2F%252F"),
        false => (b"%", b"%3A%", b"2F%2F"),
    };
    let scheme = before.len().checked_sub(colon.len())?;
    let (found, user) = behind.split_at_checked(slashes.len())?;
    if !before[scheme..].eq_ignore_ascii_case(colon) || !found.eq_ignore_ascii_case(slashes) {
        return None;
    }
    let user = &user[..user.len().min(MAX_JUDGED_BYTES)];
    let (mut password, mut end) = (None, None);
    for (at, byte) in user.iter().enumerate() {
        let escape = user[at..].strip_prefix(percent).and_then(|rest| rest.first_chunk::<2>());
        match (byte, escape.map(|[high, low]| [*high, low.to_ascii_uppercase()])) {
            (b':', _) => password = password.or(Some(at + 1)),
            (_, Some([b'3', b'A'])) => password = password.or(Some(at + percent.len() + 2)),
            (b'@', _) | (_, Some([b'4', b'0'])) => end = Some(at),
            // A slash, a question mark, a hash, a quote or a blank ends the host.
            (_, Some([b'2', b'F' | b'0' | b'2' | b'3' | b'7'] | [b'3', b'F'] | [b'0', _])) => break,
            (byte, _) if byte.is_ascii_whitespace() || b"/?#&+\"'\\<>`".contains(byte) => break,
            _ => {}
        }
    }
    let end = end?;
    let password = match password {
        // The user was a token, and an earlier redaction saw to the password too.
        Some(password) if text::is_fingerprint(user, password.saturating_sub(9)) => return None,
        Some(password) if password <= end => password,
        _ if end >= 20 && text::looks_random(&user[..end]) => 0,
        _ => return None,
    };
    let start = candidate + slashes.len();
    Some(start + password..start + end)
}

/// A private key in PEM, whose fragment `-BEG` stands at `candidate`: from its first line to its
/// last, lines ended as they are or by escapes.
pub(super) fn pem(bytes: &[u8], candidate: usize) -> Option<Range<usize>> {
    let start = candidate.checked_sub(4)?;
    let header = &bytes[start..bytes.len().min(start + 64)];
    let label = header.strip_prefix(b"-----BEGIN ")?;
    let label = &label[..label.windows(5).position(|window| window == b"-----")?];
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let body = start + b"-----BEGIN -----".len() + label.len();
    let is_body = |byte: &u8| {
        text::is_name(*byte)
            || byte.is_ascii_whitespace()
            || matches!(byte, b'+' | b'/' | b'=' | b'\\' | b':' | b',' | b'(' | b')' | b'%')
    };
    let mut end = body;
    while bytes.get(end).is_some_and(is_body) && !bytes[end..].starts_with(b"-----") {
        end += 1;
    }
    if bytes[end..].starts_with(b"-----END ") {
        let tail = &bytes[end + 9..bytes.len().min(end + 64)];
        let label = tail.windows(5).position(|window| window == b"-----").map_or(0, |at| at + 5);
        end += 9 + label;
    } else {
        // Cut off: an escape may belong to the quote behind it.
        end -= bytes[body..end].iter().rev().take_while(|byte| **byte == b'\\').count();
    }
    Some(start..end)
}
