//! Rejects a row whose prompt and answer stood before, but for case and white space. The first one stays.

use std::collections::HashSet;

use super::{Answer, Gate};
use crate::text::normalise;

/// The gate, and the hashes of what it saw.
#[derive(Debug, Default)]
pub(super) struct Duplicate {
    seen: HashSet<[u8; 32]>,
}

impl Gate for Duplicate {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        let is_new = self.seen.insert(key(answer));
        (!is_new).then(|| "same prompt and answer as an earlier row".to_owned())
    }
}

fn key(answer: &Answer<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Normalised texts hold no line break, so it separates them.
    hasher
        .update(normalise(answer.prompt).as_bytes())
        .update(b"\n")
        .update(normalise(answer.output).as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_prompt_and_answer_are_a_duplicate() {
        let mut gate = Duplicate::default();
        let mut check = |prompt: &str, output: &str, rejected: bool| {
            let answer = Answer { prompt, output, finish_reason: None, reference: None };
            assert_eq!(gate.reject(&answer).is_some(), rejected, "{prompt:?} {output:?}");
        };
        check("How many?", "Four.", false);
        check("How many?", "Five.", false);
        check("How  many?", "four.", true);
        check("How many?", "Four.", true);
        check("How", "many? Four.", false);
    }
}
