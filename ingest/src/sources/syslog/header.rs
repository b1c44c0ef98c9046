//! Off with what stands before a message: the headers of RFC 5424 and RFC 3164, and what senders
//! write in their place. Only the name of the application and the message are of use here.
//!
//! Nothing is copied and no time is read, which is why no crate does it. What has no `<PRI>` is the
//! message itself, as Vault's socket device sends it.

/// A message and who wrote it: `APP-NAME`, or the name in the tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub app: Option<&'a str>,
    pub text: &'a str,
}

/// Reads one message.
///
/// Errors: why it is none.
pub fn read(frame: &str) -> Result<Message<'_>, &'static str> {
    let frame = frame.trim_start_matches('\u{feff}');
    let (app, text) = match after_priority(frame) {
        None => (None, frame),
        Some(rest) => match after_version(rest) {
            Some(rest) => rfc5424(rest)?,
            None => rfc3164(rest),
        },
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\0'));
    let text = text.strip_prefix("@cee:").map_or(text, str::trim_start);
    match text.is_empty() {
        true => Err("no message follows the header"),
        false => Ok(Message { app, text }),
    }
}

/// Behind `<13>`.
fn after_priority(text: &str) -> Option<&str> {
    let (priority, rest) = text.strip_prefix('<')?.split_once('>')?;
    (is_number(priority) && priority.len() <= 3).then_some(rest)
}

/// Behind `1 `, which only RFC 5424 has.
fn after_version(text: &str) -> Option<&str> {
    let (version, rest) = text.split_once(' ')?;
    (is_number(version) && version.len() <= 2).then_some(rest)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`
fn rfc5424(text: &str) -> Result<(Option<&str>, &str), &'static str> {
    let mut fields = text.splitn(6, ' ');
    let (app, rest) = (fields.nth(2), fields.nth(2));
    let (app, rest) = app.zip(rest).ok_or("the header of RFC 5424 ends too early")?;
    Ok(((app != "-").then_some(app), after_structured_data(rest)))
}

/// Behind `-` or `[id name="value"]…`. Where there is neither, as Heroku's router sends it or where
/// the message is a JSON array, all of it is the message.
fn after_structured_data(text: &str) -> &str {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    if let Some(rest) = text.strip_prefix('-').filter(|rest| ends(rest)) {
        return rest;
    }
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix('[') {
        match after_element(inner) {
            Some(behind) => rest = behind,
            None => return text,
        }
    }
    if ends(rest) { rest } else { text }
}

fn after_element(inner: &str) -> Option<&str> {
    if inner.starts_with([' ', '=', ']', '"', '{', '[']) {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return Some(&inner[at + 1..]),
            _ => {}
        }
    }
    None
}

/// `TIMESTAMP HOSTNAME TAG: MSG`, of which everything but the message may be missing. Without a
/// time no host is looked for: nothing tells it from the first word of a message.
fn rfc3164(text: &str) -> (Option<&str>, &str) {
    let Some(rest) = after_time(text) else { return tagged(text).unwrap_or((None, text)) };
    if let Some(found) = tagged(rest) {
        return found;
    }
    match rest.split_once(' ') {
        Some((host, behind)) if host.chars().all(is_of_host) => {
            let behind = behind.trim_start();
            tagged(behind).or_else(|| named(behind)).unwrap_or((None, behind))
        }
        _ => (None, rest),
    }
}

fn is_of_host(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')
}

/// Behind `Mar  1 12:00:00 ` or `2026-03-01T12:00:00Z `.
fn after_time(text: &str) -> Option<&str> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text.trim_start();
    let (first, rest) = text.split_once(' ')?;
    if first.len() >= 10 && first.get(..4).is_some_and(is_number) && first[4..].starts_with('-') {
        return Some(rest);
    }
    if !MONTHS.iter().any(|month| first.eq_ignore_ascii_case(month)) {
        return None;
    }
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (mut time, mut rest) = rest.split_once(' ')?;
    if is_number(time) && time.len() == 4 {
        (time, rest) = rest.split_once(' ')?;
    }
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains(':');
    (is_number(day) && is_time).then(|| rest.trim_start())
}

/// `vault: `, `vault[12]: `, `vault:{`; not `2001:db8::1`.
fn tagged(text: &str) -> Option<(Option<&str>, &str)> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ':' | '[' | '{' | '"'))?;
    let (name, rest) = text.split_at(end);
    let rest = match rest.strip_prefix('[') {
        Some(process) => process.split_once(']')?.1,
        None => rest,
    };
    let message = rest.strip_prefix(':')?;
    let begins = message.is_empty() || message.starts_with([' ', '\t', '{', '[', '"', '@']);
    (!name.is_empty() && begins).then_some((Some(name), message))
}

/// `vault {`, by whoever forgets the colon.
fn named(text: &str) -> Option<(Option<&str>, &str)> {
    let (name, message) = text.split_once(' ')?;
    let message = message.trim_start();
    let is_object = message.starts_with('{') || message.starts_with("@cee:");
    (is_object && !name.starts_with(['{', '[', '"'])).then_some((Some(name), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(frame: &str) -> (&str, &str) {
        match read(frame) {
            Ok(Message { app, text }) => (app.unwrap_or("-"), text),
            Err(why) => ("!", why),
        }
    }

    #[test]
    fn rfc_5424() {
        let time = "<134>1 2026-03-01T12:00:00.003Z";
        for (frame, expected) in [
            (format!("{time} h vault 12 - - {{\"a\":1}}"), ("vault", "{\"a\":1}")),
            (format!("{time} h vault 12 - - \u{feff}{{\"a\":1}}"), ("vault", "{\"a\":1}")),
            (format!("{time} h - - - -  @cee: {{\"a\":1}}\n"), ("-", "{\"a\":1}")),
            ("<1>1 - - - - - - text".to_owned(), ("-", "text")),
            // From RFC 5424, 6.5.
            (
                format!(
                    "{time} h evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\"][examplePriority@32473 class=\"high\"] An event"
                ),
                ("evntslog", "An event"),
            ),
            (format!("{time} h a - - [x b=\"q\\\"]\\\\\" c=\"]\"] m"), ("a", "m")),
            (format!("{time} h a - - [{{\"a\":1}},{{\"a\":2}}]"), ("a", "[{\"a\":1},{\"a\":2}]")),
            (format!("{time} h a - - {{\"no\":\"data\"}}"), ("a", "{\"no\":\"data\"}")),
            (format!("{time} h a - - [x b=\"cut"), ("a", "[x b=\"cut")),
            (format!("{time} h a - - -"), ("!", "no message follows the header")),
            (format!("{time} h a - - [x]"), ("!", "no message follows the header")),
            (format!("{time} h a"), ("!", "the header of RFC 5424 ends too early")),
        ] {
            assert_eq!(parts(&frame), expected, "{frame}");
        }
    }

    #[test]
    fn rfc_3164() {
        for (frame, expected) in [
            ("<13>Mar  1 12:00:00 web-1 vault[12]: {\"a\":1}", ("vault", "{\"a\":1}")),
            ("<13>Mar 11 12:00:00 192.0.2.1 vault: {\"a\":1}", ("vault", "{\"a\":1}")),
            ("<13>Mar  1 12:00:00 2001:db8::1 vault: m", ("vault", "m")),
            ("<13>Mar  1 2026 12:00:00.123 h /usr/bin/vault: m", ("/usr/bin/vault", "m")),
            // Without a host, as libc's `syslog` writes it.
            ("<13>Mar  1 12:00:00 vault[12]: m", ("vault", "m")),
            ("<13>Mar  1 12:00:00 h {\"a\": 1}", ("-", "{\"a\": 1}")),
            ("<13>Mar  1 12:00:00 {\"a\": 1}", ("-", "{\"a\": 1}")),
            ("<13>Mar  1 12:00:00 h vault {\"a\": 1}", ("vault", "{\"a\": 1}")),
            ("<13>Mar  1 12:00:00 h GET /a HTTP/1.1", ("-", "GET /a HTTP/1.1")),
            // RSYSLOG_ForwardFormat.
            ("<13>2026-03-01T12:00:00.1+01:00 h vault[1]: @cee: {\"a\":1}", ("vault", "{\"a\":1}")),
            ("<13>vault:{\"a\":1}", ("vault", "{\"a\":1}")),
            ("<13>{\"a\": \"b\"}", ("-", "{\"a\": \"b\"}")),
            ("<13>two words", ("-", "two words")),
            ("<13>Mar  1 12:00:00 h tag:", ("!", "no message follows the header")),
            ("<13>", ("!", "no message follows the header")),
        ] {
            assert_eq!(parts(frame), expected, "{frame}");
        }
    }

    #[test]
    fn what_has_no_header_is_the_message() {
        for text in ["{\"a\":1}", "<x>1", "<1234>a", "2026-03-01T12:00:00Z a: b", "<", "<13"] {
            assert_eq!(parts(text), ("-", text));
        }
        assert_eq!(parts("\u{feff}{}\0\r"), ("-", "{}"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read(text in "<?[0-9]{0,4}>?(1 )?[-\\[\\]{}\":@ a-z\\\\0-9é]{0,60}") {
            if let Ok(message) = read(&text) {
                proptest::prop_assert!(text.contains(message.text));
            }
        }
    }
}
