//! What judges prefer that should not matter: the place in which an answer is shown, its length, and their own kin.
//!
//! # Source
//! L. Zheng and others, arXiv:2306.05685 (2023), sections 3.3 and 4.2, for the three biases; the preference for the longer
//! answer is that of the judges' report of AlpacaEval.

use serde::{Deserialize, Serialize};

use super::resample::resampled;
use super::verdicts::{Comparison, ItemScore, Verdicts, clusters};
use super::win_rate::by_item;
use crate::statistics::logistic::{Observation, fit};
use crate::statistics::{Clusters, Estimate, clustered_mean, clustered_share, spearman};

/// As in the length-controlled win rate.
const PENALTY: f64 = 0.01;
/// What stands before a colon and is no model: APIs and programs that serve models of many families, or under names of
/// their own. `deepseek:`, `gemini:` and `mistral:` are not among them, as there the word is the family.
const HOSTS: [&str; 19] = [
    "anthropic",
    "azure",
    "bedrock",
    "cerebras",
    "fireworks",
    "google",
    "groq",
    "huggingface",
    "llamacpp",
    "lmstudio",
    "local",
    "nvidia",
    "ollama",
    "openai",
    "openrouter",
    "together",
    "vertex",
    "vllm",
    "xai",
];

/// How far a judge goes with the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// The judge.
    pub judge: String,
    /// Pairs that were judged in both orders.
    pub pairs: usize,
    /// The share of pairs with the same verdict in both orders.
    pub consistent: Estimate,
    /// The share of pairs in which what is shown first wins in both orders.
    pub follows_first: Estimate,
    /// The share of pairs in which what is shown second does.
    pub follows_second: Estimate,
    /// How far what is shown first is preferred over all verdicts: one half where the order does not matter.
    pub prefers_first: Estimate,
}

/// How far a judge goes with the length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthBias {
    /// The judge.
    pub judge: String,
    /// Of pairs with a winner and of different lengths: the share that the longer answer wins.
    pub prefers_longer: Option<Estimate>,
    /// Of pairs: by how much the score of an answer rises with its length, as the length-controlled win rate has it.
    pub length_coefficient: Option<Estimate>,
    /// Of single answers: Spearman's correlation of score and length.
    pub correlation: Option<Estimate>,
    /// Of single answers: how many points an answer gains that is twice as long, by least squares.
    pub points_per_doubling: Option<Estimate>,
}

/// How far a judge prefers models of its own family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfPreference {
    /// The judge.
    pub judge: String,
    /// The model of its family.
    pub model: String,
    /// Items on which it judged that model.
    pub items: usize,
    /// What it gives the model: a share of wins, or a mean score.
    pub own: Estimate,
    /// By how much that is more than what the other judges give it on the same items; unknown without others, and then
    /// nothing tells a preference from a good model.
    pub more_than_others: Option<Estimate>,
}

/// The position bias of each judge of pairs.
pub fn position_bias(comparisons: &[Comparison]) -> Vec<PositionBias> {
    let of_judge = |(judge, own): (String, Vec<&Comparison>)| {
        let clusters = clusters(own.iter().copied());
        let share = |of: &dyn Fn(&Comparison) -> f64| {
            clustered_share(&own.iter().map(|comparison| of(comparison)).collect::<Vec<_>>(), &clusters)
        };
        let is = |holds: bool| f64::from(u8::from(holds));
        // Shown second, the one is not preferred where the other, which is shown first, is.
        let first_twice = |c: &Comparison| is(c.forward == 1.0 && c.backward == 0.0);
        let second_twice = |c: &Comparison| is(c.forward == 0.0 && c.backward == 1.0);
        Some(PositionBias {
            judge,
            pairs: own.len(),
            consistent: share(&|c| is(c.forward == c.backward))?,
            follows_first: share(&first_twice)?,
            follows_second: share(&second_twice)?,
            prefers_first: share(&|c| (c.forward + 1.0 - c.backward) / 2.0)?,
        })
    };
    by_judge(comparisons).into_iter().filter_map(of_judge).collect()
}

/// The length bias of each judge.
pub fn length_bias(verdicts: &Verdicts, comparisons: &[Comparison], seed: u64) -> Vec<LengthBias> {
    let of_pairs = by_judge(comparisons);
    let of_judge = |judge: &str| {
        let pairs = of_pairs.iter().find(|(name, _)| name == judge).map_or(&[][..], |(_, own)| own);
        let items = verdicts.items(|verdict| verdict.score.filter(|_| verdict.judge == judge));
        let (correlation, points_per_doubling) = of_singles(&items, seed);
        let found = LengthBias {
            judge: judge.to_owned(),
            prefers_longer: prefers_longer(pairs),
            length_coefficient: length_coefficient(pairs, seed),
            correlation,
            points_per_doubling,
        };
        (found.prefers_longer.is_some() || found.correlation.is_some()).then_some(found)
    };
    verdicts.judges().into_iter().filter_map(of_judge).collect()
}

