//! What looks wrong and is not. Some of it is there all the time (pipelines, brokers, scanners);
//! some happens once, changes the cast before the first hour is made, or has a script of its own.

use telltale_schema::time::{DAY, HOUR, MINUTE, Micros, SECOND};

use crate::HardNegative;
use crate::cast::{Cast, Key, Target, Trade};
use crate::clock;
use crate::dice::{Dice, Purpose};
use crate::logs::{aws, gcp, kubernetes, vault};
use crate::network::{self, Place};
use crate::rhythm::{self, Rhythm};
use crate::scribe::Outcome;
use crate::stream::{Play, Script};

/// Services that can be told to run differently.
const JOBS: &[Trade] = &[Trade::KeyJob, Trade::GcpKeyJob, Trade::Workload, Trade::VaultApp];

/// Decides on all of them and changes the cast.
pub(crate) fn plan(cast: &mut Cast) -> (Vec<HardNegative>, Vec<Script>) {
    let dice = Dice::at(cast.seed, Purpose::Negative, 0, 0);
    let mut planner = Planner { cast, dice, negatives: Vec::new(), scripts: Vec::new() };
    planner.standing();
    planner.rare_jobs();
    planner.refused_jobs();
    planner.new_services();
    planner.new_engineer();
    planner.backlogs();
    planner.autoscaling();
    planner.rotations();
    planner.incident_response();
    planner.network_move();
    planner.upgrade_of_tools();
    planner.deployments();
    planner.on_call();
    planner.new_deploy_targets();
    planner.vault_restart();
    planner.holidays();
    (planner.negatives, planner.scripts)
}

struct Planner<'a> {
    cast: &'a mut Cast,
    dice: Dice,
    negatives: Vec<HardNegative>,
    scripts: Vec<Script>,
}

