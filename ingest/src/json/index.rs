//! Marks of a record: one bit a byte for quotes that begin or end a string, and for brackets
//! outside strings.

/// Bytes that one step looks at.
const BLOCK: usize = 64;

/// Marks of one record. Bit `i % 64` of word `i / 64` speaks of byte `i`.
#[derive(Default)]
pub(super) struct Index {
    words: Vec<Word>,
    /// Whether any backslash occurs.
    pub escapes: bool,
}

/// The marks of 64 bytes.
#[derive(Clone, Copy)]
struct Word {
    /// Quotes that are not escaped: an opening one, then its closing one, and so on.
    quotes: u64,
    /// `{` and `[` outside strings.
    opens: u64,
    /// `}` and `]` outside strings.
    closes: u64,
}

/// What the vector step sees in one block.
struct Seen {
    backslash: u64,
    quote: u64,
    open: u64,
    close: u64,
}

/// State between blocks.
#[derive(Default)]
struct Carry {
    /// 1 when the first byte of the next block is escaped.
    escaped: u64,
    /// All ones when the next block begins inside a string.
    in_string: u64,
    escapes: bool,
}

impl Index {
    pub fn build(&mut self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: the processor has both, as was just asked.
                return unsafe { self.build_avx512(bytes) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: the processor has both, as was just asked.
                return unsafe { self.build_avx2(bytes) };
            }
        }
        self.build_with(bytes, look_portable, prefix_xor);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,pclmulqdq")]
    unsafe fn build_avx512(&mut self, bytes: &[u8]) {
        // SAFETY: both need what this function's own contract demands.
        self.build_with(
            bytes,
            |block| unsafe { look_avx512(block) },
            |bits| unsafe { prefix_xor_clmul(bits) },
        );
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,pclmulqdq")]
    unsafe fn build_avx2(&mut self, bytes: &[u8]) {
        // SAFETY: both need what this function's own contract demands.
        self.build_with(
            bytes,
            |block| unsafe { look_avx2(block) },
            |bits| unsafe { prefix_xor_clmul(bits) },
        );
    }

    #[inline(always)]
    fn build_with(
        &mut self,
        bytes: &[u8],
        look: impl Fn(&[u8; BLOCK]) -> Seen,
        parity: impl Fn(u64) -> u64,
    ) {
        let mut carry = Carry::default();
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        self.words.clear();
        self.words.reserve(blocks.len() + 1);
        self.words.extend(blocks.iter().map(|block| carry.step(look(block), &parity)));
        if !rest.is_empty() {
            let mut block = [b' '; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.words.push(carry.step(look(&block), &parity));
        }
        self.escapes = carry.escapes;
    }

    /// Position of the first quote at or after `from`.
    #[inline]
    pub fn quote_from(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.words.get(word)?.quotes & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = self.words.get(word)?.quotes;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Position of the bracket that closes the one at `open`.
    pub fn close_of(&self, open: usize) -> Option<usize> {
        let mut word = open / 64;
        let mask = u64::MAX << (open % 64);
        let Word { opens, closes, .. } = *self.words.get(word)?;
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
            (up, down) = self.words.get(word).map(|word| (word.opens, word.closes))?;
        }
    }
}

impl Carry {
    #[inline(always)]
    fn step(&mut self, seen: Seen, parity: impl Fn(u64) -> u64) -> Word {
        let escaped = if seen.backslash == 0 {
            std::mem::take(&mut self.escaped)
        } else {
            self.escapes = true;
            escaped_bytes(seen.backslash, &mut self.escaped)
        };
        let quotes = seen.quote & !escaped;
        let in_string = parity(quotes) ^ self.in_string;
        self.in_string = ((in_string as i64) >> 63) as u64;
        Word { quotes, opens: seen.open & !in_string, closes: seen.close & !in_string }
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
        let of = |bits: fn(&Word) -> u64| {
            let words = &index.words;
            (0..words.len() * 64).filter(|at| bits(&words[at / 64]) >> (at % 64) & 1 == 1).collect()
        };
        (of(|word| word.quotes), of(|word| word.opens), of(|word| word.closes))
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
            portable.build_with(&bytes, look_portable, prefix_xor);
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
