//! The mean and its standard error.

/// A mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Sample standard deviation, with `n - 1`, over the root of `n`; unknown for one value.
    pub standard_error: Option<f64>,
}

/// Computes the mean of some values; there is none of no values.
pub fn mean(values: &[f64]) -> Option<Mean> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    Some(Mean { value, standard_error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `scipy.stats.sem` 1.17.1.
    #[test]
    fn the_standard_error_is_that_of_scipy() {
        let check = |values: &[f64], expected_mean: f64, expected_error: f64| {
            let found = mean(values).unwrap();
            assert_close(found.value, expected_mean, 1e-14, "mean");
            assert_close(found.standard_error.unwrap(), expected_error, 1e-14, "standard error");
        };
        check(&[1.0, 2.0, 3.0, 4.0], 2.5, 0.645_497_224_367_902_8);
        check(&[0.0, 1.0, 1.0, 0.0, 1.0], 0.6, 0.244_948_974_278_318_77);
        check(&[2.5, -1.0, 7.25, 0.0, 3.0, 3.0], 2.458_333_333_333_333_5, 1.176_889_733_341_422_3);
    }

    #[test]
    fn one_value_says_nothing_about_spread() {
        assert_eq!(mean(&[3.0]), Some(Mean { value: 3.0, standard_error: None }));
        assert_eq!(mean(&[]), None);
    }
}
