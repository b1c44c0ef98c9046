//! Normal days: what each identity does when nobody misuses it, and what services do by themselves.

use telltale_schema::time::{HOUR, MINUTE, Micros, SECOND};

use crate::Record;
use crate::cast::{Actor, Cast, Trade};
use crate::dice::{Dice, Purpose};
use crate::logs::{Op, aws, clearml, gcp, kubernetes, vault};
use crate::network;
use crate::rhythm::{Hour, Rhythm, Visit};
use crate::scribe::{Hand, Outcome, Scribe};

/// Longest visit; what is more comes with the next.
const MAX_CALLS: u32 = 400;

/// Writes what the actor begins in the hour from `from` on.
pub(crate) fn hour(cast: &Cast, actor: &Actor, from: Micros, out: &mut Vec<Record>) {
    if actor.until <= from || actor.from >= from + HOUR {
        return;
    }
    let mut dice = Dice::at(cast.seed, Purpose::Routine, actor.index as u64, from as u64);
    let surge = match actor.surge {
        Some((begin, end, factor)) if (begin..end).contains(&from) => factor,
        _ => 1.0,
    };
    let hour = Hour { from, calendar: &cast.calendar, ahead: actor.city.ahead, surge };
    let visits = actor.rhythm.visits(hour, &mut dice);
    let mut scribe = Scribe { cast, dice, label: None, out };
    renew_sessions(&mut scribe, actor, from);
    for visit in visits {
        if (actor.from..actor.until).contains(&visit.at) {
            work(&mut scribe, actor, visit);
        }
    }
}

/// Whether sessions end long before the next visit, so that each visit begins with a new one.
fn is_rare(actor: &Actor) -> bool {
    match &actor.rhythm {
        Rhythm::Every { period, .. } => *period > HOUR,
        Rhythm::Steady { per_hour, .. } => *per_hour < 0.5,
        Rhythm::Dates { .. } | Rhythm::Office { .. } => true,
    }
}

/// Instances, functions and Vault's clients get new sessions when the old ones end.
fn renew_sessions<'a>(scribe: &mut Scribe<'a>, actor: &'a Actor, from: Micros) {
    if is_rare(actor) {
        return;
    }
    let Some(at) = actor.renewal_within(from, from + HOUR) else { return };
    if !(actor.from..actor.until).contains(&at) {
        return;
    }
    for slot in 0..actor.instances_at(at) {
        let late = scribe.dice.range(0, 2 * SECOND);
        let visit = Visit { at: at + late, calls: 1, spacing: 0, number: 0 };
        let hand = actor.hand_on(scribe.cast, visit, slot.into(), &mut scribe.dice);
        begin(scribe, visit.at, &hand);
    }
}

/// How a session begins, where the log shows it.
fn begin(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    match hand.actor.trade {
        Trade::Fleet | Trade::Function => aws::assume_by_service(scribe, at, hand),
        Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => vault::login(scribe, at, hand),
        Trade::Runner => aws::assume_with_web_identity(scribe, at, hand),
        _ => {}
    }
}

fn work<'a>(scribe: &mut Scribe<'a>, actor: &'a Actor, visit: Visit) {
    let hand = actor.hand(scribe.cast, visit, &mut scribe.dice);
    let mut at = visit.at;
    if is_rare(actor) {
        begin(scribe, at, &hand);
        at += scribe.pause(SECOND);
    }
    let person = scribe.dice.below(scribe.cast.people.len());
    for _ in 0..visit.calls.min(MAX_CALLS) {
        let refused = scribe.dice.chance(actor.refused);
        one_call(scribe, at, &hand, person, Outcome::denied_if(refused));
        at += scribe.pause(visit.spacing);
    }
}

fn one_call(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, person: usize, outcome: Outcome) {
    let actor = hand.actor;
    let cast = scribe.cast;
    match actor.trade {
        Trade::Proxy => {
            let user = cast.people[person].email.as_str();
            let mask = kubernetes::Mask { user, groups: &["engineering", "system:authenticated"] };
            let op = *scribe.dice.favour(&actor.habits);
            kubernetes::call_as(scribe, at, hand, &mask, op, outcome);
        }
        Trade::Node if scribe.dice.chance(0.15) => {
            let pods = cast.actors.iter().filter(|other| other.trade == Trade::Workload);
            let pods: Vec<&Actor> = pods.collect();
            let pod = scribe.dice.pick(&pods);
            let namespace = pod.principal.split(':').nth(2).unwrap_or("apps");
            kubernetes::token_request(scribe, at, hand, (namespace, &pod.name), outcome);
        }
        Trade::VaultBroker => {
            let role = cast.roles[scribe.dice.below(cast.roles.len())].name.clone();
            vault::create_token(scribe, at, hand, &role, outcome);
        }
        Trade::Worker => clearml::task(scribe, at, hand),
        Trade::Broker => assume_and_use(scribe, at, hand),
        Trade::GcpBroker => mint_and_use(scribe, at, hand),
        _ if !actor.targets.is_empty() && scribe.dice.chance(0.12) => match actor.trade {
            Trade::GcpKeyJob | Trade::GcpRun => mint_and_use(scribe, at, hand),
            _ => assume_and_use(scribe, at, hand),
        },
        Trade::KeyJob | Trade::Fleet | Trade::Function if scribe.dice.chance(0.01) => {
            aws::decrypt_for(scribe, at, hand);
        }
        _ => scribe.habit(at, hand, outcome),
    }
}

