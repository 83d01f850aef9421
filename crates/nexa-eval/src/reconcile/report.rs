//! Causes counted, and what each adds to the difference of a metric.

use std::collections::{BTreeMap, BTreeSet};

use nexa_core::artifact::ArtifactId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cause::{self, Cause, Found};
use super::prompt::{Beginnings, usual_beginning};
use super::samples::{Item, Samples};
use super::settings::SettingDifference;

/// Examples of a cause.
const EXAMPLES: usize = 3;

/// Characters that are shown on either side of the first difference.
const SHOWN: usize = 40;

/// Why the numbers of two tools differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The task.
    pub task: String,
    /// Our evaluation.
    pub evaluation: ArtifactId,
    /// Their documents.
    pub their_documents: usize,
    /// Our documents.
    pub our_documents: usize,
    /// Documents that both have.
    pub matched: usize,
    /// Those of them that are the same to the last number.
    pub equal: usize,
    /// The numbers that differ, and those that do not.
    pub metrics: Vec<MetricDifference>,
    /// What makes items differ, the most frequent first.
    pub causes: Vec<CauseFound>,
    /// The settings in which the two runs differ, as far as both are known.
    #[serde(default)]
    pub settings: Vec<SettingDifference>,
}

/// A metric of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricDifference {
    /// The metric.
    pub metric: String,
    /// The filter before it.
    pub filter: String,
    /// Their mean over their documents; of a perplexity, nats per unit.
    pub theirs: f64,
    /// Our mean over our documents.
    pub ours: f64,
    /// Theirs less ours: the sum of what all causes add to it.
    pub difference: f64,
}

/// A cause, and how much it explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CauseFound {
    /// The cause.
    pub cause: Cause,
    /// Items whose first difference it is.
    pub items: usize,
    /// What it adds to the difference of each metric.
    pub effects: Vec<Effect>,
    /// The first items.
    pub examples: Vec<Example>,
    /// The settings that differ and likely are the reason: `add_bos_token false against true`.
    #[serde(default)]
    pub likely: Vec<String>,
}

/// What a cause adds to the difference of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The metric.
    pub metric: String,
    /// The filter before it.
    pub filter: String,
    /// The part of the difference.
    pub adds: f64,
    /// Items of the cause whose values differ.
    pub items: usize,
}

/// An item, with the text around the first difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The number of the document, theirs where they have it.
    pub doc_id: String,
    /// The character at which the texts part, from 0.
    pub at: usize,
    /// Their text around it. `¦` stands between context and continuation.
    pub theirs: String,
    /// Our text around it.
    pub ours: String,
}

impl Reconciliation {
    /// With settings that differ, beside the causes that they may explain.
    pub(super) fn with_settings(mut self, settings: Vec<SettingDifference>) -> Self {
        for found in &mut self.causes {
            let likely = settings.iter().filter(|one| one.explains(found.cause));
            found.likely = likely.map(ToString::to_string).collect();
        }
        self.settings = settings;
        self
    }
}

/// A metric after a filter.
type Key = (String, String);

/// What a document adds to a metric: to its numerator and its denominator.
type Part = (f64, f64);

