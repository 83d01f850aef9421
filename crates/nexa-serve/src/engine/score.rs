//! The engine as a scorer of texts.
//!
//! # Source
//! Texts become tokens as in lm-evaluation-harness, for causal models. Of a pair, blanks at the end of the context belong
//! to the continuation, and the continuation's tokens are those of the whole text after as many as the context has alone;
//! what is too long loses the beginning of its context. A text by itself is read in windows of the context length that
//! overlap in one token, the last one widened to the left, so that every token is scored once.
//!
//! # Departures
//! A context of blanks alone is taken for an empty one, where the harness fails; and a continuation after an empty context
//! that spells a special token is text.

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
        let mut scores = Vec::with_capacity(requests.len());
        let mut windows = Vec::new();
        for (position, request) in requests.iter().enumerate() {
            let (bytes, own) = match request {
                ScoreRequest::Chat(messages) => chat(tokenizer, messages, context_length)?,
                ScoreRequest::Continuation { context, continuation } => {
                    pair(tokenizer, context, continuation, context_length)?
                }
                ScoreRequest::Text(text) => whole(tokenizer, text, context_length)?,
            };
            scores.push(Sum {
                score: Score { logprob_nats: 0.0, tokens: 0, bytes, is_greedy: true, cut_tokens: 0 },
                left: own.len(),
            });
            windows.extend(own.into_iter().map(|window| (position, window)));
        }
        // Neighbours in this order have the most of their beginnings in common.
        windows.sort_by(|(_, a), (_, b)| a.token_ids.cmp(&b.token_ids));

        let (sender, mut results) = mpsc::unbounded_channel();
        let jobs = windows.iter().enumerate().map(|(at, (_, window))| ScoreJob {
            token_ids: window.token_ids.clone(),
            wanted: window.counted.len(),
            sink: Sink::new(at, &sender),
        });
        self.queue().push_scoring(jobs.collect()).map_err(|error| self.seam_error(error))?;
        drop(sender);

        let finished =
            scores.iter().enumerate().filter(|(_, sum)| sum.left == 0).map(|(position, _)| position);
        finished.for_each(&mut *done);
        let mut rated: Vec<Option<Vec<TokenScore>>> = vec![None; windows.len()];
        while let Some((at, result)) = results.blocking_recv() {
            rated[at] = Some(result?);
            let position = windows[at].0;
            scores[position].left -= 1;
            if scores[position].left == 0 {
                done(position);
            }
        }
        // Sums are made in the order of the windows, not of their arrival.
        for ((position, window), rated) in windows.iter().zip(rated) {
            window.add(&rated.ok_or_else(|| self.queue().why_stopped())?, &mut scores[*position].score);
        }
        Ok(scores.into_iter().map(|sum| sum.score).collect())
    }
}

/// The score of a request, and how many of its windows are not scored yet.
struct Sum {
    score: Score,
    left: usize,
}

/// A part of a text as the model sees it.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    token_ids: Vec<u32>,
    /// For each of the last tokens, whether it counts.
    counted: Vec<bool>,
    /// Tokens that it lost at its beginning.
    cut_tokens: usize,
}

impl Window {
    fn add(&self, rated: &[TokenScore], sum: &mut Score) {
        sum.cut_tokens += self.cut_tokens;
        for (rating, _) in rated.iter().zip(&self.counted).filter(|(_, counted)| **counted) {
            sum.logprob_nats += f64::from(rating.logprob_nats);
            sum.tokens += 1;
            sum.is_greedy &= rating.is_greedy;
        }
    }
}

/// The UTF-8 bytes of what is scored, and the windows that it is read in.
type Windows = (usize, Vec<Window>);

fn nothing() -> Error {
    Error::Invalid("nothing to score: the text has no token after its context".to_owned())
}

/// The assistant turns of a conversation.
fn chat(
    tokenizer: &dyn Tokenizer,
    messages: &[ChatMessage],
    context_length: usize,
) -> Result<Windows, Error> {
    let encoded = tokenizer.encode_chat(messages)?;
    let tokens = encoded.token_ids.len();
    if tokens > context_length {
        return Err(Error::TooLong { tokens, context_length });
    }
    // Nothing stands before the first token to rate it by.
    let first = encoded.trained.iter().skip(1).position(|trained| *trained).ok_or_else(nothing)? + 1;
    let answers = messages.iter().filter(|message| message.role == Role::Assistant);
    let window =
        Window { token_ids: encoded.token_ids, counted: encoded.trained[first..].to_vec(), cut_tokens: 0 };
    Ok((answers.map(|message| message.content.len()).sum(), vec![window]))
}

