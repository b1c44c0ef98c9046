//! What is wrong: attacks of three families, drawn by seed, played with the hands of their victims.

mod dormant;
mod impersonation;
mod leaked;

use telltale_schema::time::{DAY, HOUR, MINUTE, Micros, SECOND};

use crate::cast::{Actor, Cast, Identity, Trade};
use crate::dice::{Dice, Purpose};
use crate::logs::{Op, aws, clearml, gcp, kubernetes, okta, vault};
use crate::network::{self, CITIES, City};
use crate::rhythm::Visit;
use crate::scribe::{Hand, Outcome, Scribe};
use crate::stream::Play;
use crate::tools::{Family, Tool};

/// An attack as it is decided on, before it is played.
pub(crate) struct Planned {
    pub name: &'static str,
    pub family: &'static str,
    pub principal_id: String,
    pub credential_id: Option<String>,
    pub story: String,
    pub start: Micros,
    pub play: Play,
}

/// Makes one attack, or none where the estate has no victim or no time for it.
type Variant = fn(&mut Planner<'_>) -> Option<Planned>;

/// Attacks of an estate of three weeks, at least.
const USUAL: f64 = 13.0;

/// Decides on all attacks, in order of time, and ends the work of accounts that shall be dormant.
pub(crate) fn plan(cast: &mut Cast) -> Vec<Planned> {
    let dice = Dice::at(cast.seed, Purpose::Attack, 0, 0);
    let mut planner = Planner { cast, dice };
    let mut decks = [impersonation::VARIANTS, dormant::VARIANTS, leaked::VARIANTS]
        .map(|variants| (variants.to_vec(), Vec::<Variant>::new()));
    let days = f64::from(planner.cast.days);
    let least = (USUAL * days / 21.0).ceil().clamp(3.0, USUAL + days / 7.0);
    let wanted = least as usize + planner.dice.below(6);
    let mut attacks = Vec::new();
    // Short or small estates have no room for some variants: tries are bounded.
    for attempts in 0..wanted * 6 {
        if attacks.len() == wanted {
            break;
        }
        // Each family has its share; the rest falls as it may.
        let family = if attempts < 12 { attempts % 3 } else { planner.dice.below(3) };
        let (all, left) = &mut decks[family];
        if left.is_empty() {
            left.clone_from(all);
            planner.dice.shuffle(left);
        }
        if let Some(variant) = left.pop() {
            attacks.extend(variant(&mut planner));
        }
    }
    attacks.sort_by_key(|attack| attack.start);
    attacks
}

struct Planner<'a> {
    cast: &'a mut Cast,
    dice: Dice,
}

/// How much an attacker resembles the owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guise {
    /// Code within the owner's own process: same address, same tool.
    Inside,
    /// Same family of tools, a network of the kind that the owner uses.
    Quiet,
    /// A rented machine and the attacker's own tools.
    Stranger,
}

impl Planner<'_> {
    fn moment(&mut self, from: f64, to: f64) -> Micros {
        let span = (self.cast.end - self.cast.start) as f64;
        self.cast.start + (span * self.dice.between(from, to)) as Micros
    }

    /// Somebody of these trades who is at work all the time around `at`, and is now taken.
    fn victim(&mut self, trades: &[Trade], at: Micros) -> Option<usize> {
        let free: Vec<usize> = self
            .cast
            .free(trades)
            .into_iter()
            .filter(|index| self.cast.actors[*index].from < at - DAY)
            .collect();
        let index = *free.get(self.dice.below(free.len().max(1)))?;
        self.cast.actors[index].taken = true;
        Some(index)
    }

    fn actor(&self, index: usize) -> &Actor {
        &self.cast.actors[index]
    }

    fn plan(
        &self,
        (name, family): (&'static str, &'static str),
        thief: &Thief,
        start: Micros,
        story: String,
        play: Play,
    ) -> Option<Planned> {
        let victim = self.actor(thief.victim);
        // Okta names no credential of people but their session.
        let credential = match victim.trade {
            Trade::OktaPerson => &thief.session,
            _ => &thief.credential,
        };
        let credential_id = (!credential.is_empty()).then(|| credential.clone());
        let principal_id = victim.principal.clone();
        Some(Planned { name, family, principal_id, credential_id, story, start, play })
    }

    /// A thief of the victim's credential, as it is at that time.
    fn thief(&mut self, victim: usize, at: Micros, guise: Guise) -> Thief {
        let visit = Visit { at, calls: 1, spacing: 0, number: self.dice.next() };
        let actor = &self.cast.actors[victim];
        let dice = &mut self.dice;
        let own = actor.hand(self.cast, visit, dice);
        let (from, agent, city) = match guise {
            Guise::Inside => (vec![own.from.clone()], own.agent.clone(), own.city),
            Guise::Quiet => {
                let kind = match actor.trade {
                    Trade::Person | Trade::GcpPerson | Trade::OktaPerson => network::RESIDENTIAL,
                    Trade::GcpKeyJob | Trade::GcpRun | Trade::GcpBroker => network::GOOGLE,
                    _ => network::AWS,
                };
                let from = vec![network::anywhere(dice, kind).to_string()];
                (from, Tool::draw(dice, actor.tool.family, &actor.name).agent(), own.city)
            }
            Guise::Stranger => {
                let rented =
                    [network::HOSTING, network::HOSTING, network::RESIDENTIAL, network::AZURE];
                let kind = *dice.pick(&rented);
                let block = network::blocks(dice, kind, 1)[0];
                let addresses = if dice.chance(0.25) { dice.range(2, 8) } else { 1 };
                let from =
                    (0..addresses).map(|_| network::address_in(dice, block).to_string()).collect();
                (from, alien_tool(dice, actor).agent(), &CITIES[11 + dice.below(CITIES.len() - 11)])
            }
        };
        Thief {
            victim,
            credential: own.credential,
            issued_at: own.issued_at,
            session: own.session,
            from,
            agent,
            city,
        }
    }

    /// Mostly strangers, some quiet, some inside.
    fn guise(&mut self, inside: f64, quiet: f64) -> Guise {
        let drawn = self.dice.unit();
        if drawn < inside {
            Guise::Inside
        } else if drawn < inside + quiet {
            Guise::Quiet
        } else {
            Guise::Stranger
        }
    }
}

