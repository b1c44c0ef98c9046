//! Marks of a record: one bit a byte for quotes that begin or end a string, and for brackets
//! outside strings; and the quotes once more as a list, which a reader goes along without asking
//! each time how far the next one is.

use std::ops::Range;

/// Bytes that one step looks at.
const BLOCK: usize = 64;

/// Bytes for whose quotes there is room on the list before any is looked at: whole blocks.
const PIECE: usize = 64 * BLOCK;

/// Quotes of a block that are listed without asking whether there are so many.
const USUAL_QUOTES: usize = 16;

/// Marks of one record. Bit `i % 64` of word `i / 64` speaks of byte `i`.
#[derive(Default)]
pub(super) struct Index {
    /// Of `blocks` blocks; what is behind them is another record's.
    words: Vec<Word>,
    blocks: usize,
    /// Positions of the quotes, in order; nothing that matters behind the first `listed`.
    positions: Vec<u32>,
    listed: usize,
    /// From the first block with a backslash to behind the last one.
    escapes: Range<usize>,
}

/// The marks of 64 bytes.
#[derive(Clone, Copy, Default)]
struct Word {
    /// Quotes that are not escaped: an opening one, then its closing one, and so on.
    quotes: u64,
    /// `{` and `[` outside strings.
    opens: u64,
    /// `}` and `]` outside strings.
    closes: u64,
    /// How many quotes are before them.
    before: usize,
}

/// What the vector step sees in one block.
struct Seen {
    backslash: u64,
    quote: u64,
    open: u64,
    close: u64,
}

impl Seen {
    /// The same without the first bytes, which another block had.
    #[inline(always)]
    fn behind(self, bytes: usize) -> Self {
        Self {
            backslash: self.backslash >> bytes,
            quote: self.quote >> bytes,
            open: self.open >> bytes,
            close: self.close >> bytes,
        }
    }
}

/// State between blocks.
#[derive(Default)]
struct Carry {
    /// Where the next block begins.
    start: usize,
    /// As in [`Index`], so far.
    listed: usize,
    escapes: Range<usize>,
    /// 1 when the first byte of the next block is escaped.
    escaped: u64,
    /// All ones when the next block begins inside a string.
    in_string: u64,
}

