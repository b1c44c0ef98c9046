//! Finds the few places of a payload that are worth a closer look.
//!
//! Every secret that the rules know has four bytes in its name or its prefix that are rare in audit
//! logs. Four-byte patterns with character classes are looked for all at once, 32 bytes a time:
//! a byte's two halves each select a row of a small table, a row has a bit for each group of
//! patterns, and a place where one bit survives all eight selections is a candidate, checked
//! exactly afterwards. A processor that looks up whole bytes (AVX-512 VBMI) does 64 at a time
//! with half of the selections. It is Teddy with classes, so that one pattern stands for both cases of a
//! name, or for `ghp_`, `gho_` and `ghs_` at once; with a pattern for each spelling there are more
//! than the 64 that the packed search of `aho-corasick` takes.
//! Source: Teddy, in Hyperscan's literal matcher and in the `aho-corasick` crate.

use super::shapes::{self, Shape};
use std::sync::LazyLock;

/// Bytes that a pattern looks at.
const WIDTH: usize = 4;

/// Groups of patterns that the vector step tells apart: eight for each of its two tables.
const GROUPS: usize = 16;

/// Places of one step, and steps that are looked at before the first of them is judged.
#[cfg(target_arch = "x86_64")]
const STEP: usize = 64;
#[cfg(target_arch = "x86_64")]
const STEPS: usize = 64;

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
    EscapedUserInfo,
    Pem,
    /// An option that begins at the candidate, or behind it.
    Option,
    ShortOption,
    /// Beginning of a JWT, or of any object in base64.
    Jwt,
    /// Beginning of text in base64 that may hold secrets.
    Base64,
    /// Part of text in UTF-16 in base64, as PowerShell takes its `-EncodedCommand`.
    WideBase64,
    /// `base64 --decode`.
    Decoder,
    /// Docker's registries.
    Registries,
    /// Prefix of a token, which begins so many bytes before the candidate.
    Prefix(&'static Shape),
}

/// Patterns of [`Rule::Name`]: letters stand for both cases, `[…]` for one of its bytes, `?` for any.
const NAMES: &[&str] = &[
    "assw",             // password, passwd
    "pwd?",             // pwd
    "hras",             // passphrase
    "scod",             // passcode
    "[_-][pk][ae][sy]", // git_pass, DB_PASS, private_key, X-API-KEY
    "cret",             // secret
    "ri[zf][ai]",       // authorization, code_verifier
    "o[ok][ke][in]",    // token, cookie
    "pike",             // apikey
    "key[\"\\=:% dmp]", // privateKey, privateKeyData, keyMaterial, privateKeyPem
    "onne",             // connection string
    "gnat",             // signature
    "sig[\"=%\\]",      // sig
    "sser",             // assertion
    "ml[r_][er]",       // SAMLResponse, saml_response
    "otp?",             // otp, totp
    "fa[c_][oc]",       // mfaCode, mfa_code
    "lain",             // plaintext
    "esso",             // accessor
    "h[c_][oc][do]",    // authCode, auth_code
    "ode[=%]",          // code, in a URL
    "de[\\][\\u]",      // code, before an escaped `=`
    "ody[\"\\=:]",      // body
];