/// A tool that attackers bring, and that the victim does not use.
fn alien_tool(dice: &mut Dice, victim: &Actor) -> Tool {
    let families: &[Family] = match victim.trade {
        Trade::GcpKeyJob | Trade::GcpRun | Trade::GcpPerson | Trade::GcpBroker => {
            &[Family::Gcloud, Family::Curl, Family::GcpPython, Family::Requests]
        }
        Trade::Workload | Trade::Controller | Trade::Node | Trade::Proxy | Trade::Deployer => {
            &[Family::Kubectl, Family::Curl, Family::Requests]
        }
        Trade::OktaPerson => &[Family::Browser],
        Trade::OktaToken | Trade::OktaClient => &[Family::Curl, Family::Requests],
        Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => {
            &[Family::Curl, Family::VaultGo, Family::Hvac]
        }
        _ => &[Family::AwsCli, Family::Boto3, Family::Requests, Family::AwsGo],
    };
    let other: Vec<Family> =
        families.iter().copied().filter(|family| *family != victim.tool.family).collect();
    let family = other.get(dice.below(other.len().max(1))).copied().unwrap_or(families[0]);
    Tool::draw(dice, family, "sts.get-caller-identity")
}

/// Whose credential was stolen, and what the thief comes with.
#[derive(Clone)]
struct Thief {
    victim: usize,
    credential: String,
    issued_at: Micros,
    session: String,
    /// One address, or several that take turns.
    from: Vec<String>,
    agent: String,
    city: &'static City,
}

impl Thief {
    fn hand<'a>(&self, scribe: &mut Scribe<'a>) -> Hand<'a> {
        Hand {
            actor: &scribe.cast.actors[self.victim],
            credential: self.credential.clone(),
            issued_at: self.issued_at,
            session: self.session.clone(),
            from: scribe.dice.pick(&self.from).clone(),
            agent: self.agent.clone(),
            city: self.city,
        }
    }
}

/// How fast an attacker works: mean time between steps, and how many.
#[derive(Clone, Copy)]
struct Pace {
    steps: i64,
    between: Micros,
}

impl Pace {
    fn loud(dice: &mut Dice, from: i64, to: i64) -> Self {
        Pace { steps: dice.range(from, to), between: dice.range(1, 20) * SECOND }
    }

    /// Few steps, minutes to hours apart.
    fn slow(dice: &mut Dice, from: i64, to: i64) -> Self {
        let between = dice.range(10, 100) * MINUTE;
        Pace { steps: dice.range(from, to), between }
    }

    /// The same within this time: sessions end.
    fn within(self, span: Micros) -> Self {
        Pace { between: self.between.min(span / self.steps.max(1)), ..self }
    }

    /// How long all of it takes, about.
    fn span(self) -> Micros {
        self.steps * self.between
    }
}

/// Goes on with what the victim usually does, and looks around now and then.
fn ransack(scribe: &mut Scribe<'_>, thief: &Thief, mut at: Micros, pace: Pace, curiosity: f64) {
    for _ in 0..pace.steps {
        let hand = thief.hand(scribe);
        if scribe.dice.chance(curiosity) {
            let refused = scribe.dice.chance(0.5);
            look(scribe, at, &hand, Outcome::denied_if(refused));
        } else {
            scribe.habit(at, &hand, Outcome::Allowed);
        }
        at += scribe.pause(pace.between);
    }
}

/// One thing that a thief looks at, in the log of the victim's world.
fn look(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, outcome: Outcome) {
    static KUBE: &[&Op] = &[
        &kubernetes::LIST_SECRETS,
        &kubernetes::GET_SECRET,
        &kubernetes::CAN_I,
        &kubernetes::RULES,
        &kubernetes::EXEC,
    ];
    let op = match hand.actor.identity {
        Identity::AwsUser { .. } | Identity::AwsRole { .. } => scribe.dice.pick(aws::LOOT),
        Identity::Gcp { .. } => scribe.dice.pick(gcp::LOOT),
        Identity::Kube { .. } => *scribe.dice.pick(KUBE),
        Identity::Okta { .. } => scribe.dice.pick(okta::LOOT),
        Identity::Vault { .. } => scribe.dice.pick(vault::LOOT),
        Identity::Clearml => return clearml::task(scribe, at, hand),
    };
    scribe.call(at, hand, op, outcome);
}

/// The latest start that leaves time for the attack within the window.
fn fits(start: Micros, span: Micros, end: Micros) -> bool {
    start + span + HOUR < end
}