fn prefers_longer(pairs: &[&Comparison]) -> Option<Estimate> {
    let decided = |comparison: &&&Comparison| {
        comparison.outcome() != 0.5 && comparison.longer_by.is_some_and(|longer_by| longer_by != 0.0)
    };
    let decided: Vec<&Comparison> = pairs.iter().filter(decided).copied().collect();
    let wins = |comparison: &&Comparison| {
        let is_longer = comparison.longer_by.is_some_and(|longer_by| longer_by > 0.0);
        f64::from(u8::from(is_longer == (comparison.outcome() == 1.0)))
    };
    clustered_share(&decided.iter().map(wins).collect::<Vec<_>>(), &clusters(decided.iter().copied()))
}

/// A positive number says that of two equally good answers the longer one is preferred. Which model is which must not
/// matter here, so each pair stands from both sides.
fn length_coefficient(pairs: &[&Comparison], seed: u64) -> Option<Estimate> {
    let known: Vec<(&Comparison, f64)> =
        pairs.iter().filter_map(|pair| Some((*pair, pair.longer_by?))).collect();
    let squares: f64 = known.iter().map(|(_, longer_by)| longer_by * longer_by).sum();
    let deviation = (squares / known.len() as f64).sqrt();
    let sides = |known: &(&Comparison, f64)| {
        let (outcome, feature) = (known.0.outcome(), (known.1 / deviation).tanh());
        [(feature, outcome), (-feature, 1.0 - outcome)].map(|(feature, outcome)| Observation {
            features: vec![feature],
            outcome,
            weight: 0.5,
        })
    };
    let observations: Vec<[Observation; 2]> = known.iter().map(sides).collect();
    let clusters = clusters(known.iter().map(|(pair, _)| *pair));
    let coefficient = |chosen: &[usize]| {
        let drawn: Vec<Observation> = chosen.iter().flat_map(|&at| observations[at].clone()).collect();
        Some([fit(&drawn, 1, PENALTY)?[0]])
    };
    let found = (deviation > 0.0).then(|| resampled(known.len(), &clusters, seed, coefficient));
    let [found] = found.flatten()?;
    Some(found)
}

/// Correlation, and points for a doubling of the length.
fn of_singles(items: &[ItemScore], seed: u64) -> (Option<Estimate>, Option<Estimate>) {
    let known = |item: &&ItemScore| item.length.is_some_and(|length| length > 0);
    let items: Vec<&ItemScore> = items.iter().filter(known).collect();
    let pairs: Vec<(f64, f64)> =
        items.iter().map(|item| ((item.length.unwrap_or(1) as f64).log2(), item.score)).collect();
    let clusters = Clusters::of(items.iter().map(|item| item.cluster.as_str()));
    let estimate = |statistic: fn(&[(f64, f64)]) -> Option<f64>| {
        let [found] = resampled(pairs.len(), &clusters, seed, |chosen| {
            Some([statistic(&chosen.iter().map(|&at| pairs[at]).collect::<Vec<_>>())?])
        })?;
        Some(found)
    };
    (estimate(spearman), estimate(slope))
}

/// The slope of a line of least squares; there is none where the first of each pair never varies.
fn slope(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0 / n, y + pair.1 / n));
    let squares: f64 = pairs.iter().map(|pair| (pair.0 - x).powi(2)).sum();
    let products: f64 = pairs.iter().map(|pair| (pair.0 - x) * (pair.1 - y)).sum();
    (squares > 0.0).then(|| products / squares)
}

/// The preference of each judge for each model of its family.
pub fn self_preference(verdicts: &Verdicts, comparisons: &[Comparison]) -> Vec<SelfPreference> {
    let mut found = Vec::new();
    for judge in verdicts.judges() {
        let names = verdicts.all.iter().filter(|verdict| verdict.judge == judge);
        let name = names.clone().find_map(|verdict| verdict.judge_model.as_deref()).unwrap_or(judge);
        let kin = |model: &&str| family(model) == family(name);
        let mut models: Vec<&str> = names
            .flat_map(|verdict| [&verdict.model, &verdict.other_model])
            .filter_map(|model| model.as_deref())
            .filter(kin)
            .collect();
        models.sort_unstable();
        models.dedup();
        for model in models {
            found.extend(of_model(verdicts, comparisons, judge, model));
        }
    }
    found
}

