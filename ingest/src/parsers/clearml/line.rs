//! A text line without what collectors and loggers put before it.

use telltale_schema::Micros;
use telltale_schema::time::{from_epoch, parse_instant};

/// One line, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Line<'a> {
    /// The time before the text, whoever put it there; the innermost one counts.
    pub at: Option<Micros>,
    pub logger: Option<&'a str>,
    /// Named before the text in console logs that were downloaded from the web interface.
    pub worker: Option<&'a str>,
    /// Whether it has the API server's form `[time] [pid] [level] [logger] text`.
    pub is_server: bool,
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Takes off, in this order and each where it is there: colours of a terminal, the service's name
    /// of docker compose (`agent-1  | `) or `kubectl` (`[pod/x/agent] `), the head of a syslog message
    /// whose time has no year, a time (RFC 3339, a logger's, or epoch milliseconds), the stream of a
    /// container log (`stdout F `), what the journal has between time and text, the logger's own time
    /// behind that of a collector, the rest of a Python logger's or a web download's prefix, or the
    /// API server's brackets.
    pub fn of(record: &'a str) -> Self {
        let mut line = Line { text: without_colours(record), ..Line::default() };
        if let Some((name, rest)) = line.text.split_once("| ")
            && name.ends_with(' ')
            && !name.trim_end().is_empty()
            && !name.trim_end().contains(char::is_whitespace)
        {
            line.text = rest.trim_start();
        } else if let Some((_, rest)) =
            line.text.strip_prefix("[pod/").and_then(|rest| rest.split_once("] "))
        {
            line.text = rest;
        }
        line.text = without_syslog(line.text);
        for _collector_and_logger in 0..2 {
            let Some((at, rest)) = leading_time(line.text) else { break };
            line.at = Some(at);
            let rest = rest.strip_prefix("| ").unwrap_or(rest);
            line.text = without_host(without_stream(rest));
        }
        line.strip_logger();
        if line.text.starts_with('[') {
            line.strip_brackets();
        }
        line
    }

    /// `- logger - LEVEL - text`, `worker LEVEL text` or `LEVEL text`; the first two stand behind
    /// a time only.
    fn strip_logger(&mut self) {
        let timed = self.at.is_some();
        if let Some(rest) = self.text.strip_prefix("- ").filter(|_| timed) {
            let mut parts = rest.splitn(3, " - ");
            if let (Some(logger), Some(_), Some(said)) = (parts.next(), parts.next(), parts.next())
            {
                self.logger = Some(logger);
                self.text = said;
            }
            return;
        }
        let Some((first, rest)) = self.text.split_once(' ') else { return };
        if is_level(first) {
            self.text = rest.trim_start();
        } else if let Some((level, said)) = rest.split_once(' ').filter(|_| timed)
            && is_level(level)
        {
            self.worker = Some(first);
            self.text = said;
        }
    }

    fn strip_brackets(&mut self) {
        let brackets = || {
            let (time, rest) = self.text.strip_prefix('[')?.split_once("] [")?;
            let (process, rest) = rest.split_once("] [")?;
            let (_level, rest) = rest.split_once("] [")?;
            let (logger, text) = rest.split_once(']')?;
            let is_process = process.bytes().all(|byte| byte.is_ascii_digit());
            (is_process && time.len() < 40).then_some((time, logger, text.trim_start()))
        };
        if let Some((time, logger, text)) = brackets() {
            *self = Line {
                at: parse_instant(time),
                logger: Some(logger),
                is_server: true,
                text,
                ..Line::default()
            };
        }
    }
}

fn is_level(word: &str) -> bool {
    let levels = ["DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL"];
    levels.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// The text behind the stream and the tag that a container's runtime writes before a line.
fn without_stream(text: &str) -> &str {
    let streams = ["stdout F ", "stderr F ", "stdout P ", "stderr P "];
    streams.iter().find_map(|stream| text.strip_prefix(stream)).unwrap_or(text)
}

/// The text within sequences of a terminal, `ESC [ … m`, at its beginning and at its end.
fn without_colours(text: &str) -> &str {
    let is_colour = |codes: &str| codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';');
    let mut text = text;
    while let Some((codes, rest)) =
        text.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('m'))
        && is_colour(codes)
    {
        text = rest;
    }
    while let Some((rest, codes)) = text.strip_suffix('m').and_then(|it| it.rsplit_once("\u{1b}["))
        && is_colour(codes)
    {
        text = rest;
    }
    text
}

