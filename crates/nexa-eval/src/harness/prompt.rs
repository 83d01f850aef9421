//! From questions and examples to the context of a request.
//!
//! A context is a list of turns. As plain text the turns are joined with their delimiters; with a chat template they are
//! a conversation, in which the examples stand in one user turn or in turns of their own.

use nexa_core::lm::{ChatMessage, Role, TextCompleter};

use crate::harness::fields::{Question, Text};
use crate::harness::python::is_space;
use crate::harness::spec::Spec;
use crate::{Error, Result};

/// How contexts are written.
#[derive(Clone, Copy)]
pub(crate) enum Style<'a> {
    /// Plain text.
    Plain,
    /// The chat template of a model, rendered to text.
    Template { completer: &'a dyn TextCompleter, multiturn: bool },
    /// A conversation, for models that take nothing else.
    Conversation { multiturn: bool },
}

/// The context of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Context {
    /// Text.
    Text(String),
    /// A conversation.
    Messages(Vec<ChatMessage>),
}

/// A turn, and what stands after it in plain text.
#[derive(Debug, Clone, PartialEq)]
struct Turn {
    role: Role,
    content: String,
    delimiter: String,
}

/// What is the same for every document of a task.
pub(crate) struct Prompter<'a> {
    spec: &'a Spec,
    system_instruction: &'a str,
    style: Style<'a>,
    target_delimiter: &'a str,
    example_target_delimiter: &'a str,
    example_delimiter: &'a str,
}

impl<'a> Prompter<'a> {
    pub(crate) fn new(spec: &'a Spec, system_instruction: &'a str, style: Style<'a>) -> Self {
        let fewshot = spec.fewshot_config.as_ref();
        let target = fewshot.and_then(|config| config.target_delimiter.as_deref());
        let between = fewshot.and_then(|config| config.fewshot_delimiter.as_deref());
        Self {
            spec,
            system_instruction,
            style,
            target_delimiter: &spec.target_delimiter,
            example_target_delimiter: target.unwrap_or(&spec.target_delimiter),
            example_delimiter: between.unwrap_or(&spec.fewshot_delimiter),
        }
    }

    /// The contexts of a document: one, or one for each choice where the choices are prompts.
    ///
    /// # Errors
    /// Fails where an example has no answer in words, or the chat template refuses the conversation.
    pub(crate) fn contexts(&self, question: &Question, examples: &[&Question]) -> Result<Vec<Context>> {
        let mut turns = Vec::new();
        let between = &self.spec.fewshot_delimiter;
        let system = delimited(self.system_instruction, &question.description, between);
        if !system.is_empty() {
            turns.push(Turn { role: Role::System, content: system, delimiter: String::new() });
        }
        for example in examples {
            turns.extend(self.example(example)?);
        }
        let render = |prompt: &str, delimiter: &str| {
            let mut turns = turns.clone();
            turns.extend(question_turns(prompt, question.prefix.as_deref(), delimiter));
            self.write(turns)
        };
        match (&question.text, &question.choices) {
            (Text::Prompt(prompt), _) => Ok(vec![render(prompt, self.target_delimiter)?]),
            (Text::Choice(_), choices) => choices.iter().flatten().map(|choice| render(choice, "")).collect(),
        }
    }

    /// What stands between context and continuation of a choice.
    pub(crate) fn continuation_delimiter(&self) -> &str {
        if matches!(self.style, Style::Plain) {
            return self.target_delimiter;
        }
        let prefix = self.spec.gen_prefix.as_deref().unwrap_or("");
        if prefix.is_empty() || prefix.ends_with(is_space) { "" } else { self.target_delimiter }
    }

