//! Finds rows whose prompt and answer stood before, but for case and white space. The first one stays.

use std::collections::HashMap;

use super::{Answer, AtMost, Bounds, Gate, Measure};
use crate::text::normalise;

pub(super) const VERSION: u32 = 2;

pub(super) fn gate<const D: u32>(settings: AtMost<D>) -> Option<Gate> {
    let mut seen = HashMap::<[u8; 32], u32>::new();
    settings.enabled.then(|| {
        Gate::of_each("duplicate", VERSION, Bounds::at_most(settings.max), move |answer| {
            let times = seen.entry(key(answer)).or_insert(0);
            let before = std::mem::replace(times, *times + 1);
            Some(Measure::new(before.into(), "same prompt and answer as an earlier row"))
        })
    })
}

fn key(answer: &Answer<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Normalised texts hold no line break, so it separates them.
    hasher
        .update(normalise(&answer.prompt).as_bytes())
        .update(b"\n")
        .update(normalise(answer.output).as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::test::row;
    use super::*;

    #[test]
    fn only_the_same_prompt_and_answer_are_a_duplicate() {
        let mut gate = gate(AtMost::<0>::default()).unwrap();
        let mut check = |prompt: &str, output: &str, before: f64| {
            let measures = gate.measure(&[Answer::of(&row(prompt, output))]).unwrap();
            assert_eq!(measures[0].as_ref().unwrap().score, before, "{prompt:?} {output:?}");
        };
        check("How many?", "Four.", 0.0);
        check("How many?", "Five.", 0.0);
        check("How  many?", "four.", 1.0);
        check("How many?", "Four.", 2.0);
        check("How", "many? Four.", 0.0);
    }
}
