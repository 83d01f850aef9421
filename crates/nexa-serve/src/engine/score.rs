//! The engine as a scorer of texts.
//!
//! # Source
//! Pairs of context and continuation are tokenised as in lm-evaluation-harness (causal models, no special tokens):
//! blanks at the end of the context belong to the continuation, and the continuation's tokens are those of the whole
//! text after as many as the context has alone.
//!
//! # Departures
//! The harness cuts a pair that is too long from the left to the context length plus one, because the last token is
//! only predicted; `LanguageModel::score` takes the context length at most, so one token less is kept here.

use nexa_core::lm::{ChatMessage, Error, Role, Score, ScoreRequest, TextScorer, TokenScore, Tokenizer};
use tokio::sync::mpsc;

use super::Engine;
use super::answer::Sink;
use super::queue::ScoreJob;

impl TextScorer for Engine {
    /// Scores in batches between the steps of answers. Blocks: not for asynchronous code.
    fn score(&self, requests: &[ScoreRequest], done: &mut dyn FnMut(usize)) -> Result<Vec<Score>, Error> {
        let tokenizer = self.tokenizer().as_ref();
        let context_length = self.info().context_length;
        let texts = requests
            .iter()
            .map(|request| match request {
                ScoreRequest::Chat(messages) => chat(tokenizer, messages, context_length),
                ScoreRequest::Continuation { context, continuation } => {
                    pair(tokenizer, context, continuation, context_length)
                }
            })
            .collect::<Result<Vec<_>, _>>()?;

        let (sender, mut results) = mpsc::unbounded_channel();
        // Neighbours of one length waste the least in a model that pads.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&position| std::cmp::Reverse(texts[position].token_ids.len()));
        let jobs = order.into_iter().map(|position| ScoreJob {
            token_ids: texts[position].token_ids.clone(),
            sink: Sink::new(position, &sender),
        });
        self.queue().push_scoring(jobs).map_err(|error| self.seam_error(error))?;
        drop(sender);

        let mut scores: Vec<Option<Score>> = vec![None; texts.len()];
        while let Some((position, result)) = results.blocking_recv() {
            scores[position] = Some(texts[position].sum(&result?));
            done(position);
        }
        scores.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| self.queue().why_stopped())
    }
}

/// A text as the model sees it.
#[derive(Debug, PartialEq, Eq)]
struct EncodedText {
    token_ids: Vec<u32>,
    /// For each token whether it is scored; the first never is.
    scored: Vec<bool>,
    /// UTF-8 bytes of what is scored.
    bytes: usize,
}

impl EncodedText {
    fn new(token_ids: Vec<u32>, mut scored: Vec<bool>, bytes: usize) -> Result<Self, Error> {
        if let Some(first) = scored.first_mut() {
            *first = false;
        }
        if !scored.contains(&true) {
            return Err(Error::Invalid(
                "nothing to score: the text has no token after its context".to_owned(),
            ));
        }
        Ok(Self { token_ids, scored, bytes })
    }

    fn sum(&self, scores: &[TokenScore]) -> Score {
        let scored = || self.scored.iter().skip(1).zip(scores).filter(|(scored, _)| **scored).map(|(_, s)| s);
        Score {
            logprob_nats: scored().map(|score| f64::from(score.logprob_nats)).sum(),
            tokens: scored().count(),
            bytes: self.bytes,
            is_greedy: scored().all(|score| score.is_greedy),
        }
    }
}

/// The assistant turns of a conversation.
fn chat(
    tokenizer: &dyn Tokenizer,
    messages: &[ChatMessage],
    context_length: usize,
) -> Result<EncodedText, Error> {
    let encoded = tokenizer.encode_chat(messages)?;
    let tokens = encoded.token_ids.len();
    if tokens > context_length {
        return Err(Error::TooLong { tokens, context_length });
    }
    let answers = messages.iter().filter(|message| message.role == Role::Assistant);
    EncodedText::new(encoded.token_ids, encoded.trained, answers.map(|message| message.content.len()).sum())
}

