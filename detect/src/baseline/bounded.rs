//! A map with a cap that forgets what was touched longest ago.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use telltale_schema::Micros;

/// A map from keys to values with the event time at which each was last touched.
///
/// Above `cap` entries the sixteenth that was touched longest ago is forgotten at once, in the
/// order of (time, key), so that what is forgotten does not depend on hash order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bounded<V> {
    /// Values lie behind pointers: a table has room for more than it holds, and for twice as much
    /// while it grows.
    map: FxHashMap<u64, (Micros, Box<V>)>,
    cap: usize,
    evicted: u64,
}

impl<V> Bounded<V> {
    pub fn new(cap: usize) -> Self {
        Self { map: FxHashMap::default(), cap: cap.max(16), evicted: 0 }
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub fn evicted_total(&self) -> u64 {
        self.evicted
    }

    pub fn get(&self, key: u64) -> Option<&V> {
        self.map.get(&key).map(|(_, value)| value.as_ref())
    }

    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.map.get_mut(&key).map(|(_, value)| value.as_mut())
    }

    /// The value of `key`, made if need be, touched at `at`.
    #[inline]
    pub fn touch(&mut self, key: u64, at: Micros, make: impl FnOnce() -> V) -> &mut V {
        if self.map.len() >= self.cap && !self.map.contains_key(&key) {
            self.forget_oldest();
        }
        let entry = self.map.entry(key).or_insert_with(|| (at, Box::new(make())));
        entry.0 = entry.0.max(at);
        &mut entry.1
    }

    pub fn remove(&mut self, key: u64) -> Option<V> {
        self.map.remove(&key).map(|(_, value)| *value)
    }

    /// Forgets what was last touched before `before`; this is expiry and not an eviction.
    pub fn expire(&mut self, before: Micros) {
        self.map.retain(|_, (touched, _)| *touched >= before);
    }

    /// Keys and values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.map.iter().map(|(key, (_, value))| (*key, value.as_ref()))
    }

    fn ages(&self) -> Vec<(Micros, u64)> {
        self.map.iter().map(|(key, (at, _))| (*at, *key)).collect()
    }

    fn forget_oldest(&mut self) {
        let surplus = (self.cap / 16).max(1).min(self.map.len());
        let mut ages = self.ages();
        if let Some(last) = surplus.checked_sub(1) {
            // Which ones go is certain without an order among those that stay.
            ages.select_nth_unstable(last);
        }
        for (_, key) in &ages[..surplus] {
            self.map.remove(key);
        }
        self.evicted += surplus as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let mut map = Bounded::new(16);
        for key in 0..17u64 {
            *map.touch(key, 100 - key as Micros, || 0) += 1;
        }
        assert_eq!(map.len(), 16);
        assert_eq!(map.get(15), None, "touched at 85, the longest ago when the map was full");
        assert_eq!(map.evicted_total(), 1);
    }
}
