//! Which names announce a secret, and which only look like it.

use super::text;
use memchr::memmem;

/// What stands behind a name, as far as it matters for telling secrets from words and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Chosen by people: any text, digits included.
    Password,
    /// Key or token. `bare`: the name is the single word `secret` or `token`, which prose and
    /// names of resources use as well.
    Token { bare: bool },
    /// `Authorization`: a scheme and its credentials.
    Authorization,
    /// `name=value; name=value`.
    Cookie,
    /// The name has other meanings too: a secret only if it looks like one.
    Opaque,
    /// The same, and the secret is a UUID.
    Uuid,
    /// `code`, which is a secret as a parameter of a URL only.
    Parameter,
}

const TOKEN: Class = Class::Token { bare: false };
const BARE: Class = Class::Token { bare: true };

/// Where a name may begin for an ending to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Anywhere, as many write names without separators: `accesstoken`.
    Any,
    /// At the start of a word, not in `bypass` or `desktop`.
    Word,
    /// Nothing stands before.
    Whole,
    /// At the start of a word that is not the first.
    Later,
}

/// Endings of names, squashed: lower case without separators. The first that fits decides.
/// `None`: what ends so is no secret.
const ENDINGS: &[(&str, At, Option<Class>)] = &[
    ("password", At::Any, Some(Class::Password)),
    ("passwords", At::Any, Some(Class::Password)),
    ("passwordhash", At::Any, Some(Class::Password)),
    ("passwordvalue", At::Any, Some(Class::Password)),
    ("passwd", At::Any, Some(Class::Password)),
    ("passphrase", At::Any, Some(Class::Password)),
    ("passcode", At::Any, Some(Class::Password)),
    ("pwd", At::Word, Some(Class::Password)),
    ("pass", At::Later, Some(Class::Password)),
    ("otp", At::Word, Some(Class::Password)),
    ("totp", At::Word, Some(Class::Password)),
    ("mfacode", At::Any, Some(Class::Password)),
    ("tokencode", At::Any, Some(Class::Password)),
    ("token", At::Whole, Some(BARE)),
    ("token", At::Any, Some(TOKEN)),
    ("tokens", At::Any, Some(Class::Opaque)),
    ("tokenvalue", At::Any, Some(TOKEN)),
    ("secret", At::Whole, Some(BARE)),
    ("secret", At::Any, Some(TOKEN)),
    ("secretkey", At::Any, Some(TOKEN)),
    ("secretaccesskey", At::Any, Some(TOKEN)),
    ("secretstring", At::Any, Some(TOKEN)),
    ("secretbinary", At::Any, Some(TOKEN)),
    ("secretvalue", At::Any, Some(TOKEN)),
    ("secrettext", At::Any, Some(TOKEN)),
    ("secretid", At::Any, Some(Class::Uuid)),
    ("apikey", At::Any, Some(TOKEN)),
    ("privatekey", At::Any, Some(TOKEN)),
    ("privatekeydata", At::Any, Some(TOKEN)),
    ("privatekeypem", At::Any, Some(TOKEN)),
    ("publickeymaterial", At::Any, None),
    ("keymaterial", At::Any, Some(TOKEN)),
    ("sharedkey", At::Any, Some(TOKEN)),
    ("sharedaccesskey", At::Any, Some(TOKEN)),
    ("storageaccesskey", At::Any, Some(TOKEN)),
    ("storagekey", At::Any, Some(Class::Opaque)),
    ("accountkey", At::Any, Some(Class::Opaque)),
    ("encryptionkey", At::Any, Some(Class::Opaque)),
    ("customerkey", At::Any, Some(Class::Opaque)),
    ("subscriptionkey", At::Any, Some(Class::Opaque)),
    ("functionskey", At::Any, Some(Class::Opaque)),
    ("masterkey", At::Any, Some(Class::Opaque)),
    ("signingkey", At::Any, Some(Class::Opaque)),
    ("hmackey", At::Any, Some(Class::Opaque)),
    ("authkey", At::Any, Some(Class::Opaque)),
    ("connectionstring", At::Any, Some(TOKEN)),
    ("bearer", At::Word, Some(BARE)),
    ("authorization", At::Word, Some(Class::Authorization)),
    ("cookie", At::Any, Some(Class::Cookie)),
    ("signature", At::Any, Some(Class::Opaque)),
    ("sig", At::Word, Some(Class::Opaque)),
    ("assertion", At::Any, Some(Class::Opaque)),
    ("samlresponse", At::Any, Some(Class::Opaque)),
    ("codeverifier", At::Any, Some(TOKEN)),
    ("plaintext", At::Any, Some(Class::Opaque)),
    ("code", At::Whole, Some(Class::Parameter)),
    ("accessor", At::Whole, Some(Class::Opaque)),
    ("tokenaccessor", At::Whole, Some(Class::Opaque)),
    ("wrappedaccessor", At::Whole, Some(Class::Opaque)),
];

