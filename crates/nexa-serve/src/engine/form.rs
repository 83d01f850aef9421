//! Answers of a given form: which tokens may come next, and which must.
//!
//! Grammars are `llguidance`'s. What may come next is known before the logits are, so the engine's thread has it computed while
//! the model makes its step; what must come next is guessed, and the model reads it together with what it has chosen.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use nexa_core::lm::{AnswerForm, Error, Tokenizer};
use serde_json::{Value, json};

/// White space between the parts of JSON where a schema says nothing: enough for indentation, too little for a model
/// to lose itself in.
const WHITE_SPACE: &str = r"[ \n\t]{0,12}";

/// The forms that answers of one tokenizer can have.
pub(super) struct Forms {
    tokenizer: Arc<dyn Tokenizer>,
    /// Made when the first form is asked for: it looks at the whole vocabulary.
    factory: OnceLock<Result<ParserFactory, String>>,
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forms").finish_non_exhaustive()
    }
}

impl Forms {
    pub(super) fn new(tokenizer: Arc<dyn Tokenizer>) -> Self {
        Self { tokenizer, factory: OnceLock::new() }
    }

    /// Prepares an answer of a form.
    ///
    /// # Errors
    /// Fails when the schema, expression or grammar is malformed, unsatisfiable or too large.
    pub(super) fn form(&self, form: &AnswerForm) -> Result<Form, Error> {
        let factory = self.factory.get_or_init(|| factory(&self.tokenizer));
        let factory = factory.as_ref().map_err(|message| Error::Tokenizer(message.clone()))?;
        let mut matcher = Matcher::new(factory.create_parser(grammar(form)));
        if let Some(error) = matcher.get_error() {
            let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(Error::Invalid(format!("{} cannot be used: {error}", name(form))));
        }
        let warnings = matcher.grammar_warnings();
        if !warnings.is_empty() {
            tracing::warn!(?warnings, "the form of an answer");
        }
        Ok(Form { matcher, allowed: None })
    }
}

/// One answer of a form, as far as it is written.
pub(super) struct Form {
    matcher: Matcher,
    /// The tokens that may come next, once they are known.
    allowed: Option<SimpleVob>,
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}

impl Form {
    /// Computes which tokens may come next. What fails here is told where the tokens are asked for.
    pub(super) fn prepare(&mut self) {
        if self.allowed.is_none() {
            self.allowed = self.matcher.compute_mask_or_eos().ok();
        }
    }

    /// Makes tokens that may not come next impossible.
    ///
    /// # Errors
    /// Fails when the grammar is too ambiguous to be followed.
    pub(super) fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        self.prepare();
        let allowed = self.allowed.as_ref().ok_or_else(|| self.failure())?;
        for (token_id, logit) in (0..).zip(logits) {
            if token_id as usize >= allowed.len() || !allowed.is_allowed(token_id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Goes on with a token that was chosen.
    ///
    /// # Errors
    /// Fails when the form does not allow it.
    pub(super) fn accept(&mut self, token_id: u32) -> Result<(), Error> {
        self.allowed = None;
        self.matcher.consume_token(token_id).map_err(|_| self.failure())
    }

    /// Whether nothing can follow.
    pub(super) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// The tokens that must come next, as far as one can tell.
    pub(super) fn forced(&mut self) -> Vec<u32> {
        self.matcher.compute_ff_tokens()
    }

    fn failure(&self) -> Error {
        let reason = self.matcher.get_error().unwrap_or_else(|| "no token fits".to_owned());
        Error::Invalid(format!("the form of the answer cannot be followed: {reason}"))
    }
}

/// A vocabulary, as grammars see it.
struct Vocabulary {
    tokenizer: Arc<dyn Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let encode = |text: &str| {
            self.tokenizer.encode(text).unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}

fn factory(tokenizer: &Arc<dyn Tokenizer>) -> Result<ParserFactory, String> {
    let size = tokenizer.vocab_size();
    let bytes = |token_id: u32| {
        let bytes = tokenizer.token_bytes(token_id).unwrap_or_default();
        if tokenizer.is_special(token_id) {
            // Never taken for the text of its name.
            [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat()
        } else {
            bytes
        }
    };
    let words: Vec<Vec<u8>> = (0..size as u32).map(bytes).collect();
    let stops = tokenizer.stop_tokens();
    let end = stops.first().copied().unwrap_or_else(|| tokenizer.prefix_token());
    let trie = TokTrie::from(&TokRxInfo::new(size as u32, end), &words);
    let trie = if stops.is_empty() { trie } else { trie.with_eos_tokens(stops) };
    let vocabulary: TokEnv = Arc::new(Vocabulary { tokenizer: Arc::clone(tokenizer), trie });
    let mut factory = ParserFactory::new_simple(&vocabulary).map_err(|error| error.to_string())?;
    factory.quiet().limits_mut().verbose_errors = false;
    Ok(factory)
}

fn grammar(form: &AnswerForm) -> TopLevelGrammar {
    match form {
        AnswerForm::JsonObject => TopLevelGrammar::from_json_schema(with_spaces(json!({"type": "object"}))),
        AnswerForm::JsonSchema(schema) => TopLevelGrammar::from_json_schema(with_spaces(schema.clone())),
        AnswerForm::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        AnswerForm::Grammar(lark) => TopLevelGrammar::from_lark(lark.clone()),
        AnswerForm::Choice(choices) => {
            let choices: Vec<_> =
                choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
            TopLevelGrammar::from_lark(format!("start: {}", choices.join(" | ")))
        }
    }
}

/// Bounds the white space of a schema that says nothing of it.
pub(super) fn with_spaces(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": WHITE_SPACE}));
    }
    schema
}

fn name(form: &AnswerForm) -> &'static str {
    match form {
        AnswerForm::JsonObject | AnswerForm::JsonSchema(_) => "the JSON schema",
        AnswerForm::Regex(_) => "the regular expression",
        AnswerForm::Grammar(_) => "the grammar",
        AnswerForm::Choice(_) => "the list of choices",
    }
}
