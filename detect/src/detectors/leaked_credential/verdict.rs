//! How the evidence of an episode is weighed.

use super::acts::Act;
use crate::baseline::tail::{fisher, novelty_tail};
use crate::episode::{Item, When};
use serde::{Deserialize, Serialize};
use telltale_schema::time::{HOUR, MINUTE};
use telltale_schema::{Micros, Severity};

/// A way in which the use of a credential can be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unusual {
    Network,
    Tool,
    /// One credential, two networks.
    CredentialNetwork,
    /// One credential, two tools.
    CredentialTool,
    /// The owner went on working meanwhile.
    Overlap,
    /// An instance's or workload's credential away from where it belongs.
    Place,
    Operation,
    Refusal,
    Hour,
    Act(Act),
}

impl Unusual {
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Tool => "tool",
            Self::CredentialNetwork => "networks of one credential",
            Self::CredentialTool => "tools of one credential",
            Self::Overlap => "overlap",
            Self::Place => "place",
            Self::Operation => "operations",
            Self::Refusal => "refusals",
            Self::Hour => "hour",
            Self::Act(_) => "sequence",
        }
    }
}

/// Fisher's test is made over this many dimensions: where, with what, what, refused, when.
const DIMENSIONS: usize = 5;
/// Windows of history below which nothing is new, because everything is.
const YOUNG: u32 = 12;
/// What was unusual about the place of an instance's credential pages from here on.
const PLACE_PAGES: f64 = 1.1e-4;
/// Powers of ten from which the sequence after a theft pages on its own.
const SEQUENCE_PAGES: f64 = 3.0;
/// Refused or varied calls count together within this time.
const BURST: Micros = HOUR;
const BREADTH: Micros = 10 * MINUTE;

/// What evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    pub severity: Severity,
    pub probability: f64,
    pub sequence: f64,
    pub raised_at: Micros,
}

/// Evidence put together up to some moment.
struct Sum<'a> {
    when: When,
    operations: Vec<&'a Item<Unusual>>,
    refusals: Vec<&'a Item<Unusual>>,
    /// Acts, and how often each with another value.
    acts: Vec<(Act, u32)>,
    whence: f64,
    with: f64,
    overlap: f64,
    hour: f64,
    /// The product over distinct signs of a wrong place.
    place: f64,
    /// The tails of the new operations and refusals.
    what: f64,
    refused: f64,
    /// The most operations refused, and services used, in a short time.
    refused_count: usize,
    services: usize,
}

impl<'a> Sum<'a> {
    fn new(when: When) -> Self {
        Self {
            when,
            operations: Vec::new(),
            refusals: Vec::new(),
            acts: Vec::new(),
            whence: 1.0,
            with: 1.0,
            overlap: 1.0,
            hour: 1.0,
            place: 1.0,
            what: 1.0,
            refused: 1.0,
            refused_count: 0,
            services: 0,
        }
    }

    fn add(&mut self, item: &'a Item<Unusual>) {
        let probability = item.probability;
        match item.dimension {
            Unusual::Network | Unusual::CredentialNetwork => {
                self.whence = self.whence.min(probability);
            }
            Unusual::Tool | Unusual::CredentialTool => self.with = self.with.min(probability),
            Unusual::Overlap => self.overlap = self.overlap.min(probability),
            Unusual::Hour => self.hour = self.hour.min(probability),
            Unusual::Place => self.place *= probability,
            Unusual::Operation => {
                self.operations.push(item);
                let services = densest(&self.operations, BREADTH, |item| item.group);
                self.services = self.services.max(services);
                self.what = self.what.min(together(&self.operations, self.when));
            }
            Unusual::Refusal => {
                self.refusals.push(item);
                let refused = densest(&self.refusals, BURST, |item| item.value);
                self.refused_count = self.refused_count.max(refused);
                self.refused = self.refused.min(together(&self.refusals, self.when));
            }
            Unusual::Act(act) => match self.acts.iter_mut().find(|(known, _)| *known == act) {
                Some((_, times)) => *times += 1,
                None => self.acts.push((act, 1)),
            },
        }
    }

