//! From the values of documents to one number and its standard error, as the reference has them.

use std::f64::consts::LN_2;

use crate::harness::metric::{Grade, labels, ter, translation};
use crate::harness::python::MersenneTwister;
use crate::statistics::mean;

/// Draws of a chunk of the bootstrap, each chunk with a stream of its own.
const CHUNK: usize = 1000;

/// Draws at most for measures of whole corpora of texts.
const SLOW_DRAWS: usize = 100;

/// How the values of documents become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Mean,
    NanMean,
    Median,
    Perplexity,
    WeightedPerplexity,
    BitsPerByte,
    BrierScore,
    F1,
    MatthewsCorrcoef,
    Bleu,
    Chrf,
    Ter,
    Bypass,
    /// The mean over all demands of all documents.
    MeanOfAll,
}

/// What `bypass` gives: a number that says nothing.
const BYPASS: f64 = 999.0;

impl Aggregation {
    const NAMED: [(&'static str, Self); 13] = [
        ("mean", Self::Mean),
        ("nanmean", Self::NanMean),
        ("median", Self::Median),
        ("perplexity", Self::Perplexity),
        ("weighted_perplexity", Self::WeightedPerplexity),
        ("bits_per_byte", Self::BitsPerByte),
        ("brier_score", Self::BrierScore),
        ("f1", Self::F1),
        ("matthews_corrcoef", Self::MatthewsCorrcoef),
        ("bleu", Self::Bleu),
        ("chrf", Self::Chrf),
        ("ter", Self::Ter),
        ("bypass", Self::Bypass),
    ];

    /// Finds one by its name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        if let Some((_, found)) = Self::NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(*found);
        }
        let known = Self::NAMED.map(|(known, _)| known).join(", ");
        Err(format!("there is no aggregation `{name}` (there are: {known})"))
    }

    /// Sums up the values of documents, those left out whose answers are missing; `None` where they are not of the kind that it
    /// takes, and where none is left.
    pub(crate) fn apply(self, grades: &[&Grade]) -> Option<f64> {
        match self {
            Self::Mean => numbers(grades).map(|values| values.iter().sum::<f64>() / values.len() as f64),
            Self::NanMean => {
                let values: Vec<f64> = numbers(grades)?.into_iter().filter(|value| !value.is_nan()).collect();
                Some(values.iter().sum::<f64>() / values.len() as f64)
            }
            Self::Median => {
                let mut values = numbers(grades)?;
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied()
            }
            Self::Perplexity => Self::Mean.apply(grades).map(|mean| (-mean).exp()),
            Self::WeightedPerplexity => weighted_mean(grades).map(|mean| (-mean).exp()),
            Self::BitsPerByte => weighted_mean(grades).map(|mean| -mean / LN_2),
            Self::BrierScore => brier_score(grades),
            Self::F1 => pairs(grades).map(|pairs| labels::f1(&pairs)),
            Self::MatthewsCorrcoef => pairs(grades).map(|pairs| labels::matthews(&pairs)),
            Self::Bleu => texts(grades).map(|pairs| translation::bleu(&pairs)),
            Self::Chrf => texts(grades).map(|pairs| translation::chrf(&pairs)),
            Self::Ter => edits(grades).map(|counts| ter::rate(counts.into_iter())),
            Self::Bypass => Some(BYPASS),
            Self::MeanOfAll => {
                let flags = grades.iter().map(|grade| match grade {
                    Grade::Flags(flags) => Some(flags.as_slice()),
                    _ => None,
                });
                let flags: Vec<bool> = flags.collect::<Option<Vec<_>>>()?.concat();
                Some(flags.iter().filter(|&&met| met).count() as f64 / flags.len() as f64)
            }
        }
    }

    /// Whether it takes long: a measure of a whole corpus of texts.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::Bleu | Self::Chrf | Self::Ter)
    }

    /// How often documents are drawn anew where `draws` are asked for; the reference draws less often for what takes long.
    pub(crate) fn draws(self, draws: usize) -> usize {
        if self.is_slow() { draws.min(SLOW_DRAWS) } else { draws }
    }

    /// Whether its error is found by drawing documents anew.
    fn is_bootstrapped(self) -> bool {
        matches!(
            self,
            Self::Median
                | Self::MatthewsCorrcoef
                | Self::F1
                | Self::Perplexity
                | Self::NanMean
                | Self::Bleu
                | Self::Chrf
                | Self::Ter
        )
    }
}

