//! The expected score of a verdict: the mean over what the judge could have decided, by the probabilities of the tokens
//! that it could have written where it decided.
//!
//! # Source
//! Y. Liu and others, "G-Eval: NLG evaluation using GPT-4 with better human alignment", arXiv:2303.16634 (2023), section
//! 2.3; for two answers it is the preference of AlpacaEval 2 (Y. Dubois and others, arXiv:2404.04475).
//!
//! # Departures
//! Probabilities are normalised over the tokens that are a score: an API tells some tokens only. Where a score is not one
//! token, there is no expected score.

use serde_json::Value;

use super::verdict::{Decided, Read, visible};

/// The expected score of what was read from a text, by its log-probabilities in the form of OpenAI.
pub(super) fn expected_score(read: &Read, logprobs: &Value) -> Option<f64> {
    let tokens = logprobs.get("content")?.as_array()?;
    if read.decided.is_empty() {
        return None;
    }
    let (mut sum, mut weights) = (0.0, 0.0);
    for decided in &read.decided {
        sum += decided.weight * expected(decided, tokens)?;
        weights += decided.weight;
    }
    Some(sum / weights)
}

/// The expected score of one decision.
fn expected(decided: &Decided, tokens: &[Value]) -> Option<f64> {
    let mut begin = 0;
    for token in tokens {
        let written = visible(token.get("token")?.as_str()?);
        let end = begin + written.len();
        if decided.offset < end {
            // What stands before the score in its token, such as a quotation mark, stands before the others as well.
            let before = written.get(..decided.offset.checked_sub(begin)?)?;
            let score = |text: &str| {
                let text = visible(text);
                decided.scale.score(bare(text.strip_prefix(before).unwrap_or(&text)))
            };
            // Half of a number is no score: 1 may be the beginning of 10.
            let is_whole = score(&written) == Some(decided.score);
            return if is_whole { mean(token, score) } else { None };
        }
        begin = end;
    }
    None
}

/// A token's word without what JSON and brackets put around it.
fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '[' | ']' | '}' | ','))
}

/// The mean score over the tokens that could have stood in a place.
fn mean(token: &Value, score: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let (mut sum, mut total) = (0.0, 0.0);
    for other in token.get("top_logprobs")?.as_array()? {
        let word = other.get("token").and_then(Value::as_str);
        let logprob = other.get("logprob").and_then(Value::as_f64);
        let (Some(score), Some(logprob)) = (word.and_then(&score), logprob) else { continue };
        let probability = logprob.exp();
        sum += probability * score;
        total += probability;
    }
    (total > 0.0).then(|| sum / total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::mt_bench;
    use super::super::rubric::tests::{CRITERIA, rubric};
    use super::super::verdict::{scores, winner};
    use super::*;

    /// Tokens of a text; those with alternatives as `word|other=probability`.
    fn logprobs(tokens: &[(&str, &[(&str, f64)])]) -> Value {
        let content: Vec<Value> = tokens
            .iter()
            .map(|(token, others)| {
                let top: Vec<Value> =
                    others.iter().map(|(token, p)| json!({"token": token, "logprob": p.ln()})).collect();
                json!({"token": token, "logprob": -0.1, "top_logprobs": top})
            })
            .collect();
        json!({ "content": content })
    }

    fn text(tokens: &[(&str, &[(&str, f64)])]) -> String {
        tokens.iter().map(|(token, _)| *token).collect()
    }

    fn close(found: Option<f64>, expected: f64) {
        assert!(
            found.is_some_and(|found| (found - expected).abs() < 1e-9),
            "{found:?} instead of {expected}"
        );
    }

    #[test]
    fn a_rating_is_weighted_by_what_could_have_stood_there() {
        let tokens: [(&str, &[(&str, f64)]); 4] = [
            ("Rating: [[3]] no, ", &[]),
            ("[[", &[]),
            ("8", &[("8", 0.5), ("9", 0.25), ("good", 0.2), ("11", 0.05)]),
            ("]]", &[]),
        ];
        let read = mt_bench::rating(&text(&tokens)).unwrap();
        close(expected_score(&read, &logprobs(&tokens)), (0.5 * 8.0 + 0.25 * 9.0) / 0.75);
        let halves: [(&str, &[(&str, f64)]); 3] = [("[[", &[]), ("1", &[("1", 1.0)]), ("0]]", &[])];
        let read = mt_bench::rating(&text(&halves)).unwrap();
        assert_eq!(expected_score(&read, &logprobs(&halves)), None, "1 is only a half of 10");
        assert_eq!(expected_score(&read, &json!({"content": []})), None);
        assert_eq!(expected_score(&read, &json!(null)), None);
    }

    #[test]
    fn criteria_are_weighted_as_in_the_rubric() {
        let tokens: [(&str, &[(&str, f64)]); 5] = [
            ("{\"scores\": {\"correctness\":", &[]),
            (" 4", &[(" 4", 0.5), (" 5", 0.5)]),
            (", \"clarity\": \"", &[]),
            ("2\"", &[("2\"", 0.75), ("4\"", 0.25)]),
            ("}}", &[]),
        ];
        let read = scores(&text(&tokens), &rubric(CRITERIA).unwrap()).unwrap();
        close(expected_score(&read, &logprobs(&tokens)), (3.0 * 4.5 + 2.5) / 4.0);
    }

    #[test]
    fn a_preference_is_the_share_of_its_probability() {
        let tokens: [(&str, &[(&str, f64)]); 3] =
            [("{\"winner\": ", &[]), ("\"A", &[("\"A", 0.6), ("\"B", 0.2), ("\"tie", 0.2)]), ("\"}", &[])];
        let read = winner(&text(&tokens)).unwrap();
        close(expected_score(&read, &logprobs(&tokens)), 0.6 * 5.0 + 0.2 * 1.0 + 0.2 * 3.0);
    }
}
