//! `leaked_credential`: somebody else holds a credential while its owner goes on working.

use telltale_schema::time::{HOUR, MINUTE, SECOND};

use super::{Guise, Pace, Planned, Planner, Thief, Variant, fits, look, ransack};
use crate::cast::Trade;
use crate::logs::{aws, gcp, kubernetes, vault};
use crate::scribe::{Outcome, Scribe};
use crate::stream::Play;

const FAMILY: &str = "leaked_credential";

pub(super) static VARIANTS: &[Variant] = &[
    key_in_two_places,
    quiet_key,
    instance_role_outside,
    function_role_outside,
    pod_token_outside,
    gcp_key_elsewhere,
    vault_token_elsewhere,
    okta_token_elsewhere,
    exposed_key,
    smash_and_grab,
    gcp_smash_and_grab,
    cluster_reconnaissance,
    session_of_a_person,
];

/// What differs between thefts that go on with the owner's calls.
struct Theft {
    name: &'static str,
    trades: &'static [Trade],
    /// Share of attackers that keep to the owner's kind of network and tools.
    quiet: f64,
    story: &'static str,
}

fn key_in_two_places(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "aws_key_in_two_places",
            trades: &[Trade::KeyJob],
            quiet: 0.1,
            story: "an access key is used from a new network with a new tool while its owner works on",
        },
    )
}

fn instance_role_outside(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "aws_instance_role_outside",
            trades: &[Trade::Fleet],
            quiet: 0.25,
            story: "an instance's session is used outside the instance",
        },
    )
}

fn function_role_outside(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "aws_function_role_outside",
            trades: &[Trade::Function],
            quiet: 0.1,
            story: "a function's session is used from outside the cloud",
        },
    )
}

fn pod_token_outside(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "kubernetes_pod_token_outside",
            trades: &[Trade::Workload],
            quiet: 0.0,
            story: "a pod's token is used from outside the cluster",
        },
    )
}

fn gcp_key_elsewhere(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "gcp_key_elsewhere",
            trades: &[Trade::GcpKeyJob],
            quiet: 0.15,
            story: "a service account key is used from elsewhere while its owner works on",
        },
    )
}

fn vault_token_elsewhere(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "vault_token_elsewhere",
            trades: &[Trade::VaultApp, Trade::VaultPod],
            quiet: 0.1,
            story: "a Vault token is used from another host",
        },
    )
}

fn okta_token_elsewhere(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "okta_token_elsewhere",
            trades: &[Trade::OktaToken],
            quiet: 0.0,
            story: "an API token is used from another country",
        },
    )
}

fn session_of_a_person(planner: &mut Planner<'_>) -> Option<Planned> {
    theft(
        planner,
        &Theft {
            name: "aws_session_of_a_person",
            trades: &[Trade::Person],
            quiet: 0.1,
            story: "the session of somebody who signed on is used from elsewhere",
        },
    )
}

fn theft(planner: &mut Planner<'_>, theft: &Theft) -> Option<Planned> {
    let start = planner.moment(0.25, 0.95);
    let victim = planner.victim(theft.trades, start)?;
    let guise = planner.guise(0.0, theft.quiet);
    let thief = planner.thief(victim, start, guise);
    let pace = match planner.dice.below(3) {
        0 => Pace::slow(&mut planner.dice, 3, 12),
        1 => Pace::loud(&mut planner.dice, 40, 260),
        _ => Pace::loud(&mut planner.dice, 6, 40),
    };
    let pace = if fits(start, pace.span(), planner.cast.end) {
        pace
    } else {
        Pace { steps: 5, between: 30 * SECOND }
    };
    let lasting = matches!(theft.trades[0], Trade::KeyJob | Trade::GcpKeyJob | Trade::OktaToken);
    let pace = if lasting { pace } else { pace.within(4 * HOUR) };
    let curiosity = planner.dice.between(0.05, 0.9);
    let opening = planner.dice.chance(0.6);
    let story = format!("{}: {}.", planner.actor(victim).name, theft.story);
    let play = thief.clone();
    planner.plan(
        (theft.name, FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            if opening {
                who_am_i(scribe, start, &play);
            }
            ransack(scribe, &play, start + SECOND, pace, curiosity);
        }),
    )
}

