//! What lies in a file: plain or compressed, lines or documents.

use crate::container::{Found, Framing, Walk, has_record, is_wrapper, sniff};
use crate::json::Marks;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Bytes at the beginning that say how a file is to be read.
pub const HEAD: usize = 64 << 10;
/// Bytes of what is compressed that are read at once.
const BUFFER: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A record on each line, which is read as soon as it ends.
    Lines,
    /// JSON values: an array, a wrapper, objects over several lines.
    Values,
    /// An archive, an image: no text.
    Foreign,
}

const MAGIC: [(Encoding, &[u8]); 2] =
    [(Encoding::Gzip, &[0x1f, 0x8b]), (Encoding::Zstd, &[0x28, 0xb5, 0x2f, 0xfd])];

/// `None` where the bytes are too few to tell.
pub fn encoding(head: &[u8]) -> Option<Encoding> {
    for (encoding, magic) in MAGIC {
        if head.starts_with(magic) {
            return Some(encoding);
        }
        if magic.starts_with(head) {
            return None;
        }
    }
    Some(Encoding::Plain)
}

/// A file from a byte on. Readers of the same file do not disturb each other.
pub struct At<'f> {
    pub file: &'f File,
    pub at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The content of a file from its beginning, without its compression.
pub fn open(file: &File, encoding: Encoding) -> io::Result<Box<dyn Read + '_>> {
    let plain = At { file, at: 0 };
    Ok(match encoding {
        Encoding::Plain => Box::new(plain),
        Encoding::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, plain)))
        }
        Encoding::Zstd => {
            Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, plain))?)
        }
    })
}

/// At most so many bytes of the beginning; fewer where it is cut off or damaged.
pub fn beginning(file: &File, encoding: Encoding, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    match fill(&mut open(file, encoding)?, &mut head, bytes) {
        Err(cause) if encoding == Encoding::Plain => Err(cause),
        _ => Ok(head),
    }
}

/// Reads on until `buffer` holds so many bytes; whether the content has ended.
///
/// Errors: those of reading; what was read before stays in the buffer.
pub fn fill(reader: &mut dyn Read, buffer: &mut Vec<u8>, wanted: usize) -> io::Result<bool> {
    let wanted = wanted.saturating_sub(buffer.len()) as u64;
    Ok((reader.take(wanted).read_to_end(buffer)? as u64) < wanted)
}

/// How a file that begins so is to be read; `None` where more of it is needed to tell.
/// `whole`: nothing more is expected.
pub fn format(head: &[u8], whole: bool) -> Option<Format> {
    let blank = head.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0).count();
    let text = &head[blank..];
    let text = text.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(text);
    let whole = whole || head.len() >= HEAD;
    if text.is_empty() {
        return (head.len() >= HEAD).then_some(Format::Lines);
    }
    if is_foreign(text) && !has_record(text) {
        return Some(Format::Foreign);
    }
    if !matches!(text[0], b'{' | b'[' | 0x1e) {
        return Some(Format::Lines);
    }
    let is_line = text.contains(&b'\n');
    let is_bare = text.trim_ascii().len() == 1;
    if !whole && (!is_line || is_bare) {
        return None;
    }
    // One long line that has not ended is no document yet, unless its beginning says so.
    Some(match sniff(text, whole && head.len() < HEAD) {
        Framing::Lines | Framing::LinesAt => Format::Lines,
        Framing::Values => Format::Values,
    })
}

fn is_foreign(text: &[u8]) -> bool {
    const MAGIC: [&[u8]; 7] =
        [b"PK\x03\x04", b"PK\x05\x06", b"BZh", b"\xfd7zXZ", b"PAR1", b"\xff\xfe", b"\xfe\xff"];
    // A log whose writer crashed holds a few NULs, what is binary holds many.
    let head = &text[..text.len().min(8192)];
    let nuls = memchr::memchr_iter(0, head).count();
    nuls * 10 > head.len() || MAGIC.iter().any(|magic| text.starts_with(magic))
}

/// Whether values that begin so are part of something that has an end.
pub fn is_enclosed(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    head.starts_with(b"[") || is_wrapper(head)
}

/// Where lines begin, but for the first, that begin as values do which follow one another.
pub fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let lines = memchr::memchr_iter(b'\n', bytes).map(|end| end + 1);
    lines.filter(|start| matches!(bytes.get(*start), Some(b'{' | 0x1e)))
}