impl Planner<'_> {
    /// A time at this share of the window.
    fn moment(&mut self, from: f64, to: f64) -> Micros {
        let span = (self.cast.end - self.cast.start) as f64;
        self.cast.start + (span * self.dice.between(from, to)) as Micros
    }

    /// Some free actors of these trades, who are taken from now on.
    fn take(&mut self, trades: &[Trade], count: i64) -> Vec<usize> {
        let mut free = self.cast.free(trades);
        self.dice.shuffle(&mut free);
        // Leaves most for attacks and for days on which nothing happens.
        free.truncate((count as usize).min(free.len() / 3 + 1));
        for index in &free {
            self.cast.actors[*index].taken = true;
        }
        free
    }

    fn note(&mut self, name: &'static str, who: &[usize], span: (Micros, Micros), story: &str) {
        let names = who.iter().map(|index| self.cast.actors[*index].principal.clone());
        let mut principal_ids: Vec<String> = names.collect();
        principal_ids.sort();
        principal_ids.dedup();
        let story = story.to_owned();
        self.negatives.push(HardNegative { name, principal_ids, from: span.0, to: span.1, story });
    }

    fn script(&mut self, start: Micros, play: Play) {
        if start < self.cast.end {
            self.scripts.push(Script { start, label: None, play });
        }
    }

    fn standing(&mut self) {
        let span = (self.cast.start, self.cast.end);
        for (name, trades, story) in [
            (
                "ci_runners_on_new_addresses",
                &[Trade::Runner][..],
                "Pipelines run on hosted runners: every run has another address of a large cloud.",
            ),
            (
                "functions_in_changing_networks",
                &[Trade::Function, Trade::GcpRun],
                "Functions leave through whatever address their cloud gives them.",
            ),
            (
                "brokers",
                &[Trade::Broker, Trade::GcpBroker, Trade::VaultBroker, Trade::Proxy],
                "These assume roles, mint tokens or impersonate people for a living.",
            ),
            (
                "scanner_refused_all_day",
                &[Trade::Scanner],
                "The security scanner enumerates everything and is denied a good part of it.",
            ),
            (
                "nodes_refused_all_day",
                &[Trade::Node],
                "Kubelets ask for what the node authorizer denies, and request their pods' tokens.",
            ),
        ] {
            let who: Vec<usize> = self
                .cast
                .actors
                .iter()
                .filter(|actor| trades.contains(&actor.trade))
                .map(|actor| actor.index)
                .collect();
            self.note(name, &who, span, story);
        }
        self.negatives.push(HardNegative {
            name: "anonymous_probes",
            principal_ids: vec!["system:anonymous".to_owned()],
            from: span.0,
            to: span.1,
            story: "The internet knocks at the API server and is refused.".to_owned(),
        });
    }

    fn rare_jobs(&mut self) {
        let start = self.cast.start;
        let span = (start, self.cast.end);
        let weekly = self.dice.range(1, 3);
        let who = self.take(JOBS, weekly);
        for index in &who {
            let calls = self.dice.between(3.0, 40.0);
            self.cast.actors[*index].rhythm = rhythm::timer(&mut self.dice, start, 7 * DAY, calls);
        }
        self.note("weekly_jobs", &who, span, "Work that is done once a week.");

        for (name, most, period, story) in [
            (
                "monthly_jobs",
                2,
                30 * DAY,
                "Work that is done once a month, so once or never in the window.",
            ),
            (
                "quarterly_jobs",
                2,
                91 * DAY,
                "Work of the quarter's end; the only sign of life in the window.",
            ),
            ("one_time_jobs", 2, 36_500 * DAY, "A migration that runs on one day and never again."),
            ("yearly_jobs", 1, 365 * DAY, "The yearly certificate renewal: a handful of calls."),
        ] {
            let count = self.dice.range(1, most);
            let who = self.take(JOBS, count);
            for index in &who {
                let at = self.moment(0.25, 0.95);
                let calls = (self.dice.range(2, 8) as u32, self.dice.range(8, 60) as u32);
                let mut times = vec![at];
                let mut next = at + period;
                while next < self.cast.end {
                    times.push(next);
                    next += period;
                }
                self.cast.actors[*index].rhythm = Rhythm::Dates { at: times, calls };
            }
            self.note(name, &who, span, story);
        }
    }

    fn refused_jobs(&mut self) {
        let count = self.dice.range(1, 3);
        let who = self.take(&[Trade::KeyJob, Trade::Function, Trade::Workload], count);
        for index in &who {
            let start = self.cast.start;
            self.cast.actors[*index].rhythm = rhythm::timer(&mut self.dice, start, HOUR, 2.0);
            self.cast.actors[*index].refused = self.dice.between(0.7, 1.0);
        }
        let span = (self.cast.start, self.cast.end);
        self.note(
            "misconfigured_jobs",
            &who,
            span,
            "A job that is denied every hour, all day long.",
        );
    }

    fn new_services(&mut self) {
        let count = self.dice.range(2, 6);
        let who = self.take(&[JOBS, &[Trade::Fleet, Trade::Function]].concat(), count);
        let at = self.moment(0.2, 0.85);
        for index in &who {
            self.cast.actors[*index].from = at + self.dice.range(0, 2 * DAY);
        }
        let span = (at, at + 4 * DAY);
        self.note("new_services", &who, span, "A product goes live with accounts made for it.");
    }

    fn new_engineer(&mut self) {
        let at = self.moment(0.2, 0.8).div_euclid(DAY) * DAY + 8 * HOUR;
        let trades = [Trade::Person, Trade::GcpPerson, Trade::OktaPerson];
        let who: Vec<usize> =
            trades.iter().flat_map(|trade| self.take(&[*trade], 1)).collect::<Vec<_>>();
        for index in &who {
            let actor = &mut self.cast.actors[*index];
            actor.from = at;
            actor.refused = self.dice.between(0.05, 0.25);
        }
        let story = "Somebody's first week: everything is new to them, and some of it is refused.";
        self.note("new_engineer", &who, (at, at + 7 * DAY), story);
    }

    fn backlogs(&mut self) {
        let count = self.dice.range(1, 3);
        for index in self.take(&[JOBS, &[Trade::Fleet]].concat(), count) {
            let from = self.moment(0.3, 0.95).div_euclid(HOUR) * HOUR;
            let until = from + self.dice.range(6, 26) * HOUR;
            let factor = self.dice.between(6.0, 14.0);
            self.cast.actors[index].surge = Some((from, until, factor));
            let story = "After an outage a job works off its backlog at ten times its usual rate.";
            self.note("backlog", &[index], (from, until), story);
        }
    }

    fn autoscaling(&mut self) {
        for index in self.take(&[Trade::Fleet], 1) {
            let from = self.moment(0.25, 0.9);
            let until = from + self.dice.range(6, 30) * HOUR;
            let actor = &mut self.cast.actors[index];
            let many = actor.instances + self.dice.range(30, 60) as u32;
            actor.scaled = Some((from, until, many));
            actor.surge = Some((from, until, 5.0));
            let story = "A campaign brings fifty new instances with the same role.";
            self.note("autoscaling", &[index], (from, until), story);
        }
    }

    /// New keys, old ones that stragglers use for another day or two, then their end.
    fn rotations(&mut self) {
        let automation = self.cast.free(&[Trade::Fleet]).first().copied();
        let first = self.moment(0.15, 0.8);
        let count = self.dice.range(3, 9);
        let who = self.take(&[Trade::KeyJob], count);
        for index in &who {
            let at = first + self.dice.range(0, 3 * HOUR);
            let end = at + self.dice.range(4, 50) * HOUR;
            let fresh = self.dice.aws_id("AKIA");
            let (old, new) = self.rotate(*index, at, end, fresh);
            let (user, by) = (*index, automation.unwrap_or(*index));
            self.script(
                at,
                Box::new(move |scribe| {
                    let hand = scribe.hand(&scribe.cast.actors[by], at);
                    let name = scribe.cast.actors[user].name.clone();
                    aws::create_access_key(scribe, at, &hand, &name, Some(&new));
                    let later = scribe.hand(&scribe.cast.actors[by], end);
                    aws::retire_access_key(scribe, end, &later, (&name, &old), false);
                    aws::retire_access_key(scribe, end + DAY, &later, (&name, &old), true);
                }),
            );
        }
        let span = (first, first + 4 * DAY);
        let story = "Keys are rotated; stragglers use the old ones for a day or two more.";
        self.note("key_rotation_with_stragglers", &who, span, story);
    }

    /// Gives the actor a new key at `at`; the old one is in use until `end`.
    fn rotate(&mut self, index: usize, at: Micros, end: Micros, fresh: String) -> (String, String) {
        let keys = &mut self.cast.actors[index].keys;
        let old = keys.last().map(|key| key.id.clone()).unwrap_or_default();
        if let Some(last) = keys.last_mut() {
            last.until = end;
        }
        let lag = self.dice.range(5, 60) * MINUTE;
        keys.push(Key { id: fresh.clone(), from: at + lag, until: Micros::MAX });
        (old, fresh)
    }

    fn incident_response(&mut self) {
        let Some(by) = self.cast.free(&[Trade::Person]).first().copied() else { return };
        let count = self.dice.range(1, 3);
        let victims = self.take(&[Trade::KeyJob], count);
        let at = self.moment(0.2, 0.9);
        for (number, index) in victims.iter().enumerate() {
            let when = at + number as i64 * 4 * MINUTE;
            let fresh = self.dice.aws_id("AKIA");
            let (old, new) = self.rotate(*index, when - HOUR, when, fresh);
            let user = *index;
            self.script(
                when,
                Box::new(move |scribe| {
                    let hand = scribe.hand(&scribe.cast.actors[by], when);
                    let name = scribe.cast.actors[user].name.clone();
                    for look in &aws::LOOKS[9..14] {
                        scribe.call(when, &hand, look, Outcome::Allowed);
                    }
                    aws::create_access_key(scribe, when + 20 * SECOND, &hand, &name, Some(&new));
                    aws::retire_access_key(scribe, when + MINUTE, &hand, (&name, &old), false);
                    let deny = (name.as_str(), "AWSDenyAll");
                    if scribe.dice.chance(0.3) {
                        aws::attach_user_policy(
                            scribe,
                            when + 2 * MINUTE,
                            &hand,
                            deny,
                            Outcome::Allowed,
                        );
                    }
                }),
            );
        }
        let who: Vec<usize> = victims.into_iter().chain([by]).collect();
        let story = "A responder lists, replaces and disables keys as a precaution.";
        self.note("incident_response", &who, (at, at + HOUR), story);
    }

    /// Accounts behind an old egress appear behind a new one within two hours.
    fn network_move(&mut self) {
        let at = self.moment(0.25, 0.85);
        let kind = *self.dice.pick(&[network::CORPORATE, network::AWS, network::HOSTING]);
        let block = network::blocks(&mut self.dice, kind, 1)[0];
        let new: Vec<_> = (0..3).map(|_| network::address_in(&mut self.dice, block)).collect();
        let share = self.dice.between(0.15, 0.5);
        let mut who = Vec::new();
        for actor in &mut self.cast.actors {
            if matches!(actor.place, Place::Egress(_)) && self.dice.chance(share) {
                let late = self.dice.range(0, 2 * HOUR);
                actor.moved = Some((at + late, Place::Egress(new.clone())));
                who.push(actor.index);
            }
        }
        let story = "A data centre moves: many accounts appear on a new network at once.";
        self.note("network_move", &who, (at, at + 3 * DAY), story);
    }

    fn upgrade_of_tools(&mut self) {
        let at = self.moment(0.2, 0.85);
        let share = self.dice.between(0.4, 0.8);
        let mut who = Vec::new();
        for actor in &mut self.cast.actors {
            let person =
                matches!(actor.trade, Trade::Person | Trade::GcpPerson | Trade::OktaPerson);
            if !person && self.dice.chance(share) {
                let newer = actor.tool.upgraded(&mut self.dice);
                actor.upgraded = Some((at + self.dice.range(0, 3 * DAY), newer));
                who.push(actor.index);
            }
        }
        let story = "An SDK upgrade rolls out: versions change everywhere, families in places.";
        self.note("sdk_upgrade", &who, (at, at + 4 * DAY), story);
    }

    fn deployments(&mut self) {
        for _ in 0..self.dice.range(2, 5) {
            let at = self.workday_moment();
            let Some(by) = self.cast.free(&[Trade::Runner]).first().copied() else { return };
            let steps = self.dice.range(30, 120);
            self.script(
                at,
                Box::new(move |scribe| {
                    let hand = scribe.hand(&scribe.cast.actors[by], at);
                    aws::assume_with_web_identity(scribe, at, &hand);
                    let mut at = at + SECOND;
                    for step in 0..steps {
                        if step % 9 == 5 {
                            let role = scribe.cast.roles[step as usize % scribe.cast.roles.len()]
                                .name
                                .clone();
                            aws::put_role_policy(scribe, at, &hand, &role);
                        } else {
                            let op = scribe.dice.pick(aws::DEPLOYS);
                            scribe.call(at, &hand, op, Outcome::Allowed);
                        }
                        at += scribe.pause(SECOND / 2);
                    }
                }),
            );
            let story = "Terraform applies from CI and changes roles and policies.";
            self.note("terraform_apply", &[by], (at, at + HOUR), story);
        }
        for _ in 0..self.dice.range(2, 5) {
            let at = self.workday_moment();
            let Some(by) = self.cast.free(&[Trade::Deployer]).first().copied() else { return };
            let steps = self.dice.range(60, 220);
            self.script(
                at,
                Box::new(move |scribe| {
                    let hand = scribe.hand(&scribe.cast.actors[by], at);
                    let mut at = at;
                    for _ in 0..steps {
                        let op = scribe.dice.pick(kubernetes::INSTALLS);
                        scribe.call(at, &hand, op, Outcome::Allowed);
                        at += scribe.pause(SECOND);
                    }
                }),
            );
            let story = "Helm installs charts: accounts, roles and secrets within minutes.";
            self.note("helm_install", &[by], (at, at + HOUR), story);
        }
    }

    fn workday_moment(&mut self) -> Micros {
        for _ in 0..8 {
            let day = self.moment(0.05, 0.97).div_euclid(DAY) * DAY;
            if clock::weekday(day) < 5 {
                let at = day + self.dice.range(8, 17) * HOUR + self.dice.range(0, HOUR);
                return at.max(self.cast.start);
            }
        }
        self.moment(0.1, 0.9)
    }

    /// An incident at night: one person, many services, from home.
    fn on_call(&mut self) {
        for trade in [Trade::Person, Trade::GcpPerson] {
            let Some(who) = self.take(&[trade], 1).first().copied() else { continue };
            let at = self.moment(0.2, 0.95);
            let steps = self.dice.range(50, 160);
            self.script(
                at,
                Box::new(move |scribe| {
                    let hand = scribe.hand(&scribe.cast.actors[who], at);
                    let mut at = at;
                    for _ in 0..steps {
                        let all = if trade == Trade::Person { aws::LOOKS } else { gcp::LOOKS };
                        let op = scribe.dice.pick(all);
                        let refused = scribe.dice.chance(0.03);
                        scribe.call(at, &hand, op, Outcome::denied_if(refused));
                        at += scribe.pause(40 * SECOND);
                    }
                }),
            );
            let story = "An incident: somebody on call suddenly looks at many services.";
            self.note("on_call", &[who], (at, at + 4 * HOUR), story);
        }
    }

    /// The broker gets new roles to deploy with.
    fn new_deploy_targets(&mut self) {
        let Some(by) = self.cast.free(&[Trade::Broker]).first().copied() else { return };
        let at = self.workday_moment();
        let added: Vec<usize> = (0..self.dice.range(2, 5))
            .map(|number| {
                let account = self.dice.below(self.cast.accounts.len());
                let name = format!("launch-{number}-deploy");
                let principal =
                    format!("arn:aws:iam::{}:role/{name}", self.cast.accounts[account].id);
                let unique = self.dice.aws_id("AROA");
                let target = Target { name, principal, unique, account, privileged: false };
                self.cast.roles.push(target);
                self.cast.roles.len() - 1
            })
            .collect();
        self.script(
            at,
            Box::new(move |scribe| {
                let mut at = at;
                for _ in 0..3 {
                    for target in &added {
                        let hand = scribe.hand(&scribe.cast.actors[by], at);
                        let role = &scribe.cast.roles[*target];
                        let session = hand.session.clone();
                        let since = at;
                        let key =
                            aws::assume_role(scribe, at, &hand, role, &session, Outcome::Allowed);
                        let op = scribe.dice.pick(aws::DEPLOYS);
                        let as_role = aws::Session { role, name: &session, key: &key, since };
                        aws::call_as(scribe, at + SECOND, &hand, &as_role, op, Outcome::Allowed);
                        at += scribe.pause(5 * MINUTE);
                    }
                    at += scribe.pause(4 * HOUR);
                }
            }),
        );
        let story = "A product launch gives the deploy broker roles that it never assumed before.";
        self.note("new_deploy_targets", &[by], (at, at + DAY), story);
    }

    fn vault_restart(&mut self) {
        let at = self.moment(0.15, 0.95);
        let clients: Vec<usize> = self
            .cast
            .actors
            .iter()
            .filter(|actor| matches!(actor.trade, Trade::VaultApp | Trade::VaultPod))
            .filter(|actor| matches!(actor.rhythm, Rhythm::Steady { .. }) && actor.from < at)
            .map(|actor| actor.index)
            .collect();
        for index in &clients {
            let who = *index;
            let when = at + self.dice.range(0, 3 * MINUTE);
            self.script(
                when,
                Box::new(move |scribe| {
                    // An attack may have ended this account's work in the meantime.
                    if scribe.cast.actors[who].until > when {
                        let hand = scribe.hand(&scribe.cast.actors[who], when);
                        vault::login(scribe, when, &hand);
                    }
                }),
            );
        }
        let story = "Vault restarts, and all its clients log in again within minutes.";
        self.note("vault_restart", &clients, (at, at + HOUR), story);
    }

    fn holidays(&mut self) {
        for day in self.cast.calendar.holidays.clone() {
            let span = (day * DAY, (day + 1) * DAY);
            self.note("holiday", &[], span, "A day on which people do not work.");
        }
    }
}
