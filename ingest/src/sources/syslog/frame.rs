//! A stream of bytes cut into messages, by RFC 6587: `LENGTH SPACE MESSAGE`, or a message to the end
//! of its line. Each message says by its first byte which of the two it is.
//! <https://www.rfc-editor.org/rfc/rfc6587#section-3.4>

use crate::payload::Single;
use bytes::{Buf, Bytes, BytesMut};
use std::borrow::Cow;

/// Bytes of what is no message that are kept of it.
const HEAD_BYTES: usize = Single::MAX_BYTES;
/// A longer number is no length.
const LENGTH_DIGITS: usize = 9;
/// Bytes that are read at once, adapted to how much comes.
const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=32 << 10;

#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Message(Bytes),
    /// What is no message: its beginning, and why.
    Broken(Bytes, Cow<'static, str>),
}

/// Cuts what one connection sends.
pub struct Framer {
    held: BytesMut,
    /// Bytes of `held` in which no line ends.
    searched: usize,
    passing_over: Option<Rest>,
    /// Bytes of the longest message.
    limit: usize,
    chunk: usize,
}

/// The rest of a message that is not kept.
#[derive(Clone, Copy)]
enum Rest {
    Bytes(usize),
    Line,
}

/// How the message lies that `held` begins with.
enum Layout {
    /// So many bytes of it, behind so many.
    Counted {
        from: usize,
        len: usize,
    },
    Line,
    /// Not enough has come to tell.
    Unknown,
}

impl Framer {
    pub fn new(limit: usize) -> Self {
        let held = BytesMut::new();
        Self { held, searched: 0, passing_over: None, limit, chunk: *CHUNK.start() }
    }

    /// Where the next bytes go. A connection that is silent holds little.
    pub fn room(&mut self) -> &mut BytesMut {
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        self.held.reserve(self.chunk);
        &mut self.held
    }

