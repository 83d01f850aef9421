//! Which part of a rendered conversation each turn wrote.
//!
//! A template is a program, so where a turn stands is found by running it. Rendering the messages before a turn with
//! the opening of an answer gives its prompt; where that is how the conversation begins, the turn starts after it.
//! Rendering the conversation with one private character in place of the turn shows what does not depend on the turn:
//! everything up to the first and from the last byte in which both renderings differ. This holds for templates that
//! strip a text, drop its reasoning or write tool calls. Where a template writes a turn twice or not at all there is
//! no right mask, and the conversation is refused.

use std::ops::Range;

use super::conversation::{ASSISTANT, Conversation, Message};
use super::private::{Private, Specials, texts_of};
use super::template::{ChatTemplate, RenderedText, Variables};

/// A conversation as its template writes it.
#[derive(Debug)]
pub(super) struct Rendering {
    /// The text, in which special tokens that messages spell are hidden.
    pub(super) text: String,
    /// The characters that hide them.
    pub(super) private: Private,
    /// Where prompts end and answers start.
    pub(super) cuts: Vec<usize>,
    /// The turns to be trained, without what ends them.
    pub(super) turns: Vec<Turn>,
    /// Whether generation tags of the template mark the turns.
    pub(super) tagged: bool,
}

/// What a turn wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) bytes: Range<usize>,
    /// Whether the text before it is its own prompt.
    pub(super) follows_prompt: bool,
}

/// How a rendered conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its last turn.
    Turn,
    /// With the opening of an answer.
    Prompt,
    /// Within its last turn, which the model is to continue.
    Continued,
}

/// A template at work on one conversation.
pub(super) struct Renderer<'a> {
    template: &'a ChatTemplate,
    messages: Vec<Message>,
    variables: Variables,
    private: Private,
}

impl<'a> Renderer<'a> {
    /// Prepares a conversation: its texts can no longer spell special tokens.
    pub(super) fn new(
        template: &'a ChatTemplate,
        variables: &Variables,
        specials: &Specials,
        conversation: &Conversation,
    ) -> Result<Self, String> {
        let Conversation { messages, tools, documents, template_kwargs } = conversation;
        let mut texts: Vec<&str> = messages
            .iter()
            .flat_map(|message| {
                texts_of(&message.content).into_iter().chain(message.rest.values().flat_map(texts_of))
            })
            .collect();
        texts.extend(tools.iter().chain(documents).chain(template_kwargs.values()).flat_map(texts_of));
        let private = Private::unused(texts.iter().copied())
            .ok_or("the conversation uses every block of the private use area")?;
        let hide = |value| private.hide_in(value, specials);
        let messages = messages
            .iter()
            .map(|message| Message {
                role: private.hide(&message.role, specials),
                content: hide(&message.content),
                rest: private.hide_in_map(&message.rest, specials),
            })
            .collect();
        let mut named = variables.named.clone();
        named.extend(private.hide_in_map(template_kwargs, specials));
        let variables =
            Variables { named, tools: tools.as_ref().map(hide), documents: documents.as_ref().map(hide) };
        Ok(Self { template, messages, variables, private })
    }

    /// Renders the conversation and finds the turns of some roles in it.
    pub(super) fn render(&self, end: End, roles: &[String]) -> Result<Rendering, String> {
        let RenderedText { text, generated } = match end {
            End::Turn => self.write(&self.messages, false)?,
            End::Prompt => self.write(&self.messages, true)?,
            End::Continued => RenderedText { text: self.continued()?, generated: Vec::new() },
        };
        let tagged = self.template.has_generation_tags && roles == [ASSISTANT];
        let (mut prompts, mut turns) = (Vec::new(), Vec::new());
        for (position, message) in self.messages.iter().enumerate() {
            let mut prompt = None;
            if message.role == ASSISTANT {
                prompt = self.prompt_before(position, &text);
                prompts.push(prompt);
            }
            if !tagged && roles.contains(&message.role) {
                turns.push(self.turn(position, &text, prompt)?);
            }
        }
        if tagged && !roles.is_empty() {
            // Mostly one tag is one turn; otherwise no turn can be told to be without its prompt.
            let one_each = generated.len() == prompts.len();
            let follows = |tag: usize| {
                if one_each { prompts[tag].is_some() } else { prompts.iter().all(Option::is_some) }
            };
            turns = generated
                .into_iter()
                .enumerate()
                .map(|(tag, bytes)| Turn { bytes, follows_prompt: follows(tag) })
                .collect();
        }
        if let Some(pair) = turns.windows(2).find(|pair| pair[1].bytes.start < pair[0].bytes.end) {
            let at = pair[1].bytes.start;
            return Err(format!("the chat template mixes two turns at byte {at} of its text"));
        }
        let cuts = prompts.into_iter().flatten().collect();
        Ok(Rendering { text, private: self.private, cuts, turns, tagged })
    }

