//! `dormant_account`: an account that was silent for long acts again, in somebody else's hands.

use telltale_schema::time::{DAY, HOUR, MINUTE, Micros, SECOND};

use super::{Pace, Planned, Planner, Variant, ransack};
use crate::cast::Trade;
use crate::logs::vault;
use crate::rhythm::{self, Rhythm};

const FAMILY: &str = "dormant_account";

pub(super) static VARIANTS: &[Variant] = &[
    five_minute_job,
    five_minute_job,
    one_sign_of_life,
    one_sign_of_life,
    decommissioned_job,
    departed_person,
    silent_for_a_quarter,
];

/// Whose credentials outlive their work.
const LASTING: &[Trade] =
    &[Trade::KeyJob, Trade::KeyJob, Trade::GcpKeyJob, Trade::VaultApp, Trade::OktaToken];

/// A timer of minutes stops, is silent for days, then acts.
fn five_minute_job(planner: &mut Planner<'_>) -> Option<Planned> {
    let trades = [LASTING, &[Trade::Workload]].concat();
    let start = planner.moment(0.45, 0.96);
    let room = (start - planner.cast.start) / 2;
    let silence = planner.dice.range(2 * DAY, 9 * DAY).min(room);
    if silence < 36 * HOUR {
        return None;
    }
    let victim = planner.victim(&trades, start - silence)?;
    let period = *planner.dice.pick(&[5 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE]);
    let begin = planner.cast.start;
    let calls = planner.dice.between(1.0, 3.0);
    let rhythm = rhythm::timer(&mut planner.dice, begin, period, calls);
    let minutes = period / MINUTE;
    let how = format!("ran every {minutes} minutes, stopped, was silent");
    fall_silent(planner, victim, rhythm, start, silence);
    wake(planner, "stopped_job_returns", victim, start, silence, &how)
}

/// One call in the first days, nothing since, then a wake-up.
fn one_sign_of_life(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.7, 0.97);
    let first = planner.moment(0.0, 0.12);
    let silence = start - first;
    if silence < 5 * DAY {
        return None;
    }
    let victim = planner.victim(LASTING, start)?;
    let calls = (1, planner.dice.range(1, 4) as u32);
    let rhythm = Rhythm::Dates { at: vec![first], calls };
    fall_silent(planner, victim, rhythm, start, silence);
    wake(planner, "one_sign_of_life", victim, start, silence, "was seen once, then was silent")
}

/// A daily or hourly job is decommissioned; its key is used again.
fn decommissioned_job(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.55, 0.97);
    let room = (start - planner.cast.start) * 2 / 3;
    let silence = planner.dice.range(4 * DAY, 14 * DAY).min(room);
    if silence < 4 * DAY {
        return None;
    }
    let victim = planner.victim(&[Trade::KeyJob, Trade::GcpKeyJob], start - silence)?;
    let period = *planner.dice.pick(&[HOUR, 6 * HOUR, DAY]);
    let begin = planner.cast.start;
    let rhythm = rhythm::timer(&mut planner.dice, begin, period, 4.0);
    fall_silent(planner, victim, rhythm, start, silence);
    let how = "was decommissioned, silent";
    wake(planner, "decommissioned_key", victim, start, silence, how)
}

/// Somebody left; their account was forgotten.
fn departed_person(planner: &mut Planner<'_>) -> Option<Planned> {
    let start = planner.moment(0.6, 0.97);
    let silence = planner.dice.range(7 * DAY, 20 * DAY).min((start - planner.cast.start) * 3 / 4);
    if silence < 6 * DAY {
        return None;
    }
    let victim = planner.victim(&[Trade::GcpPerson, Trade::OktaPerson], start - silence)?;
    let rhythm = planner.actor(victim).rhythm.clone();
    fall_silent(planner, victim, rhythm, start, silence);
    wake(planner, "departed_person", victim, start, silence, "left the company and was silent")
}

/// What a policy of 90 days is for; needs a long window.
fn silent_for_a_quarter(planner: &mut Planner<'_>) -> Option<Planned> {
    if planner.cast.days <= 100 {
        return None;
    }
    let silence = planner.dice.range(91 * DAY, i64::from(planner.cast.days - 6) * DAY);
    let earliest = planner.cast.start + silence + 2 * DAY;
    let start = planner.dice.range(earliest, planner.cast.end - 3 * DAY);
    let victim = planner.victim(LASTING, start)?;
    let rhythm = planner.actor(victim).rhythm.clone();
    fall_silent(planner, victim, rhythm, start, silence);
    wake(planner, "silent_for_a_quarter", victim, start, silence, "worked, then was silent")
}

fn fall_silent(
    planner: &mut Planner<'_>,
    victim: usize,
    rhythm: Rhythm,
    start: Micros,
    silence: Micros,
) {
    let actor = &mut planner.cast.actors[victim];
    // What it did before stays; a single sign of life lies before the silence anyway.
    actor.until = start - silence + MINUTE;
    actor.rhythm = rhythm;
}

fn wake(
    planner: &mut Planner<'_>,
    name: &'static str,
    victim: usize,
    start: Micros,
    silence: Micros,
    how: &str,
) -> Option<Planned> {
    let guise = planner.guise(0.2, 0.25);
    let thief = planner.thief(victim, start, guise);
    let pace = match planner.dice.below(3) {
        0 => Pace { steps: planner.dice.range(3, 8), between: planner.dice.range(5, 50) * MINUTE },
        1 => Pace::loud(&mut planner.dice, 30, 150),
        _ => Pace::loud(&mut planner.dice, 5, 30),
    };
    let curiosity = planner.dice.between(0.1, 0.8);
    let story = format!(
        "{} {how} for {:.1} days, and now acts {} times.",
        planner.actor(victim).name,
        silence as f64 / DAY as f64,
        pace.steps
    );
    let play = thief.clone();
    planner.plan(
        (name, FAMILY),
        &thief,
        start,
        story,
        Box::new(move |scribe| {
            let hand = play.hand(scribe);
            if hand.actor.trade == Trade::VaultApp {
                // The last token is long gone; the role's secret is not.
                vault::login(scribe, start, &hand);
            }
            ransack(scribe, &play, start + SECOND, pace, curiosity);
        }),
    )
}