/// The text behind the head of a syslog message that has no year: `<14>May 12 10:00:00 host tag[7]: `.
fn without_syslog(text: &str) -> &str {
    const MONTHS: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    let message = || {
        let priority = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let is_number = |text: &str| text.len() <= 3 && text.bytes().all(|it| it.is_ascii_digit());
        let text = priority.filter(|(own, _)| is_number(own)).map_or(text, |(_, rest)| rest);
        // `May  1 10:00:00 `
        let (time, rest) = text.split_at_checked(16)?;
        let (month, clock) = (time.get(..3)?, time.as_bytes());
        let is_time = MONTHS.contains(month)
            && [3, 6, 15].iter().all(|at| clock[*at] == b' ')
            && [9, 12].iter().all(|at| clock[*at] == b':');
        let (_host, rest) = is_time.then(|| rest.split_once(' '))??;
        let (tag, rest) = rest.split_once(": ")?;
        (!tag.contains(' ')).then_some(rest)
    };
    message().unwrap_or(text)
}

/// The text behind `host tag[7]: `, which the journal writes between time and text.
fn without_host(text: &str) -> &str {
    let message = || {
        let (_host, rest) = text.split_once(' ')?;
        let (tag, rest) = rest.split_once("]: ")?;
        let (name, process) = tag.split_once('[')?;
        let is_process = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        (is_process && !name.contains(' ')).then_some(rest)
    };
    message().unwrap_or(text)
}

/// The time that a line begins with, and what follows it.
fn leading_time(text: &str) -> Option<(Micros, &str)> {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 13 && bytes.get(13) == Some(&b' ') {
        return Some((from_epoch(text[..13].parse().ok()?)?, &text[14..]));
    }
    if digits != 4 || bytes.len() < 19 || bytes[4] != b'-' {
        return None;
    }
    // A space in the middle (`2024-05-12 10:00:00,123`) belongs to the time.
    let from = if bytes[10] == b' ' { 11 } else { 10 };
    let end = memchr::memchr(b' ', &bytes[from..]).map_or(bytes.len(), |len| from + len);
    let at = parse_instant(text.get(..end)?)?;
    Some((at, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_comes_off() {
        let at = parse_instant("2024-05-12T10:00:00.123Z");
        let plain = || Line { text: "said", ..Line::default() };
        for (record, expected) in [
            ("said", plain()),
            ("agent-1  | said", plain()),
            ("2024-05-12T10:00:00.123Z said", Line { at, ..plain() }),
            ("2024-05-12T10:00:00.123000000Z stdout F said", Line { at, ..plain() }),
            (
                "2024-05-12 10:00:00,123 - clearml.Task - INFO - said",
                Line { at, logger: Some("clearml.Task"), ..plain() },
            ),
            (
                "1715508000123 node:gpu0,1 INFO said",
                Line { at, worker: Some("node:gpu0,1"), ..plain() },
            ),
            ("1715508000123 node:0 info said", Line { at, worker: Some("node:0"), ..plain() }),
            ("1715508000123 info said", Line { at, ..plain() }),
            ("DEBUG said", plain()),
            ("agent-1  | INFO     said", plain()),
            ("Information said", Line { text: "Information said", ..plain() }),
            ("\u{1b}[1;32magent-1  | said\u{1b}[0m", plain()),
            ("[pod/agent-7/k8s-glue] said", plain()),
            ("May 12 10:00:00 node1 clearml-agent[7]: said", plain()),
            ("<14>May  1 10:00:00 node1 agent: INFO said", plain()),
            ("2024-05-12T10:00:00.123+0000 node1 clearml-agent[7]: said", Line { at, ..plain() }),
            (
                "2024-05-12 11:00:00.567 | [2024-05-12 10:00:00,123] [9] [INFO] [clearml.x] said",
                Line { at, logger: Some("clearml.x"), is_server: true, ..plain() },
            ),
            (
                "2024-05-12T11:00:00Z stdout F 2024-05-12 10:00:00,123 - trains.Task - INFO - said",
                Line { at, logger: Some("trains.Task"), ..plain() },
            ),
            (
                "[2024-05-12 10:00:00,123] [9] [INFO] [clearml.service_repo] said",
                Line { at, logger: Some("clearml.service_repo"), is_server: true, ..plain() },
            ),
            (
                "api | 2024-05-12T11:00:00Z stderr F [2024-05-12 10:00:00,123] [9] [INFO] [x] said",
                Line { at, logger: Some("x"), is_server: true, ..plain() },
            ),
        ] {
            assert_eq!(Line::of(record), expected, "{record}");
        }
        for record in [
            "[a] b",
            "[pod/",
            "May 12 10:00:00 ",
            "<1",
            "\u{1b}[m",
            "Máy 12 10:00:00 a b: c",
            "2024-é5-12 10:00:00 x",
            "2024-05-12 10:00:0",
            "9999999999999 ",
            "[",
            "| ",
        ] {
            assert_eq!(Line::of(record).logger, None, "{record}");
        }
    }
}
