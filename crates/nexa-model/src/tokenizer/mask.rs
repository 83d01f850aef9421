//! Which tokens of a rendered conversation carry loss.

use super::ChatTokenizer;
use super::conversation::{EncodedConversation, EncodedTurn, LossMask, Stop, TrainOnEos};
use super::encode::Encoded;
use super::turns::{Rendering, Turn};

/// Marks the tokens of the turns, and the tokens that end them as `train_on_eos` says.
///
/// A token that stands partly in a turn is marked, as in `transformers`. Where the template has generation tags and
/// only the assistant is trained, the tags say where a turn ends: a stop token outside of them stays unmarked.
pub(super) fn mark(
    rendering: &Rendering,
    encoded: Encoded,
    tokenizer: &ChatTokenizer,
    mask: &LossMask,
) -> Result<EncodedConversation, String> {
    let tagged = rendering.tagged;
    let reading = Reading { rendering, encoded: &encoded, tokenizer };
    let mut trained = vec![false; encoded.token_ids.len()];
    let mut turns = Vec::with_capacity(rendering.turns.len());
    for (position, turn) in rendering.turns.iter().enumerate() {
        let mut tokens = encoded.tokens_in(&turn.bytes);
        let stop = reading.stop_of(turn, &tokens);
        let inside = tokens.clone().filter(|&at| tokenizer.stop.contains(&encoded.token_ids[at]));
        if inside.into_iter().any(|at| Some(at) != stop) && !tagged {
            let number = position + 1;
            return Err(format!("chat template: trained turn {number} holds another turn's stop token"));
        }
        trained[tokens.clone()].fill(true);
        if let Some(stop) = stop {
            if mask.train_on_eos != TrainOnEos::None && !tagged {
                // What the template writes between the text and the stop token has to be produced too.
                trained[tokens.end.min(stop)..stop].fill(true);
            }
            tokens.end = tokens.end.max(stop + 1);
            match mask.train_on_eos {
                TrainOnEos::Turn if tagged => {}
                on_eos => trained[stop] = on_eos == TrainOnEos::Turn,
            }
        }
        turns.push((EncodedTurn { tokens, stop: Stop::Missing, follows_prompt: turn.follows_prompt }, stop));
    }
    let mut stops = (0..trained.len()).rev().filter(|&at| tokenizer.stop.contains(&encoded.token_ids[at]));
    match mask.train_on_eos {
        TrainOnEos::Last => stops.next().into_iter().for_each(|at| trained[at] = true),
        TrainOnEos::All => stops.for_each(|at| trained[at] = true),
        TrainOnEos::Turn | TrainOnEos::None => {}
    }
    if mask.train_on_inputs {
        trained.fill(true);
    }
    let turns = turns.into_iter().map(|(turn, stop)| match stop {
        Some(stop) => {
            EncodedTurn { stop: if trained[stop] { Stop::Trained } else { Stop::Untrained }, ..turn }
        }
        None => turn,
    });
    Ok(EncodedConversation { turns: turns.collect(), token_ids: encoded.token_ids, trained })
}

/// A rendered conversation as text and as tokens.
struct Reading<'a> {
    rendering: &'a Rendering,
    encoded: &'a Encoded,
    tokenizer: &'a ChatTokenizer,
}

impl Reading<'_> {
    /// The token that ends a turn: the last one in it, or the first special one after it with only blanks between.
    fn stop_of(&self, turn: &Turn, tokens: &std::ops::Range<usize>) -> Option<usize> {
        let &Self { rendering, encoded, tokenizer } = self;
        let is_stop = |at: usize| tokenizer.stop.contains(&encoded.token_ids[at]);
        let blank = |start: usize, end: usize| rendering.text[start.min(end)..end].trim().is_empty();
        // A tag may hold the blank that the template writes after the stop token.
        let within = tokens.clone().rev().find(|&at| tokenizer.is_special(encoded.token_ids[at]));
        if let Some(at) = within.filter(|&at| is_stop(at) && blank(encoded.places[at].end, turn.bytes.end)) {
            return Some(at);
        }
        let after =
            (tokens.end..encoded.token_ids.len()).find(|&at| tokenizer.is_special(encoded.token_ids[at]))?;
        (is_stop(after) && blank(turn.bytes.end, encoded.places[after].start)).then_some(after)
    }
}
