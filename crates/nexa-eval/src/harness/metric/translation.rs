//! BLEU and chrF over a corpus.
//!
//! # Source
//! M. Post, "A Call for Clarity in Reporting BLEU Scores" (2018): BLEU of `sacrebleu` with its defaults, the tokens of
//! mteval-v13a and exponential smoothing; M. Popović, "chrF" (2015), with characters up to six and beta 2.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// The longest runs of words.
const BLEU_ORDER: usize = 4;
/// The longest runs of characters.
const CHRF_ORDER: usize = 6;
/// How much more recall counts than precision, squared.
const CHRF_FACTOR: f64 = 4.0;

/// What runs of one length come to: those of predictions, those of references, and those in common.
#[derive(Debug, Clone, Copy, Default)]
struct Matches {
    predicted: usize,
    referred: usize,
    common: usize,
}

/// BLEU of some predictions, each with one reference, in percent.
pub(super) fn bleu(pairs: &[(&str, &str)]) -> f64 {
    let mut matches = [Matches::default(); BLEU_ORDER];
    let (mut predicted, mut referred) = (0, 0);
    for (reference, prediction) in pairs {
        let (reference, prediction) = (tokens(reference), tokens(prediction));
        predicted += prediction.len();
        referred += reference.len();
        add(&mut matches, &reference, &prediction);
    }
    if matches.iter().all(|order| order.common == 0) {
        return 0.0;
    }
    let mut smoothing = 1.0;
    let mut logarithms = 0.0;
    for order in &matches {
        if order.predicted == 0 {
            // The reference takes a number this far below for the logarithm of nothing.
            logarithms += -9_999_999_999.0;
        } else if order.common == 0 {
            smoothing *= 2.0;
            logarithms += (100.0 / (smoothing * order.predicted as f64)).ln();
        } else {
            logarithms += (100.0 * order.common as f64 / order.predicted as f64).ln();
        }
    }
    let is_short = predicted < referred;
    let penalty = if is_short { (1.0 - referred as f64 / predicted as f64).exp() } else { 1.0 };
    penalty * (logarithms / BLEU_ORDER as f64).exp()
}

/// chrF of some predictions, each with one reference, in percent.
pub(super) fn chrf(pairs: &[(&str, &str)]) -> f64 {
    let mut matches = [Matches::default(); CHRF_ORDER];
    for (reference, prediction) in pairs {
        let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
        add(&mut matches, &characters(reference), &characters(prediction));
    }
    let both: Vec<&Matches> =
        matches.iter().filter(|order| order.predicted > 0 && order.referred > 0).collect();
    let mean = |of: fn(&Matches) -> usize| {
        let shares = both.iter().map(|order| order.common as f64 / of(order) as f64);
        shares.sum::<f64>() / both.len().max(1) as f64
    };
    let (precision, recall) = (mean(|order| order.predicted), mean(|order| order.referred));
    if precision + recall == 0.0 {
        return 0.0;
    }
    100.0 * (1.0 + CHRF_FACTOR) * precision * recall / (CHRF_FACTOR * precision + recall)
}

/// Adds the runs of a pair, of every length that is counted.
fn add<T: std::hash::Hash + Eq>(matches: &mut [Matches], reference: &[T], prediction: &[T]) {
    for (at, matches) in matches.iter_mut().enumerate() {
        let mut known: HashMap<&[T], usize> = HashMap::new();
        for run in reference.windows(at + 1) {
            *known.entry(run).or_default() += 1;
            matches.referred += 1;
        }
        for run in prediction.windows(at + 1) {
            matches.predicted += 1;
            if let Some(left) = known.get_mut(run).filter(|left| **left > 0) {
                *left -= 1;
                matches.common += 1;
            }
        }
    }
}

/// The tokens of mteval-v13a: punctuation stands alone, but for dots and commas inside numbers.
fn tokens(text: &str) -> Vec<String> {
    static STEPS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (r"([\{-\~\[-\` -\&\(-\+\:-\@/])", " $1 "),
            (r"([^0-9])([.,])", "$1 $2 "),
            (r"([.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .map(|(pattern, by)| (Regex::new(pattern).expect("the patterns are valid"), by))
    });
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (from, to) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(from, to);
    }
    text = format!(" {text} ");
    for (regex, by) in STEPS.iter() {
        text = regex.replace_all(&text, *by).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::assert_close;

    /// Expected: `sacrebleu.corpus_bleu` and `corpus_chrf` of sacrebleu 2, with their defaults.
    #[test]
    fn corpora_are_scored_as_by_sacrebleu() {
        let check = |pairs: &[(&str, &str)], expected: [f64; 2]| {
            assert_close(bleu(pairs), expected[0], 1e-9, "bleu");
            assert_close(chrf(pairs), expected[1], 1e-9, "chrf");
        };
        let pairs = [
            ("The cat sat on the mat.", "The cat sat on a mat."),
            ("It costs 1,250.50 dollars - really!", "It costs 1,250.50 dollars, really"),
            ("naïve wörds here", "naive wörds"),
            ("a &quot;quoted&quot; word, so", "a \"quoted\" word so"),
        ];
        check(&pairs, [50.963_687_549_360_29, 58.040_028_357_306_2]);
        check(&pairs[..1], [48.892_302_243_490_086, 65.800_343_293_358_7]);
        check(&pairs[2..3], [0.0, 44.435_829_723_111_695]);
        check(&[("abc", "xyz")], [0.0, 0.0]);
        check(&[("a b c d e f", "a b c d e f")], [100.0, 100.0]);
        check(&[("one two three four five six", "one two")], [0.0, 20.740_970_656_601_085]);
    }
}
