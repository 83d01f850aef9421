//! Logistic regression without an intercept, by Newton's method, on outcomes that may be shares.
//!
//! # Source
//! The iteration is that of P. McCullagh and J. A. Nelder, "Generalized Linear Models" (1989), section 2.5; an outcome
//! between 0 and 1 counts as both, by its share.

/// What was seen once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The features, as many as there are coefficients.
    pub(crate) features: Vec<f64>,
    /// From 0 to 1.
    pub(crate) outcome: f64,
    /// How often it counts.
    pub(crate) weight: f64,
}

/// The probability of a score.
pub(crate) fn logistic(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

/// Steps of Newton's method; a well-posed fit takes fewer than ten.
const STEPS: usize = 100;

/// Finds the coefficients that make observations most probable, less `penalty / 2` times their squares; the penalty is
/// above 0, so that there is an answer even where outcomes are all the same. `None` where the numbers are no numbers.
pub(crate) fn fit(observations: &[Observation], coefficients: usize, penalty: f64) -> Option<Vec<f64>> {
    let mut found = vec![0.0; coefficients];
    let mut loss = negative_log_likelihood(observations, &found, penalty);
    for _ in 0..STEPS {
        let (gradient, hessian) = derivatives(observations, &found, penalty);
        let step = solve(hessian, gradient)?;
        let largest = step.iter().fold(0.0_f64, |largest, step| largest.max(step.abs()));
        // The loss is convex, so a step that does not lower it was too long.
        let mut share = 1.0;
        loop {
            let next: Vec<f64> = found.iter().zip(&step).map(|(value, step)| value - share * step).collect();
            let next_loss = negative_log_likelihood(observations, &next, penalty);
            if next_loss <= loss {
                (found, loss) = (next, next_loss);
                break;
            }
            share /= 2.0;
            if share < 1e-10 {
                return loss.is_finite().then_some(found);
            }
        }
        if largest * share < 1e-12 {
            break;
        }
    }
    loss.is_finite().then_some(found)
}

fn score(observation: &Observation, coefficients: &[f64]) -> f64 {
    observation.features.iter().zip(coefficients).map(|(feature, value)| feature * value).sum()
}

fn negative_log_likelihood(observations: &[Observation], coefficients: &[f64], penalty: f64) -> f64 {
    let of_one = |observation: &Observation| {
        let score = score(observation, coefficients);
        // ln(1 + e^score), without overflow.
        let softplus = score.max(0.0) + (-score.abs()).exp().ln_1p();
        observation.weight * (softplus - observation.outcome * score)
    };
    let squares: f64 = coefficients.iter().map(|value| value * value).sum();
    observations.iter().map(of_one).sum::<f64>() + penalty / 2.0 * squares
}

fn derivatives(
    observations: &[Observation],
    coefficients: &[f64],
    penalty: f64,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = coefficients.len();
    let mut gradient: Vec<f64> = coefficients.iter().map(|value| penalty * value).collect();
    let mut hessian = vec![vec![0.0; size]; size];
    for (position, row) in hessian.iter_mut().enumerate() {
        row[position] = penalty;
    }
    for observation in observations {
        let probability = logistic(score(observation, coefficients));
        let slope = observation.weight * (probability - observation.outcome);
        let curvature = observation.weight * probability * (1.0 - probability);
        for (i, &feature) in observation.features.iter().enumerate().filter(|(_, feature)| **feature != 0.0) {
            gradient[i] += slope * feature;
            for (j, &other) in observation.features.iter().enumerate() {
                hessian[i][j] += curvature * feature * other;
            }
        }
    }
    (gradient, hessian)
}

/// Solves a system of equations whose matrix is positive definite, by elimination.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for pivot in 0..size {
        if !(matrix[pivot][pivot] > 0.0 && matrix[pivot][pivot].is_finite()) {
            return None;
        }
        let (above, below) = matrix.split_at_mut(pivot + 1);
        let row = &above[pivot];
        for (offset, other) in below.iter_mut().enumerate() {
            let factor = other[pivot] / row[pivot];
            if factor != 0.0 {
                other[pivot..].iter_mut().zip(&row[pivot..]).for_each(|(value, by)| *value -= factor * by);
                right[pivot + 1 + offset] -= factor * right[pivot];
            }
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    fn observation(features: &[f64], outcome: f64) -> Observation {
        Observation { features: features.to_vec(), outcome, weight: 1.0 }
    }

    /// Expected: `scipy.optimize.minimize` (BFGS) of the penalised loss, written anew, 1.17.1.
    #[test]
    fn the_fit_minimises_the_penalised_loss() {
        let rows = [
            ([0.3, 1.0], 1.0),
            ([-0.7, 1.0], 0.0),
            ([0.9, 1.0], 1.0),
            ([0.1, 1.0], 0.5),
            ([-0.2, 1.0], 1.0),
            ([0.5, 1.0], 0.0),
            ([-0.9, 1.0], 0.0),
            ([0.0, 1.0], 1.0),
        ];
        let observations: Vec<_> =
            rows.iter().map(|(features, outcome)| observation(features, *outcome)).collect();
        for (penalty, expected) in
            [(0.01, [1.983_780_535, 0.302_754_113_9]), (1.0, [0.652_906_074_5, 0.170_155_985_9])]
        {
            let found = fit(&observations, 2, penalty).unwrap();
            assert_close(found[0], expected[0], 1e-6, "first");
            assert_close(found[1], expected[1], 1e-6, "second");
        }
    }

    /// By hand: of a constant feature alone the fit is the logit of the mean, as the penalty goes to 0.
    #[test]
    fn a_constant_alone_gives_the_mean() {
        let observations: Vec<_> =
            [1.0, 1.0, 0.5, 0.0, 1.0].map(|outcome| observation(&[1.0], outcome)).to_vec();
        let found = fit(&observations, 1, 1e-12).unwrap();
        assert_close(logistic(found[0]), 0.7, 1e-10, "mean");
    }

    #[test]
    fn outcomes_that_are_all_the_same_have_an_answer() {
        let observations = vec![observation(&[1.0], 1.0); 50];
        let found = fit(&observations, 1, 0.01).unwrap()[0];
        assert!(found > 5.0 && found.is_finite(), "{found}");
        assert_eq!(fit(&[observation(&[f64::NAN], 1.0)], 1, 0.01), None);
    }
}
