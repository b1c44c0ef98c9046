//! What is to be read of a file, by what lies in it.

use super::content::{self, At, Encoding, Format, HEAD};
use super::fingerprint::LONGEST;
use super::tracked::Tracked;
use super::{BLOCK, Cut, Opened, Patience, Tail, TailSource, Trouble};
use std::fs::File;
use std::io::{self, Read};
use tracing::{info, warn};

/// Parts that are handed over together: each torn value is one, and a dead letter.
const MOST_PARTS: usize = 1024;

impl TailSource {
    pub(super) fn plain(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<(), Trouble> {
        let is_truncated = file.size < file.position;
        if is_truncated || !self.is_still(file, opened)? {
            info!(path = %file.path.display(), position = file.position, "was truncated or written anew");
            file.begin();
            // Its beginning may be what it was, but it is not as long.
            file.is_distinct = is_truncated;
        }
        if file.print.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            let whole = file.is_left_alone(self.patience.settle);
            file.format = content::format(&head, whole);
            // A line that was cut looks like the first of several.
            if file.format == Some(Format::Values)
                && !content::is_enclosed(&head)
                && content::complete(&head) == 0
                && head.len() < HEAD
                && !file.is_left_alone(self.patience.give_up)
            {
                file.format = None;
            }
            if file.format.is_none() || !self.identify(file, opened)? {
                file.waits = true;
                return Ok(());
            }
        }
        if file.from_end && file.print.is_none() {
            let end = match file.format {
                Some(Format::Lines) => line_end(opened.file, file.size)?,
                _ => file.size,
            };
            return self.hand_over(file, opened, Vec::new(), end);
        }
        match self.format(file, opened)? {
            Format::Foreign => self.foreign(file, opened),
            Format::Lines => {
                let reader = Box::new(At { file: opened.file, at: file.position });
                self.lines(file, opened, reader)
            }
            Format::Values => self.values(file, opened),
        }
    }

