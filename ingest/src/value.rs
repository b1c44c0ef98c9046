//! Values that several logs spell alike: event ids, addresses, outcomes.

use std::borrow::Cow;
use std::net::IpAddr;
use telltale_schema::{EventId, Outcome};
use xxhash_rust::xxh3::xxh3_128;

/// The identity of an event: a hash of its log, its tenant and the provider's own event id.
///
/// Who can choose that id can repeat another one as well, so a hash that is quick will do.
pub fn event_id(log: &str, tenant: Option<&str>, id: &[&str]) -> EventId {
    joined(log, tenant, id, |bytes| EventId(xxh3_128(bytes).to_be_bytes()))
}

/// The identity of an event whose provider gives none: a hash of its log, its tenant and its bytes
/// (and, for lines without a time, of where they stand), so that the same record is the same event,
/// and nobody can write another one that is taken for it.
pub fn content_id(log: &str, tenant: Option<&str>, content: &[&str]) -> EventId {
    joined(log, tenant, content, |bytes| {
        let mut id = [0u8; 16];
        id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        EventId(id)
    })
}

/// Hashes the parts as one text.
fn joined(
    log: &str,
    tenant: Option<&str>,
    rest: &[&str],
    hash: impl FnOnce(&[u8]) -> EventId,
) -> EventId {
    let parts = || [log, tenant.unwrap_or_default()].into_iter().chain(rest.iter().copied());
    let len = parts().map(|part| part.len() + SEPARATOR.len()).sum();
    // Nearly every id fits.
    let (mut few, mut many) = ([0u8; 128], Vec::new());
    let bytes = match few.get_mut(..len) {
        Some(bytes) => bytes,
        None => {
            many.resize(len, 0);
            many.as_mut_slice()
        }
    };
    let mut at = 0;
    for part in parts() {
        bytes[at..at + part.len()].copy_from_slice(part.as_bytes());
        bytes[at + part.len()] = SEPARATOR[0];
        at += part.len() + 1;
    }
    hash(&bytes[..len.saturating_sub(1)])
}

/// Occurs in no UTF-8 text, so parts cannot run into each other.
const SEPARATOR: [u8; 1] = [0xff];

/// The address in canonical form; `None` for names, placeholders and nothing.
///
/// Takes off brackets, an IPv6 zone, and a port where there is one (`10.0.0.1:443`, `[::1]:443`).
pub fn address(text: &str) -> Option<Cow<'_, str>> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_hexdigit() || matches!(first, b':' | b'[' | b' ')) {
        return None;
    }
    if is_plain_v4(text) {
        return Some(Cow::Borrowed(text));
    }
    let text = text.trim();
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        },
    };
    let host = host.split('%').next().unwrap_or(host);
    let address: IpAddr = host.parse().ok()?;
    let canonical = address.to_string();
    Some(if canonical == host { Cow::Borrowed(host) } else { Cow::Owned(canonical) })
}

/// Whether it is a dotted quad as it is written canonically. The common case, without allocation.
fn is_plain_v4(text: &str) -> bool {
    let mut parts = 0;
    let is_octet = |part: &[u8]| {
        parts += 1;
        part.iter().all(u8::is_ascii_digit)
            && match part {
                [_] | [b'1'..=b'9', _] | [b'1', _, _] | [b'2', b'0'..=b'4', _] => true,
                [b'2', b'5', last] => *last <= b'5',
                _ => false,
            }
    };
    text.as_bytes().split(|byte| *byte == b'.').all(is_octet) && parts == 4
}

/// The outcome that an HTTP status stands for.
pub fn outcome_of_status(status: i64) -> Outcome {
    match status {
        100..=399 => Outcome::Success,
        401 => Outcome::Failure,
        403 => Outcome::Denied,
        400..=599 => Outcome::Error,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_canonical_or_nothing() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1:8443", Some("10.0.0.1")),
            ("2001:DB8:0:0:0:0:0:1", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::1", Some("::1")),
            ("AWS Internal", None),
            ("cloudtrail.amazonaws.com", None),
            ("ec2.amazonaws.com", None),
            ("999.1.1.1", None),
            ("10.0.0", None),
            ("gce-internal-ip", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn parts_of_an_id_do_not_run_into_each_other() {
        assert_ne!(event_id("a", Some("b"), &["cd"]), event_id("a", Some("bc"), &["d"]));
        assert_ne!(event_id("a", None, &["b", "c"]), event_id("a", None, &["bc"]));
        let long = "x".repeat(5000);
        for id in [event_id, content_id] {
            assert_ne!(id("a", None, &[&long]), id("a", None, &[&long[1..]]));
            assert_ne!(id("a", Some("b"), &["cd"]), id("a", Some("bc"), &["d"]));
        }
    }
}
