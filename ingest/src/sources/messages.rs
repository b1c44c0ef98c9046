//! Messages that are handed over together: those of one line by their parser, every other by itself.

use super::delivery::Piece;
use crate::parsers::Parser;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Messages on their way into one delivery.
#[derive(Default)]
pub struct Messages {
    /// By the name of the parser.
    lines: BTreeMap<Option<&'static str>, Lines>,
    others: Vec<Piece>,
}

/// Messages of one line each, with their positions.
#[derive(Default)]
struct Lines {
    parser: Option<&'static dyn Parser>,
    bytes: Vec<u8>,
    positions: Vec<u64>,
}

impl Messages {
    /// Adds a message that is one line, without its end.
    pub fn line(&mut self, parser: Option<&'static dyn Parser>, text: &[u8], position: u64) {
        let lines = self.lines.entry(parser.map(|parser| parser.name())).or_default();
        lines.parser = parser;
        lines.bytes.extend_from_slice(text);
        lines.bytes.push(b'\n');
        lines.positions.push(position);
    }

    /// Adds a message that is framed by itself.
    pub fn other(&mut self, parser: Option<&'static dyn Parser>, bytes: &[u8], position: u64) {
        self.others.push(piece(parser, Bytes::copy_from_slice(bytes), false, vec![position]));
    }

    /// The pieces, lines first; `origin` tells each, by its number among them, from every other.
    pub fn into_pieces(self, origin: impl Fn(usize, &Piece) -> String) -> Vec<Piece> {
        let lines = self.lines.into_values();
        let lines = lines.map(|own| piece(own.parser, own.bytes.into(), true, own.positions));
        let mut pieces: Vec<Piece> = lines.chain(self.others).collect();
        for (number, piece) in pieces.iter_mut().enumerate() {
            piece.origin = origin(number, piece).into();
        }
        pieces
    }
}

fn piece(
    parser: Option<&'static dyn Parser>,
    bytes: Bytes,
    are_lines: bool,
    positions: Vec<u64>,
) -> Piece {
    Piece { parser, origin: Default::default(), bytes, are_lines, offsets: positions.into() }
}