    /// Says how many bytes came at once.
    pub fn came(&mut self, bytes: usize) {
        let next = if bytes >= self.chunk { self.chunk * 2 } else { bytes * 2 };
        self.chunk = next.clamp(*CHUNK.start(), *CHUNK.end());
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// The next message, once all of it has come.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if !self.pass_over() {
            return None;
        }
        // Nothing begins with these, and some senders end a counted message with one.
        let blank = self.held.iter().take_while(|byte| is_blank(**byte)).count();
        if blank > 0 {
            self.held.advance(blank);
            self.searched = 0;
        }
        if self.held.is_empty() {
            return None;
        }
        match self.layout() {
            Layout::Unknown => None,
            Layout::Counted { from, len } if len > self.limit => {
                (self.held.len() >= from + self.kept()).then(|| self.too_long())
            }
            Layout::Counted { from, len } => (self.held.len() >= from + len).then(|| {
                self.held.advance(from);
                self.message(len)
            }),
            Layout::Line => {
                let end = memchr::memchr(b'\n', &self.held[self.searched..]);
                match end.map(|at| at + self.searched) {
                    Some(end) if end <= self.limit => Some(self.message(end)),
                    None if self.held.len() <= self.limit => {
                        self.searched = self.held.len();
                        None
                    }
                    _ => Some(self.too_long()),
                }
            }
        }
    }

    /// What is left when no more bytes come. A line that is not ended is a message where the
    /// sender has `closed` the connection, and is cut off where it broke.
    pub fn end(&mut self, closed: bool) -> Option<Frame> {
        if self.passing_over.is_some() || self.held.iter().all(|byte| is_blank(*byte)) {
            return None;
        }
        match self.layout() {
            Layout::Line | Layout::Unknown if closed => Some(self.message(self.held.len())),
            _ => Some(self.give_up("the connection ended within the message")),
        }
    }

    /// Takes the message that is coming for broken and passes over its rest.
    pub fn give_up(&mut self, why: impl Into<Cow<'static, str>>) -> Frame {
        let rest = match self.layout() {
            Layout::Counted { from, len } => {
                self.held.advance(from);
                Rest::Bytes(len)
            }
            _ => Rest::Line,
        };
        let head = Bytes::copy_from_slice(&self.held[..self.held.len().min(self.kept())]);
        self.passing_over = Some(rest);
        self.searched = 0;
        Frame::Broken(head, why.into())
    }

    fn too_long(&mut self) -> Frame {
        let limit = self.limit;
        self.give_up(format!("the message is longer than {limit} bytes"))
    }

    /// Bytes that are kept of a message that is too long.
    fn kept(&self) -> usize {
        HEAD_BYTES.min(self.limit)
    }

    fn message(&mut self, len: usize) -> Frame {
        self.searched = 0;
        Frame::Message(self.held.split_to(len).freeze())
    }

    /// Whether nothing is to be passed over any more.
    fn pass_over(&mut self) -> bool {
        let (bytes, rest) = match self.passing_over {
            None => return true,
            Some(Rest::Bytes(bytes)) => match self.held.len() {
                held if held >= bytes => (bytes, None),
                held => (held, Some(Rest::Bytes(bytes - held))),
            },
            Some(Rest::Line) => match memchr::memchr(b'\n', &self.held) {
                Some(end) => (end + 1, None),
                None => (self.held.len(), Some(Rest::Line)),
            },
        };
        self.held.advance(bytes);
        self.passing_over = rest;
        rest.is_none()
    }

    /// A number and a space are a length. One beyond the limit is believed only where a header
    /// follows it, so that a line that begins with a date does not swallow what comes behind it.
    fn layout(&self) -> Layout {
        let digits = self.held.iter().take(LENGTH_DIGITS + 1).take_while(|b| b.is_ascii_digit());
        let digits = digits.count();
        if digits == 0 || digits > LENGTH_DIGITS || self.held[0] == b'0' {
            return Layout::Line;
        }
        match self.held.get(digits) {
            None => return Layout::Unknown,
            Some(b' ') => {}
            Some(_) => return Layout::Line,
        }
        let number = self.held[..digits].iter();
        let len = number.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let from = digits + 1;
        match self.held.get(from) {
            _ if len <= self.limit => Layout::Counted { from, len },
            None => Layout::Unknown,
            Some(b'<') => Layout::Counted { from, len },
            Some(_) => Layout::Line,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 40;

    /// The frames of a stream that comes in pieces of these lengths, again and again.
    fn frames(stream: &[u8], cuts: &[usize], closed: bool) -> Vec<Frame> {
        let (mut framer, mut frames) = (Framer::new(LIMIT), Vec::new());
        let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            framer.room().extend_from_slice(now);
            framer.came(now.len());
            frames.extend(std::iter::from_fn(|| framer.next_frame()));
            rest = later;
        }
        frames.extend(framer.end(closed));
        frames
    }

    fn said(frames: &[Frame]) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let said = frames.iter().map(|frame| match frame {
            Frame::Message(bytes) => text(bytes),
            Frame::Broken(head, why) => format!("! {} | {why}", text(head)),
        });
        said.collect()
    }

    #[test]
    fn both_framings_are_told_apart_message_by_message() {
        let stream = b"5 <1>ab<2>line\r\n7 <3>{\n\n}\n\n<4>last";
        assert_eq!(
            said(&frames(stream, &[3], true)),
            ["<1>ab", "<2>line\r", "<3>{\n\n}", "<4>last"]
        );
    }

    #[test]
    fn a_number_that_is_no_length_begins_a_line() {
        let stream = b"2026-03-01 a\n20260301 12:00 b\n1234567890 c\n0 d\n3 abc3 def";
        assert_eq!(
            said(&frames(stream, &[100], true)),
            ["2026-03-01 a", "20260301 12:00 b", "1234567890 c", "0 d", "abc", "def"]
        );
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_the_next_is_read() {
        let long = "x".repeat(1000);
        let stream = format!("<1>a\n<2>{long}\n<3>b\n1003 <4>{long}4 <5>c<6>d\n");
        let why = "the message is longer than 40 bytes";
        let head = |pri: &str| format!("! {pri}{} | {why}", &long[..37]);
        assert_eq!(
            said(&frames(stream.as_bytes(), &[7], true)),
            ["<1>a", &head("<2>"), "<3>b", &head("<4>"), "<5>c", "<6>d"]
        );
    }

    #[test]
    fn what_a_connection_leaves_unfinished_is_said() {
        let why = "the connection ended within the message";
        assert_eq!(said(&frames(b"9 <1>abc", &[2], true)), [format!("! <1>abc | {why}")]);
        assert_eq!(said(&frames(b"<1>abc", &[2], false)), [format!("! <1>abc | {why}")]);
        assert_eq!(said(&frames(b"12", &[2], true)), ["12"]);
        assert!(frames(b"\n\0\r\n", &[1], true).is_empty());
    }

    #[test]
    fn a_message_that_is_given_up_is_passed_over() {
        for stream in [&b"20 <1>aaaaaaaaaaaaaaaaa<2>b\n"[..], b"<1>aaaaaaa\n<2>b\n"] {
            let mut framer = Framer::new(LIMIT);
            framer.room().extend_from_slice(&stream[..8]);
            assert_eq!(framer.next_frame(), None);
            assert!(matches!(framer.give_up("no room"), Frame::Broken(..)));
            framer.room().extend_from_slice(&stream[8..]);
            assert_eq!(framer.next_frame(), Some(Frame::Message(Bytes::from_static(b"<2>b"))));
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            parts in prop::collection::vec("[0-9]{0,3} ?<?[a-c<>0-9 \n\0]{0,60}", 0..12),
            cuts in prop::collection::vec(1..20_usize, 1..8),
            closed in any::<bool>(),
        ) {
            let stream = parts.concat();
            let whole = frames(stream.as_bytes(), &[usize::MAX], closed);
            prop_assert_eq!(frames(stream.as_bytes(), &cuts, closed), whole);
        }

        #[test]
        fn every_message_arrives_as_it_was_sent(
            messages in prop::collection::vec(("<[0-9]{1,3}>[a-z{}\" ]{1,20}[a-z]", any::<bool>()), 0..12),
            cuts in prop::collection::vec(1..20_usize, 1..8),
        ) {
            let stream: String = messages.iter().map(|(text, counted)| match counted {
                true => format!("{} {text}", text.len()),
                false => format!("{text}\n"),
            }).collect();
            let texts: Vec<String> = messages.into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(said(&frames(stream.as_bytes(), &cuts, true)), texts);
        }
    }
}
