//! Finds the few places of a payload that are worth a closer look.
//!
//! Every secret that the rules know has four bytes in its name or its prefix that are rare in audit
//! logs. Four-byte patterns with character classes are looked for all at once, 32 bytes a step:
//! a byte's two halves each select a row of a small table, a row has a bit for each group of
//! patterns, and a place where one bit survives all eight selections is a candidate, checked
//! exactly afterwards. It is Teddy with classes, so that one pattern stands for both cases of a
//! name, or for `ghp_`, `gho_` and `ghs_` at once; with a pattern for each spelling there are more
//! than the 64 that the packed search of `aho-corasick` takes.
//! Source: Teddy, in Hyperscan's literal matcher and in the `aho-corasick` crate.

use super::shapes::{self, Shape};
use std::sync::LazyLock;

/// Bytes that a pattern looks at.
const WIDTH: usize = 4;

/// Groups of patterns that the vector step tells apart: eight for each of its two tables.
const GROUPS: usize = 16;

/// Places that one vector step looks at.
#[cfg(target_arch = "x86_64")]
const STEP: usize = 32;

/// What to do at a candidate.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Part of the name of a field, a header, a variable or an option.
    Name,
    /// `Bearer` or part of such a name.
    Bearer,
    Basic,
    /// `://` before a user and a password.
    UserInfo,
    Pem,
    Jwt,
    /// Prefix of a token, which begins so many bytes before the candidate.
    Prefix(&'static Shape),
}

/// Patterns of [`Rule::Name`]: letters stand for both cases, `[…]` for one of its bytes, `?` for any.
const NAMES: &[&str] = &[
    "assw",          // password, passwd
    "pwd?",          // pwd
    "hras",          // passphrase
    "scod",          // passcode
    "[_-]pas",       // git_pass, DB_PASS
    "cret",          // secret
    "oken",          // token
    "riza",          // authorization
    "ooki",          // cookie
    "pike",          // apikey
    "[_-]key",       // private_key, X-API-KEY
    "key[\"\\=:% ]", // privateKey
    "onne",          // connection string
    "gnat",          // signature
    "sig[=%]",       // sig
    "sser",          // assertion
    "mlre",          // SAMLResponse
    "ml_r",          // saml_response
    "rifi",          // code_verifier
    "otp?",          // otp, totp
    "faco",          // mfaCode
    "fa_c",          // mfa_code
    "lain",          // plaintext
    "esso",          // accessor
    "ode=",          // code, in a URL
];

/// Patterns of the other rules, case as written.
const SHAPES: &[(&str, Rule)] = &[
    ("[aA][rR][eE][rR]", Rule::Bearer),
    ("[aA][sS][iI][cC]", Rule::Basic),
    ("://?", Rule::UserInfo),
    (":\\/\\", Rule::UserInfo),
    ("-BEG", Rule::Pem),
    ("eyJ?", Rule::Jwt),
];

/// One pattern: the bytes that may stand at each place.
struct Pattern {
    classes: [Vec<u8>; WIDTH],
    rule: Rule,
}

/// All patterns, in the forms that the search wants.
pub(super) struct Fragments {
    rules: Vec<Rule>,
    /// Bit `i` of `exact[k][b]`: pattern `i` allows byte `b` at its place `k`.
    exact: Box<[[u64; 256]; WIDTH]>,
    /// Bit `g % 8` of `halves[g / 8][k][h][v]`: a pattern of group `g` has at its place `k` a byte
    /// whose low (`h` = 0) or high (`h` = 1) half is `v`.
    halves: [[[[u8; 16]; 2]; WIDTH]; 2],
}

pub(super) static FRAGMENTS: LazyLock<Fragments> = LazyLock::new(Fragments::new);

impl Fragments {
    fn new() -> Fragments {
        let names = NAMES.iter().map(|text| Pattern::new(text, true, Rule::Name));
        let shapes = SHAPES.iter().map(|(text, rule)| Pattern::new(text, false, *rule));
        let prefixes = shapes::PREFIXES
            .iter()
            .map(|shape| Pattern::new(shape.fragment, false, Rule::Prefix(shape)));
        let patterns: Vec<Pattern> = names.chain(shapes).chain(prefixes).collect();
        assert!(patterns.len() <= 64, "every pattern has a bit in `exact`");

        let mut exact = Box::new([[0_u64; 256]; WIDTH]);
        for (bit, pattern) in patterns.iter().enumerate() {
            for (place, class) in pattern.classes.iter().enumerate() {
                for byte in class {
                    exact[place][usize::from(*byte)] |= 1 << bit;
                }
            }
        }
        let halves = halves(&patterns);
        Fragments { rules: patterns.iter().map(|pattern| pattern.rule).collect(), exact, halves }
    }

