//! `impersonation_spike`: somebody acts as many others, or as somebody that they never were.

use telltale_schema::time::{DAY, HOUR, MINUTE, SECOND};

use super::{Guise, Pace, Planned, Planner, Variant, fits};
use crate::cast::{Cast, Trade};
use crate::logs::{aws, clearml, gcp, kubernetes, okta, vault};
use crate::scribe::Outcome;

const FAMILY: &str = "impersonation_spike";

pub(super) static VARIANTS: &[Variant] = &[
    role_sweep,
    slow_role_sweep,
    denied_role_sweep,
    privileged_role,
    token_sweep,
    delegation_chain,
    cluster_impersonation,
    proxy_misuse,
    token_requests,
    administrator_impersonates,
    owner_tokens,
    token_minting,
];

fn role_sweep(planner: &mut Planner<'_>) -> Option<Planned> {
    let pace = Pace::loud(&mut planner.dice, 10, 70);
    sweep_of_roles(planner, "aws_role_sweep", pace, 0.15)
}

fn slow_role_sweep(planner: &mut Planner<'_>) -> Option<Planned> {
    let pace = Pace::slow(&mut planner.dice, 7, 18);
    sweep_of_roles(planner, "aws_slow_role_sweep", pace, 0.1)
}

fn denied_role_sweep(planner: &mut Planner<'_>) -> Option<Planned> {
    let pace = Pace::loud(&mut planner.dice, 25, 180);
    sweep_of_roles(planner, "aws_denied_role_sweep", pace, 0.97)
}

/// Assumes one role after another; `refused` is the share that policy denies.
fn sweep_of_roles(
    planner: &mut Planner<'_>,
    name: &'static str,
    pace: Pace,
    refused: f64,
) -> Option<Planned> {
    let start = planner.moment(0.3, 0.93);
    if !fits(start, pace.span(), planner.cast.end) {
        return None;
    }
    let trades = [Trade::KeyJob, Trade::Fleet, Trade::Function, Trade::Person];
    let victim = planner.victim(&trades, start)?;
    let guise = planner.guise(0.5, 0.2);
    let thief = planner.thief(victim, start, guise);
    let story = format!(
        "{} assumes about {} roles in turn; {:.0} % of the attempts are denied.",
        planner.actor(victim).name,
        pace.steps,
        refused * 100.0
    );
    let (play, mut order) = (thief.clone(), targets(planner.cast.roles.len(), planner));
    order.truncate(pace.steps as usize);
    planner.plan(
        (name, FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let cast = scribe.cast;
            let mut at = start;
            for step in 0..pace.steps {
                let hand = play.hand(scribe);
                let role = &cast.roles[order[step as usize % order.len()]];
                let denied = scribe.dice.chance(refused);
                let outcome = Outcome::denied_if(denied);
                let session = format!("{}-{step}", cast.company);
                let since = at;
                let key = aws::assume_role(scribe, at, &hand, role, &session, outcome);
                at += scribe.pause(pace.between);
                if !denied && scribe.dice.chance(0.5) {
                    let op = scribe.dice.pick(aws::LOOT);
                    let as_role = aws::Session { role, name: &session, key: &key, since };
                    aws::call_as(scribe, at, &hand, &as_role, op, Outcome::Allowed);
                    at += scribe.pause(2 * SECOND);
                }
            }
        }),
    )
}

fn targets(count: usize, planner: &mut Planner<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    planner.dice.shuffle(&mut order);
    order
}