/// Words before `token` that make it a cursor of a listing, a guard against repeated or lost
/// updates, or a claim: no credential.
const HARMLESS_TOKENS: &[&str] = &[
    "next",
    "page",
    "paging",
    "pagination",
    "continuation",
    "continue",
    "starting",
    "resume",
    "sync",
    "delta",
    "skip",
    "scroll",
    "cursor",
    "forward",
    "backward",
    "sequence",
    "clientrequest",
    "idempotency",
    "deduplication",
    "creation",
    "change",
    "lock",
    "update",
    "version",
    "revision",
    "retry",
    "concurrency",
    // GitHub's audit log names a token by its hash.
    "hashed",
    // `subjectFromWebIdentityToken` of AssumeRoleWithWebIdentity is the subject's name.
    "fromwebidentity",
];

/// Longest name that is looked at, from its end.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// A longer value is a secret without a look at what it is made of, unless it is one sign
/// repeated; so many names in one long value cost no more than the value.
const MAX_JUDGED_BYTES: usize = 512;

/// What the name announces, or `None` where its value is no secret.
pub(super) fn classify(name: &[u8]) -> Option<Class> {
    let name = name.trim_ascii_end();
    // The shell's working directory.
    if matches!(name, b"PWD" | b"OLDPWD") {
        return None;
    }
    let squashed = Squashed::new(name);
    let (text, class) = ENDINGS.iter().find_map(|(ending, at, class)| {
        let before = squashed.text().strip_suffix(ending.as_bytes())?;
        let fits = match at {
            At::Any => true,
            At::Word => squashed.begins_word(before.len()),
            At::Whole => before.is_empty(),
            At::Later => !before.is_empty() && squashed.begins_word(before.len()),
        };
        fits.then_some((before, *class))
    })?;
    let class = class?;
    match class {
        Class::Token { .. } if squashed.text().ends_with(b"token") => {
            let is_harmless = HARMLESS_TOKENS.iter().any(|word| text.ends_with(word.as_bytes()));
            // Vault's `client_token` is a token, AWS's `clientToken` guards against repeats.
            let is_idempotency = text.ends_with(b"client") && !name.contains(&b'_');
            (!is_harmless && !is_idempotency).then_some(class)
        }
        // Vault's `secret_id` is a secret, AWS's `secretId` a name.
        Class::Uuid => name.contains(&b'_').then_some(class),
        _ => Some(class),
    }
}

/// A name in lower case without separators, with the places where its words begin.
struct Squashed {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
    words: u64,
}

impl Squashed {
    fn new(name: &[u8]) -> Squashed {
        let name = &name[name.len().saturating_sub(MAX_NAME_BYTES)..];
        // `password1` and HOCON's `token.0` are a password and a token.
        let digits = name.iter().rev().take_while(|b| b.is_ascii_digit() || b"._-".contains(b));
        let name = &name[..name.len() - digits.count()];
        let name = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
        let mut squashed = Squashed { bytes: [0; MAX_NAME_BYTES], length: 0, words: 1 };
        let mut before = b'_';
        for (at, byte) in name.iter().enumerate() {
            if byte.is_ascii_alphanumeric() {
                let next_is_lower = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
                let begins = !before.is_ascii_alphanumeric()
                    || byte.is_ascii_uppercase() && (!before.is_ascii_uppercase() || next_is_lower);
                squashed.words |= u64::from(begins) << squashed.length;
                squashed.bytes[squashed.length] = byte.to_ascii_lowercase();
                squashed.length += 1;
            }
            before = *byte;
        }
        squashed
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn begins_word(&self, at: usize) -> bool {
        self.words >> at & 1 == 1
    }
}

/// Whether `value` cannot be a secret whatever its name: masked, a word for a state, a reference
/// to where the secret is kept.
pub(super) fn is_masked(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    if value.len() <= MAX_JUDGED_BYTES
        && memmem::find_iter(value, b"redacted:").any(|at| text::is_fingerprint(value, at))
    {
        return true;
    }
    if let Some(rest) = value.strip_prefix(b"hmac-") {
        let hash = rest.rsplit(|byte| *byte == b':').next().unwrap_or(rest);
        return hash.len() < rest.len() && hash.iter().all(u8::is_ascii_hexdigit);
    }
    match value {
        [] => true,
        // `****`, `xxxx`, `••••`.
        [b'*' | b'x' | b'X' | b'.' | b'-' | b'#' | b'_' | b'?', ..]
            if value.iter().all(|byte| *byte == value[0]) =>
        {
            true
        }
        [0xe2, 0x80, 0xa2, ..] => value.chunks(3).all(|chunk| chunk == [0xe2, 0x80, 0xa2]),
        _ if value.len() > MAX_MASK_BYTES => false,
        _ => {
            value.windows(3).any(|window| window == b"***")
                || is_placeholder(value)
                || STATES.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
        }
    }
}

/// Longest text that is looked at as a mask or placeholder.
const MAX_MASK_BYTES: usize = 128;

/// What stands in place of a secret or says how it is.
const STATES: &[&str] = &[
    "true",
    "false",
    "null",
    "nil",
    "none",
    "undefined",
    "unknown",
    "empty",
    "unset",
    "n/a",
    "yes",
    "no",
    "valid",
    "invalid",
    "expired",
    "revoked",
    "missing",
    "absent",
    "present",
    "required",
    "optional",
    "enabled",
    "disabled",
    "default",
    "hidden",
    "masked",
    "redacted",
    "filtered",
    "string",
    "bearer",
    "basic",
    "jwt",
    "opaque",
];

/// `<hidden>`, `[FILTERED]`, `(sensitive value)`, `${DB_PASSWORD}`, `{{ .Values.token }}`, `$TOKEN`,
/// `HIDDEN_DUE_TO_SECURITY_REASONS`.
fn is_placeholder(value: &[u8]) -> bool {
    let is_words = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|b| b.is_ascii_alphabetic() || b" _-.:/".contains(b))
    };
    let is_reference = |text: &[u8]| {
        text.iter().all(|b| b.is_ascii_alphanumeric() || b" _-.:/$|\\\"'".contains(b))
    };
    match value {
        [b'<', inner @ .., b'>'] | [b'[', inner @ .., b']'] | [b'(', inner @ .., b')'] => {
            is_words(inner)
        }
        [b'{', b'{', inner @ .., b'}', b'}'] | [b'$', b'{', inner @ .., b'}'] => {
            is_reference(inner.trim_ascii()) || inner.starts_with(b"{")
        }
        [b'$', b'(', inner @ .., b')'] => is_reference(inner),
        [b'$', name @ ..] => {
            name.len() >= 3 && name.iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
        }
        _ => {
            let is_shouted = value.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
            let says_so = ["HIDDEN", "REDACT", "MASK", "FILTER", "OMIT", "SENSITIVE"];
            is_shouted && says_so.iter().any(|word| memmem::find(value, word.as_bytes()).is_some())
        }
    }
}