    /// Calls `judge` for each candidate in order; it returns where to go on, which is behind the
    /// candidate.
    pub fn for_each(&self, bytes: &[u8], judge: impl FnMut(usize, Rule) -> usize) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as was just asked.
            return unsafe { self.for_each_avx2(bytes, judge) };
        }
        self.for_each_portable(bytes, 0, judge);
    }

    fn for_each_portable(
        &self,
        bytes: &[u8],
        from: usize,
        mut judge: impl FnMut(usize, Rule) -> usize,
    ) {
        let mut at = from;
        while let Some(window) = bytes.get(at..at + WIDTH) {
            at = match self.rule_of(window) {
                Some(rule) => judge(at, rule),
                None => at + 1,
            };
        }
    }

    /// The rule of the first pattern that `window` matches, all four bytes of it.
    #[inline(always)]
    fn rule_of(&self, window: &[u8]) -> Option<Rule> {
        let byte = |place: usize| self.exact[place][usize::from(window[place])];
        let matching = byte(0) & byte(1) & byte(2) & byte(3);
        self.rules.get(matching.trailing_zeros() as usize).copied()
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn for_each_avx2(&self, bytes: &[u8], mut judge: impl FnMut(usize, Rule) -> usize) {
        use std::arch::x86_64::*;

        let low_half = _mm256_set1_epi8(0x0f);
        let zero = _mm256_setzero_si256();
        let mut rows = [[[zero; 2]; WIDTH]; 2];
        for (rows, halves) in rows.as_flattened_mut().iter_mut().zip(self.halves.as_flattened()) {
            for (row, half) in rows.iter_mut().zip(halves) {
                // SAFETY: a row has the 16 bytes that are read.
                let half = unsafe { _mm_loadu_si128(half.as_ptr().cast()) };
                *row = _mm256_broadcastsi128_si256(half);
            }
        }

        let mut at = 0;
        while at + STEP + WIDTH <= bytes.len() {
            let mut survivors = [_mm256_set1_epi8(-1); 2];
            for place in 0..WIDTH {
                // SAFETY: `at + place + STEP` is at most `bytes.len()`, as the loop condition says.
                let block = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at + place).cast()) };
                let low = _mm256_and_si256(block, low_half);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(block), low_half);
                for (survivors, table) in survivors.iter_mut().zip(&rows) {
                    let [lows, highs] = table[place];
                    let selected = _mm256_and_si256(
                        _mm256_shuffle_epi8(lows, low),
                        _mm256_shuffle_epi8(highs, high),
                    );
                    *survivors = _mm256_and_si256(*survivors, selected);
                }
            }
            let none = _mm256_cmpeq_epi8(_mm256_or_si256(survivors[0], survivors[1]), zero);
            let mut places = !(_mm256_movemask_epi8(none) as u32);
            let mut go_on = at + STEP;
            while places != 0 {
                let candidate = at + places.trailing_zeros() as usize;
                places &= places - 1;
                if let Some(rule) = self.rule_of(&bytes[candidate..candidate + WIDTH]) {
                    let next = judge(candidate, rule);
                    if next >= at + STEP {
                        go_on = next;
                        break;
                    }
                    places &= u32::MAX << (next - at);
                }
            }
            at = go_on;
        }
        self.for_each_portable(bytes, at, judge);
    }
}

impl Pattern {
    fn new(text: &str, any_case: bool, rule: Rule) -> Pattern {
        let mut rest = text.bytes();
        let classes = std::array::from_fn(|_| {
            let class: Vec<u8> = match rest.next().expect("a pattern has four places") {
                b'?' => (0..=255).collect(),
                b'[' => rest.by_ref().take_while(|byte| *byte != b']').collect(),
                byte => vec![byte],
            };
            match any_case {
                true => class.iter().flat_map(|b| both_cases(*b)).collect(),
                false => class,
            }
        });
        assert!(rest.next().is_none(), "pattern `{text}` has more than four places");
        Pattern { classes, rule }
    }
}

fn both_cases(byte: u8) -> [u8; 2] {
    [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]
}

/// Spreads the patterns over the groups so that few bytes outside the patterns pass a group.
///
/// Each goes, in turn, to the group whose number of passing four-byte strings grows least.
fn halves(patterns: &[Pattern]) -> [[[[u8; 16]; 2]; WIDTH]; 2] {
    /// Which low and which high halves pass at each place.
    type Passing = [[u16; 2]; WIDTH];
    let passing = |pattern: &Pattern| -> Passing {
        std::array::from_fn(|place| {
            pattern.classes[place]
                .iter()
                .fold([0, 0], |[low, high], byte| [low | 1 << (byte & 15), high | 1 << (byte >> 4)])
        })
    };
    let join = |a: &Passing, b: &Passing| -> Passing {
        std::array::from_fn(|place| std::array::from_fn(|half| a[place][half] | b[place][half]))
    };
    let size = |passing: &Passing| -> u64 {
        passing.iter().flatten().map(|halves| u64::from(halves.count_ones())).product()
    };

    let mut groups = [[[0_u16; 2]; WIDTH]; GROUPS];
    for pattern in patterns {
        let pattern = passing(pattern);
        let growth = |group: &Passing| size(&join(group, &pattern)) - size(group);
        let best = (0..GROUPS).min_by_key(|group| growth(&groups[*group])).unwrap_or(0);
        groups[best] = join(&groups[best], &pattern);
    }

    let mut halves = [[[[0_u8; 16]; 2]; WIDTH]; 2];
    for (number, group) in groups.iter().enumerate() {
        for (place, sides) in group.iter().enumerate() {
            for (half, values) in sides.iter().enumerate() {
                for value in (0..16).filter(|value| values >> value & 1 == 1) {
                    halves[number / 8][place][half][value] |= 1 << (number % 8);
                }
            }
        }
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn vector_and_portable_search_agree(
            parts in prop::collection::vec("token|PASSWORD|eyJ|[a-z]{0,9}|://|ghp_|\\PC{0,5}|_key", 0..60),
        ) {
            let text = parts.concat();
            let bytes = text.as_bytes();
            let (mut portable, mut vector) = (Vec::new(), Vec::new());
            let judge = |found: &mut Vec<usize>, at| {
                found.push(at);
                at + 1 + found.len() % 7
            };
            FRAGMENTS.for_each_portable(bytes, 0, |at, _| judge(&mut portable, at));
            FRAGMENTS.for_each(bytes, |at, _| judge(&mut vector, at));
            prop_assert_eq!(vector, portable);
        }
    }
}