/// Patterns of the other rules, case as written.
const SHAPES: &[(&str, Rule)] = &[
    ("[aA][rR][eE][rR]", Rule::Bearer),
    ("[aA][sS][iI][cC]", Rule::Basic),
    ("://?", Rule::UserInfo),
    (":\\/\\", Rule::UserInfo),
    // Of `%3A%2F%2F`, which is `://` in a URL within a URL.
    ("2[Ff]%2", Rule::EscapedUserInfo),
    ("-BEG", Rule::Pem),
    ("--us", Rule::Option),
    // A blank is `+` or `%20` in a URL, where a word may stand behind `command=` as well.
    ("[ \"'+0=]-[up]?", Rule::ShortOption),
    ("eyJ?", Rule::Jwt),
    // What text with secrets begins with, in base64. `ZXlK` is `eyJ`, `LS0t` is `---`, `ZXhw` is `exp`
    // of `export`, `YXBp` is `api` of `apiVersion`.
    ("[ZLY][XS][l0hB][Ktwp]", Rule::Base64),
    // `IyEv` is `#!/`, `I2Ns` is `#cl` of `#cloud-config`.
    ("I[y2][EN][vs]", Rule::Base64),
    // `W3si` is `[{"`, `Q29u` is `Con` of `Content-Type`, `TUlN` is `MIM` of `MIME-Version`.
    ("[QTW][23U][9ls][iuN]", Rule::Base64),
    // An object with a blank or a line end behind its `{`.
    ("e[wy][oA0][gJKi]", Rule::Base64),
    // A letter of UTF-16 between two zeros, where three bytes begin with the first of them.
    ("A[ABCDEFGH][AEIMQUYcgkosw048]A", Rule::WideBase64),
    ("e64 ", Rule::Decoder),
    ("uths", Rule::Registries),
    // `gitPass` and `dbPass`, where both cases tell the words apart.
    ("[bhprt]Pas", Rule::Name),
    // `userData`, `binaryData`.
    ("[ry]Dat", Rule::Name),
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
    /// Bit `g % 8` of `bytes[g / 8][k][b]`: a pattern of group `g` allows byte `b`, or the one that
    /// differs from it in the highest bit, at its place `k`.
    bytes: [[[u8; 128]; WIDTH]; 2],
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
        let groups = groups(&patterns);
        Fragments {
            halves: halves(&patterns, &groups),
            bytes: whole_bytes(&patterns, &groups),
            rules: patterns.iter().map(|pattern| pattern.rule).collect(),
            exact,
        }
    }

    /// Calls `judge` for each candidate in order; it returns where to go on, which is behind the
    /// candidate.
    pub fn for_each(&self, bytes: &[u8], judge: impl FnMut(usize, Rule) -> usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi") {
                // SAFETY: the processor has both, as was just asked, and the windows are as asked.
                let look = |windows: &[u8], places: &mut [u64]| unsafe {
                    self.look_avx512(windows, places);
                };
                return self.for_each_vector(bytes, look, judge);
            }
            if is_x86_feature_detected!("avx2") {
                return self.for_each_avx2(bytes, judge);
            }
        }
        self.for_each_portable(bytes, 0, judge);
    }

    /// As [`Fragments::for_each`], on a processor that has AVX2.
    #[cfg(target_arch = "x86_64")]
    fn for_each_avx2(&self, bytes: &[u8], judge: impl FnMut(usize, Rule) -> usize) {
        assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: the processor has AVX2, as was just asked, and the windows are as asked.
        let look = |windows: &[u8], places: &mut [u64]| unsafe { self.look_avx2(windows, places) };
        self.for_each_vector(bytes, look, judge);
    }

    /// Lets `look` find the places of some blocks at once, so that its tables stay in registers,
    /// then judges them.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn for_each_vector(
        &self,
        bytes: &[u8],
        look: impl Fn(&[u8], &mut [u64]),
        mut judge: impl FnMut(usize, Rule) -> usize,
    ) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && rest.len() >= STEP + WIDTH
        {
            let mut places = [0_u64; STEPS];
            let steps = ((rest.len() - WIDTH) / STEP).min(STEPS);
            look(&rest[..steps * STEP + WIDTH], &mut places[..steps]);
            let mut go_on = at;
            for (step, mut places) in places[..steps].iter().copied().enumerate() {
                if places == 0 {
                    continue;
                }
                let start = at + step * STEP;
                // What lies before the place to go on at was judged with what was found there.
                while let behind @ 0..STEP = go_on.saturating_sub(start) {
                    places &= u64::MAX << behind;
                    if places == 0 {
                        break;
                    }
                    let candidate = start + places.trailing_zeros() as usize;
                    go_on = match self.rule_of(&bytes[candidate..candidate + WIDTH]) {
                        Some(rule) => judge(candidate, rule),
                        None => candidate + 1,
                    };
                }
            }
            at = go_on.max(at + steps * STEP);
        }
        self.for_each_portable(bytes, at, judge);
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

    /// The places of each 64 of `windows` where some pattern may begin, as bits.
    ///
    /// Safety: the processor has AVX2; `windows` has 64 bytes for each of `places` and [`WIDTH`]
    /// behind them.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn look_avx2(&self, windows: &[u8], places: &mut [u64]) {
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
        for (step, places) in places.iter_mut().enumerate() {
            *places = 0;
            for half in 0..2 {
                let at = step * STEP + half * 32;
                let mut survivors = [_mm256_set1_epi8(-1); 2];
                for place in 0..WIDTH {
                    // SAFETY: `windows` is long enough, as the caller promises.
                    let block =
                        unsafe { _mm256_loadu_si256(windows.as_ptr().add(at + place).cast()) };
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
                *places |= u64::from(!(_mm256_movemask_epi8(none) as u32)) << (half * 32);
            }
        }
    }

    /// The same, whole bytes at once. Safety: as there, and the processor has AVX-512 VBMI.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn look_avx512(&self, windows: &[u8], places: &mut [u64]) {
        use std::arch::x86_64::*;

        let mut tables = [[[_mm512_setzero_si512(); 2]; WIDTH]; 2];
        for (table, bytes) in tables.as_flattened_mut().iter_mut().zip(self.bytes.as_flattened()) {
            for (half, bytes) in table.iter_mut().zip(bytes.as_chunks::<64>().0) {
                // SAFETY: a chunk has the 64 bytes that are read.
                *half = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            }
        }
        for (step, places) in places.iter_mut().enumerate() {
            let mut survivors = [_mm512_set1_epi8(-1); 2];
            for place in 0..WIDTH {
                let at = step * STEP + place;
                // SAFETY: `windows` is long enough, as the caller promises.
                let block = unsafe { _mm512_loadu_si512(windows.as_ptr().add(at).cast()) };
                for (survivors, table) in survivors.iter_mut().zip(&tables) {
                    let [low, high] = table[place];
                    let selected = _mm512_permutex2var_epi8(low, block, high);
                    *survivors = _mm512_and_si512(*survivors, selected);
                }
            }
            let either = _mm512_or_si512(survivors[0], survivors[1]);
            *places = _mm512_test_epi8_mask(either, either);
        }
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

