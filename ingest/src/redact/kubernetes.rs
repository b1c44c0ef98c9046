//! Kubernetes Secrets: in an object with `"kind":"Secret"` every string of `data` and `stringData`
//! is a secret, whatever its name.

use super::Secret;

/// Depth of objects that is followed; what lies deeper is not told apart.
const MAX_DEPTH: usize = 256;

/// What the search has found, at most once for each depth of JSON within JSON.
#[derive(Default)]
pub(super) struct Searched {
    /// Bit `i`: the search for quotes with `i` backslashes is done.
    done: u8,
    pub found: Vec<Secret>,
}

/// An object or array that is open.
struct Frame {
    is_array: bool,
    key: Member,
    /// It has `"kind":"Secret"`.
    is_secret: bool,
    /// It is the `data` or `stringData` of the object around it.
    is_data: bool,
    /// Strings that waited when it was opened.
    waiting: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    /// A key is expected.
    None,
    Kind,
    Data,
    Other,
}

impl Searched {
    /// Searches the whole payload for Secrets whose quotes have `escapes` backslashes.
    pub fn search(&mut self, bytes: &[u8], escapes: usize) {
        let bit = 1_u8.checked_shl(escapes as u32).unwrap_or(0);
        if bit == 0 || self.done & bit != 0 {
            return;
        }
        self.done |= bit;
        let depth = escapes.count_ones() as u8 + 1;
        let mut reader =
            Reader { frames: Vec::new(), waiting: Vec::new(), depth, found: &mut self.found };
        reader.read(bytes, escapes);
    }
}

struct Reader<'a> {
    frames: Vec<Frame>,
    /// Strings of a `data`, while it is not known yet whether it is a Secret's.
    waiting: Vec<Secret>,
    depth: u8,
    found: &'a mut Vec<Secret>,
}

impl Reader<'_> {
    fn read(&mut self, bytes: &[u8], level: usize) {
        let mut string = None;
        let mut escapes = 0;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\\' => {
                    escapes += 1;
                    continue;
                }
                b'"' if escapes % (2 * (level + 1)) == level => match string.take() {
                    None => string = Some(at + 1),
                    Some(start) => self.string(bytes, start, at - level),
                },
                // The end of a string around: what was open at this level is cut off.
                b'"' if escapes % (level + 1) != level => {
                    string = None;
                    self.close_all();
                }
                b'\n' => string = None,
                b'{' | b'[' if string.is_none() => self.open(*byte == b'['),
                b'}' | b']' if string.is_none() => self.close(),
                b',' if string.is_none() => self.next_member(),
                _ => {}
            }
            escapes = 0;
        }
        self.close_all();
    }

    fn string(&mut self, bytes: &[u8], start: usize, end: usize) {
        let Some(frame) = self.frames.last_mut() else { return };
        let text = &bytes[start..end];
        match (frame.is_array, frame.key) {
            (false, Member::None) => {
                frame.key = match text {
                    b"kind" => Member::Kind,
                    b"data" | b"stringData" => Member::Data,
                    _ => Member::Other,
                };
            }
            (false, Member::Kind) if text == b"Secret" => frame.is_secret = true,
            _ if frame.is_data && !super::names::is_masked(text) => {
                self.waiting.push(Secret { start, end, depth: self.depth });
            }
            _ => {}
        }
    }

    fn open(&mut self, is_array: bool) {
        if self.frames.len() >= MAX_DEPTH {
            self.close_all();
        }
        let is_data =
            !is_array && self.frames.last().is_some_and(|around| around.key == Member::Data);
        self.frames.push(Frame {
            is_array,
            key: Member::None,
            is_secret: false,
            is_data,
            waiting: self.waiting.len(),
        });
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.is_secret {
            self.found.extend(self.waiting.drain(frame.waiting..));
        } else if !frame.is_data {
            self.waiting.truncate(frame.waiting);
        }
    }

    fn close_all(&mut self) {
        while !self.frames.is_empty() {
            self.close();
        }
        self.waiting.clear();
    }

    fn next_member(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.key = Member::None;
        }
    }
}
