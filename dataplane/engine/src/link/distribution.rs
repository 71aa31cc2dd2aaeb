//! The distributions of jitter: numbers with mean 0 and standard deviation 1.

use std::sync::Arc;

/// The shape of the Pareto distribution: that of the kernel's netem (`pareto.c` of iproute2).
const PARETO_SHAPE: f64 = 3.0;
/// Where the Pareto distribution is cut off, as a multiple of its smallest value. Values above (0.1 % of them) have
/// no finite fourth moment: the measured standard deviation of a million of them would differ from run to run.
const PARETO_MOST: f64 = 10.0;
/// Number of points at which a distribution is integrated.
const POINTS: u32 = 1024;

/// The distribution of jitter.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// The normal distribution.
    #[default]
    Normal,
    /// All values within √3 standard deviations of the mean, equally likely.
    Uniform,
    /// Pareto with shape 3, cut off at ten times its smallest value: few large delays.
    Pareto,
}

impl Distribution {
    /// The name in topology files and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Uniform => "uniform",
            Self::Pareto => "pareto",
        }
    }

    /// Mean and standard deviation of the distribution whose quantiles are these values at equal steps of probability,
    /// with linear interpolation: each step is a uniform distribution between two values.
    pub(crate) fn table_moments(values: &[f64]) -> (f64, f64) {
        let steps = values.len().saturating_sub(1).max(1) as f64;
        let (mut sum, mut squares) = (0.0, 0.0);
        for pair in values.windows(2) {
            let (low, high) = (pair[0], pair[1]);
            sum += f64::midpoint(low, high);
            squares += (low * low + low * high + high * high) / 3.0;
        }
        let mean = sum / steps;
        (mean, (squares / steps - mean * mean).max(0.0).sqrt())
    }

    /// The value of the distribution below which a share of `p` lies, `p` in [0, 1].
    fn quantile(self, p: f64) -> f64 {
        match self {
            Self::Normal => normal_quantile(p.clamp(1e-9, 1.0 - 1e-9)),
            Self::Uniform => (2.0 * p - 1.0) * 3.0_f64.sqrt(),
            Self::Pareto => {
                // Inversion of the distribution that is cut off at h: F(x) = (1 - x^-a) / (1 - h^-a).
                let (a, h) = (PARETO_SHAPE, PARETO_MOST);
                let share = 1.0 - h.powf(-a);
                let mean = a / (a - 1.0) * (1.0 - h.powf(1.0 - a)) / share;
                let square = a / (a - 2.0) * (1.0 - h.powf(2.0 - a)) / share;
                ((1.0 - p * share).powf(-1.0 / a) - mean) / (square - mean * mean).sqrt()
            }
        }
    }
}

/// The distribution of a link: a named one, or the user's own as quantiles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Named(Distribution),
    /// See [`crate::LinkSpec::jitter_table`].
    Table(Arc<[f64]>),
}

impl Shape {
    pub(crate) fn new(distribution: Distribution, table: Option<Arc<[f64]>>) -> Self {
        table.map_or(Self::Named(distribution), Self::Table)
    }

    /// The value of the standardised distribution below which a share of `p` lies, `p` in [0, 1].
    pub(crate) fn quantile(&self, p: f64) -> f64 {
        match self {
            Self::Named(distribution) => distribution.quantile(p),
            Self::Table(values) => interpolate(values, p),
        }
    }

    /// The largest value; the normal distribution has none that matters.
    pub(crate) fn largest(&self) -> f64 {
        match self {
            Self::Named(Distribution::Normal) => 0.0,
            _ => self.quantile(1.0),
        }
    }