/// A continuation after a context.
fn pair(
    tokenizer: &dyn Tokenizer,
    context: &str,
    continuation: &str,
    context_length: usize,
) -> Result<Windows, Error> {
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
        let before = tokenizer.encode_text(kept)?;
        let whole = tokenizer.encode_text(&format!("{kept}{continuation}"))?;
        let answer = whole.get(before.len()..).unwrap_or_default().to_vec();
        (before, answer)
    };
    if answer.is_empty() {
        return Err(nothing());
    }
    if answer.len() > context_length {
        return Err(Error::TooLong { tokens: answer.len(), context_length });
    }
    // The last token is only predicted.
    let excess = (token_ids.len() + answer.len()).saturating_sub(context_length.saturating_add(1));
    token_ids.drain(..excess);
    let counted = vec![true; answer.len()];
    token_ids.extend(answer);
    Ok((continuation.len(), vec![Window { token_ids, counted, cut_tokens: excess }]))
}

/// A text by itself, after the token that begins texts.
fn whole(tokenizer: &dyn Tokenizer, text: &str, context_length: usize) -> Result<Windows, Error> {
    let mut token_ids = vec![tokenizer.prefix_token()];
    token_ids.extend(tokenizer.encode_text(text)?);
    let mut windows = Vec::new();
    let mut next = 1;
    while next < token_ids.len() {
        let end = token_ids.len().min(next.saturating_add(context_length));
        let window = &token_ids[end.saturating_sub(context_length.saturating_add(1))..end];
        windows.push(Window { token_ids: window.to_vec(), counted: vec![true; end - next], cut_tokens: 0 });
        next = end;
    }
    Ok((text.len(), windows))
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

    /// What of some windows counts.
    fn counted((bytes, windows): Windows) -> (Vec<(Vec<u32>, usize)>, usize) {
        let window = |window: Window| {
            assert!(window.counted.iter().all(|counted| *counted), "only the end is scored");
            (window.token_ids, window.counted.len())
        };
        (windows.into_iter().map(window).collect(), bytes)
    }

    #[test]
    fn pairs_are_tokenised_as_in_the_harness() {
        let check =
            |context: &str, continuation: &str, (token_ids, tokens, bytes): (Vec<u32>, usize, usize)| {
                let found = counted(pair(&Pairs, context, continuation, 6).unwrap());
                assert_eq!(found, (vec![(token_ids, tokens)], bytes), "{context:?} {continuation:?}");
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
        // Too long: cut from the left, to one token more than the model reads.
        check("12345", "67", (ids("1234567"), 2, 2));
        check("12345", "678", (ids("2345678"), 3, 3));
        assert_eq!(pair(&Pairs, "12345", "678", 6).unwrap().1[0].cut_tokens, 1);
        check("1", "234567", (ids("1234567"), 6, 6));
        check("x", "é", (ids("xé"), 1, 2));
    }

    /// Expected: `get_rolling_token_windows` of the harness, with a context length of one token.
    #[test]
    fn texts_are_read_in_windows_as_in_the_harness() {
        let check = |text: &str, expected: Vec<(Vec<u32>, usize)>| {
            assert_eq!(counted(whole(&Pairs, text, 4).unwrap()), (expected, text.len()), "{text:?}");
        };
        check("", vec![]);
        check("123", vec![(ids("\x00123"), 3)]);
        check("1234", vec![(ids("\x001234"), 4)]);
        check("12345", vec![(ids("\x001234"), 4), (ids("12345"), 1)]);
        check("1234567890", vec![(ids("\x001234"), 4), (ids("45678"), 4), (ids("67890"), 2)]);
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let check = |result: Result<Windows, Error>, expected: &str| {
            assert_eq!(result.unwrap_err().to_string(), expected);
        };
        let nothing = "nothing to score: the text has no token after its context";
        check(pair(&Pairs, "x", "", 6), nothing);
        check(pair(&Pairs, "a", "b", 6), nothing);
        check(pair(&Pairs, "x", "1234567", 6), "sequence of 7 tokens is longer than the context of 6");
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
        let (bytes, windows) = chat(&Pairs, &messages, 10).unwrap();
        assert_eq!(windows[0].counted, [true, true, false, true]);
        let score = |logprob_nats, is_greedy| TokenScore { logprob_nats, is_greedy };
        let scores = [score(-1.0, true), score(-2.0, true), score(-50.0, false), score(-4.0, true)];
        let mut sum = Score { logprob_nats: 0.0, tokens: 0, bytes, is_greedy: true, cut_tokens: 0 };
        windows[0].add(&scores, &mut sum);
        assert_eq!(sum, Score { logprob_nats: -7.0, tokens: 3, bytes: 4, is_greedy: true, cut_tokens: 0 });
    }
}
