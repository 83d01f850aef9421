//! Chat templates, rendered so that what a message says stays apart from what the template adds.

use minijinja::{Environment, ErrorKind, context};
use nexa_core::lm::{self, ChatMessage};
use serde::Serialize;

use crate::Error;

/// The ChatML form, for models that are trained here.
pub(super) const CHATML: &str = "\
{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// A part of a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// What the template wrote.
    Template(String),
    /// The content of the message with this index.
    Content(usize),
}

/// A message as templates see it.
#[derive(Serialize)]
struct TemplateMessage<'a> {
    role: &'static str,
    content: &'a str,
}

impl ChatTemplate {
    /// Compiles a template with the whitespace rules of `transformers`.
    pub(super) fn new(source: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| Error::Tokenizer(format!("chat template: {error}")))?;
        let text = |token: Option<&str>| token.unwrap_or_default().to_owned();
        Ok(Self { environment, bos_token: text(bos_token), eos_token: text(eos_token) })
    }

    /// Renders a conversation.
    ///
    /// The template sees a mark in place of every content, and the marks are then found in its output. Rendering the
    /// contents themselves must give the same text, so a template that changes them is an error, not a surprise.
    pub(super) fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<Piece>, lm::Error> {
        let marks: Vec<String> =
            (0..messages.len()).map(|index| format!("\u{f8ff}{index}\u{f8ff}")).collect();
        let marked = self.render_text(messages, marks.iter().map(String::as_str), add_generation_prompt)?;
        let mut pieces = Vec::new();
        let mut rest = marked.as_str();
        while let Some((before, tail)) = rest.split_once('\u{f8ff}') {
            let (index, tail) = tail.split_once('\u{f8ff}').unwrap_or_default();
            if !before.is_empty() {
                pieces.push(Piece::Template(before.to_owned()));
            }
            let index = index.parse().ok().filter(|&index: &usize| index < messages.len());
            pieces.push(Piece::Content(index.ok_or_else(rewritten)?));
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Template(rest.to_owned()));
        }

        let contents = messages.iter().map(|message| message.content.as_str());
        let rendered = self.render_text(messages, contents, add_generation_prompt)?;
        let joined: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Template(text) => text.as_str(),
                Piece::Content(index) => messages[*index].content.as_str(),
            })
            .collect();
        if joined == rendered { Ok(pieces) } else { Err(rewritten()) }
    }

    fn render_text<'a>(
        &self,
        messages: &[ChatMessage],
        contents: impl Iterator<Item = &'a str>,
        add_generation_prompt: bool,
    ) -> Result<String, lm::Error> {
        let messages: Vec<TemplateMessage<'_>> = messages
            .iter()
            .zip(contents)
            .map(|(message, content)| TemplateMessage { role: message.role.as_str(), content })
            .collect();
        let context = context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
        };
        let template = self.environment.get_template("chat").expect("added when the template was compiled");
        template.render(context).map_err(|error| lm::Error::Tokenizer(format!("chat template: {error}")))
    }
}

fn rewritten() -> lm::Error {
    lm::Error::Tokenizer("the chat template changes the text of messages, which is not supported".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexa_core::lm::Role;

    fn render(source: &str, contents: &[&str]) -> Result<Vec<Piece>, String> {
        let template =
            ChatTemplate::new(source, Some("<s>"), Some("</s>")).map_err(|error| error.to_string())?;
        let messages: Vec<_> =
            contents.iter().map(|content| ChatMessage::new(Role::User, *content)).collect();
        template.render(&messages, true).map_err(|error| error.to_string())
    }

    #[test]
    fn pieces_keep_contents_apart() {
        let text = |text: &str| Piece::Template(text.to_owned());
        assert_eq!(
            render(CHATML, &["hi", ""]).expect("renders"),
            [
                text("<|im_start|>user\n"),
                Piece::Content(0),
                text("<|im_end|>\n<|im_start|>user\n"),
                Piece::Content(1),
                text("<|im_end|>\n<|im_start|>assistant\n"),
            ]
        );
        let spaced =
            "{% for m in messages %}\n  {{ bos_token }}{{ m.content }}{{ eos_token }}\n{% endfor %}\n";
        let expected = [text("  <s>"), Piece::Content(0), text("</s>\n")];
        assert_eq!(render(spaced, &["hi"]).expect("renders"), expected);
    }

    #[test]
    fn a_template_that_changes_contents_or_refuses_is_an_error() {
        let check = |source: &str, expected: &str| {
            let error = render(source, &[" hi "]).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        check("{{ messages[0].content | trim }}", "changes the text of messages");
        check("{{ messages[0].content | upper }}", "changes the text of messages");
        check("{{ raise_exception('no user turns') }}", "no user turns");
        check("{% for %}", "chat template");
    }
}