/// The standard error that the reference gives; none where it gives `N/A`.
///
/// # Source
/// lm-evaluation-harness: of a mean the sample standard deviation over the root of n; of others the standard deviation of
/// the values of `draws` resamples, drawn in chunks of 1,000 whose streams are seeded 0, 1, 2 …; of corpus ratios none.
pub(crate) fn standard_error(aggregation: Aggregation, grades: &[&Grade], draws: usize) -> Option<f64> {
    let grades = &Grade::present(grades)[..];
    if grades.len() < 2 || draws == 0 {
        return None;
    }
    if aggregation == Aggregation::Mean {
        return mean(&numbers(grades)?)?.standard_error;
    }
    if !aggregation.is_bootstrapped() {
        return None;
    }
    let draws = aggregation.draws(draws);
    let chunk = CHUNK.min(draws);
    let seeds: Vec<u64> = (0..(draws / chunk) as u64).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let work = |seeds: &[u64]| -> Vec<(u64, Vec<f64>)> {
        seeds.iter().map(|&seed| (seed, resample(aggregation, grades, seed, chunk))).collect()
    };
    let mut values: Vec<(u64, Vec<f64>)> = std::thread::scope(|scope| {
        let parts = seeds.chunks(seeds.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    values.sort_by_key(|(seed, _)| *seed);
    let values: Vec<f64> = values.into_iter().flat_map(|(_, values)| values).collect();
    let found = mean(&values)?;
    // The spread of the draws themselves, not of their mean.
    found.standard_error.map(|error| error * (values.len() as f64).sqrt())
}

fn resample(aggregation: Aggregation, grades: &[&Grade], seed: u64, draws: usize) -> Vec<f64> {
    let mut stream = MersenneTwister::new(seed);
    let mut chosen = Vec::with_capacity(grades.len());
    let draw = |_| {
        chosen.clear();
        chosen.extend((0..grades.len()).map(|_| grades[stream.choice(grades.len())]));
        aggregation.apply(&chosen).unwrap_or(f64::NAN)
    };
    (0..draws).map(draw).collect()
}

/// The standard error of a group's mean, from those of its tasks.
///
/// # Source
/// `pooled_sample_stderr` of lm-evaluation-harness: the root of the pooled variance over the number of all documents.
pub(crate) fn pooled_standard_error(errors: &[f64], sizes: &[usize]) -> f64 {
    let total: f64 = sizes.iter().map(|&size| size as f64).sum();
    let square = |(error, &size): (&f64, &usize)| (size as f64 - 1.0) * error * error * size as f64;
    let squares: f64 = errors.iter().zip(sizes).map(square).sum();
    (squares / (total - sizes.len() as f64) / total).sqrt()
}

/// The numbers that there are, of which there must be one.
fn numbers(grades: &[&Grade]) -> Option<Vec<f64>> {
    let number = |grade: &&Grade| match grade {
        Grade::Number(value) => Some(*value),
        _ => None,
    };
    let present = grades.iter().filter(|grade| ***grade != Grade::Missing);
    present.map(number).collect::<Option<Vec<f64>>>().filter(|numbers| !numbers.is_empty())
}

fn weighted_mean(grades: &[&Grade]) -> Option<f64> {
    let (mut above, mut below) = (0.0, 0.0);
    for grade in grades {
        let Grade::Weighted { logprob_nats, weight } = grade else { return None };
        above += logprob_nats;
        below += weight;
    }
    Some(above / below)
}

fn pairs(grades: &[&Grade]) -> Option<Vec<(usize, usize)>> {
    let pair = |grade: &&Grade| match grade {
        Grade::Labels { gold: Some(gold), predicted } => Some((*gold, *predicted)),
        _ => None,
    };
    grades.iter().map(pair).collect()
}

fn texts<'g>(grades: &[&'g Grade]) -> Option<Vec<(&'g str, &'g str)>> {
    let pair = |grade: &&'g Grade| match *grade {
        Grade::Texts { reference, prediction } | Grade::Edits { reference, prediction, .. } => {
            Some((reference.as_str(), prediction.as_str()))
        }
        _ => None,
    };
    grades.iter().map(pair).collect()
}

/// Edits and the words of references.
fn edits(grades: &[&Grade]) -> Option<Vec<(usize, usize)>> {
    let count = |grade: &&Grade| match grade {
        Grade::Edits { edits, words, .. } => Some((*edits, *words)),
        Grade::Texts { reference, prediction } => Some(ter::edits(reference, prediction)),
        _ => None,
    };
    grades.iter().map(count).collect()
}

