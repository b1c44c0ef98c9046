//! However a stream of syslog messages is cut, the messages are the same, and what is read of one is
//! a part of it. The first two bytes say how the stream is cut and how it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_ingest::sources::syslog::frame::{Frame, Framer};
use telltale_ingest::sources::syslog::header;

/// Bytes of the longest message.
const LIMIT: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let Some(([piece, end], stream)) = bytes.split_first_chunk() else { return };
    let closed = end % 2 == 0;
    let whole = frames(stream, stream.len(), closed);
    assert_eq!(frames(stream, usize::from(*piece), closed), whole);
    for frame in &whole {
        match frame {
            Frame::Message(message) => {
                assert!(message.len() <= LIMIT);
                let Ok(text) = std::str::from_utf8(message) else { continue };
                let Ok(read) = header::read(text) else { continue };
                assert!(!read.text.is_empty() && text.contains(read.text));
                assert!(read.app.is_none_or(|app| text.contains(app)));
            }
            Frame::Broken(head, _) => assert!(head.len() <= LIMIT),
        }
    }
});

/// The frames of a stream that comes in pieces of this length.
fn frames(stream: &[u8], piece: usize, closed: bool) -> Vec<Frame> {
    let (mut framer, mut frames) = (Framer::new(LIMIT), Vec::new());
    for piece in stream.chunks(piece.max(1)) {
        framer.room().extend_from_slice(piece);
        framer.came(piece.len());
        frames.extend(std::iter::from_fn(|| framer.next_frame()));
    }
    frames.extend(framer.end(closed));
    frames
}
