//! Who writes the records down: an actor's hand, and the page that records go to.

use telltale_schema::time::{DAY, HOUR, Micros, SECOND};

use crate::Record;
use crate::cast::{Actor, Cast, Identity, Trade};
use crate::dice::{Dice, Purpose};
use crate::logs::{self, Op};
use crate::network::{Caller, City};
use crate::rhythm::Visit;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    Denied,
}

impl Outcome {
    pub(crate) fn denied(self) -> bool {
        self == Outcome::Denied
    }

    pub(crate) fn denied_if(denied: bool) -> Self {
        if denied { Outcome::Denied } else { Outcome::Allowed }
    }
}

/// An identity at work: with which credential, from where, with which tool.
/// A thief's hand is the owner's with another `from` and `agent`.
#[derive(Clone)]
pub(crate) struct Hand<'a> {
    pub actor: &'a Actor,
    pub credential: String,
    pub issued_at: Micros,
    /// Session name, pod, or the session id of the identity provider.
    pub session: String,
    pub from: String,
    pub agent: String,
    pub city: &'static City,
}

/// Where records go, and who is to blame for them.
pub(crate) struct Scribe<'a> {
    pub cast: &'a Cast,
    pub dice: Dice,
    /// The attack that these records belong to.
    pub label: Option<u32>,
    pub out: &'a mut Vec<Record>,
}

impl<'a> Scribe<'a> {
    pub(crate) fn write(&mut self, at: Micros, log: &'static str, text: String) {
        debug_assert!(!text.contains('\n'), "a record is one line: {text}");
        self.out.push(Record { at, log, text, attack: self.label });
    }

    /// An ordinary call, in the log of the actor's world.
    pub(crate) fn call(&mut self, at: Micros, hand: &Hand<'_>, op: &Op, outcome: Outcome) {
        match hand.actor.identity {
            Identity::AwsUser { .. } | Identity::AwsRole { .. } => {
                logs::aws::call(self, at, hand, op, outcome);
            }
            Identity::Gcp { .. } => logs::gcp::call(self, at, hand, op, outcome),
            Identity::Kube { .. } => logs::kubernetes::call(self, at, hand, op, outcome),
            Identity::Okta { .. } => logs::okta::call(self, at, hand, op, outcome),
            Identity::Vault { .. } => logs::vault::call(self, at, hand, op, outcome),
            Identity::Clearml => logs::clearml::task(self, at, hand),
        }
    }

    /// One of the things that the hand's owner usually does, from the time on.
    pub(crate) fn habit(&mut self, at: Micros, hand: &Hand<'_>, outcome: Outcome) {
        if hand.actor.habits.is_empty() {
            return logs::clearml::task(self, at, hand);
        }
        let op = *self.dice.favour(&hand.actor.habits);
        self.call(at, hand, op, outcome);
    }

    /// A wait of about `mean`, never none.
    pub(crate) fn pause(&mut self, mean: Micros) -> Micros {
        1 + self.dice.exponential(mean as f64) as Micros
    }