/// One role that this caller never assumed, a powerful one, which is then used.
fn privileged_role(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.35, 0.94);
    let trades = [Trade::Fleet, Trade::KeyJob, Trade::Function, Trade::Runner];
    let victim = planner.victim(&trades, start)?;
    let guise = planner.guise(0.7, 0.1);
    let thief = planner.thief(victim, start, guise);
    let privileged: Vec<usize> =
        (0..planner.cast.roles.len()).filter(|role| planner.cast.roles[*role].privileged).collect();
    let target = *planner.dice.pick(&privileged);
    let (visits, calls) = (planner.dice.range(1, 3), planner.dice.range(3, 30));
    let story = format!(
        "{} assumes {} for the first time and uses it.",
        planner.actor(victim).name,
        planner.cast.roles[target].name
    );
    let play = thief.clone();
    planner.plan(
        ("aws_privileged_role", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let mut at = start;
            for visit in 0..visits {
                let hand = play.hand(scribe);
                let role = &scribe.cast.roles[target];
                let session = format!("botocore-session-{}", 1_700_000_000 + visit);
                let since = at;
                let key = aws::assume_role(scribe, at, &hand, role, &session, Outcome::Allowed);
                for _ in 0..calls {
                    at += scribe.pause(8 * SECOND);
                    let op = scribe.dice.pick(aws::LOOT);
                    let as_role = aws::Session { role, name: &session, key: &key, since };
                    aws::call_as(scribe, at, &hand, &as_role, op, Outcome::Allowed);
                }
                at += scribe.pause(HOUR);
            }
        }),
    )
}

fn token_sweep(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.93);
    let slow = planner.dice.chance(0.4);
    let pace = if slow {
        Pace::slow(&mut planner.dice, 6, 14)
    } else {
        Pace::loud(&mut planner.dice, 8, 50)
    };
    if !fits(start, pace.span(), planner.cast.end) {
        return None;
    }
    let trades = [Trade::GcpKeyJob, Trade::GcpRun, Trade::GcpPerson];
    let victim = planner.victim(&trades, start)?;
    let guise = planner.guise(0.4, 0.2);
    let thief = planner.thief(victim, start, guise);
    let refused = planner.dice.between(0.2, 0.95);
    let story = format!(
        "{} asks for tokens of about {} service accounts.",
        planner.actor(victim).name,
        pace.steps
    );
    let (play, order) = (thief.clone(), targets(planner.cast.service_accounts.len(), planner));
    planner.plan(
        ("gcp_token_sweep", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let mut at = start;
            for step in 0..pace.steps {
                let hand = play.hand(scribe);
                let target = &scribe.cast.service_accounts[order[step as usize % order.len()]];
                let denied = scribe.dice.chance(refused);
                let outcome = Outcome::denied_if(denied);
                gcp::generate_access_token(scribe, at, &hand, target, &[], outcome);
                at += scribe.pause(pace.between);
            }
        }),
    )
}

/// Through one or two accounts to a powerful one.
fn delegation_chain(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.35, 0.95);
    let victim = planner.victim(&[Trade::GcpKeyJob, Trade::GcpRun], start)?;
    let guise = planner.guise(0.5, 0.2);
    let thief = planner.thief(victim, start, guise);
    let goal = planner.dice.below(3);
    let mut middle = targets(planner.cast.service_accounts.len(), planner);
    middle.retain(|index| *index > 2);
    middle.truncate(planner.dice.range(1, 2) as usize);
    let calls = planner.dice.range(4, 25);
    let story = format!(
        "{} reaches {} through {} delegates and uses it.",
        planner.actor(victim).name,
        planner.cast.service_accounts[goal].name,
        middle.len()
    );
    let play = thief.clone();
    planner.plan(
        ("gcp_delegation_chain", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let cast: &Cast = scribe.cast;
            let hand = play.hand(scribe);
            let target = &cast.service_accounts[goal];
            let delegates: Vec<_> =
                middle.iter().map(|index| &cast.service_accounts[*index]).collect();
            gcp::generate_access_token(scribe, start, &hand, target, &delegates, Outcome::Allowed);
            let mut chain = vec![hand.actor.principal.as_str()];
            chain.extend(delegates.iter().map(|account| account.principal.as_str()));
            chain.push(&target.principal);
            let mut at = start;
            for _ in 0..calls {
                at += scribe.pause(10 * SECOND);
                let op = scribe.dice.pick(gcp::LOOT);
                gcp::call_through(scribe, at, &hand, &chain, op, Outcome::Allowed);
            }
        }),
    )
}