/// Whether `value` names a thing rather than opens it: an ARN, a path of a cloud resource, a URL
/// without parameters.
pub(super) fn is_identifier(value: &[u8]) -> bool {
    if value.len() > MAX_JUDGED_BYTES {
        return false;
    }
    let value = value.trim_ascii();
    let is_plain = !value.iter().any(|byte| byte.is_ascii_whitespace() || b"?#@&=".contains(byte));
    let begins =
        |prefixes: &[&str]| prefixes.iter().any(|prefix| value.starts_with(prefix.as_bytes()));
    is_plain
        && (begins(&["arn:", "http://", "https://", "http:\\/\\/", "https:\\/\\/", "alias/"])
            || begins(&["projects/", "/subscriptions/", "//secretmanager."]))
}

/// Whether `value` is the name of a resource as Kubernetes writes it, `default/web-tls-x7k2p`:
/// words and short endings, where a random token has long runs of letters and digits mixed.
pub(super) fn is_resource_name(value: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        let letters = part.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        part.len() <= 5 || letters <= 20 && part.len() - letters <= 2
    };
    value.len() <= 128
        && value.iter().any(|byte| b"-/".contains(byte))
        && value.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-./".contains(b))
        && value.split(|byte| b"-./".contains(byte)).all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "password",
            "newPassword",
            "DB_PASS",
            "gitPass",
            "user-pwd",
            "password2",
            "Token",
            "x-vault-token",
            "X-Amz-Security-Token",
            "client_token",
            "accesstoken",
            "sessionToken",
            "webIdentityToken",
            "secret",
            "CLEARML_API_SECRET_KEY",
            "aws_secret_access_key",
            "secretAccessKey",
            "accessKeySecret",
            "api.credentials.secret_key",
            "SecretString",
            "X-API-Key",
            "apikey",
            "privateKeyData",
            "SharedAccessKey",
            "Proxy-Authorization",
            "Set-Cookie",
            "SAMLResponse",
            "samlAssertion",
            "X-Goog-Signature",
            "sig",
            "code_verifier",
            "tokenCode",
            "secret_id",
        ] {
            assert!(classify(name.as_bytes()).is_some(), "{name}");
        }
    }

    #[test]
    fn names_of_ids_and_settings_are_not() {
        for name in [
            "accessKeyId",
            "access_key",
            "CLEARML_API_ACCESS_KEY",
            "keyId",
            "secretId",
            "secretArn",
            "secretName",
            "secret.name",
            "tokenType",
            "token_type",
            "token_issue_time",
            "tokenExpiresAt",
            "sessionCredentialFromConsole",
            "passwordLastUsed",
            "passwordResetRequired",
            "nextToken",
            "NextPageToken",
            "continuation-token",
            "clientToken",
            "ClientRequestToken",
            "clientRequestToken",
            "subjectFromWebIdentityToken",
            "authorizationInfo",
            "SignatureVersion",
            "bypass",
            "PWD",
            "mount_accessor",
            "publicKeyMaterial",
            "uniqueTokenIdentifier",
        ] {
            assert_eq!(classify(name.as_bytes()), None, "{name}");
        }
    }
}