    fn write(&self, messages: &[Message], add_generation_prompt: bool) -> Result<RenderedText, String> {
        self.template.render(messages, &self.variables, add_generation_prompt, self.private)
    }

    /// The length of the prompt of a turn, where the conversation begins with it.
    fn prompt_before(&self, position: usize, text: &str) -> Option<usize> {
        let prompt = self.write(&self.messages[..position], true).ok()?.text;
        (!prompt.is_empty() && text.starts_with(&prompt)).then_some(prompt.len())
    }

    /// Finds what a turn wrote.
    fn turn(&self, position: usize, text: &str, prompt: Option<usize>) -> Result<Turn, String> {
        let written = self.written(position, text)?;
        if let Some(start) = prompt.filter(|&start| start <= written.start) {
            return Ok(Turn { bytes: start..written.end, follows_prompt: true });
        }
        let is_assistant = self.messages[position].role == ASSISTANT;
        let start = if is_assistant { self.after_opening(&text[..written.start]) } else { None };
        Ok(Turn { bytes: start.unwrap_or(written.start)..written.end, follows_prompt: !is_assistant })
    }

    /// The bytes that depend on a message.
    fn written(&self, position: usize, text: &str) -> Result<Range<usize>, String> {
        let probe = self.private.probe();
        let mut messages = self.messages.clone();
        let role = messages[position].role.clone();
        messages[position] = Message::new(role.as_str(), probe);
        let number = position + 1;
        let other = self.write(&messages, false).map_err(|error| {
            format!("cannot find what the chat template writes for message {number} ({role}): {error}")
        })?;
        let other = other.text;
        match other.matches(probe).count() {
            1 => {}
            0 => {
                return Err(format!(
                    "the chat template leaves out message {number} ({role}), which is to be trained"
                ));
            }
            times => return Err(format!("the chat template writes message {number} ({role}) {times} times")),
        }
        let mut start = text.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let least = text.len() - start;
        let mut tail =
            text.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count().min(least);
        while !text.is_char_boundary(text.len() - tail) {
            tail -= 1;
        }
        Ok(start..text.len() - tail)
    }

    /// Where the last opening of an answer ends, if only the template's own text follows.
    fn after_opening(&self, before: &str) -> Option<usize> {
        let question = [Message::new("user", self.private.probe())];
        let prompt = self.write(&question, true).ok()?.text;
        let opening = prompt.strip_prefix(self.write(&question, false).ok()?.text.as_str())?;
        let found = before.rfind(opening.trim_end()).filter(|_| !opening.trim().is_empty())?;
        let end = found + opening.trim_end().len();
        let blank = &opening[opening.trim_end().len()..];
        Some(if before[end..].starts_with(blank) { end + blank.len() } else { end })
    }

    /// The conversation up to where its last message stops.
    fn continued(&self) -> Result<String, String> {
        let mut messages = self.messages.clone();
        let content = messages.last_mut().and_then(|message| match &mut message.content {
            serde_json::Value::String(content) => Some(content),
            _ => None,
        });
        let probe = self.private.probe();
        let content = content.ok_or("there is no last message with a text to continue")?;
        content.extend([probe, ' ']);
        let mut text = self.write(&messages, false)?.text;
        let end = text.rfind(probe).ok_or("the chat template leaves out the message to continue")?;
        // A template that strips texts would have stripped this one too.
        let stripped = !text[end + probe.len_utf8()..].starts_with(' ');
        text.truncate(end);
        if stripped {
            text.truncate(text.trim_end().len());
        }
        Ok(text)
    }
}
