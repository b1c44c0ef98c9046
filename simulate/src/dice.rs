//! Random numbers with an address: the same seed, purpose, actor and time give the same numbers,
//! whatever was drawn elsewhere. So an hour of the estate can be made without the hours before it.
//!
//! ChaCha8 and `libm` give the same output on every platform and in every version; nothing here
//! uses the platform's own mathematics.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What numbers are drawn for; separates streams that share an actor and a time.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Cast = 1,
    Actor,
    Routine,
    Noise,
    Negative,
    Attack,
    Script,
    Name,
    Credential,
    Address,
    Instance,
}

pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn at(seed: u64, purpose: Purpose, who: u64, when: u64) -> Self {
        let mut key = [0; 32];
        for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, who, when]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        Dice(ChaCha8Rng::from_seed(key))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform below `n`, which is at least 1. The bias of the multiplication is below 2⁻³².
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in `from..=to`.
    pub(crate) fn range(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from).max(0) as usize + 1) as i64
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One of the first more often than one of the last: each is half as likely as two before it.
    pub(crate) fn favour<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let share = self.unit();
        &from[((share * share * from.len() as f64) as usize).min(from.len() - 1)]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Exponential with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.unit())
    }

    /// Sum of twelve uniforms: normal enough for volumes, and its tails end at six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * libm::exp(sigma * self.normal())
    }

    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 40.0 {
            return (mean + libm::sqrt(mean) * self.normal()).max(0.0) as u32;
        }
        let limit = libm::exp(-mean);
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Signs of an alphabet of ASCII letters.
    pub(crate) fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        let mut text = Vec::with_capacity(len);
        while text.len() < len {
            let bytes = self.next().to_le_bytes();
            let few = bytes.iter().take(len - text.len());
            text.extend(few.map(|byte| alphabet[(usize::from(*byte) * alphabet.len()) >> 8]));
        }
        String::from_utf8(text).expect("alphabets are ASCII")
    }

    pub(crate) fn hex(&mut self, len: usize) -> String {
        self.text(b"0123456789abcdef", len)
    }

    pub(crate) fn digits(&mut self, len: usize) -> String {
        let first = self.text(b"123456789", 1);
        first + &self.text(b"0123456789", len - 1)
    }

    /// Letters and digits of either case.
    pub(crate) fn mixed(&mut self, len: usize) -> String {
        const MIXED: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        self.text(MIXED, len)
    }

    /// Small letters and digits.
    pub(crate) fn small(&mut self, len: usize) -> String {
        self.text(b"abcdefghijklmnopqrstuvwxyz0123456789", len)
    }

    pub(crate) fn base64(&mut self, len: usize) -> String {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        self.text(BASE64, len)
    }

    /// An identifier as AWS makes them: a prefix that says what it is, and 16 signs of base 32.
    pub(crate) fn aws_id(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))
    }

    pub(crate) fn uuid(&mut self) -> String {
        let mut text = self.hex(36).into_bytes();
        for dash in [8, 13, 18, 23] {
            text[dash] = b'-';
        }
        text[14] = b'4';
        text[19] = b"89ab"[usize::from(text[19] & 3)];
        String::from_utf8(text).expect("hexadecimal digits are ASCII")
    }
}