/// A continuation after a context; what is too long loses the beginning of its context.
fn pair(
    tokenizer: &dyn Tokenizer,
    context: &str,
    continuation: &str,
    context_length: usize,
) -> Result<EncodedText, Error> {
    let kept = context.trim_end();
    let continuation = format!("{}{continuation}", &context[kept.len()..]);
    let (mut token_ids, answer) = if kept.is_empty() {
        let prefix = tokenizer.prefix_token();
        let mut answer = tokenizer.encode(&continuation)?;
        if answer.first() == Some(&prefix) {
            answer.remove(0);
        }
        (vec![prefix], answer)
    } else {
        let before = tokenizer.encode(kept)?;
        let whole = tokenizer.encode(&format!("{kept}{continuation}"))?;
        let answer = whole.get(before.len()..).unwrap_or_default().to_vec();
        (before, answer)
    };
    if answer.len() + 1 > context_length {
        return Err(Error::TooLong { tokens: answer.len() + 1, context_length });
    }
    let excess = (token_ids.len() + answer.len()).saturating_sub(context_length);
    if excess > 0 {
        tracing::warn!(
            excess,
            context_length,
            "the beginning of a context was cut off to score its continuation"
        );
        token_ids.drain(..excess);
    }
    let mut scored = vec![false; token_ids.len()];
    scored.resize(token_ids.len() + answer.len(), true);
    token_ids.extend(answer);
    EncodedText::new(token_ids, scored, continuation.len())
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::EncodedChat;

    use super::*;

    /// Characters as ids, except that `ab` is one token (1000); 0 begins a text.
    struct Pairs;

    impl Tokenizer for Pairs {
        fn vocab_size(&self) -> usize {
            1001
        }
        fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
            let merged = text.replace("ab", "\u{3E8}").replace('^', "\0");
            Ok(merged.chars().map(u32::from).collect())
        }
        fn decode(&self, _: &[u32]) -> Result<String, Error> {
            Ok(String::new())
        }
        fn token_bytes(&self, _: u32) -> Option<Vec<u8>> {
            None
        }
        fn is_special(&self, _: u32) -> bool {
            false
        }
        fn encode_prompt(&self, _: &[ChatMessage]) -> Result<Vec<u32>, Error> {
            Ok(Vec::new())
        }
        fn encode_chat(&self, messages: &[ChatMessage]) -> Result<EncodedChat, Error> {
            let mut chat = EncodedChat::default();
            for message in messages {
                let token_ids = self.encode(&message.content)?;
                chat.trained.extend(token_ids.iter().map(|_| message.role == Role::Assistant));
                chat.token_ids.extend(token_ids);
            }
            Ok(chat)
        }
        fn prefix_token(&self) -> u32 {
            0
        }
        fn stop_tokens(&self) -> &[u32] {
            &[]
        }
    }

    fn ids(text: &str) -> Vec<u32> {
        text.chars().map(u32::from).collect()
    }

    #[test]
    fn pairs_are_tokenised_as_in_the_harness() {
        let check = |context: &str, continuation: &str, expected: (Vec<u32>, usize, usize)| {
            let text = pair(&Pairs, context, continuation, 6).unwrap();
            let scored = text.scored.iter().filter(|scored| **scored).count();
            assert!(text.scored.is_sorted(), "only the end is scored");
            assert_eq!((text.token_ids, scored, text.bytes), expected, "{context:?} {continuation:?}");
        };
        check("xy", "z", (ids("xyz"), 1, 1));
        // Blanks move over.
        check("x ", "z", (ids("x z"), 2, 2));
        // `xa` has two tokens; after as many of `xabc` (x, ab, c), only `c` is left.
        check("xa", "bc", (vec![120, 97, 99], 1, 2));
        // An empty context is the prefix token, which a continuation may bring itself.
        check("", "z", (vec![0, 122], 1, 1));
        check("", "^z", (vec![0, 122], 1, 2));
        check(" ", "z", (vec![0, 32, 122], 2, 2));
        // Too long: cut from the left.
        check("12345", "67", (ids("234567"), 2, 2));
        check("1", "23456", (ids("123456"), 5, 5));
        check("x", "é", (ids("xé"), 1, 2));
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let check = |result: Result<EncodedText, Error>, expected: &str| {
            assert_eq!(result.unwrap_err().to_string(), expected);
        };
        let nothing = "nothing to score: the text has no token after its context";
        check(pair(&Pairs, "x", "", 6), nothing);
        check(pair(&Pairs, "a", "b", 6), nothing);
        check(pair(&Pairs, "x", "123456", 6), "sequence of 7 tokens is longer than the context of 6");
        check(chat(&Pairs, &[ChatMessage::new(Role::User, "hi")], 6), nothing);
        let long = [ChatMessage::new(Role::Assistant, "1234567")];
        check(chat(&Pairs, &long, 6), "sequence of 7 tokens is longer than the context of 6");
    }

    #[test]
    fn only_assistant_turns_count() {
        let messages = [
            ChatMessage::new(Role::User, "q"),
            ChatMessage::new(Role::Assistant, "é1"),
            ChatMessage::new(Role::User, "r"),
            ChatMessage::new(Role::Assistant, "2"),
        ];
        let text = chat(&Pairs, &messages, 10).unwrap();
        assert_eq!(text.scored, [false, true, true, false, true]);
        let score = |logprob_nats, is_greedy| TokenScore { logprob_nats, is_greedy };
        let scores = [score(-1.0, true), score(-2.0, true), score(-50.0, false), score(-4.0, true)];
        let expected = Score { logprob_nats: -7.0, tokens: 3, bytes: 4, is_greedy: true };
        assert_eq!(text.sum(&scores), expected);
    }
}
