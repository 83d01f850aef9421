//! Grading choices by their log-likelihoods.

use nexa_core::lm::Score;

use crate::harness::fields::Question;
use crate::harness::metric::{Grade, Kind};

/// What the likelihoods of some choices are worth by a metric. `without_context` are those of the choices alone, where
/// they were asked for.
///
/// # Source
/// `process_results` of lm-evaluation-harness for `multiple_choice`: of equal likelihoods the first wins, lengths are
/// those of the bare choices, in characters or in UTF-8 bytes.
pub(crate) fn grade_choices(
    kind: Kind,
    question: &Question,
    scores: &[Score],
    without_context: &[Score],
) -> Grade {
    let choices = question.choices.as_deref().unwrap_or_default();
    let gold = Gold { indices: question.right_choices() };
    let likelihoods = || scores.iter().map(|score| score.logprob_nats);
    let per = |length: fn(&str) -> usize| {
        best(likelihoods().zip(choices).map(|(score, choice)| score / length(choice) as f64))
    };
    match kind {
        Kind::Acc => Grade::of(gold.is(best(likelihoods()))),
        Kind::AccNorm => Grade::of(gold.is(per(|choice| choice.chars().count()))),
        Kind::AccBytes => Grade::of(gold.is(per(str::len))),
        Kind::AccMutualInfo => {
            let information =
                likelihoods().zip(without_context).map(|(score, alone)| score - alone.logprob_nats);
            Grade::of(gold.is(best(information)))
        }
        Kind::ExactMatch => {
            Grade::of(gold.indices.iter().any(|&at| scores.get(at).is_some_and(|score| score.is_greedy)))
        }
        Kind::F1 | Kind::Mcc => Grade::Labels { gold: gold.one(), predicted: best(likelihoods()) },
        Kind::BrierScore => Grade::Probabilities {
            gold: gold.one(),
            probabilities: softmax(&likelihoods().collect::<Vec<_>>()),
        },
        _ => Grade::Nothing,
    }
}

/// The right choices, as far as they are among those that there are.
struct Gold {
    indices: Vec<usize>,
}

impl Gold {
    fn is(&self, chosen: usize) -> bool {
        self.indices.contains(&chosen)
    }

    fn one(&self) -> Option<usize> {
        self.indices.first().copied()
    }
}

/// `numpy.argmax`: the first of the largest values; one that is no number is larger than all.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let mut found = (0, f64::NEG_INFINITY);
    for (at, value) in values.enumerate() {
        if value.is_nan() {
            return at;
        }
        if value > found.1 {
            found = (at, value);
        }
    }
    found.0
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::harness::fields::Text;

    fn score(logprob_nats: f64) -> Score {
        Score { logprob_nats, tokens: 1, bytes: 1, is_greedy: logprob_nats > -1.0, cut_tokens: 0 }
    }

    fn question(choices: &[&str], target: Value) -> Question {
        Question {
            text: Text::Prompt(String::new()),
            target,
            choices: Some(choices.iter().map(|&choice| choice.to_owned()).collect()),
            prefix: None,
            description: String::new(),
            prints_none: false,
        }
    }

    /// Expected: by hand from the definitions. `ééé` has three characters and six bytes.
    #[test]
    fn choices_are_graded_by_likelihood_and_length() {
        let check = |kind: Kind, target: Value, expected: Grade| {
            let question = question(&["ab", "ééé"], target);
            let (scores, alone) = ([score(-2.4), score(-3.3)], [score(-1.0), score(-3.0)]);
            assert_eq!(grade_choices(kind, &question, &scores, &alone), expected, "{kind:?}");
        };
        check(Kind::Acc, json!(0), Grade::Number(1.0));
        // -1.2 and -1.1 a character, -1.2 and -0.55 a byte.
        check(Kind::AccNorm, json!(1), Grade::Number(1.0));
        check(Kind::AccBytes, json!(1), Grade::Number(1.0));
        // -1.4 and -0.3 beyond what they have alone.
        check(Kind::AccMutualInfo, json!(1), Grade::Number(1.0));
        check(Kind::Acc, json!("ab"), Grade::Number(1.0));
        check(Kind::Acc, json!([0, 1]), Grade::Number(1.0));
        check(Kind::Acc, json!(7), Grade::Number(0.0));
        check(Kind::Mcc, json!(1), Grade::Labels { gold: Some(1), predicted: 0 });
        check(Kind::ExactMatch, json!(0), Grade::Number(0.0));
    }

    #[test]
    fn of_equal_likelihoods_the_first_wins() {
        let question = question(&["a", "b"], json!(0));
        let scores = [score(-0.5), score(-0.5)];
        assert_eq!(grade_choices(Kind::Acc, &question, &scores, &[]), Grade::Number(1.0));
        assert_eq!(grade_choices(Kind::ExactMatch, &question, &scores, &[]), Grade::Number(1.0));
        let half = Grade::Probabilities { gold: Some(0), probabilities: vec![0.5, 0.5] };
        assert_eq!(grade_choices(Kind::BrierScore, &question, &scores, &[]), half);
    }
}