    /// The centre and the spread with which `max(0, centre + spread × value)` has the given mean and standard
    /// deviation. Where no value is below zero they are just those; otherwise cutting at zero would make the mean
    /// larger and the deviation smaller than stated.
    pub(crate) fn fit(&self, mean: f64, deviation: f64) -> (f64, f64) {
        if mean + deviation * self.quantile(0.0) >= 0.0 || deviation <= 0.0 {
            return (mean, deviation);
        }
        let wanted = deviation / mean.max(1e-3 * deviation);
        // The quotient of deviation and mean of max(0, centre + value) falls while the centre rises.
        let values: Vec<f64> =
            (0..POINTS).map(|i| self.quantile((f64::from(i) + 0.5) / f64::from(POINTS))).collect();
        let (mut low, mut high) = (-values[values.len() - 1], -self.quantile(0.0));
        for _ in 0..40 {
            let centre = f64::midpoint(low, high);
            let (cut_mean, cut_deviation) = moments(&values, centre);
            if cut_deviation > wanted * cut_mean {
                low = centre;
            } else {
                high = centre;
            }
        }
        let (_, cut_deviation) = moments(&values, high);
        let spread = deviation / cut_deviation;
        (high * spread, spread)
    }
}

/// Linear interpolation between values at equal steps of probability.
fn interpolate(values: &[f64], p: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    let at = p * last as f64;
    let below = (at as usize).min(last.saturating_sub(1));
    match (values.get(below), values.get(below + 1)) {
        (Some(low), Some(high)) => low + (high - low) * (at - below as f64),
        _ => 0.0,
    }
}

/// Mean and standard deviation of `max(0, centre + value)`.
fn moments(values: &[f64], centre: f64) -> (f64, f64) {
    let count = values.len() as f64;
    let (mut sum, mut squares) = (0.0, 0.0);
    for value in values {
        let cut = (centre + value).max(0.0);
        sum += cut;
        squares += cut * cut;
    }
    let mean = sum / count;
    (mean, (squares / count - mean * mean).max(0.0).sqrt())
}

/// The quantile of the normal distribution by Acklam's rational approximation (relative error below 1.2e-9).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const LOW: f64 = 0.024_25;
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if p < LOW {
        tail(p)
    } else if p > 1.0 - LOW {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Distribution; 3] = [Distribution::Normal, Distribution::Uniform, Distribution::Pareto];

    /// A table of five values with the same moments as the named distributions.
    fn shapes() -> Vec<Shape> {
        let values = [-1.0, -0.9, -0.5, 0.5, 4.0];
        let (mean, deviation) = Distribution::table_moments(&values);
        let table = values.iter().map(|value| (value - mean) / deviation).collect();
        ALL.into_iter().map(Shape::Named).chain([Shape::Table(table)]).collect()
    }

    #[test]
    fn every_distribution_has_mean_zero_and_deviation_one() {
        for distribution in shapes() {
            let values: Vec<f64> =
                (0..1_000_000).map(|i| distribution.quantile((f64::from(i) + 0.5) / 1e6)).collect();
            assert!(values.is_sorted(), "{distribution:?}");
            let mean = values.iter().sum::<f64>() / 1e6;
            let square = values.iter().map(|value| value * value).sum::<f64>() / 1e6;
            assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-3, "{distribution:?}: {mean} {square}");
        }
    }

    #[test]
    fn known_quantiles_of_the_normal_distribution() {
        for (p, value) in [(0.5, 0.0), (0.975, 1.959_964), (0.001, -3.090_232), (0.841_344_746, 1.0)] {
            assert!((Distribution::Normal.quantile(p) - value).abs() < 1e-6, "{p}");
        }
    }

    /// The mean and the deviation are those stated even where part of the distribution would be below zero.
    #[test]
    fn a_distribution_cut_at_zero_keeps_its_mean_and_deviation() {
        for distribution in shapes() {
            for (mean, deviation) in [(10.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.5, 1.5)] {
                let (centre, spread) = distribution.fit(mean, deviation);
                let values: Vec<f64> = (0..100_000)
                    .map(|i| (centre + spread * distribution.quantile((f64::from(i) + 0.5) / 1e5)).max(0.0))
                    .collect();
                let (got_mean, got_deviation) = moments(&values, 0.0);
                let near = |got: f64, wanted: f64| (got / wanted - 1.0).abs() < 0.02;
                assert!(
                    near(got_mean, mean) && near(got_deviation, deviation),
                    "{distribution:?} {mean} {deviation}: {got_mean} {got_deviation}"
                );
            }
        }
    }
}