/// Where the first line that begins so begins at or behind `from`; else where the file ends, and
/// `false`.
pub fn next_start(file: &File, from: u64) -> io::Result<(u64, bool)> {
    // The byte before says whether a line begins there.
    let mut at = from.saturating_sub(1);
    loop {
        let mut bytes = Vec::new();
        let has_ended = fill(&mut At { file, at }, &mut bytes, HEAD)?;
        match starts(&bytes).next() {
            Some(start) => return Ok((at + start as u64, true)),
            None if has_ended => return Ok((at + bytes.len() as u64, false)),
            None => at += bytes.len() as u64 - 1,
        }
    }
}

/// Bytes up to where the last value ends that lies in nothing unfinished.
pub fn complete(bytes: &[u8]) -> usize {
    let marks = Marks::of(bytes);
    // JSON's strings have no line ends: one that seems to hold the beginning of a value has lost its
    // own end, and another such string only seems to close it.
    let torn = starts(bytes).find(|start| marks.is_in_string(*start)).unwrap_or(usize::MAX);
    let (mut walk, mut at, mut end) = (Walk::default(), 0, 0);
    loop {
        match walk.next(&marks, bytes, &mut at) {
            _ if at > torn => return end,
            Found::Cut(_) => return end,
            Found::Record(..) | Found::Junk(_) if walk.is_closed() => end = at,
            Found::Record(..) | Found::Junk(_) => {}
            Found::End if walk.is_closed() => return at,
            Found::End => return end,
        }
    }
}

/// Whether a line that has no end is JSON that has one.
pub fn is_closed_json(line: &[u8]) -> bool {
    let text = line.trim_ascii();
    is_json(text) && Marks::of(text).close_of(0) == Some(text.len() - 1)
}

pub fn is_json(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_its_beginning_says() {
        let growing = |text: &str| format(text.as_bytes(), false);
        assert_eq!(growing(""), None);
        assert_eq!(growing("{\"a\":1"), None);
        assert_eq!(growing("{\"a\":1}"), None);
        assert_eq!(growing("[\n"), None);
        assert_eq!(growing("{\"a\":1}\n{\"b\""), Some(Format::Lines));
        assert_eq!(growing("{\"Records\":[{\"a\":1}]}\n"), Some(Format::Lines));
        assert_eq!(growing("[\n{\"a\":1},"), Some(Format::Values));
        assert_eq!(growing("{\n  \"a\": 1\n}"), Some(Format::Values));
        assert_eq!(growing("\u{1e}{\"a\":1}\n"), Some(Format::Values));
        assert_eq!(growing("2026-03-01 text"), Some(Format::Lines));
        assert_eq!(growing("PK\u{3}\u{4}"), Some(Format::Foreign));
        assert_eq!(growing("PAR1 is a line\n{\"a\":1}\n"), Some(Format::Lines));
        assert_eq!(growing("{\"a\":1}\n\0\n{\"a\":2}\n"), Some(Format::Lines));
        assert_eq!(growing("\x7fELF\u{2}\0\0\0\0\n"), Some(Format::Foreign));
        assert_eq!(format(b"{\"Records\":[{\"a\":1}]}", true), Some(Format::Values));
        let long = format!("{{\"a\":\"{}", "x".repeat(HEAD));
        assert_eq!(growing(&long[..HEAD]), Some(Format::Lines));
        let long = format!("{{\"Records\":[{{\"a\":\"{}", "x".repeat(HEAD));
        assert_eq!(growing(&long[..HEAD]), Some(Format::Values));
    }

    #[test]
    fn values_are_complete_up_to_the_last_that_ended() {
        for (text, complete_to) in [
            ("{\n\"a\":1\n}\n{\n\"b\"", 9),
            ("{\"Records\":[{\"a\":1},{\"b\":2}]}", 29),
            ("{\"Records\":[{\"a\":1},", 0),
            ("[{\"a\":1}", 0),
            ("[{\"a\":1}]\n", 10),
            ("{\n\"a\":1\n}\n{\n\"b\":\"\n}\n{\n\"c\":\"\n}\n", 9),
        ] {
            assert_eq!(complete(text.as_bytes()), complete_to, "{text}");
        }
    }
}