fn of_model(
    verdicts: &Verdicts,
    comparisons: &[Comparison],
    judge: &str,
    model: &str,
) -> Option<SelfPreference> {
    let given = |is_own: bool| -> Vec<Given> {
        let pairs: Vec<Comparison> = comparisons
            .iter()
            .filter(|c| (c.judge == judge) == is_own && c.model != c.other_model)
            .filter_map(|c| {
                if c.model == model { Some(c.clone()) } else { (c.other_model == model).then(|| c.turned()) }
            })
            .collect();
        if !comparisons.is_empty() {
            let of_pair = |(value, c): (f64, &Comparison)| Given {
                item: (c.cluster.clone(), c.id.clone(), c.other_id.clone()),
                value,
            };
            return by_item(&pairs, |comparison| Some(comparison.outcome()))
                .into_iter()
                .map(of_pair)
                .collect();
        }
        let is_of_model = |verdict: &nexa_core::judging::Verdict| {
            (verdict.judge == judge) == is_own && verdict.model.as_deref() == Some(model)
        };
        let items = verdicts.items(|verdict| verdict.score.filter(|_| is_of_model(verdict)));
        let of_item =
            |item: ItemScore| Given { item: (item.cluster, item.id.clone(), item.id), value: item.score };
        items.into_iter().map(of_item).collect()
    };
    let (own, others) = (given(true), given(false));
    let clusters = Clusters::of(own.iter().map(|given| given.item.0.as_str()));
    let values: Vec<f64> = own.iter().map(|given| given.value).collect();
    let mean = if comparisons.is_empty() { clustered_mean } else { clustered_share };
    let differences: Vec<(&str, f64)> = own
        .iter()
        .filter_map(|given| {
            let other = others.iter().find(|other| other.item == given.item)?;
            Some((given.item.0.as_str(), given.value - other.value))
        })
        .collect();
    let values_of: Vec<f64> = differences.iter().map(|(_, difference)| *difference).collect();
    Some(SelfPreference {
        judge: judge.to_owned(),
        model: model.to_owned(),
        items: own.len(),
        own: mean(&values, &clusters)?,
        more_than_others: clustered_mean(
            &values_of,
            &Clusters::of(differences.iter().map(|(cluster, _)| *cluster)),
        ),
    })
}

/// What some judges give a model.
struct Given {
    /// On which item: its cluster, and the one or two answers.
    item: (String, String, String),
    value: f64,
}

/// The family of a model: the letters that its name begins with, behind whoever hosts it and before its tag.
fn family(model: &str) -> String {
    let path = model.to_lowercase();
    let named = path.rsplit(['/', '#']).find(|part| !part.is_empty()).unwrap_or(&path);
    // Colons stand behind a host and before a tag: `groq:llama-3`, `llama3:8b`, `ollama:llama3:8b`.
    let is_name = |part: &&str| !part.is_empty() && !HOSTS.contains(part);
    let name = named.split(':').find(is_name).unwrap_or(named);
    let letters: String = name.chars().take_while(|c| c.is_alphabetic()).collect();
    match letters.as_str() {
        "chatgpt" => "gpt".to_owned(),
        // A name without letters is a family of its own.
        "" => name.to_owned(),
        letters => letters.to_owned(),
    }
}

fn by_judge(comparisons: &[Comparison]) -> Vec<(String, Vec<&Comparison>)> {
    let mut judges: Vec<(String, Vec<&Comparison>)> = Vec::new();
    for comparison in comparisons {
        match judges.iter_mut().find(|(judge, _)| *judge == comparison.judge) {
            Some((_, own)) => own.push(comparison),
            None => judges.push((comparison.judge.clone(), vec![comparison])),
        }
    }
    judges
}

#[cfg(test)]
mod tests {
    use nexa_core::judging::Verdict;

    use super::super::verdicts::tests::{both, verdicts};
    use super::*;
    use crate::statistics::assert_close;

    #[test]
    fn a_judge_that_goes_with_the_order_is_seen() {
        let all =
            [both("a", 5.0, 5.0), both("b", 5.0, 5.0), both("c", 1.0, 1.0), both("d", 5.0, 1.0)].concat();
        let found = &position_bias(&verdicts(all).comparisons().0)[0];
        let shares =
            [&found.follows_first, &found.follows_second, &found.consistent].map(|share| share.value);
        assert_eq!((found.pairs, shares), (4, [0.5, 0.25, 0.25]));
        // First wins 2 + 2 + 0 + 1 of eight verdicts.
        assert_eq!(found.prefers_first.value, 5.0 / 8.0);
        assert!(found.follows_first.ci_low.unwrap() > 0.0 && found.follows_first.ci_high.unwrap() < 1.0);
    }

