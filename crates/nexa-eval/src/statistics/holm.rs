//! Holm's correction for several tests at once.

/// Raises p-values so that, over all of them, the chance of any false difference stays at the level of one test.
///
/// # Source
/// S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (smaller, &at) in order.iter().enumerate() {
        largest = largest.max(((p_values.len() - smaller) as f64 * p_values[at]).min(1.0));
        adjusted[at] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// By hand: 4 x 0.01, then 3 x 0.02, then 2 x 0.03 that may not fall below it, then 0.5.
    #[test]
    fn a_small_family_can_be_computed_by_hand() {
        let check = |given: &[f64], expected: &[f64]| {
            let found = holm(given);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert_close(*found, *expected, 1e-15, "adjusted");
            }
        };
        check(&[0.02, 0.01, 0.5, 0.03], &[0.06, 0.04, 0.5, 0.06]);
        check(&[0.04], &[0.04]);
        check(&[0.6, 0.7], &[1.0, 1.0]);
        check(&[], &[]);
    }
}