    /// The turns of an example: question and answer.
    fn example(&self, example: &Question) -> Result<Vec<Turn>> {
        let no_words =
            |what: &str| self.spec.error("doc_to_target", format!("{what} of an example is no text"));
        let prompt = match (&example.text, &example.choices) {
            (Text::Prompt(prompt), _) => prompt.as_str(),
            (Text::Choice(index), Some(choices)) => &choices[*index],
            (Text::Choice(_), None) => return Err(no_words("the question")),
        };
        let answer = match (&example.target, &example.text) {
            (serde_json::Value::String(text), _) => text.as_str(),
            // Where the choices are prompts the target is the text after them, and never one of them.
            (_, Text::Choice(_)) => return Err(no_words("the answer")),
            _ => example.answer().ok_or_else(|| no_words("the answer"))?,
        };
        let prefix = example.prefix.as_deref();
        if answer.is_empty() {
            return Ok(question_turns(prompt, prefix, self.example_target_delimiter));
        }
        let needs_delimiter = prefix.is_none_or(|prefix| is_delimiter_needed(prompt, prefix));
        let delimiter = if needs_delimiter { self.example_target_delimiter } else { "" };
        Ok(vec![
            Turn { role: Role::User, content: prompt.to_owned(), delimiter: delimiter.to_owned() },
            Turn {
                role: Role::Assistant,
                content: delimited(prefix.unwrap_or(""), answer, " "),
                delimiter: self.example_delimiter.to_owned(),
            },
        ])
    }

    fn write(&self, turns: Vec<Turn>) -> Result<Context> {
        match self.style {
            Style::Plain => Ok(Context::Text(joined(&turns))),
            Style::Conversation { multiturn } => Ok(Context::Messages(messages(turns, multiturn))),
            Style::Template { completer, multiturn } => {
                let text = completer.render_prompt(&messages(turns, multiturn));
                text.map(Context::Text).map_err(|error| Error::ChatTemplate {
                    task: self.spec.task.clone(),
                    message: error.to_string(),
                })
            }
        }
    }
}

/// The turns of a question without its answer, which may have begun.
fn question_turns(prompt: &str, prefix: Option<&str>, delimiter: &str) -> Vec<Turn> {
    let needed = prefix.is_some_and(|prefix| is_delimiter_needed(prompt, prefix));
    let delimiter = if needed { delimiter } else { "" };
    let mut turns =
        vec![Turn { role: Role::User, content: prompt.to_owned(), delimiter: delimiter.to_owned() }];
    turns.extend(prefix.map(|prefix| Turn {
        role: Role::Assistant,
        content: prefix.to_owned(),
        delimiter: String::new(),
    }));
    turns
}

/// Turns as a conversation. Without turns of their own the examples stand in the user's one turn, with their delimiters.
fn messages(mut turns: Vec<Turn>, multiturn: bool) -> Vec<ChatMessage> {
    let message = |turn: &Turn| ChatMessage::new(turn.role, turn.content.clone());
    if multiturn {
        return turns.iter().map(message).collect();
    }
    let system = turns.first().filter(|turn| turn.role == Role::System).map(message);
    let from = usize::from(system.is_some());
    let begun = turns.last().filter(|turn| turn.role == Role::Assistant).map(message);
    let to = turns.len() - usize::from(begun.is_some());
    if let Some(last) = turns[from..to].last_mut() {
        last.delimiter.clear();
    }
    let user = ChatMessage::new(Role::User, joined(&turns[from..to]));
    system.into_iter().chain([user]).chain(begun).collect()
}

fn joined(turns: &[Turn]) -> String {
    turns.iter().flat_map(|turn| [turn.content.as_str(), &turn.delimiter]).collect()
}

/// Joins two texts, with a delimiter where neither has a blank at the seam. An empty text joins nothing.
fn delimited(first: &str, second: &str, delimiter: &str) -> String {
    let needs = !first.is_empty() && !second.is_empty() && is_delimiter_needed(first, second);
    format!("{first}{}{second}", if needs { delimiter } else { "" })
}