/// The group of each pattern, so that few places of a log pass a group.
///
/// The widest pattern first, each goes to the group that lets least more of [`USUAL`] pass, and
/// least more bytes where that is the same; and so again until none changes its group.
fn groups(patterns: &[Pattern]) -> Vec<usize> {
    /// More than are ever needed.
    const ROUNDS: usize = 8;

    let halves = halves_of_windows();
    let none = Passing { bytes: [0; WIDTH], windows: vec![[0; 2 * WIDTH]; halves.len()] };
    let patterns: Vec<Passing> =
        patterns.iter().map(|pattern| none.clone().with(pattern, &halves)).collect();

    let mut order: Vec<usize> = (0..patterns.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(patterns[*at].cost(&none).1));
    let mut passing = vec![none.clone(); GROUPS];
    let mut groups = vec![GROUPS; patterns.len()];
    for _ in 0..ROUNDS {
        let before = groups.clone();
        for at in order.iter().copied() {
            let left = std::mem::replace(&mut groups[at], GROUPS);
            if left < GROUPS {
                passing[left] = none.clone();
                for (pattern, _) in patterns.iter().zip(&groups).filter(|(_, of)| **of == left) {
                    passing[left].join(pattern);
                }
            }
            let growth = |group: &usize| {
                let (windows, share) = passing[*group].cost(&none);
                let (more_windows, more_share) = passing[*group].cost(&patterns[at]);
                (more_windows - windows, more_share - share)
            };
            let best = (0..GROUPS).min_by_key(growth).unwrap_or(0);
            passing[best].join(&patterns[at]);
            groups[at] = best;
        }
        if groups == before {
            break;
        }
    }
    groups
}

/// A few records as they usually are, of every log.
const USUAL: &[u8] = include_bytes!("usual.log");

/// For each 64 different windows of [`USUAL`] those that have a value in a half of a place, low
/// halves first, as bits.
fn halves_of_windows() -> Vec<[[u64; 16]; 2 * WIDTH]> {
    let mut windows: Vec<[u8; WIDTH]> =
        USUAL.windows(WIDTH).filter_map(|window| window.try_into().ok()).collect();
    windows.sort_unstable();
    windows.dedup();
    let mut halves = vec![[[0; 16]; 2 * WIDTH]; windows.len().div_ceil(64)];
    for (at, window) in windows.iter().enumerate() {
        for (place, byte) in window.iter().enumerate() {
            halves[at / 64][2 * place][usize::from(byte & 15)] |= 1 << (at % 64);
            halves[at / 64][2 * place + 1][usize::from(byte >> 4)] |= 1 << (at % 64);
        }
    }
    halves
}

