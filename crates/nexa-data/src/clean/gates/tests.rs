//! The gates against datatrove's verdicts on the test vectors, which `bench/clean/vectors.py` writes.

use serde::Deserialize;

use super::*;
use crate::clean::chain::{Chain, Config};
use crate::clean::normalise::Normalise;
use crate::clean::thresholds::{Judge, Thresholds};

#[derive(Deserialize)]
struct Vector {
    name: String,
    text: String,
    /// The rule that rejects it in the whole chain.
    rejected: Option<String>,
    /// The same of each filter alone: Gopher quality, Gopher repetition, C4, FineWeb.
    alone: [Option<String>; 4],
    /// What is left of a text that is kept.
    left: Option<String>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("../../../test-data/gates.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The verdict of some gates at the published thresholds.
fn verdict(gates: &[&str], text: &str) -> Option<String> {
    let gates = gates.iter().map(|&gate| gate.to_owned()).collect();
    let config = Config { normalise: Normalise::NOTHING, gates, detect_language: false, text: None };
    let chain = Chain::new(&config, "test").unwrap();
    let judge = Judge::new(&chain, &Thresholds::default(), "test").unwrap();
    let measured = chain.measure(text, &mut Scratch::default());
    assert_eq!(measured.scores.len(), chain.columns().len());
    assert!(measured.scores.iter().all(|score| score.is_finite()), "{:?}", measured.scores);
    judge.verdict(None, &measured.scores).map(|found| format!("{}.{}", found.gate, found.rule))
}

#[test]
fn the_chain_rejects_by_the_same_rule_as_datatrove() {
    for vector in vectors() {
        let found = verdict(&["gopher@1", "c4@1", "fineweb@1"], &vector.text);
        assert_eq!(found, vector.rejected, "{}", vector.name);
    }
}

#[test]
fn each_gate_alone_rejects_by_the_same_rule_as_datatrove() {
    for vector in vectors() {
        let [quality, repetition, c4, fineweb] = vector.alone;
        for (gate, expected) in [("gopher@1", quality.or(repetition)), ("c4@1", c4), ("fineweb@1", fineweb)] {
            assert_eq!(verdict(&[gate], &vector.text), expected, "{}", vector.name);
        }
    }
}

#[test]
fn what_is_left_of_a_text_is_what_datatrove_leaves() {
    let kept = vectors().into_iter().filter_map(|vector| Some((vector.name, vector.text, vector.left?)));
    let mut edited = 0;
    for (name, text, left) in kept {
        let found = find("c4@1", "test").unwrap().edit(&text).unwrap();
        assert_eq!(found, left, "{name}");
        edited += usize::from(found != text);
    }
    assert!(edited > 5, "only {edited} texts are edited at all");
}

#[test]
fn every_rule_is_about_a_number_and_its_key_says_the_side() {
    for gate in GATES {
        for rule in gate.rules() {
            assert!(rule.score < gate.scores().len(), "{}.{}", gate.name(), rule.key);
            let side = if rule.bound == Bound::AtLeast { "min_" } else { "max_" };
            assert!(rule.key.starts_with(side), "{}.{}", gate.name(), rule.key);
        }
    }
}

#[test]
fn the_vectors_reach_every_rule_but_those_of_extreme_lengths() {
    let reached: Vec<String> = vectors()
        .into_iter()
        .flat_map(|vector| vector.alone.into_iter().chain([vector.rejected]))
        .flatten()
        .collect();
    for gate in GATES {
        for key in gate.rules().iter().map(|rule| rule.key) {
            let rare =
                ["max_words", "max_newline_word_ratio"].contains(&key) || key.contains("_character_ratio");
            assert!(rare || reached.contains(&format!("{}.{key}", gate.name())), "{}.{key}", gate.name());
        }
    }
}

#[test]
fn an_unknown_gate_names_the_nearest() {
    let error = find("gopher@2", "test").err().unwrap();
    assert!(error.to_string().contains("gates: gopher@2"), "{error}");
    assert_eq!(nexa_core::Diagnose::hint(&error).unwrap(), "did you mean `gates: gopher@1`?");
}