/// Assumes one of the actor's usual roles and does a little there.
fn assume_and_use(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let cast = scribe.cast;
    let role = &cast.roles[*scribe.dice.pick(&hand.actor.targets)];
    let session = hand.session.clone();
    let key = aws::assume_role(scribe, at, hand, role, &session, Outcome::Allowed);
    let assumed = aws::Session { role, name: &session, key: &key, since: at };
    let mut at = at;
    for _ in 0..scribe.dice.range(1, 4) {
        at += scribe.pause(2 * SECOND);
        let op = scribe.dice.pick(aws::DEPLOYS);
        aws::call_as(scribe, at, hand, &assumed, op, Outcome::Allowed);
    }
}

/// Mints a token of one of the actor's usual accounts and does a little with it.
fn mint_and_use(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let cast = scribe.cast;
    let target = &cast.service_accounts[*scribe.dice.pick(&hand.actor.targets)];
    gcp::generate_access_token(scribe, at, hand, target, &[], Outcome::Allowed);
    let mut at = at;
    for _ in 0..scribe.dice.range(1, 3) {
        at += scribe.pause(2 * SECOND);
        let op = scribe.dice.pick(gcp::LOOKS);
        let chain = [hand.actor.principal.as_str(), target.principal.as_str()];
        gcp::call_through(scribe, at, hand, &chain, op, Outcome::Allowed);
    }
}

/// What happens in the hour that no identity of the estate does.
pub(crate) fn noise(cast: &Cast, from: Micros, out: &mut Vec<Record>) {
    let dice = Dice::at(cast.seed, Purpose::Noise, 0, from as u64);
    let mut scribe = Scribe { cast, dice, label: None, out };
    service_linked(&mut scribe, from);
    for _ in 0..scribe.dice.poisson(3.0) {
        let at = from + scribe.dice.range(0, HOUR - 1);
        let address = network::anywhere(&mut scribe.dice, network::HOSTING).to_string();
        let agent =
            *scribe.dice.pick(&["Mozilla/5.0 zgrab/0.x", "Go-http-client/1.1", "curl/7.88.1"]);
        kubernetes::anonymous(&mut scribe, at, &address, agent);
    }
    for _ in 0..scribe.dice.poisson(12.0) {
        let at = from + scribe.dice.range(0, HOUR - 1);
        let call = *scribe.dice.pick(&[
            "tasks.get_by_id",
            "workers.status_report",
            "queues.get_next_task",
        ]);
        let expired = scribe.dice.chance(0.01);
        let refusal = "Unauthorized (invalid credentials) (failed to locate provided credentials)";
        clearml::server(&mut scribe, at, call, expired.then_some(refusal));
    }
}

/// Cloud services that act for themselves with their own roles; most of all `AssumeRole` records.
fn service_linked(scribe: &mut Scribe<'_>, from: Micros) {
    static DESCRIBE: Op =
        Op { service: "ec2", name: "DescribeInstanceStatus", detail: "", read_only: true };
    let cast = scribe.cast;
    let fleets: Vec<&Actor> =
        cast.actors.iter().filter(|actor| actor.trade == Trade::Fleet).collect();
    const SERVICES: &[&str] = &[
        "autoscaling.amazonaws.com",
        "rds.amazonaws.com",
        "config.amazonaws.com",
        "ecs.amazonaws.com",
        "guardduty.amazonaws.com",
        "access-analyzer.amazonaws.com",
    ];
    let each = fleets.len() as f64;
    for _ in 0..scribe.dice.poisson(2.0 * each) {
        let at = from + scribe.dice.range(0, HOUR - MINUTE);
        let service = *scribe.dice.pick(SERVICES);
        let fleet = *scribe.dice.pick(&fleets);
        if scribe.dice.chance(0.6) {
            aws::assume_service_linked(scribe, at, fleet, service);
        } else {
            aws::service_event(scribe, at, fleet, service, &DESCRIBE, aws::Answer::default());
        }
    }
}
