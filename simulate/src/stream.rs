//! The records in order of time, made hour by hour.

use std::sync::Arc;
use std::vec;

use telltale_schema::time::{HOUR, Micros};

use crate::cast::Cast;
use crate::dice::{Dice, Purpose};
use crate::scribe::Scribe;
use crate::{Record, routine};

/// Something that happens once: an attack, or an episode of normal life.
pub(crate) struct Script {
    /// No record is earlier.
    pub start: Micros,
    /// The attack that its records belong to.
    pub label: Option<u32>,
    pub play: Play,
}

pub(crate) type Play = Box<dyn Fn(&mut Scribe<'_>) + Send + Sync>;

impl Script {
    /// Writes all of it. `number` tells scripts of one estate apart.
    pub(crate) fn play(&self, cast: &Cast, number: usize, out: &mut Vec<Record>) {
        let dice = Dice::at(cast.seed, Purpose::Script, number as u64, self.start as u64);
        (self.play)(&mut Scribe { cast, dice, label: self.label, out });
    }
}

/// Holds one hour, and what the visits of earlier hours left for later ones.
pub(crate) struct Stream {
    cast: Arc<Cast>,
    scripts: Arc<Vec<Script>>,
    hour: Micros,
    ready: vec::IntoIter<Record>,
    pending: Vec<Record>,
}

impl Stream {
    pub(crate) fn new(cast: Arc<Cast>, scripts: Arc<Vec<Script>>) -> Self {
        let hour = cast.start;
        Stream { cast, scripts, hour, ready: Vec::new().into_iter(), pending: Vec::new() }
    }

    fn make_hour(&mut self) {
        let cast = &*self.cast;
        let (from, to) = (self.hour, (self.hour + HOUR).min(cast.end));
        let mut out = std::mem::take(&mut self.pending);
        for actor in &cast.actors {
            routine::hour(cast, actor, from, &mut out);
        }
        routine::noise(cast, from, &mut out);
        for (number, script) in self.scripts.iter().enumerate() {
            if (from..from + HOUR).contains(&script.start) {
                script.play(cast, number, &mut out);
            }
        }
        // Stable, so that what has the same time stays in the order in which it was made.
        out.sort_by_key(|record| record.at);
        self.pending = out.split_off(out.partition_point(|record| record.at < to));
        self.ready = out.into_iter();
        self.hour += HOUR;
    }
}

impl Iterator for Stream {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(record);
            }
            if self.hour >= self.cast.end {
                return None;
            }
            self.make_hour();
        }
    }
}
