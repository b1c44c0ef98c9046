//! What the accounts of a tenant have in common: who was first seen with a network or a tool, when.

use super::bounded::Bounded;
use super::join_keys;
use super::windows::{LEARNING_LAG, SETTLED, Window, window_start};
use serde::{Deserialize, Serialize};

/// Accounts remembered for one value: more than take it up within the lateness of an event.
const ADOPTERS: usize = 64;
/// For how long accounts that take up a value count as one wave.
const WAVE: u32 = 7 * 24;
/// So many others in a wave explain it.
const ENOUGH: usize = 3;

/// By tenant, dimension and value: the first accounts that had it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Commons {
    values: Bounded<Vec<Adopter>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Adopter {
    window: Window,
    account: u64,
    /// It had a past without the value.
    switched: bool,
}

/// How a tenant stands to a value that is new to one of its accounts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Nobody has it.
    Unseen,
    /// Others have had it for long.
    Shared,
    /// Several others took it up within days: a migration, not a theft.
    Wave,
}

impl Commons {
    pub fn new(cap: usize) -> Self {
        Self { values: Bounded::new(cap) }
    }

    pub fn evicted_total(&self) -> u64 {
        self.values.evicted_total()
    }

    /// Notes that `account` was first seen with `value` in `window`.
    pub fn adopt(&mut self, tenant: u64, value: u64, account: u64, window: Window, switched: bool) {
        let key = join_keys(tenant, value);
        let adopters = self.values.touch(key, window_start(window), Vec::new);
        if let Some(known) = adopters.iter_mut().find(|a| a.account == account) {
            if window < known.window {
                known.window = window;
                adopters.sort_unstable();
            }
            return;
        }
        // The latest ones are kept: a wave is about now. The earliest says whether it is old.
        adopters.push(Adopter { window, account, switched });
        adopters.sort_unstable();
        if adopters.len() > ADOPTERS {
            adopters.remove(1);
        }
    }

    /// How others stand to `value`, as it was when complete for `window`.
    pub fn standing(&self, tenant: u64, value: u64, account: u64, window: Window) -> Standing {
        let Some(adopters) = self.values.get(join_keys(tenant, value)) else {
            return Standing::Unseen;
        };
        // Adopters lie in the order of their windows: the first ones say it all.
        let others_until = |last: Option<Window>| {
            let known = adopters.iter().take_while(move |a| Some(a.window) <= last);
            known.filter(|a| a.account != account)
        };
        let wave = others_until(window.checked_sub(SETTLED))
            .filter(|a| a.switched && a.window + WAVE >= window)
            .count();
        if wave >= ENOUGH {
            Standing::Wave
        } else if others_until(window.checked_sub(LEARNING_LAG)).next().is_some() {
            Standing::Shared
        } else {
            Standing::Unseen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_a_wave_and_one_theft_is_not() {
        let mut commons = Commons::new(100);
        for account in 1..=3 {
            commons.adopt(7, 99, account, 100 + account as Window, true);
        }
        assert_eq!(commons.standing(7, 99, 9, 110), Standing::Wave);
        assert_eq!(commons.standing(7, 99, 9, 104), Standing::Unseen, "not settled yet");
        assert_eq!(commons.standing(8, 99, 9, 110), Standing::Unseen, "another tenant");
        assert_eq!(commons.standing(7, 99, 9, 500), Standing::Shared);
    }
}
