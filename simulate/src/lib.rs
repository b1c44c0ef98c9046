//! A simulated estate: the logs of a company that does not exist, with attacks woven in.
//!
//! One seed gives one estate: several AWS accounts and Google Cloud projects, a Kubernetes
//! cluster, an Okta organisation, a Vault and a ClearML site. Its records come in order of time, as
//! each log's own bytes, and each record of an attacker carries the attack's number. Everything is
//! drawn from the seed: names, accounts, networks, tools, volumes, schedules, attacks, their victims
//! and their times. So a detector that is tuned on some seeds can be judged on others.
//!
//! Shape: about 150 identities and 21 days give a few hundred thousand records. Memory holds one
//! hour of them, and whatever a visit or an attack has begun.
//!
//! Normal days hold what looks wrong and is not; [`Estate::hard_negatives`] says what, who and when.
//! Attacks are of three families, each named after the detector that should find it:
//! `impersonation_spike`, `dormant_account` and `leaked_credential`.
//!
//! `cast` who is there · `recruit` how they are made · `rhythm` when they work · `network`, `tools` from where and with what ·
//! `routine` normal days · `negatives` what looks wrong and is not · `attacks` what is wrong ·
//! `logs` the raw shape of each log · `scribe` who writes records down · `stream` hour by hour.
//!
//! ```
//! let estate = telltale_simulate::Estate { seed: 7, days: 1, ..Default::default() };
//! let first = estate.stream().next().expect("a day has records");
//! assert!(first.at >= estate.start);
//! ```

mod attacks;
mod cast;
mod clock;
mod dice;
mod json;
mod logs;
mod names;
mod negatives;
mod network;
mod recruit;
mod rhythm;
mod routine;
mod scribe;
mod stream;
mod tools;

use std::sync::Arc;

use telltale_schema::Micros;

use cast::Cast;
use stream::{Script, Stream};

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estate {
    pub seed: u64,
    /// When it begins.
    pub start: Micros,
    pub days: u32,
    /// Identities that act by themselves; at least 60 are made, at most 100 000.
    pub identities: u32,
    /// Without attacks all else is the same, except for accounts that fall silent for an attack.
    pub attacks: bool,
}

impl Default for Estate {
    /// Three weeks of 150 identities from Monday, 3 March 2025 on, with attacks.
    fn default() -> Self {
        let start = 1_740_960_000_000_000;
        Estate { seed: 0, start, days: 21, identities: 150, attacks: true }
    }
}

/// One record of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The time that the record itself gives.
    pub at: Micros,
    /// The parser's name, such as `aws_cloudtrail`.
    pub log: &'static str,
    /// One line in the vendor's own form, without the line's end.
    pub text: String,
    /// The attack that it belongs to: the index in [`Estate::attacks`].
    pub attack: Option<u32>,
}

/// What a detector should find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    pub id: u32,
    pub name: String,
    /// The detector that should find it.
    pub family: &'static str,
    /// Who is misused.
    pub principal_id: String,
    /// What was stolen, where the log names it.
    pub credential_id: Option<String>,
    pub first_at: Micros,
    pub last_at: Micros,
    /// What happens, in one or two sentences.
    pub story: String,
}

/// What a detector should stay quiet on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardNegative {
    pub name: &'static str,
    pub principal_ids: Vec<String>,
    pub from: Micros,
    pub to: Micros,
    pub story: String,
}

/// Everything that is decided before the first hour.
struct Plan {
    cast: Arc<Cast>,
    scripts: Arc<Vec<Script>>,
    attacks: Vec<Attack>,
    negatives: Vec<HardNegative>,
}

impl Estate {
    /// Every attack, in order of time.
    pub fn attacks(&self) -> Vec<Attack> {
        self.plan().attacks
    }

    /// Every record, in order of time; the same seed gives the same bytes.
    pub fn stream(&self) -> impl Iterator<Item = Record> + Send + use<> {
        let plan = self.plan();
        Stream::new(plan.cast, plan.scripts)
    }

    /// What looks wrong and is not, with who does it and when.
    pub fn hard_negatives(&self) -> Vec<HardNegative> {
        self.plan().negatives
    }

    fn plan(&self) -> Plan {
        let mut cast = Cast::new(self);
        let (negatives, mut scripts) = negatives::plan(&mut cast);
        let planned = if self.attacks { attacks::plan(&mut cast) } else { Vec::new() };
        let mut attacks = Vec::new();
        for attack in planned {
            let id = attacks.len() as u32;
            let script = Script { start: attack.start, label: Some(id), play: attack.play };
            let mut records = Vec::new();
            script.play(&cast, scripts.len(), &mut records);
            let times = records
                .iter()
                .filter(|record| record.attack == Some(id) && record.at < cast.end)
                .map(|record| record.at);
            let (Some(first_at), Some(last_at)) = (times.clone().min(), times.max()) else {
                continue;
            };
            scripts.push(script);
            attacks.push(Attack {
                id,
                name: attack.name.to_owned(),
                family: attack.family,
                principal_id: attack.principal_id,
                credential_id: attack.credential_id,
                first_at,
                last_at,
                story: attack.story,
            });
        }
        Plan { cast: Arc::new(cast), scripts: Arc::new(scripts), attacks, negatives }
    }
}

#[cfg(test)]
mod tests;
