//! When an identity is at work.

use telltale_schema::time::{DAY, HOUR, MINUTE, Micros, SECOND};

use crate::clock;
use crate::dice::Dice;

/// One stretch of work: so many calls, so far apart on average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub at: Micros,
    pub calls: u32,
    pub spacing: Micros,
    /// Distinguishes visits of one actor.
    pub number: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Rhythm {
    /// Work that comes as customers do, with day and night.
    Steady { per_hour: f64, night: f64, weekend: f64, calls: f64 },
    /// A timer. A period of a week or more makes it rare.
    Every { period: Micros, phase: Micros, jitter: Micros, calls: (u32, u32) },
    /// Somebody who works from `start` o'clock for `length` hours, local time.
    Office { start: usize, length: usize, per_hour: f64, calls: f64 },
    /// At exactly these times.
    Dates { at: Vec<Micros>, calls: (u32, u32) },
}

/// What all share: days on which nobody works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calendar {
    /// Days since the epoch.
    pub holidays: Vec<i64>,
}

impl Calendar {
    fn is_holiday(&self, at: Micros) -> bool {
        self.holidays.contains(&at.div_euclid(DAY))
    }
}

/// The hour that is asked for, and how it differs from others.
#[derive(Clone, Copy)]
pub(crate) struct Hour<'a> {
    pub from: Micros,
    pub calendar: &'a Calendar,
    /// Local time is so many hours ahead of UTC.
    pub ahead: i64,
    /// A backlog or a campaign multiplies the work.
    pub surge: f64,
}

/// Share of the day's work by local hour; 1 on average.
const DAYTIME: [f64; 24] = [
    0.3, 0.25, 0.2, 0.2, 0.25, 0.4, 0.6, 0.9, 1.3, 1.6, 1.7, 1.7, 1.5, 1.6, 1.7, 1.7, 1.6, 1.4,
    1.2, 1.1, 1.0, 0.8, 0.6, 0.4,
];

impl Rhythm {
    /// The visits that begin in this hour, in no order.
    pub(crate) fn visits(&self, hour: Hour<'_>, dice: &mut Dice) -> Vec<Visit> {
        let weekend = clock::weekday(hour.from + hour.ahead * HOUR) > 4;
        let local = clock::local_hour(hour.from, hour.ahead);
        let holiday = hour.calendar.is_holiday(hour.from);
        match self {
            Rhythm::Steady { per_hour, night, weekend: at_weekend, calls } => {
                let day = night + (1.0 - night) * DAYTIME[local];
                let quiet = if weekend { *at_weekend } else { 1.0 };
                let quiet = if holiday { quiet.min(0.6) } else { quiet };
                let mood = dice.log_normal(1.0, 0.3);
                let count = dice.poisson(per_hour * day * quiet * mood * hour.surge);
                scatter(hour.from, count, *calls, 2 * SECOND, dice)
            }
            Rhythm::Office { start, length, per_hour, calls } => {
                let into = (local + 24 - start) % 24;
                let presence = match (weekend || holiday, into < *length) {
                    (false, true) if into == length / 2 => 0.5,
                    (false, true) => 1.0,
                    (true, true) => 0.03,
                    (false, false) if into < length + 3 => 0.06,
                    _ => 0.004,
                };
                let mood = dice.log_normal(1.0, 0.6);
                let count = dice.poisson(per_hour * presence * mood * hour.surge);
                scatter(hour.from, count, *calls, 9 * SECOND, dice)
            }
            Rhythm::Every { period, phase, jitter, calls } => {
                let first = (hour.from - phase + period - 1).div_euclid(*period);
                let mut visits = Vec::new();
                let mut at = phase + first * period;
                while at < hour.from + HOUR {
                    // Timers skip now and then: a deploy, a node that went away.
                    if !dice.chance(0.01) {
                        let wanted = f64::from(dice.range(calls.0.into(), calls.1.into()) as u32);
                        let calls = (wanted * hour.surge).max(1.0) as u32;
                        let late = dice.range(0, (*jitter).max(1)).min(hour.from + HOUR - at - 1);
                        let number = dice.next();
                        visits.push(Visit { at: at + late, calls, spacing: SECOND, number });
                    }
                    at += period;
                }
                visits
            }
            Rhythm::Dates { at, calls } => at
                .iter()
                .filter(|at| (hour.from..hour.from + HOUR).contains(at))
                .map(|at| {
                    let calls = dice.range(calls.0.into(), calls.1.into()) as u32;
                    Visit { at: *at, calls, spacing: SECOND, number: dice.next() }
                })
                .collect(),
        }
    }
}

fn scatter(from: Micros, count: u32, calls: f64, spacing: Micros, dice: &mut Dice) -> Vec<Visit> {
    (0..count)
        .map(|_| Visit {
            at: from + dice.range(0, HOUR - 1),
            calls: 1 + dice.exponential((calls - 1.0).max(0.0)) as u32,
            spacing,
            number: dice.next(),
        })
        .collect()
}

/// What a job's rhythm may be: a timer, or customers, with about so many calls a day.
pub(crate) fn of_job(dice: &mut Dice, start: Micros, daily: f64) -> Rhythm {
    const PERIODS: [Micros; 8] =
        [5 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY];
    if dice.chance(0.45) {
        let period = *dice.pick(&PERIODS);
        let calls = (daily * period as f64 / DAY as f64).clamp(1.0, 120.0);
        return timer(dice, start, period, calls);
    }
    let calls = dice.between(1.0, 6.0);
    Rhythm::Steady {
        per_hour: daily / 24.0 / calls,
        night: dice.unit(),
        weekend: dice.between(0.3, 1.0),
        calls,
    }
}

pub(crate) fn timer(dice: &mut Dice, start: Micros, period: Micros, calls: f64) -> Rhythm {
    let phase = start.div_euclid(DAY) * DAY + dice.range(0, period - 1);
    let calls = (((calls * 0.7) as u32).max(1), ((calls * 1.3) as u32).max(1));
    Rhythm::Every { period, phase, jitter: dice.range(2, 60) * SECOND, calls }
}