impl Index {
    /// Marks `bytes`, which end for it where positions on the list do.
    pub fn build(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            if is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi2")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("bmi2")
            {
                // SAFETY: the processor has all of them, as was just asked.
                return unsafe { self.build_avx512(bytes) };
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("bmi2")
            {
                // SAFETY: the processor has all of them, as was just asked.
                return unsafe { self.build_avx2(bytes) };
            }
        }
        self.build_with(bytes, look_portable, prefix_xor, list_portable);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,pclmulqdq,bmi1,bmi2,popcnt")]
    unsafe fn build_avx512(&mut self, bytes: &[u8]) {
        // SAFETY: all three need what this function's own contract demands.
        self.build_with(
            bytes,
            |block| unsafe { look_avx512(block) },
            |bits| unsafe { prefix_xor_clmul(bits) },
            |start, quotes, places| unsafe { list_avx512(start, quotes, places) },
        );
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt")]
    unsafe fn build_avx2(&mut self, bytes: &[u8]) {
        // SAFETY: both need what this function's own contract demands.
        self.build_with(
            bytes,
            |block| unsafe { look_avx2(block) },
            |bits| unsafe { prefix_xor_clmul(bits) },
            list_portable,
        );
    }

    #[inline(always)]
    fn build_with(
        &mut self,
        bytes: &[u8],
        look: impl Fn(&[u8; BLOCK]) -> Seen,
        parity: impl Fn(u64) -> u64,
        list: impl Fn(u32, u64, &mut [u32; BLOCK]),
    ) {
        self.blocks = bytes.len().div_ceil(BLOCK);
        if self.words.len() < self.blocks {
            self.words.resize(self.blocks, Word::default());
        }
        let mut carry = Carry::default();
        for (piece, words) in bytes.chunks(PIECE).zip(self.words.chunks_mut(PIECE / BLOCK)) {
            let room = carry.listed + PIECE + BLOCK;
            if self.positions.len() < room {
                self.positions.resize(2 * room, 0);
            }
            let (blocks, rest) = piece.as_chunks::<BLOCK>();
            let mut words = words.iter_mut();
            for (block, word) in blocks.iter().zip(&mut words) {
                *word = carry.step(look(block), &mut self.positions, &parity, &list);
            }
            if let (false, Some(word)) = (rest.is_empty(), words.next()) {
                let seen = match bytes.last_chunk() {
                    Some(block) => look(block).behind(BLOCK - rest.len()),
                    None => {
                        let mut block = [b' '; BLOCK];
                        block[..rest.len()].copy_from_slice(rest);
                        look(&block)
                    }
                };
                *word = carry.step(seen, &mut self.positions, &parity, &list);
            }
        }
        (self.listed, self.escapes) = (carry.listed, carry.escapes);
    }

    /// Position of the quote of that number, counted from 0.
    #[inline(always)]
    pub fn quote(&self, number: usize) -> Option<usize> {
        self.positions[..self.listed].get(number).map(|position| *position as usize)
    }

    /// How many quotes are before `at`.
    #[inline]
    pub fn quotes_before(&self, at: usize) -> usize {
        self.word(at / 64).map_or(self.listed, |word| {
            word.before + (word.quotes & !(u64::MAX << (at % 64))).count_ones() as usize
        })
    }

    /// Whether there may be a backslash from `start` to `end`.
    #[inline(always)]
    pub fn may_escape(&self, start: usize, end: usize) -> bool {
        start < self.escapes.end && self.escapes.start < end
    }

    /// Position of the first quote at or after `from`.
    #[inline]
    pub fn quote_from(&self, from: usize) -> Option<usize> {
        self.quote(self.quotes_before(from))
    }

    #[inline(always)]
    fn word(&self, number: usize) -> Option<&Word> {
        self.words[..self.blocks].get(number)
    }

    /// Position of the bracket that closes the one at `open`.
    pub fn close_of(&self, open: usize) -> Option<usize> {
        let mut word = open / 64;
        let mask = u64::MAX << (open % 64);
        let Word { opens, closes, .. } = *self.word(word)?;
        let (mut up, mut down) = (opens & mask, closes & mask);
        let mut depth = 0usize;
        loop {
            let falls = down.count_ones() as usize;
            if depth <= falls {
                // The end may lie in this word: go from close to close.
                let mut closed = 0;
                while down != 0 {
                    let bit = down.trailing_zeros();
                    let below = up & ((1u64 << bit) - 1);
                    closed += 1;
                    if depth + below.count_ones() as usize == closed {
                        return Some(word * 64 + bit as usize);
                    }
                    down &= down - 1;
                }
            }
            depth = (depth + up.count_ones() as usize).saturating_sub(falls);
            word += 1;
            (up, down) = self.word(word).map(|word| (word.opens, word.closes))?;
        }
    }
}

impl Carry {
    /// The marks of the next block, whose quotes go on the list.
    #[inline(always)]
    fn step(
        &mut self,
        seen: Seen,
        positions: &mut [u32],
        parity: impl Fn(u64) -> u64,
        list: impl Fn(u32, u64, &mut [u32; BLOCK]),
    ) -> Word {
        let escaped = if seen.backslash == 0 {
            std::mem::take(&mut self.escaped)
        } else {
            let first = if self.escapes.is_empty() { self.start } else { self.escapes.start };
            self.escapes = first..self.start + BLOCK;
            escaped_bytes(seen.backslash, &mut self.escaped)
        };
        let quotes = seen.quote & !escaped;
        let in_string = parity(quotes) ^ self.in_string;
        self.in_string = ((in_string as i64) >> 63) as u64;
        let before = self.listed;
        if let Some(places) = positions.get_mut(before..).and_then(<[u32]>::first_chunk_mut) {
            list(self.start as u32, quotes, places);
        }
        self.listed += quotes.count_ones() as usize;
        self.start += BLOCK;
        Word { quotes, before, opens: seen.open & !in_string, closes: seen.close & !in_string }
    }
}

/// Which bytes have an odd run of backslashes before them.
#[inline(always)]
fn escaped_bytes(mut backslash: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    backslash &= !*carry;
    let follows = (backslash << 1) | *carry;
    let odd_starts = backslash & !EVEN & !follows;
    let (even_sequences, overflow) = odd_starts.overflowing_add(backslash);
    *carry = u64::from(overflow);
    let invert = even_sequences << 1;
    (EVEN ^ invert) & follows
}

/// Bit `i` of the result is the parity of bits `0..=i`: ones from an opening quote up to its end.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}

/// The same by one multiplication without carries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
#[inline]
unsafe fn prefix_xor_clmul(bits: u64) -> u64 {
    use std::arch::x86_64::*;
    let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
    _mm_cvtsi128_si64(product) as u64
}

/// Writes the positions of the quotes of the block that begins at `start`; what is behind them is
/// overwritten too.
#[inline(always)]
fn list_portable(start: u32, mut quotes: u64, places: &mut [u32; BLOCK]) {
    let count = quotes.count_ones() as usize;
    let mut next = || {
        let position = start + quotes.trailing_zeros();
        quotes &= quotes.wrapping_sub(1);
        position
    };
    let (usual, others) = places.split_at_mut(USUAL_QUOTES);
    usual.iter_mut().for_each(|place| *place = next());
    if count > USUAL_QUOTES {
        others[..count - USUAL_QUOTES].iter_mut().for_each(|place| *place = next());
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
#[inline]
unsafe fn list_avx512(start: u32, quotes: u64, places: &mut [u32; BLOCK]) {
    use std::arch::x86_64::*;
    const NUMBERS: [u8; BLOCK] = {
        let mut numbers = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            numbers[at] = at as u8;
            at += 1;
        }
        numbers
    };
    // SAFETY: the load is the 64 bytes of `NUMBERS` and needs no alignment.
    let numbers = unsafe { _mm512_loadu_si512(NUMBERS.as_ptr().cast()) };
    let numbers = _mm512_maskz_compress_epi8(quotes, numbers);
    let start = _mm512_set1_epi32(start as i32);
    let mut write = |part: usize, bytes| {
        let positions = _mm512_add_epi32(_mm512_cvtepu8_epi32(bytes), start);
        // SAFETY: a part is sixteen of the 64 places, and a store needs no alignment.
        unsafe { _mm512_storeu_si512(places[16 * part..].as_mut_ptr().cast(), positions) };
    };
    write(0, _mm512_castsi512_si128(numbers));
    if quotes.count_ones() as usize > USUAL_QUOTES {
        write(1, _mm512_extracti32x4_epi32::<1>(numbers));
        write(2, _mm512_extracti32x4_epi32::<2>(numbers));
        write(3, _mm512_extracti32x4_epi32::<3>(numbers));
    }
}

/// `[` and `{`, and `]` and `}`, differ in one bit, which this sets.
const FOLD: u8 = 0x20;

fn look_portable(block: &[u8; BLOCK]) -> Seen {
    let mut seen = Seen { backslash: 0, quote: 0, open: 0, close: 0 };
    for (at, byte) in block.iter().enumerate() {
        seen.backslash |= u64::from(*byte == b'\\') << at;
        seen.quote |= u64::from(*byte == b'"') << at;
        seen.open |= u64::from(byte | FOLD == b'{') << at;
        seen.close |= u64::from(byte | FOLD == b'}') << at;
    }
    seen
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn look_avx512(block: &[u8; BLOCK]) -> Seen {
    use std::arch::x86_64::*;
    // SAFETY: the load is the 64 bytes of `block` and needs no alignment.
    let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let folded = _mm512_or_si512(bytes, _mm512_set1_epi8(FOLD as i8));
    let equal = |bytes, byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
    Seen {
        backslash: equal(bytes, b'\\'),
        quote: equal(bytes, b'"'),
        open: equal(folded, b'{'),
        close: equal(folded, b'}'),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn look_avx2(block: &[u8; BLOCK]) -> Seen {
    use std::arch::x86_64::*;
    // SAFETY: both loads lie within the 64 bytes of `block` and need no alignment.
    let (low, high) = unsafe {
        let at = block.as_ptr().cast::<__m256i>();
        (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1)))
    };
    let equal = |low: __m256i, high: __m256i, byte: u8| -> u64 {
        let wanted = _mm256_set1_epi8(byte as i8);
        let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted)) as u32;
        let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted)) as u32;
        u64::from(low) | (u64::from(high) << 32)
    };
    let fold = _mm256_set1_epi8(FOLD as i8);
    let (low_folded, high_folded) = (_mm256_or_si256(low, fold), _mm256_or_si256(high, fold));
    Seen {
        backslash: equal(low, high, b'\\'),
        quote: equal(low, high, b'"'),
        open: equal(low_folded, high_folded, b'{'),
        close: equal(low_folded, high_folded, b'}'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The marks by the definition, a byte at a time.
    fn plainly(bytes: &[u8]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let (mut quotes, mut opens, mut closes) = (vec![], vec![], vec![]);
        let (mut in_string, mut escaped) = (false, false);
        for (at, byte) in bytes.iter().enumerate() {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                b'\\' if !was_escaped => escaped = true,
                b'"' if !was_escaped => {
                    quotes.push(at);
                    in_string = !in_string;
                }
                b'{' | b'[' if !in_string => opens.push(at),
                b'}' | b']' if !in_string => closes.push(at),
                _ => {}
            }
        }
        (quotes, opens, closes)
    }

    fn positions(index: &Index) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let listed: Vec<usize> = (0..).map_while(|number| index.quote(number)).collect();
        for (number, at) in listed.iter().enumerate() {
            assert_eq!(
                (index.quotes_before(*at), index.quotes_before(at + 1)),
                (number, number + 1)
            );
        }
        let of = |bits: fn(&Word) -> u64| {
            let words = &index.words[..index.blocks];
            (0..words.len() * 64).filter(|at| bits(&words[at / 64]) >> (at % 64) & 1 == 1).collect()
        };
        assert_eq!(listed, of(|word| word.quotes));
        (listed, of(|word| word.opens), of(|word| word.closes))
    }

    proptest! {
        #[test]
        fn marks_are_those_of_the_definition(
            bytes in prop::collection::vec(prop::sample::select(br#"\\\"""{}[]a: ,"#.to_vec()), 0..400)
        ) {
            let mut index = Index::default();
            index.build(&bytes);
            let found = positions(&index);
            prop_assert_eq!(&found, &plainly(&bytes));
            let mut portable = Index::default();
            portable.build_with(&bytes, look_portable, prefix_xor, list_portable);
            prop_assert_eq!(&positions(&portable), &found);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("pclmulqdq")
            {
                let mut narrow = Index::default();
                // SAFETY: the processor has both, as was just asked.
                unsafe { narrow.build_avx2(&bytes) };
                prop_assert_eq!(&positions(&narrow), &found);
            }
        }
    }
}