    #[test]
    fn a_judge_that_goes_with_the_length_is_seen() {
        let mut all = Vec::new();
        for (item, (forward, backward, length)) in
            [(5.0, 1.0, 30), (1.0, 5.0, 5), (5.0, 1.0, 20), (5.0, 1.0, 8), (5.0, 5.0, 40), (5.0, 1.0, 10)]
                .into_iter()
                .enumerate()
        {
            let mut pair = both(&item.to_string(), forward, backward);
            pair.iter_mut().for_each(|verdict| verdict.length = Some(length));
            all.extend(pair);
        }
        let verdicts = verdicts(all);
        let found = &length_bias(&verdicts, &verdicts.comparisons().0, 0)[0];
        // One is a tie, one of equal length, and of the other four the longer one wins three.
        let longer = found.prefers_longer.unwrap();
        assert_eq!((longer.value, longer.n), (0.75, 4));
        let coefficient = found.length_coefficient.unwrap();
        assert!(coefficient.value > 0.0 && found.correlation.is_none());
        let (low, high) = coefficient.ci_low.zip(coefficient.ci_high).unwrap();
        assert!(low < coefficient.value && coefficient.value < high, "{coefficient:?}");
        assert_eq!(
            length_bias(&verdicts, &verdicts.comparisons().0, 0)[0],
            *found,
            "the seed decides the draws"
        );
    }

    #[test]
    fn points_for_a_doubling_are_the_slope() {
        let single = |id: usize| Verdict {
            id: id.to_string(),
            judge: "j".to_owned(),
            score: Some(1.0 + 0.5 * id as f64),
            length: Some(1 << id),
            ..Verdict::default()
        };
        let verdicts = verdicts((0..6).map(single));
        let found = &length_bias(&verdicts, &[], 0)[0];
        assert_close(found.points_per_doubling.unwrap().value, 0.5, 1e-12, "slope");
        assert_close(found.correlation.unwrap().value, 1.0, 1e-12, "correlation");
    }

    #[test]
    fn a_judge_of_the_same_family_is_compared_with_the_others() {
        let check = |model: &str, expected: &str| assert_eq!(family(model), expected, "{model}");
        check("openai:gpt-4o-mini", "gpt");
        check("http://host:1/v1#Llama-3.1-8B", "llama");
        check("openai/chatgpt-4o-latest", "gpt");
        check("tutor/student@v3", "student");
        check("7b", "7b");
        check("llama3:8b", "llama");
        check("qwen2.5:8b", "qwen");
        check("ollama:llama3.1:70b-instruct-q4_0", "llama");
        check("http://127.0.0.1:11434/v1#llama3:8b", "llama");
        check("mistral:latest", "mistral");
        check("deepseek:deepseek-chat", "deepseek");
        check("meta-llama/Llama-3.1-8B-Instruct", "llama");
        check("openrouter:qwen/qwen-2.5-7b-instruct:free", "qwen");
        check("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "llama");

        let mut all = Vec::new();
        for (judge, name, wins) in
            [("openai:gpt-4o", "gpt-4o-2024", 3), ("anthropic:claude-x", "claude-x", 1)]
        {
            for item in 0..4 {
                let (forward, backward) = if item < wins { (5.0, 1.0) } else { (1.0, 5.0) };
                for mut verdict in both(&item.to_string(), forward, backward) {
                    verdict.model = Some("gpt-3.5".to_owned());
                    (verdict.judge, verdict.judge_model) = (judge.to_owned(), Some(name.to_owned()));
                    all.push(verdict);
                }
            }
        }
        let verdicts = verdicts(all);
        let found = self_preference(&verdicts, &verdicts.comparisons().0);
        assert_eq!(found.len(), 1, "the other judge is of no family here");
        assert_eq!((found[0].judge.as_str(), found[0].own.value), ("openai:gpt-4o", 0.75));
        assert_eq!(found[0].more_than_others.unwrap().value, 0.5);
    }

    /// Both models are tagged by their size, which makes them no kin.
    #[test]
    fn models_of_one_size_are_no_family() {
        let mut all = both("a", 5.0, 1.0);
        for verdict in &mut all {
            (verdict.model, verdict.other_model) =
                (Some("qwen2.5:8b".to_owned()), Some("llama3:8b".to_owned()));
            verdict.judge = "http://127.0.0.1:11434/v1#llama3:8b".to_owned();
            verdict.judge_model = Some("llama3:8b".to_owned());
        }
        let verdicts = verdicts(all);
        let found = self_preference(&verdicts, &verdicts.comparisons().0);
        let kin: Vec<_> = found.iter().map(|found| (found.model.as_str(), found.own.value)).collect();
        assert_eq!(kin, [("llama3:8b", 0.0)]);
    }
}