    /// The actor's usual hand at that time, on one of its instances.
    pub(crate) fn hand(&mut self, actor: &'a Actor, at: Micros) -> Hand<'a> {
        let visit = Visit { at, calls: 1, spacing: 0, number: self.dice.next() };
        actor.hand(self.cast, visit, &mut self.dice)
    }
}

impl Actor {
    /// How this actor comes to work on this visit.
    pub(crate) fn hand<'a>(&'a self, cast: &Cast, visit: Visit, dice: &mut Dice) -> Hand<'a> {
        let slot = dice.below(self.instances_at(visit.at) as usize) as u64;
        self.hand_on(cast, visit, slot, dice)
    }

    /// How many instances run at that time.
    pub(crate) fn instances_at(&self, at: Micros) -> u32 {
        match self.scaled {
            Some((from, until, count)) if (from..until).contains(&at) => count,
            _ => self.instances,
        }
    }

    /// The same on a certain instance.
    pub(crate) fn hand_on<'a>(
        &'a self,
        cast: &Cast,
        visit: Visit,
        slot: u64,
        dice: &mut Dice,
    ) -> Hand<'a> {
        let at = visit.at;
        let instances = self.instances_at(at);
        // Instances are replaced in turn, not all at once.
        let age = at + slot as i64 * self.lifetime / i64::from(instances);
        let instance = age.div_euclid(self.lifetime) as u64 * 1000 + slot;
        let place = match &self.moved {
            Some((from, elsewhere)) if at >= *from => elsewhere,
            _ => &self.place,
        };
        let caller = Caller { seed: cast.seed, actor: self.index, instance, at };
        let from = place.address(caller, dice).to_string();
        let tool = match &self.upgraded {
            Some((from, newer)) if at >= *from => newer,
            _ => &self.tool,
        };
        let (credential, issued_at) = self.credential(cast, visit, instance, dice);
        Hand {
            actor: self,
            credential,
            issued_at,
            session: self.session(cast, visit, instance),
            from,
            agent: tool.agent(),
            city: self.city,
        }
    }

    fn session(&self, cast: &Cast, visit: Visit, instance: u64) -> String {
        let mut own = Dice::at(cast.seed, Purpose::Instance, self.index as u64, instance);
        let mut once = Dice::at(cast.seed, Purpose::Instance, visit.number, u64::MAX);
        match self.trade {
            Trade::Fleet => format!("i-0{}", own.hex(16)),
            Trade::Function => self.name.trim_end_matches("-role").to_owned(),
            Trade::Runner => format!("gha-{}", once.digits(10)),
            Trade::Broker => format!("deploy-{}", once.digits(7)),
            Trade::Scanner => "audit".to_owned(),
            Trade::Person => cast.people[self.person].email.clone(),
            Trade::OktaPerson => {
                let day = visit.at.div_euclid(DAY) as u64;
                let mut daily = Dice::at(cast.seed, Purpose::Credential, self.index as u64, day);
                format!("102{}", daily.mixed(22))
            }
            Trade::Node => self.name.clone(),
            _ => format!("{}-{}-{}", self.name, own.small(9), own.small(5)),
        }
    }

    /// The id of the credential in use at that time, and when it was issued.
    fn credential(
        &self,
        cast: &Cast,
        visit: Visit,
        instance: u64,
        dice: &mut Dice,
    ) -> (String, Micros) {
        let at = visit.at;
        let prefix = match self.trade {
            Trade::KeyJob | Trade::GcpKeyJob | Trade::Node | Trade::OktaToken => {
                let valid: Vec<&str> = self
                    .keys
                    .iter()
                    .filter(|key| (key.from..key.until).contains(&at))
                    .map(|key| key.id.as_str())
                    .collect();
                // While two keys are valid, stragglers still hold the old one.
                let straggles = valid.len() > 1 && dice.chance(0.3);
                let key = if straggles { valid.first() } else { valid.last() };
                return (key.map(|key| (*key).to_owned()).unwrap_or_default(), Micros::MIN);
            }
            Trade::GcpRun | Trade::GcpPerson | Trade::GcpBroker => return (String::new(), at),
            Trade::OktaPerson | Trade::OktaClient | Trade::Worker => return (String::new(), at),
            Trade::Runner | Trade::Broker | Trade::Scanner => {
                let mut once = Dice::at(cast.seed, Purpose::Credential, visit.number, 0);
                return (once.aws_id("ASIA"), at - at % 1_000_000);
            }
            Trade::Fleet | Trade::Function | Trade::Person => "ASIA",
            Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => "hmac-sha256:",
            _ => "JTI=",
        };
        let (period, shift) = self.session_period();
        let number = (at + shift).div_euclid(period);
        let who = self.index as u64 * 1_000_003 + instance % 1000;
        let mut own = Dice::at(cast.seed, Purpose::Credential, who, number as u64);
        let id = match prefix {
            "ASIA" => own.aws_id("ASIA"),
            "JTI=" => format!("JTI={}", own.uuid()),
            _ => format!("{prefix}{}", own.hex(64)),
        };
        (id, number * period - shift)
    }

    /// How long a session lasts, and by how much this actor's are ahead of the epoch's multiples.
    fn session_period(&self) -> (Micros, Micros) {
        let period = match self.trade {
            Trade::Fleet => 6 * HOUR,
            Trade::Person => 12 * HOUR,
            Trade::Function => 3 * HOUR,
            Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => logs::vault::TOKEN_LIFE,
            _ => HOUR,
        };
        (period, self.index as i64 * 977 * SECOND % period)
    }

    /// When sessions are renewed between these times, at most an hour apart.
    pub(crate) fn renewal_within(&self, from: Micros, to: Micros) -> Option<Micros> {
        let (period, shift) = self.session_period();
        let next = (from + shift + period - 1).div_euclid(period) * period - shift;
        (next < to).then_some(next)
    }
}