/// A workload that suddenly acts as people and as other accounts of the cluster.
fn cluster_impersonation(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.95);
    let trades = [Trade::Workload, Trade::Deployer, Trade::Controller];
    let victim = planner.victim(&trades, start)?;
    let guise = planner.guise(0.6, 0.0);
    let thief = planner.thief(victim, start, guise);
    let pace = Pace::loud(&mut planner.dice, 5, 45);
    let refused = planner.dice.between(0.1, 0.9);
    let story = format!(
        "{} impersonates about {} users of the cluster.",
        planner.actor(victim).name,
        pace.steps
    );
    let play = thief.clone();
    planner.plan(
        ("kubernetes_impersonation", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let cast = scribe.cast;
            let mut at = start;
            for step in 0..pace.steps as usize {
                let hand = play.hand(scribe);
                let person = &cast.people[step % cast.people.len()];
                let mask = kubernetes::Mask {
                    user: if step % 7 == 3 { "system:admin" } else { &person.email },
                    groups: if step % 7 == 3 {
                        &["system:masters", "system:authenticated"]
                    } else {
                        &["engineering", "system:authenticated"]
                    },
                };
                let denied = scribe.dice.chance(refused);
                let outcome = Outcome::denied_if(denied);
                let op = &kubernetes::LIST_SECRETS;
                kubernetes::call_as(scribe, at, &hand, &mask, op, outcome);
                at += scribe.pause(pace.between);
            }
        }),
    )
}

/// The proxy, whose trade it is to impersonate people, acts as accounts of the cluster itself.
fn proxy_misuse(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.35, 0.95);
    let victim = planner.victim(&[Trade::Proxy], start)?;
    let thief = planner.thief(victim, start, Guise::Inside);
    let pace = Pace::loud(&mut planner.dice, 5, 40);
    let story = format!(
        "{} impersonates system accounts, which it never did, and reads secrets.",
        planner.actor(victim).name
    );
    let play = thief.clone();
    planner.plan(
        ("kubernetes_proxy_misuse", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            const ACCOUNTS: &[&str] = &[
                "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
                "system:serviceaccount:kube-system:generic-garbage-collector",
                "system:serviceaccount:argocd:argocd-application-controller",
                "system:serviceaccount:vault:vault-injector",
                "system:kube-controller-manager",
            ];
            let mut at = start;
            for _ in 0..pace.steps {
                let hand = play.hand(scribe);
                let user = *scribe.dice.pick(ACCOUNTS);
                let groups = &["system:serviceaccounts", "system:authenticated"];
                let mask = kubernetes::Mask { user, groups };
                let secrets = [&kubernetes::LIST_SECRETS, &kubernetes::GET_SECRET];
                let op = *scribe.dice.pick(&secrets);
                kubernetes::call_as(scribe, at, &hand, &mask, op, Outcome::Allowed);
                at += scribe.pause(pace.between);
            }
        }),
    )
}

/// Tokens of many service accounts of the cluster.
fn token_requests(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.95);
    let victim = planner.victim(&[Trade::Workload, Trade::Controller], start)?;
    let guise = planner.guise(0.6, 0.0);
    let thief = planner.thief(victim, start, guise);
    let pace = Pace::loud(&mut planner.dice, 6, 40);
    let refused = planner.dice.between(0.0, 0.8);
    let story = format!(
        "{} requests tokens of about {} service accounts.",
        planner.actor(victim).name,
        pace.steps
    );
    let play = thief.clone();
    planner.plan(
        ("kubernetes_token_requests", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let pods: Vec<_> =
                scribe.cast.actors.iter().filter(|other| other.trade == Trade::Workload).collect();
            let mut at = start;
            for step in 0..pace.steps as usize {
                let hand = play.hand(scribe);
                let pod = pods[step % pods.len()];
                let namespace = pod.principal.split(':').nth(2).unwrap_or("apps");
                let denied = scribe.dice.chance(refused);
                let of = (namespace, pod.name.as_str());
                kubernetes::token_request(scribe, at, &hand, of, Outcome::denied_if(denied));
                at += scribe.pause(pace.between);
            }
        }),
    )
}