/// The squared distance of the probabilities from what is right, summed over the choices, on average.
fn brier_score(grades: &[&Grade]) -> Option<f64> {
    let mut sum = 0.0;
    for grade in grades {
        let Grade::Probabilities { gold: Some(gold), probabilities } = grade else { return None };
        let right = |at: usize| f64::from(u8::from(at == *gold));
        sum += probabilities.iter().enumerate().map(|(at, p)| (p - right(at)).powi(2)).sum::<f64>();
    }
    Some(sum / grades.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    fn refer(grades: &[Grade]) -> Vec<&Grade> {
        grades.iter().collect()
    }

    /// Expected: by hand.
    #[test]
    fn values_are_summed_up() {
        let check = |aggregation: Aggregation, grades: &[Grade], expected: f64| {
            assert_close(aggregation.apply(&refer(grades)).unwrap(), expected, 1e-12, "value");
        };
        let numbers = [0.5, -2.0, -1.0, 3.0].map(Grade::Number);
        check(Aggregation::Mean, &numbers, 0.125);
        check(Aggregation::Median, &numbers, 0.5);
        check(Aggregation::Perplexity, &numbers, (-0.125_f64).exp());
        let weighted = [(-10.0, 4.0), (-20.0, 6.0)]
            .map(|(logprob_nats, weight)| Grade::Weighted { logprob_nats, weight });
        check(Aggregation::WeightedPerplexity, &weighted, 3.0_f64.exp());
        check(Aggregation::BitsPerByte, &weighted, 3.0 / LN_2);
        let flags = [vec![true, false], vec![true]].map(Grade::Flags);
        check(Aggregation::MeanOfAll, &flags, 2.0 / 3.0);
        let brier = [Grade::Probabilities { gold: Some(1), probabilities: vec![0.25, 0.75] }];
        check(Aggregation::BrierScore, &brier, 0.125);
        assert_eq!(Aggregation::Mean.apply(&[&Grade::Nothing]), None);
    }

    /// Expected: by hand, of the two that were answered.
    #[test]
    fn missing_answers_are_left_out() {
        let grades = [Grade::Number(1.0), Grade::Missing, Grade::Number(0.0)];
        assert_eq!(Aggregation::Mean.apply(&refer(&grades)), Some(0.5));
        assert_eq!(standard_error(Aggregation::Mean, &refer(&grades), 100), Some(0.5));
        assert_eq!(standard_error(Aggregation::Mean, &refer(&grades[..2]), 100), None);
        assert_eq!(Aggregation::Mean.apply(&[&Grade::Missing, &Grade::Missing]), None);
    }

    /// Expected: CPython 3.11.7, `bootstrap_stderr` of lm-evaluation-harness with 2,000 draws, run on these values.
    #[test]
    fn the_bootstrap_is_that_of_the_harness() {
        let values = [-1.5, -0.25, -3.0, -2.0, -0.5, -1.0, -4.5, -0.75].map(Grade::Number);
        let error = standard_error(Aggregation::Perplexity, &refer(&values), 2000).unwrap();
        assert_close(error, 3.159_162_748_312_275_5, 1e-9, "perplexity");
        let error = standard_error(Aggregation::Median, &refer(&values), 500).unwrap();
        assert_close(error, 0.556_462_308_338_312, 1e-12, "median");
    }

    /// Expected: by hand, 1 of 6 words and 2 of 2; the error from CPython's `random.Random(0).choices` and `corpus_ter` of
    /// sacrebleu 2.6.0, a hundred times.
    #[test]
    fn edits_are_summed_up_over_the_corpus() {
        let edits =
            |reference: &str, prediction: &str| Grade::edits(reference.to_owned(), prediction.to_owned());
        let grades = [edits("a b c d e f", "d e f a b c"), edits("x y", "v w")];
        assert_close(Aggregation::Ter.apply(&refer(&grades)).unwrap(), 37.5, 1e-12, "ter");
        let texts = [Grade::Texts { reference: "x y".to_owned(), prediction: "x y z".to_owned() }];
        assert_eq!(Aggregation::Ter.apply(&refer(&texts)), Some(50.0));
        // No more than a hundred draws are made.
        let error = standard_error(Aggregation::Ter, &refer(&grades), 2000).unwrap();
        assert_close(error, 31.982_163_721_304_04, 1e-9, "error");
    }

    #[test]
    fn what_the_harness_does_not_know_is_absent() {
        let one = [Grade::Number(1.0)];
        assert_eq!(standard_error(Aggregation::Mean, &refer(&one), 100), None);
        let weighted = [
            Grade::Weighted { logprob_nats: -1.0, weight: 1.0 },
            Grade::Weighted { logprob_nats: -1.0, weight: 1.0 },
        ];
        assert_eq!(standard_error(Aggregation::BitsPerByte, &refer(&weighted), 100), None);
        let two = [Grade::Number(1.0), Grade::Number(0.0)];
        assert_eq!(standard_error(Aggregation::Mean, &refer(&two), 0), None);
        assert_eq!(standard_error(Aggregation::Mean, &refer(&two), 1), Some(0.5));
    }

    /// Expected: the formula by hand, sqrt((9*0.01*10 + 19*0.04*20) / 28 / 30).
    #[test]
    fn groups_pool_the_errors_of_their_tasks() {
        assert_close(
            pooled_standard_error(&[0.1, 0.2], &[10, 20]),
            (16.1_f64 / 28.0 / 30.0).sqrt(),
            1e-15,
            "pooled",
        );
    }
}