    pub(super) fn compressed(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
    ) -> Result<(), Trouble> {
        if !self.is_still(file, opened)? {
            file.begin();
        }
        if file.print.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            if head.is_empty() {
                return self.damaged(file, "holds nothing yet");
            }
            file.format = content::format(&head, true);
            if !self.identify(file, opened)? {
                file.waits = true;
                return Ok(());
            }
        }
        let format = self.format(file, opened)?;
        if format == Format::Foreign {
            return self.foreign(file, opened);
        }
        // How long it is: of lines, whether it is as long as what was read of them.
        let passes_all = format == Format::Values || file.from_end && file.print.is_none();
        let wanted = if passes_all { u64::MAX } else { file.position };
        let mut reader = content::open(opened.file, opened.encoding)?;
        let (passed, is_whole) = match pass(&mut reader, wanted) {
            Ok(passed) => (passed, true),
            Err((passed, cause)) => {
                if !file.is_left_alone(self.patience.give_up) {
                    file.waits = true;
                    return Ok(());
                }
                self.damaged(file, &cause.to_string())?;
                (passed, false)
            }
        };
        if passed < file.position {
            if is_whole {
                file.begin();
                file.is_distinct = true;
                file.waits = true;
            }
            return Ok(());
        }
        if file.from_end && file.print.is_none() {
            return self.hand_over(file, opened, Vec::new(), passed);
        }
        if format == Format::Lines {
            return self.lines(file, opened, reader);
        }
        if passed > file.position {
            // Compressed as it is: the intake bounds what comes out of it.
            let mut bytes = Vec::new();
            let mut plain = At { file: opened.file, at: 0 };
            content::fill(&mut plain, &mut bytes, self.tail.document_bytes)?;
            return self.hand_over(file, opened, vec![(bytes, Cut::Document)], passed);
        }
        Ok(())
    }

    /// Says once that what is compressed is damaged, when nobody is at it any more.
    pub(super) fn damaged(&self, file: &mut Tracked, cause: &str) -> Result<(), Trouble> {
        if !file.is_left_alone(self.patience.give_up) {
            file.waits = true;
        } else if !std::mem::replace(&mut file.damage_said, true) {
            let path = file.path.display();
            warn!(%path, cause, "cannot be decompressed to its end; what was read before it is kept");
        }
        Ok(())
    }

    /// How the file is read, which is seen from its beginning.
    pub(super) fn format(
        &self,
        file: &mut Tracked,
        opened: &Opened<'_>,
    ) -> Result<Format, Trouble> {
        if file.format.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            file.format = content::format(&head, true);
        }
        Ok(file.format.unwrap_or(Format::Lines))
    }

    /// Hands over whole lines from `file.position` on, which is where `reader` is.
    pub(super) fn lines(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        mut reader: Box<dyn Read + '_>,
    ) -> Result<(), Trouble> {
        let (mut held, mut wanted) = (Vec::new(), BLOCK);
        let longest = self.tail.record_bytes.saturating_add(1);
        let damage = loop {
            let (ended, damage) = match content::fill(&mut reader, &mut held, wanted) {
                Ok(ended) => (ended, None),
                Err(cause) if opened.encoding == Encoding::Plain => return Err(cause.into()),
                Err(cause) => (true, Some(cause)),
            };
            if file.is_skipping {
                let end = memchr::memchr(b'\n', &held);
                let passed = end.map_or(held.len(), |end| end + 1);
                held.drain(..passed);
                file.position += passed as u64;
                file.is_skipping = end.is_none();
            }
            // A writer that did not notice that its file was truncated leaves a hole.
            let hole = held.iter().take_while(|byte| **byte == 0).count();
            held.drain(..hole);
            file.position += hole as u64;
            if let Some(end) = memchr::memrchr(b'\n', &held) {
                let rest = held.split_off(end + 1);
                let block = std::mem::replace(&mut held, rest);
                self.hand_over_lines(file, opened, block)?;
                wanted = BLOCK;
            } else if held.len() >= longest {
                // Longer than any record may be, so it becomes a dead letter.
                let rest = held.split_off(longest);
                self.hand_over_lines(file, opened, std::mem::replace(&mut held, rest))?;
                file.is_skipping = true;
                continue;
            } else {
                wanted = (held.len() * 2).clamp(BLOCK, longest.max(BLOCK));
            }
            if ended {
                break damage;
            }
        };
        if let Some(cause) = &damage {
            self.damaged(file, &cause.to_string())?;
        }
        if held.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.is_last_line(file, opened, &held, damage.is_some()) {
            return self.hand_over_lines(file, opened, held);
        }
        // What is compressed and cut off changes before there is more of it.
        file.waits |= opened.encoding == Encoding::Plain;
        Ok(())
    }

    /// Whether a line without an end is taken as it is.
    pub(super) fn is_last_line(
        &self,
        file: &Tracked,
        opened: &Opened<'_>,
        line: &[u8],
        is_damaged: bool,
    ) -> bool {
        if opened.encoding != Encoding::Plain {
            return !is_damaged;
        }
        let Patience { settle, give_up, line: patience, .. } = self.patience;
        if file.is_rotated() {
            file.is_left_alone(give_up)
        } else if content::is_json(line) {
            // The rest of an object comes, whenever a buffer is written.
            file.is_left_alone(settle) && content::is_closed_json(line)
        } else {
            file.is_left_alone(patience)
        }
    }

    /// Hands over JSON values from `file.position` on, as far as they are complete.
    pub(super) fn values(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
    ) -> Result<(), Trouble> {
        if file.is_skipping {
            let (position, is_found) = content::next_start(opened.file, file.position)?;
            (file.position, file.is_skipping) = (position, !is_found);
            if !is_found {
                return Ok(());
            }
        }
        let mut reader = At { file: opened.file, at: file.position };
        let mut bytes = Vec::new();
        content::fill(&mut reader, &mut bytes, HEAD)?;
        if content::is_enclosed(&bytes) && !file.is_left_alone(self.patience.settle) {
            file.waits = true;
            return Ok(());
        }
        let Tail { document_bytes, record_bytes, .. } = self.tail;
        loop {
            let has_ended =
                content::fill(&mut reader, &mut bytes, document_bytes.saturating_add(1))?;
            let complete = content::complete(&bytes);
            let rest = bytes.split_off(complete);
            let end = file.position + complete as u64;
            if bytes.trim_ascii().is_empty() {
                file.position = end;
            } else {
                self.hand_over(file, opened, vec![(bytes, Cut::Document)], end)?;
            }
            bytes = rest;
            if complete > 0 && !has_ended {
                continue;
            }
            if bytes.trim_ascii().is_empty() {
                return Ok(());
            }
            let is_enclosed = content::is_enclosed(&bytes);
            let bound = if is_enclosed { document_bytes } else { record_bytes.min(document_bytes) };
            let is_left_alone = file.is_left_alone(self.patience.give_up);
            if bytes.len() <= bound && !is_left_alone {
                file.waits = true;
                return Ok(());
            }
            // The intake says what is wrong with it.
            if is_enclosed {
                let end = file.size.max(file.position + bytes.len() as u64);
                return self.hand_over(file, opened, vec![(bytes, Cut::Document)], end);
            }
            let blank = bytes.len() - bytes.trim_ascii_start().len();
            if let Some(last) = content::starts(&bytes[blank..]).last() {
                let rest = bytes.split_off(blank + last);
                self.hand_over_torn(file, opened, &bytes)?;
                bytes = rest;
                continue;
            }
            let end = file.position + bytes.len() as u64;
            self.hand_over(file, opened, vec![(bytes, Cut::Document)], end)?;
            // What is left of it belongs to it, and not to a record of its own.
            file.is_skipping = !(has_ended && is_left_alone);
            file.waits = file.is_skipping;
            return Ok(());
        }
    }

    /// Hands over values, of which the first does not end, up to the end of `bytes`. Each line that
    /// begins as a value does begins one, so that what is torn takes no other with it.
    fn hand_over_torn(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        let (mut parts, mut is_whole_before) = (Vec::<(Vec<u8>, Cut)>::new(), false);
        let (mut from, mut handed) = (0, 0);
        for start in content::starts(bytes).chain([bytes.len()]) {
            let value = &bytes[from..start];
            from = start;
            let is_whole = content::complete(value) == value.len();
            match parts.last_mut() {
                Some((part, _)) if is_whole && is_whole_before => part.extend_from_slice(value),
                _ => parts.push((value.to_vec(), Cut::Document)),
            }
            is_whole_before = is_whole;
            let is_full = start - handed >= BLOCK || parts.len() >= MOST_PARTS;
            if is_full || start == bytes.len() {
                let end = file.position + (start - handed) as u64;
                self.hand_over(file, opened, std::mem::take(&mut parts), end)?;
                handed = start;
            }
        }
        Ok(())
    }

    /// Hands over the beginning of what is no text, once: it becomes a dead letter.
    pub(super) fn foreign(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
    ) -> Result<(), Trouble> {
        if file.print.is_some() {
            return Ok(());
        }
        let head = content::beginning(opened.file, opened.encoding, HEAD)?;
        let end = head.len() as u64;
        self.hand_over(file, opened, vec![(head, Cut::Document)], end)
    }
}

/// Reads over so many bytes; fewer where the content ends before.
///
/// Errors: those of reading, with how far it came.
fn pass(reader: &mut dyn Read, bytes: u64) -> Result<u64, (u64, io::Error)> {
    let (mut passed, mut buffer) = (0, vec![0; HEAD]);
    while passed < bytes {
        let most = usize::try_from(bytes - passed).unwrap_or(HEAD).min(HEAD);
        match reader.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => passed += read as u64,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err((passed, cause)),
        }
    }
    Ok(passed)
}

/// Where the last line of a file ends, or the file itself where it has no line that is not longer
/// than any may be.
fn line_end(file: &File, size: u64) -> io::Result<u64> {
    let from = size.saturating_sub(LONGEST as u64);
    let mut tail = Vec::new();
    content::fill(&mut At { file, at: from }, &mut tail, LONGEST)?;
    Ok(memchr::memrchr(b'\n', &tail).map_or(size, |end| from + end as u64 + 1))
}