/// The same key from a like network with like tools, a few calls a day.
fn quiet_key(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.9);
    let pace = Pace { steps: planner.dice.range(4, 16), between: planner.dice.range(1, 5) * HOUR };
    if !fits(start, pace.span(), planner.cast.end) {
        return None;
    }
    let victim = planner.victim(&[Trade::KeyJob, Trade::GcpKeyJob], start)?;
    let thief = planner.thief(victim, start, Guise::Quiet);
    let story = format!(
        "{}'s key is also used from another cloud network, with a like tool, {} times in days.",
        planner.actor(victim).name,
        pace.steps
    );
    let play = thief.clone();
    planner.plan(
        ("quiet_key", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            ransack(scribe, &play, start, pace, 0.1);
        }),
    )
}

fn who_am_i(scribe: &mut Scribe<'_>, at: i64, thief: &Thief) {
    let hand = thief.hand(scribe);
    let op = match hand.actor.trade {
        Trade::KeyJob | Trade::Fleet | Trade::Function | Trade::Person => &aws::WHO_AM_I,
        Trade::GcpKeyJob | Trade::GcpRun => &gcp::WHO_AM_I,
        Trade::Workload => &kubernetes::RULES,
        Trade::VaultApp | Trade::VaultPod => &vault::WHO_AM_I,
        _ => return,
    };
    scribe.call(at, &hand, op, Outcome::Allowed);
}

/// AWS finds the key in public and attaches its quarantine policy; the key is used all the same.
fn exposed_key(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.1, 0.95);
    let victim = planner.victim(&[Trade::KeyJob], start)?;
    let thief = planner.thief(victim, start, Guise::Stranger);
    let before = planner.dice.chance(0.6);
    let lead = planner.dice.range(2 * MINUTE, 4 * HOUR);
    let pace = Pace::loud(&mut planner.dice, 6, 80);
    let story = format!(
        "{}'s key was published; AWS quarantined its user {} the first use by a stranger.",
        planner.actor(victim).name,
        if before { "before" } else { "after" }
    );
    let play = thief.clone();
    let play: Play = Box::new(move |scribe| {
        let label = scribe.label.take();
        let owner = &scribe.cast.actors[play.victim];
        let first = if before { start + lead } else { start };
        let quarantined = if before { start } else { start + lead / 8 };
        // What AWS does is not the attacker's.
        aws::quarantine(scribe, quarantined, owner);
        scribe.label = label;
        who_am_i(scribe, first, &play);
        let mut at = first;
        for _ in 0..pace.steps {
            at += scribe.pause(pace.between);
            let hand = play.hand(scribe);
            let refused = scribe.dice.chance(if at > quarantined { 0.6 } else { 0.2 });
            look(scribe, at, &hand, Outcome::denied_if(refused));
        }
    });
    planner.plan(("aws_exposed_key", FAMILY), &thief, start, story, play)
}

