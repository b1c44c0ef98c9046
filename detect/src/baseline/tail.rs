//! Tail probabilities: how unlikely a count, a new value, a silence or several things at once are.

use statrs::function::beta::beta_reg;
use statrs::function::gamma::gamma_ur;

/// No single dimension is believed to be rarer than this.
pub const RAREST: f64 = 1e-6;

/// P(X >= `count`) of a negative binomial: a Poisson whose rate is Gamma(`shape`, `rate`).
///
/// Shape: `rate` in windows observed, `exposure` in windows in which `count` was reached.
/// Source: Gelman et al., "Bayesian Data Analysis", 3rd edition, 2.6.
pub fn gamma_poisson_tail(shape: f64, rate: f64, exposure: f64, count: u32) -> f64 {
    if count == 0 || shape <= 0.0 || rate <= 0.0 || exposure <= 0.0 {
        return 1.0;
    }
    let success = exposure / (rate + exposure);
    beta_reg(f64::from(count), shape, success.clamp(1e-300, 1.0)).clamp(0.0, 1.0)
}

/// P(X >= `count`) of a negative binomial with this mean and variance; Poisson where the variance
/// is not above the mean.
pub fn overdispersed_tail(mean: f64, variance: f64, count: u32) -> f64 {
    if count == 0 {
        return 1.0;
    }
    let mean = mean.max(1e-9);
    // A variance that is only just above the mean is a Poisson to any accuracy that matters.
    let excess = (variance - mean).max(mean * 1e-3);
    let shape = mean * mean / excess;
    gamma_poisson_tail(shape, shape / mean, 1.0, count)
}

/// Probability of `count` or more values never seen before within `exposure` windows.
///
/// Shape: `once` values that were seen on one day only, in `windows` windows of activity.
/// Source: Good, "The population frequencies of species and the estimation of population
/// parameters", Biometrika 40, 1953, as the rate; Jeffreys' half for what has never happened.
pub fn novelty_tail(once: u32, windows: u32, exposure: u32, count: u32) -> f64 {
    let tail = gamma_poisson_tail(
        f64::from(once) + 0.5,
        f64::from(windows) + 1.0,
        f64::from(exposure.max(1)),
        count,
    );
    tail.max(RAREST)
}

/// [`novelty_tail`] of one value in one window, remembered for pairs that were asked for. It only
/// saves time.
#[derive(Debug)]
pub struct NoveltyOfOne {
    /// A pair has one place, which the latest of those that share it takes.
    asked: Box<[(u32, u32, f64)]>,
}

impl Default for NoveltyOfOne {
    fn default() -> Self {
        Self { asked: vec![(0, 0, 0.0); 1 << Self::PLACES_LOG2].into() }
    }
}

impl NoveltyOfOne {
    /// Without any history everything is new, and its probability is not worth computing.
    const UNKNOWN: f64 = 0.3;
    /// 64 KiB of pairs stay close to the processor.
    const PLACES_LOG2: u32 = 12;

    #[inline]
    pub fn tail(&mut self, once: u32, windows: u32) -> f64 {
        if windows == 0 {
            return Self::UNKNOWN;
        }
        let mixed = (once.rotate_left(16) ^ windows).wrapping_mul(0x9e37_79b9);
        let place = &mut self.asked[(mixed >> (32 - Self::PLACES_LOG2)) as usize];
        if (place.0, place.1) != (once, windows) {
            *place = (once, windows, novelty_tail(once, windows, 1, 1));
        }
        place.2
    }
}

/// The tail probability of several independent tail probabilities, those of 1 included.
///
/// Source: Fisher, "Statistical Methods for Research Workers", 1925, 21.1.
pub fn fisher(probabilities: &[f64], dimensions: usize) -> f64 {
    let dimensions = dimensions.max(probabilities.len()).max(1);
    let sum: f64 = probabilities.iter().map(|p| -p.clamp(1e-300, 1.0).ln()).sum();
    if sum <= 0.0 {
        return 1.0;
    }
    gamma_ur(dimensions as f64, sum)
}

/// Probability that a day brings a silence of `silence` or more, for an account whose longest was
/// `longest` in `observed_days`.
///
/// About one silence as long as the longest fits into the time observed, and longer ones get rarer
/// as a Pareto tail does. Units: `silence` and `longest` alike.
pub fn silence_tail(longest: f64, observed_days: f64, silence: f64) -> f64 {
    const EXPONENT: f64 = 1.5;
    if silence <= longest {
        return 1.0;
    }
    let exceeds = (longest.max(1e-9) / silence).powf(EXPONENT);
    (exceeds / observed_days.max(1.0)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_far_above_the_rate_are_rare_and_near_it_are_not() {
        // Ten an hour for two hundred hours.
        assert!(gamma_poisson_tail(2000.0, 200.0, 1.0, 12) > 0.2);
        assert!(gamma_poisson_tail(2000.0, 200.0, 1.0, 40) < 1e-8);
        // The same mean with bursts: a forty is nothing to speak of.
        assert!(overdispersed_tail(10.0, 400.0, 40) > 0.01);
        assert!(overdispersed_tail(10.0, 10.0, 40) < 1e-8);
    }

    #[test]
    fn a_new_value_is_rare_only_after_long_steadiness() {
        assert!(novelty_tail(0, 300, 1, 1) < 2.1e-3);
        assert!(novelty_tail(0, 3, 1, 1) > 0.1);
        assert!(novelty_tail(250, 300, 1, 1) > 0.5, "a runner on ever new addresses");
        assert!(novelty_tail(0, 300, 1, 3) < novelty_tail(0, 300, 1, 1));
    }

    #[test]
    fn fisher_needs_more_than_one_surprise() {
        assert!(fisher(&[1e-4], 5) > 0.01);
        assert!(fisher(&[1e-4, 1e-4], 5) < 1e-4);
        assert!((fisher(&[0.3], 1) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn silences_of_known_length_are_usual() {
        let day = 1.0;
        assert_eq!(silence_tail(7.0 * day, 21.0, 7.0 * day), 1.0, "a weekly job");
        assert!(silence_tail(10.0 / 1440.0, 14.0, day) < 1e-4, "a five-minute job after a day");
        assert!(silence_tail(7.0, 21.0, 14.0) > 0.01, "a weekly job that missed once");
    }
}