/// Explains the differences of paired items; theirs come first.
pub(super) fn report(
    task: String,
    evaluation: &ArtifactId,
    (theirs, ours): (&Samples, &Samples),
    pairs: &[(&Item, &Item)],
) -> Reconciliation {
    let contexts = |samples: &Samples| {
        usual_beginning(samples.items.iter().filter_map(|item| Some(item.asked.first()?.context.as_str())))
    };
    let usual = Beginnings { theirs: contexts(theirs), ours: contexts(ours) };
    let mut by_cause: BTreeMap<Cause, Vec<(usize, Found)>> = BTreeMap::new();
    for (at, (their, our)) in pairs.iter().enumerate() {
        if let Some(found) = cause::of(their, our, &usual) {
            by_cause.entry(found.cause).or_default().push((at, found));
        }
    }
    let differing: usize = by_cause.values().map(Vec::len).sum();
    let sums = Sums::new(theirs, ours, pairs);
    let mut causes: Vec<CauseFound> = by_cause
        .into_iter()
        .map(|(cause, found)| CauseFound {
            cause,
            items: found.len(),
            effects: sums.effects(pairs, &found.iter().map(|(at, _)| *at).collect::<Vec<_>>()),
            examples: found.iter().take(EXAMPLES).map(|(at, found)| example(pairs[*at].0, found)).collect(),
            likely: Vec::new(),
        })
        .collect();
    causes.sort_by_key(|found| std::cmp::Reverse(found.items));
    let missing = theirs.count() + ours.count() - 2 * pairs.len();
    if missing > 0 {
        let documents = unmatched(theirs, ours, pairs);
        let effects = sums.of_documents();
        let likely = Vec::new();
        let cause = Cause::Documents;
        causes.insert(0, CauseFound { cause, items: missing, effects, examples: documents, likely });
    }
    Reconciliation {
        task,
        evaluation: evaluation.clone(),
        their_documents: theirs.count(),
        our_documents: ours.count(),
        matched: pairs.len(),
        equal: pairs.len() - differing,
        metrics: sums.differences(),
        causes,
        settings: Vec::new(),
    }
}

/// The metrics of both sides, over all documents and over those that both have.
struct Sums {
    all: BTreeMap<Key, (Part, Part)>,
    matched: BTreeMap<Key, (Part, Part)>,
}

impl Sums {
    fn new(theirs: &Samples, ours: &Samples, pairs: &[(&Item, &Item)]) -> Self {
        Self {
            all: sums(theirs.items.iter(), ours.items.iter()),
            matched: sums(pairs.iter().map(|pair| pair.0), pairs.iter().map(|pair| pair.1)),
        }
    }

    fn differences(&self) -> Vec<MetricDifference> {
        let one = |((metric, filter), (their, our)): (&Key, &(Part, Part))| MetricDifference {
            metric: metric.clone(),
            filter: filter.clone(),
            theirs: ratio(*their),
            ours: ratio(*our),
            difference: ratio(*their) - ratio(*our),
        };
        self.all.iter().map(one).collect()
    }

    /// What some pairs add to each difference: theirs less ours, as shares of what both have.
    fn effects(&self, pairs: &[(&Item, &Item)], chosen: &[usize]) -> Vec<Effect> {
        let one = |(key, (their_sum, our_sum)): (&Key, &(Part, Part))| {
            let (mut adds, mut items) = (0.0, 0);
            for &at in chosen {
                let (their, our) = (pairs[at].0.part(key), pairs[at].1.part(key));
                let added = share(their, *their_sum) - share(our, *our_sum);
                adds += added;
                items += usize::from(added.abs() > f64::EPSILON);
            }
            Effect { metric: key.0.clone(), filter: key.1.clone(), adds, items }
        };
        self.matched.iter().map(one).collect()
    }

    /// What the documents that one side lacks add: what is left of the difference of all without that of the matched ones.
    fn of_documents(&self) -> Vec<Effect> {
        let one = |(key, (their, our)): (&Key, &(Part, Part))| {
            let (their_matched, our_matched) = self.matched.get(key)?;
            let adds = ratio(*their) - ratio(*our) - (ratio(*their_matched) - ratio(*our_matched));
            Some(Effect { metric: key.0.clone(), filter: key.1.clone(), adds, items: 0 })
        };
        self.all.iter().filter_map(one).collect()
    }
}