/// An Okta administrator's session that enters the accounts of others.
fn administrator_impersonates(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.95);
    let victim = planner.victim(&[Trade::OktaPerson], start)?;
    let guise = planner.guise(0.2, 0.3);
    let thief = planner.thief(victim, start, guise);
    let steps = planner.dice.range(4, 15);
    let story = format!(
        "{} resets factors of {steps} people and starts sessions as them.",
        planner.actor(victim).name
    );
    let play = thief.clone();
    planner.plan(
        ("okta_administrator_impersonates", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let cast = scribe.cast;
            let hand = play.hand(scribe);
            scribe.call(start, &hand, &okta::ADMIN_APP, Outcome::Allowed);
            let mut at = start;
            for step in 0..steps as usize {
                let person = &cast.people[(step * 7 + 3) % cast.people.len()];
                let name = crate::names::display(&person.name);
                let aim = okta::Aim { id: &person.okta_id, email: &person.email, name: &name };
                for op in [&okta::RESET_MFA, &okta::GRANT, &okta::INITIATE] {
                    at += scribe.pause(20 * SECOND);
                    okta::event(scribe, at, &hand, op, Some(&aim), Outcome::Allowed);
                }
                at += scribe.pause(4 * MINUTE);
            }
        }),
    )
}

/// A ClearML worker that tries to become the owner of one task after another.
fn owner_tokens(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.95);
    let victim = planner.victim(&[Trade::Worker], start)?;
    let mut thief = planner.thief(victim, start, Guise::Inside);
    // The agent's console does not name its credential after the start.
    thief.credential = String::new();
    let pace = Pace::loud(&mut planner.dice, 12, 80);
    let story = format!(
        "{} tries to log in as about {} task owners and is refused.",
        planner.actor(victim).name,
        pace.steps
    );
    let play = thief.clone();
    planner.plan(
        ("clearml_owner_tokens", FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let cast = scribe.cast;
            let hand = play.hand(scribe);
            let key = scribe.dice.mixed(20).to_uppercase();
            clearml::start(scribe, start, &hand, &key);
            let mut at = start + SECOND;
            for step in 0..pace.steps as usize {
                let owner = &cast.people[step % cast.people.len()].okta_id;
                if scribe.dice.chance(0.85) {
                    clearml::refused_owner(scribe, at, &hand, owner);
                } else {
                    clearml::owned_task(scribe, at, &hand, owner);
                }
                at += scribe.pause(pace.between);
            }
        }),
    )
}

/// A Vault client that makes tokens for roles that are not its own.
fn token_minting(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.3, 0.95);
    let victim = planner.victim(&[Trade::VaultApp, Trade::VaultPod], start)?;
    let guise = planner.guise(0.5, 0.2);
    let thief = planner.thief(victim, start, guise);
    let pace = Pace::loud(&mut planner.dice, 8, 45);
    let refused = planner.dice.between(0.1, 0.9);
    let story = format!(
        "{} makes tokens for about {} roles that it never used.",
        planner.actor(victim).name,
        pace.steps
    );
    let (play, order) = (thief.clone(), targets(planner.cast.roles.len(), planner));
    planner
        .plan(
            ("vault_token_minting", FAMILY),
            &thief,
            start,
            story,
            Box::new(move |scribe| {
                let mut at = start;
                for step in 0..pace.steps as usize {
                    let hand = play.hand(scribe);
                    let role = scribe.cast.roles[order[step % order.len()]].name.clone();
                    let denied = scribe.dice.chance(refused);
                    vault::create_token(scribe, at, &hand, &role, Outcome::denied_if(denied));
                    at += scribe.pause(pace.between);
                }
            }),
        )
        .filter(|attack| attack.start + DAY / 24 < planner.cast.end)
}