    /// The sequence after a theft, in powers of ten, and whether it took and whether it looked.
    fn sequence(&self) -> (f64, bool, bool) {
        // A second share or key adds half of what the first says; further ones nothing.
        let weight = |(act, times): &(Act, u32)| act.weight() * if *times > 1 { 1.5 } else { 1.0 };
        // Whoever rotates its own key tries the new one.
        let place = |of: Act| self.acts.iter().position(|(act, _)| *act == of);
        let tried = place(Act::KeyForSelf).zip(place(Act::WhoAmI)).filter(|(key, who)| key < who);
        let counts = |act: Act| act != Act::WhoAmI || tried.is_none();
        let acts: f64 = self.acts.iter().filter(|(act, _)| counts(*act)).map(weight).sum();
        let refused = match self.refused_count {
            0..3 => 0.0,
            3..5 => 1.0,
            5..10 => 1.5,
            _ => 2.0,
        };
        let broad = match self.services {
            0..5 => 0.0,
            5..9 => 0.5,
            _ => 1.0,
        };
        let looks = |act: Act| matches!(act, Act::WhoAmI | Act::GrantToSelf | Act::OffensiveTool);
        (
            acts + refused + broad,
            self.acts.iter().any(|(act, _)| act.takes()),
            refused >= 1.0 || self.acts.iter().any(|(act, _)| looks(*act)),
        )
    }
}

/// Distinct keys within the span of `length` that ends with the last item.
fn densest(items: &[&Item<Unusual>], length: Micros, key: impl Fn(&Item<Unusual>) -> u64) -> usize {
    let Some(last) = items.last() else { return 0 };
    let mut keys: Vec<u64> = items
        .iter()
        .rev()
        .take_while(|item| last.at - item.at <= length)
        .map(|item| key(item))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.len()
}

/// The tail of several new things of one dimension over the windows in which they came.
pub fn together(items: &[&Item<Unusual>], when: When) -> f64 {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return 1.0 };
    if first.windows < YOUNG {
        return 1.0;
    }
    let exposure = when.windows(first.at, last.at);
    novelty_tail(first.once, first.windows, exposure, items.len() as u32)
}

/// Weighs evidence in order of time; `None` while it is not worth a ticket.
///
/// `page_below` is the tail probability that the budget of false pages affords.
pub fn verdict(
    items: &[&Item<Unusual>],
    page_below: f64,
    person: bool,
    when: When,
) -> Option<Verdict> {
    let mut sum = Sum::new(when);
    let mut found: Option<Verdict> = None;
    for item in items {
        sum.add(item);
        let (severity, probability, sequence) = weigh(&sum, page_below, person);
        let Some(severity) = severity else { continue };
        match &mut found {
            None => {
                found = Some(Verdict { severity, probability, sequence, raised_at: item.at });
            }
            Some(verdict) => {
                if severity > verdict.severity {
                    // It is for the page that the time counts, not for the ticket before it.
                    if !verdict.severity.pages() {
                        verdict.raised_at = item.at;
                    }
                    verdict.severity = severity;
                }
                verdict.probability = verdict.probability.min(probability);
                verdict.sequence = verdict.sequence.max(sequence);
            }
        }
    }
    found
}

fn weigh(sum: &Sum<'_>, page_below: f64, person: bool) -> (Option<Severity>, f64, f64) {
    let page_below = if person { page_below / 10.0 } else { page_below };
    let place = sum.place;
    let whence = sum.whence.min(place);
    let (with, what, refused, overlap, hour) =
        (sum.with, sum.what, sum.refused, sum.overlap, sum.hour);
    let (sequence, takes, looked) = sum.sequence();
    let steps = if sequence >= 1.0 { 10f64.powf(-sequence) } else { 1.0 };
    let probability =
        fisher(&[whence * overlap, with, what, (refused * steps).max(1e-9), hour], DIMENSIONS);

    let groups = [whence <= 0.03, with <= 0.03, what.min(refused) <= 0.03 || sequence >= 1.0]
        .iter()
        .filter(|unusual| **unusual)
        .count();
    let joint = probability <= page_below && (groups >= 2 || (sequence >= 2.0 && what <= 1e-3));
    let stolen_place = place <= PLACE_PAGES;
    let robbery = sequence >= SEQUENCE_PAGES && takes && looked;

    let severity = if (joint && probability <= page_below * 1e-4)
        || (stolen_place && place <= PLACE_PAGES * 1e-2)
        || (robbery && sequence >= SEQUENCE_PAGES + 2.0)
    {
        Some(Severity::Critical)
    } else if joint || stolen_place || robbery {
        Some(Severity::High)
    } else if (probability <= page_below * 20.0 && groups >= 2)
        || place <= 1.1e-2
        || whence * overlap <= 1e-4
        || sequence >= 2.0 && !sum.acts.is_empty()
    {
        Some(Severity::Medium)
    } else {
        None
    };
    (severity, probability.min(place), sequence)
}