/// Needs no history: who am I, what may I, rights for myself, a key for myself.
fn smash_and_grab(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.08, 0.95);
    let victim = planner.victim(&[Trade::KeyJob], start)?;
    let guise = planner.guise(0.0, 0.2);
    let thief = planner.thief(victim, start, guise);
    let (steps, after) = (planner.dice.range(8, 60), planner.dice.range(3, 40));
    let (escalates, refused) = (planner.dice.chance(0.7), planner.dice.between(0.3, 0.9));
    let story = format!(
        "{}'s key: who am I, many services in a minute, rights and a key for itself, then the new key.",
        planner.actor(victim).name
    );
    let play = thief.clone();
    planner.plan(
        ("aws_smash_and_grab", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            who_am_i(scribe, start, &play);
            let hand = play.hand(scribe);
            let name = hand.actor.name.clone();
            let mut at = start + SECOND;
            for _ in 0..steps {
                let denied = scribe.dice.chance(refused);
                look(scribe, at, &hand, Outcome::denied_if(denied));
                at += scribe.pause(SECOND);
            }
            if !escalates {
                return;
            }
            let policy = (name.as_str(), "AdministratorAccess");
            aws::attach_user_policy(scribe, at, &hand, policy, Outcome::Allowed);
            at += scribe.pause(5 * SECOND);
            let child = aws::create_access_key(scribe, at, &hand, &name, None);
            let mut hand = hand;
            hand.credential = child;
            for _ in 0..after {
                at += scribe.pause(20 * SECOND);
                look(scribe, at, &hand, Outcome::Allowed);
            }
        }),
    )
}

fn gcp_smash_and_grab(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.08, 0.95);
    let victim = planner.victim(&[Trade::GcpKeyJob], start)?;
    let guise = planner.guise(0.0, 0.2);
    let thief = planner.thief(victim, start, guise);
    let (steps, after) = (planner.dice.range(6, 40), planner.dice.range(3, 25));
    let refused = planner.dice.between(0.3, 0.9);
    let story = format!(
        "{}'s key: lists projects, is refused by many services, makes itself owner and a key.",
        planner.actor(victim).name
    );
    let play = thief.clone();
    planner.plan(
        ("gcp_smash_and_grab", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            who_am_i(scribe, start, &play);
            let hand = play.hand(scribe);
            let mut at = start + SECOND;
            for _ in 0..steps {
                let denied = scribe.dice.chance(refused);
                look(scribe, at, &hand, Outcome::denied_if(denied));
                at += scribe.pause(2 * SECOND);
            }
            let member = hand.actor.principal.clone();
            let binding = (member.as_str(), "roles/owner");
            gcp::set_iam_policy(scribe, at, &hand, binding, Outcome::Allowed);
            at += scribe.pause(10 * SECOND);
            let child = gcp::create_key(scribe, at, &hand);
            let mut hand = hand;
            hand.credential = child;
            for _ in 0..after {
                at += scribe.pause(20 * SECOND);
                look(scribe, at, &hand, Outcome::Allowed);
            }
        }),
    )
}

/// A pod's token asks what it may do, reads secrets and binds itself to cluster-admin.
fn cluster_reconnaissance(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.08, 0.95);
    let victim = planner.victim(&[Trade::Workload], start)?;
    let guise = planner.guise(0.5, 0.0);
    let thief = planner.thief(victim, start, guise);
    let steps = planner.dice.range(8, 50);
    let refused = planner.dice.between(0.3, 0.95);
    let story = format!(
        "{}'s token asks what it may do, then tries secrets, pods and bindings.",
        planner.actor(victim).name
    );
    let play = thief.clone();
    planner.plan(
        ("kubernetes_reconnaissance", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let hand = play.hand(scribe);
            scribe.call(start, &hand, &kubernetes::RULES, Outcome::Allowed);
            let mut at = start;
            for step in 0..steps {
                at += scribe.pause(2 * SECOND);
                let denied = scribe.dice.chance(refused);
                let op = match step % 5 {
                    0 => &kubernetes::CAN_I,
                    1 | 2 => &kubernetes::LIST_SECRETS,
                    3 => &kubernetes::GET_SECRET,
                    _ => &kubernetes::EXEC,
                };
                let own = std::ptr::eq(op, &kubernetes::CAN_I);
                scribe.call(at, &hand, op, Outcome::denied_if(denied && !own));
            }
            at += scribe.pause(10 * SECOND);
            let denied = scribe.dice.chance(refused);
            scribe.call(at, &hand, &kubernetes::BIND, Outcome::denied_if(denied));
        }),
    )
}