impl Item {
    /// What the document adds to a metric: its number, or of perplexities the nats and their units.
    fn part(&self, (metric, filter): &Key) -> Option<Part> {
        match self.filtered.get(filter)?.metrics.get(metric)? {
            Value::Array(pair) => match pair.as_slice() {
                [nats, weight] => Some((-nats.as_f64()?, weight.as_f64()?)),
                _ => None,
            },
            Value::Bool(flag) => Some((f64::from(u8::from(*flag)), 1.0)),
            number => Some((number.as_f64()?, 1.0)),
        }
    }
}

/// The metrics that both sides have, summed over some documents of each.
fn sums<'a>(
    theirs: impl Iterator<Item = &'a Item>,
    ours: impl Iterator<Item = &'a Item>,
) -> BTreeMap<Key, (Part, Part)> {
    let ours = total(ours);
    let both = total(theirs).into_iter();
    both.filter_map(|(key, their)| ours.get(&key).map(|our| (key.clone(), (their, *our)))).collect()
}

fn total<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeMap<Key, Part> {
    let mut sums: BTreeMap<Key, Part> = BTreeMap::new();
    for item in items {
        for (filter, filtered) in &item.filtered {
            for metric in filtered.metrics.keys() {
                let key = (metric.clone(), filter.clone());
                if let Some((above, below)) = item.part(&key) {
                    let sum = sums.entry(key).or_default();
                    *sum = (sum.0 + above, sum.1 + below);
                }
            }
        }
    }
    sums
}

fn ratio((above, below): Part) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

/// What one document adds to a ratio over all.
fn share(part: Option<Part>, (_, below): Part) -> f64 {
    part.map_or(0.0, |(above, _)| ratio((above, below)))
}

fn example(item: &Item, found: &Found) -> Example {
    let (theirs, ours): (Vec<char>, Vec<char>) =
        (found.theirs.chars().collect(), found.ours.chars().collect());
    let at = theirs.iter().zip(&ours).take_while(|(one, other)| one == other).count();
    Example { doc_id: item.id.clone(), at, theirs: around(&theirs, at), ours: around(&ours, at) }
}

/// The text around a character.
fn around(text: &[char], at: usize) -> String {
    let (first, end) = (at.saturating_sub(SHOWN), (at + SHOWN).min(text.len()));
    let cut = |is_cut: bool| if is_cut { "…" } else { "" };
    let shown: String = text.get(first..end).unwrap_or_default().iter().collect();
    format!("{}{shown}{}", cut(first > 0 && !shown.is_empty()), cut(end < text.len()))
}

/// The first documents that one side lacks.
fn unmatched(theirs: &Samples, ours: &Samples, pairs: &[(&Item, &Item)]) -> Vec<Example> {
    let lost = |samples: &Samples, matched: &BTreeSet<*const Item>| {
        let lost = samples.items.iter().filter(|item| !matched.contains(&std::ptr::from_ref::<Item>(item)));
        lost.take(EXAMPLES).map(|item| (item.id.clone(), beginning(item))).collect::<Vec<_>>()
    };
    let matched = |side: fn(&(&Item, &Item)) -> *const Item| pairs.iter().map(side).collect::<BTreeSet<_>>();
    let only_theirs = lost(theirs, &matched(|pair| std::ptr::from_ref(pair.0)));
    let only_ours = lost(ours, &matched(|pair| std::ptr::from_ref(pair.1)));
    let example = |(doc_id, theirs, ours)| Example { doc_id, at: 0, theirs, ours };
    let theirs = only_theirs.into_iter().map(|(id, text)| example((id, text, String::new())));
    theirs.chain(only_ours.into_iter().map(|(id, text)| example((id, String::new(), text)))).collect()
}

fn beginning(item: &Item) -> String {
    around(&serde_json::to_string(&item.document).unwrap_or_default().chars().collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_around_a_difference_is_shown() {
        let text: Vec<char> = "x".repeat(100).chars().collect();
        assert_eq!(around(&text, 50), format!("…{}…", "x".repeat(80)));
        assert_eq!(around(&text[..3], 1), "xxx");
        assert_eq!(around(&text[..3], 90), "");
    }
}