/// What passes some patterns of one group.
#[derive(Clone)]
struct Passing {
    /// The ASCII bytes that pass at each place, as bits.
    bytes: [u128; WIDTH],
    /// For each 64 windows those that pass at each half of each place, as bits.
    windows: Vec<[u64; 2 * WIDTH]>,
}

impl Passing {
    /// The same, and what passes one more pattern.
    fn with(mut self, pattern: &Pattern, halves: &[[[u64; 16]; 2 * WIDTH]]) -> Passing {
        for (place, class) in pattern.classes.iter().enumerate() {
            let (mut low, mut high) = (0_u16, 0_u16);
            for byte in class {
                self.bytes[place] |= 1 << (byte & 127);
                low |= 1 << (byte & 15);
                high |= 1 << (byte >> 4);
            }
            for (bits, halves) in self.windows.iter_mut().zip(halves) {
                for (half, values) in [low, high].into_iter().enumerate() {
                    let windows = halves[2 * place + half].iter().enumerate();
                    bits[2 * place + half] |= windows
                        .filter(|(value, _)| values >> value & 1 == 1)
                        .fold(0, |all, (_, windows)| all | windows);
                }
            }
        }
        self
    }

    fn join(&mut self, other: &Passing) {
        let bits = self.windows.as_flattened_mut().iter_mut().zip(other.windows.as_flattened());
        bits.for_each(|(bits, other)| *bits |= other);
        self.bytes.iter_mut().zip(other.bytes).for_each(|(bits, other)| *bits |= other);
    }

    /// Joined with another: how many windows pass everywhere, and how often four bytes at random
    /// do, in relation to others.
    fn cost(&self, other: &Passing) -> (u32, u64) {
        let everywhere = |(bits, other): (&[u64; 2 * WIDTH], &[u64; 2 * WIDTH])| {
            bits.iter().zip(other).fold(!0, |all, (bits, other)| all & (bits | other)).count_ones()
        };
        let bytes = self.bytes.iter().zip(other.bytes).map(|(bytes, other)| bytes | other);
        (
            self.windows.iter().zip(&other.windows).map(everywhere).sum(),
            bytes.map(frequency).product(),
        )
    }
}

/// How often any of some bytes stands in audit logs, roughly and in relation to others.
fn frequency(bytes: u128) -> u64 {
    const fn bits(text: &str) -> u128 {
        let (mut bits, mut at) = (0, 0);
        while at < text.len() {
            bits |= 1 << text.as_bytes()[at];
            at += 1;
        }
        bits
    }
    const LOWER: u128 = bits("abcdefghijklmnopqrstuvwxyz");
    const COMMON: u128 = bits("0123456789\":,-./_{}\\");
    const UPPER: u128 = bits("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    let count = |mask: u128| u64::from((bytes & mask).count_ones());
    100 * count(LOWER)
        + 60 * count(COMMON)
        + 30 * count(UPPER)
        + 10 * count(!(LOWER | COMMON | UPPER))
}

fn halves(patterns: &[Pattern], groups: &[usize]) -> [[[[u8; 16]; 2]; WIDTH]; 2] {
    let mut halves = [[[[0_u8; 16]; 2]; WIDTH]; 2];
    for (pattern, group) in patterns.iter().zip(groups) {
        for (place, class) in pattern.classes.iter().enumerate() {
            for byte in class {
                let [low, high] = &mut halves[group / 8][place];
                low[usize::from(byte & 15)] |= 1 << (group % 8);
                high[usize::from(byte >> 4)] |= 1 << (group % 8);
            }
        }
    }
    halves
}

fn whole_bytes(patterns: &[Pattern], groups: &[usize]) -> [[[u8; 128]; WIDTH]; 2] {
    let mut bytes = [[[0_u8; 128]; WIDTH]; 2];
    for (pattern, group) in patterns.iter().zip(groups) {
        for (place, class) in pattern.classes.iter().enumerate() {
            for byte in class {
                bytes[group / 8][place][usize::from(byte & 127)] |= 1 << (group % 8);
            }
        }
    }
    bytes
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
            prop_assert_eq!(&vector, &portable);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                let mut narrow = Vec::new();
                FRAGMENTS.for_each_avx2(bytes, |at, _| judge(&mut narrow, at));
                prop_assert_eq!(narrow, portable);
            }
        }
    }
}
