//! What is usual, and how unlikely something is.
//!
//! `tail` probabilities · `place` networks and tools · `windows` activity and counts by window ·
//! `profile` how an account usually acts · `known` the values an account was seen with · `commons` what its tenant is seen with ·
//! `counts` how many an hour · `bounded` maps that forget the oldest.
//!
//! Everything here is a fold over a set of events that does not depend on their order: earliest
//! times, latest times, counts by window. Scores read it as it stood some windows before the event
//! in question, when those windows were complete, so they do not depend on order either.

pub mod bounded;
pub mod commons;
pub mod counts;
pub mod known;
pub mod place;
pub mod profile;
pub mod tail;
pub mod windows;

use xxhash_rust::xxh3::xxh3_64;

/// The key of an optional text; zero where there is none.
#[inline]
pub fn text_key(text: Option<&str>) -> u64 {
    text.map_or(0, |text| xxh3_64(text.as_bytes()))
}

/// Two keys as one.
#[inline]
pub fn join_keys(a: u64, b: u64) -> u64 {
    let mixed = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (mixed as u64) ^ ((mixed >> 64) as u64)
}

/// Makes room for one more in a list of which there are many, most of them of an item or two: for
/// one, then two, four and so on.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len().max(1));
    }
}

/// Adds to such a list.
pub(crate) fn push_to_few<T>(list: &mut Vec<T>, item: T) {
    make_room(list);
    list.push(item);
}
