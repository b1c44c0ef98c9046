//! Which file it is, and what of it goes to the journal.

use super::content::{self, Encoding};
use super::fingerprint::{FULL, Fingerprint, LONGEST};
use super::tracked::Tracked;
use super::{Cut, Opened, SOURCE, TailSource, Trouble};
use crate::sources::delivery::{Delivery, Piece, Refusal, store};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::debug;

impl TailSource {
    /// Whether a file begins as it did.
    pub(super) fn is_still(&self, file: &Tracked, opened: &Opened<'_>) -> Result<bool, Trouble> {
        let Some(start) = file.start else { return Ok(true) };
        let head = content::beginning(opened.file, opened.encoding, start.len())?;
        Ok(start.is_of(&head))
    }

    /// Finds out whether the journal knows a file by its beginning; not where one has to wait to
    /// tell.
    pub(super) fn identify(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
    ) -> Result<bool, Trouble> {
        if file.is_distinct {
            return Ok(true);
        }
        let bytes = self.rows.longest().max(FULL);
        let head = content::beginning(opened.file, opened.encoding, bytes)?;
        let Some((print, row)) = self.rows.find(&head) else { return Ok(true) };
        if opened.encoding == Encoding::Plain && file.size < row.position {
            // A copy that is being made, or another file that begins so.
            let is_other = file.is_left_alone(self.patience.give_up);
            file.is_distinct = is_other;
            return Ok(is_other);
        }
        let position = row.position;
        let holder = row.holder.filter(|holder| *holder != opened.id);
        let holder = holder.and_then(|holder| self.files.get(&holder));
        let is_held = match holder.filter(|holder| holder.print == Some(print)) {
            Some(holder) => {
                // Two files at the same time: one is the copy of the other, or only begins so.
                let compared = usize::try_from(position).unwrap_or(LONGEST).min(LONGEST);
                let other = holder.beginning(compared).unwrap_or_default();
                let is_there = other.len() == compared && print.is_of(&other);
                let own = content::beginning(opened.file, opened.encoding, compared)?;
                if is_there && own != other {
                    file.is_distinct = true;
                    return Ok(true);
                }
                is_there
            }
            None => false,
        };
        (file.name, file.position) = (Arc::clone(&row.name), position);
        let start = usize::try_from(position).unwrap_or(FULL).min(FULL).min(head.len());
        file.start = Some(Fingerprint::of(&head[..start]));
        file.print = Some(print);
        if !is_held {
            self.rows.hold(print, opened.id);
        }
        debug!(path = %file.path.display(), name = %file.name, position, "reads on");
        Ok(true)
    }

    pub(super) fn hand_over_lines(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        block: Vec<u8>,
    ) -> Result<(), Trouble> {
        let end = file.position + block.len() as u64;
        if block.trim_ascii().is_empty() {
            file.position = end;
            return Ok(());
        }
        self.hand_over(file, opened, vec![(block, Cut::Lines)], end)
    }

    /// Stores what lies between `file.position` and `end`, in parts one behind another, and goes on
    /// there.
    pub(super) fn hand_over(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        parts: Vec<(Vec<u8>, Cut)>,
        end: u64,
    ) -> Result<(), Trouble> {
        if opened.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopped);
        }
        let covered = usize::try_from(end).unwrap_or(FULL).min(FULL);
        // After the bytes were read: they are of the file that begins so.
        let head = content::beginning(opened.file, opened.encoding, covered)?;
        if head.len() < covered || file.start.is_some_and(|start| !start.is_of(&head)) {
            return Err(Trouble::Changed);
        }
        if file.position == 0
            && let Some((bytes, Cut::Lines)) = parts.first()
            && !bytes.starts_with(&head[..bytes.len().min(covered)])
        {
            return Err(Trouble::Changed);
        }
        let start = Fingerprint::of(&head);
        let print = self.print(file, opened, start, end)?;
        let mut next = file.position;
        let pieces = parts.into_iter().map(|(bytes, cut)| {
            let from = next;
            next += bytes.len() as u64;
            Piece {
                parser: self.parser,
                origin: match cut {
                    Cut::Lines => format!("files:{:016x}", start.hash()).into(),
                    Cut::Document => format!("files:{:016x}:{from}", start.hash()).into(),
                },
                bytes: bytes.into(),
                are_lines: cut == Cut::Lines,
                offsets: if cut == Cut::Lines { [from].into() } else { Arc::default() },
            }
        });
        let delivery = Delivery {
            source: SOURCE.into(),
            partition: print.partition(&file.name).into(),
            pieces: pieces.collect(),
            rejected: Vec::new(),
            position: Some(end),
        };
        let ends =
            |cause: &Refusal| *cause == Refusal::Closed || opened.stop.load(Ordering::Relaxed);
        let stored = opened.runtime.block_on(store(self.take.as_ref(), delivery, ends));
        stored.map_err(|_| Trouble::Stopped)?;
        (file.start, file.print) = (Some(start), Some(print));
        (file.position, file.from_end) = (end, false);
        self.rows.note(print, Arc::clone(&file.name), end, Some(opened.id));
        Ok(())
    }

    /// By what a file is known once it is read up to `end`.
    pub(super) fn print(
        &self,
        file: &Tracked,
        opened: &Opened<'_>,
        start: Fingerprint,
        end: u64,
    ) -> io::Result<Fingerprint> {
        match file.print {
            Some(print) if print.len() >= FULL => return Ok(print),
            _ => {}
        }
        let is_free = self.rows.get(start).is_none_or(|row| row.position == end);
        if start.len() < FULL || is_free {
            return Ok(start);
        }
        // Another file begins so, and was read elsewhere.
        let covered = usize::try_from(end).unwrap_or(LONGEST).min(LONGEST);
        let longer = content::beginning(opened.file, opened.encoding, covered)?;
        Ok(Fingerprint::of(&longer))
    }
}