fn is_delimiter_needed(first: &str, second: &str) -> bool {
    !(first.is_empty() || first.ends_with(is_space) || second.starts_with(is_space))
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::{ChatReply, CompletionRequest, Error as ModelError};
    use serde_json::json;

    use super::*;

    /// A completer whose template writes `<role>content` and opens the next turn with `<assistant>`.
    struct Tags;

    impl TextCompleter for Tags {
        fn complete(
            &self,
            _: &[CompletionRequest],
            _: &mut dyn FnMut(usize),
        ) -> std::result::Result<Vec<ChatReply>, ModelError> {
            Ok(Vec::new())
        }

        fn render_prompt(&self, messages: &[ChatMessage]) -> std::result::Result<String, ModelError> {
            let turns = messages.iter().map(|turn| format!("<{}>{}", turn.role.as_str(), turn.content));
            let open = messages.last().is_some_and(|turn| turn.role == Role::Assistant);
            Ok(turns.collect::<String>() + if open { "" } else { "<assistant>" })
        }
    }

    fn question(text: &str, target: &str, prefix: Option<&str>) -> Question {
        Question {
            text: Text::Prompt(text.to_owned()),
            target: json!(target),
            choices: None,
            prefix: prefix.map(str::to_owned),
            description: "About.\n\n".to_owned(),
            prints_none: false,
        }
    }

    /// A task whose answers begin in some way.
    fn begun(prefix: Option<&str>) -> Spec {
        let mut spec = Spec::default();
        spec.gen_prefix = prefix.map(str::to_owned);
        spec
    }

    fn texts(spec: &Spec, style: Style<'_>, question: &Question, examples: &[&Question]) -> Vec<String> {
        let contexts = Prompter::new(spec, "Be brief.", style).contexts(question, examples).unwrap();
        let text = |context| match context {
            Context::Text(text) => text,
            Context::Messages(messages) => format!("{messages:?}"),
        };
        contexts.into_iter().map(text).collect()
    }

    /// Expected: what lm-evaluation-harness builds for the same turns, by hand from its rules.
    #[test]
    fn turns_are_joined_or_a_conversation() {
        let spec = Spec::default();
        let (one, two) = (question("Q: 1?\nA:", "one", None), question("Q: 2?\nA:", "two", None));
        let check = |style: Style<'_>, expected: &str| {
            assert_eq!(texts(&spec, style, &two, &[&one]), [expected]);
        };
        let completer = &Tags;
        check(Style::Plain, "Be brief.\n\nAbout.\n\nQ: 1?\nA: one\n\nQ: 2?\nA:");
        check(
            Style::Template { completer, multiturn: false },
            "<system>Be brief.\n\nAbout.\n\n<user>Q: 1?\nA: one\n\nQ: 2?\nA:<assistant>",
        );
        check(
            Style::Template { completer, multiturn: true },
            "<system>Be brief.\n\nAbout.\n\n<user>Q: 1?\nA:<assistant>one<user>Q: 2?\nA:<assistant>",
        );
    }

    #[test]
    fn an_answer_that_has_begun_stays_open() {
        let spec = begun(Some("It is"));
        let (one, two) = (question("1?", "one", Some("It is")), question("2?", "two", Some("It is")));
        let check = |style: Style<'_>, expected: &str| {
            assert_eq!(texts(&spec, style, &two, &[&one]), [expected]);
        };
        check(Style::Plain, "Be brief.\n\nAbout.\n\n1? It is one\n\n2? It is");
        let completer = &Tags;
        check(
            Style::Template { completer, multiturn: false },
            "<system>Be brief.\n\nAbout.\n\n<user>1? It is one\n\n2?<assistant>It is",
        );
        check(
            Style::Template { completer, multiturn: true },
            "<system>Be brief.\n\nAbout.\n\n<user>1?<assistant>It is one<user>2?<assistant>It is",
        );
    }

    #[test]
    fn choices_that_are_prompts_have_contexts_of_their_own() {
        let spec = Spec::default();
        let choice = |index: usize| Question {
            text: Text::Choice(index),
            target: json!("was late."),
            choices: Some(vec!["Ann".to_owned(), "Bob".to_owned()]),
            prefix: None,
            description: String::new(),
            prints_none: false,
        };
        let found = texts(&spec, Style::Plain, &choice(0), &[&choice(1)]);
        assert_eq!(found, ["Be brief.Bob was late.\n\nAnn", "Be brief.Bob was late.\n\nBob"]);
    }

    #[test]
    fn a_chat_template_takes_the_delimiter_away() {
        let check = |prefix: Option<&str>, style: Style<'_>, expected: &str| {
            let spec = begun(prefix);
            assert_eq!(Prompter::new(&spec, "", style).continuation_delimiter(), expected, "{prefix:?}");
        };
        let template = Style::Template { completer: &Tags, multiturn: false };
        check(None, Style::Plain, " ");
        check(None, template, "");
        check(Some("It is"), template, " ");
        check(Some("It is "), template, "");
        check(None, Style::Conversation { multiturn: true }, "");
    }
}
