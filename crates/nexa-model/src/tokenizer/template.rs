//! Chat templates as `transformers` runs them: Jinja with its whitespace rules and its extensions.
//!
//! # Departures
//! `strftime_now` gives a date that is fixed with the tokenizer, midnight, rather than the clock's: a template that
//! writes the date would otherwise train every day on other tokens.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use chrono::NaiveDate;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error as JinjaError, ErrorKind, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::conversation::{Conversation, Message};
use super::folder::Config;
use super::private::Private;
use super::python;
use crate::Error;

/// The ChatML form, for models that are trained here.
pub(super) const CHATML: &str = "\
{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The variables with the characters that mark what a generation tag holds.
const MARKS: [&str; 2] = ["_nexa_open", "_nexa_close"];

static GENERATION_TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("the pattern is a constant")
});

/// The templates of a tokenizer; a base model has none.
#[derive(Debug, Default)]
pub(super) struct Templates {
    pub(super) plain: Option<ChatTemplate>,
    /// For conversations with tools, where that is another one.
    with_tools: Option<ChatTemplate>,
}

impl Templates {
    /// Compiles what a configuration holds.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let compile = |source: &str| ChatTemplate::new(source, config.template_date());
        let (plain, with_tools) = (config.template(false), config.template(true));
        Ok(Self {
            plain: plain.map(compile).transpose()?,
            with_tools: with_tools.filter(|_| with_tools != plain).map(compile).transpose()?,
        })
    }

    /// The template for a conversation.
    pub(super) fn of(&self, conversation: &Conversation) -> Option<&ChatTemplate> {
        let with_tools = self.with_tools.as_ref().filter(|_| conversation.tools.is_some());
        with_tools.or(self.plain.as_ref())
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    /// Whether the template marks what the assistant writes.
    pub(super) has_generation_tags: bool,
}

/// What a template is given besides messages.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    /// `bos_token` and the like, and further keyword arguments.
    pub(super) named: Map<String, Json>,
    pub(super) tools: Option<Json>,
    pub(super) documents: Option<Json>,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RenderedText {
    pub(super) text: String,
    /// What generation tags hold, in bytes.
    pub(super) generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles a template.
    pub(super) fn new(source: &str, date: NaiveDate) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_formatter(python::print);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", |value: Value, kwargs: Kwargs| python::to_json(&value, kwargs));
        environment.add_function("raise_exception", |message: String| -> Result<String, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| python::strftime(date, &format));

        let has_generation_tags = GENERATION_TAG.is_match(source);
        // The tag becomes a scope, as it is one in `transformers`, around two marks. What the tag says about blanks
        // beside it is said by a block on each side of the mark.
        let [open, close] = MARKS;
        let source = GENERATION_TAG.replace_all(source, |tag: &regex::Captures<'_>| {
            let (left, right) = (&tag[1], &tag[3]);
            match tag.get(2) {
                None => format!("{{%{left} with %}}{{{{ {open} }}}}{{% set _nexa = 0 {right}%}}"),
                Some(_) => format!("{{%{left} set _nexa = 0 %}}{{{{ {close} }}}}{{% endwith {right}%}}"),
            }
        });
        environment
            .add_template_owned("chat", source.into_owned())
            .map_err(|error| Error::Tokenizer(format!("chat template: {}", described(&error))))?;
        Ok(Self { environment, has_generation_tags })
    }

    /// Renders messages.
    pub(super) fn render(
        &self,
        messages: &[Message],
        variables: &Variables,
        add_generation_prompt: bool,
        private: Private,
    ) -> Result<RenderedText, String> {
        let messages: Vec<Map<String, Json>> = messages.iter().map(visible).collect();
        let mut context: BTreeMap<&str, Value> = variables
            .named
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from_serialize(value)))
            .collect();
        for (name, value) in [("tools", &variables.tools), ("documents", &variables.documents)] {
            context.insert(name, value.as_ref().map_or(Value::from(()), Value::from_serialize));
        }
        context.insert("messages", Value::from_serialize(&messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        context.insert(MARKS[0], Value::from(private.open().to_string()));
        context.insert(MARKS[1], Value::from(private.close().to_string()));
        let template = self.environment.get_template("chat").expect("added when the template was compiled");
        let marked = template.render(context).map_err(|error| described(&error))?;
        Ok(unmark(&marked, private))
    }
}

/// The keys of a message that a template sees: those that are not null.
fn visible(message: &Message) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("role".to_owned(), Json::String(message.role.clone()));
    if !message.content.is_null() {
        map.insert("content".to_owned(), message.content.clone());
    }
    let rest = message.rest.iter().filter(|(_, value)| !value.is_null());
    map.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
    map
}

/// Takes the marks out again and remembers where they stood.
fn unmark(marked: &str, private: Private) -> RenderedText {
    let (mut text, mut generated, mut open) = (String::with_capacity(marked.len()), Vec::new(), None);
    for c in marked.chars() {
        if c == private.open() {
            open = Some(text.len());
        } else if c == private.close() {
            generated.extend(open.take().map(|start| start..text.len()));
        } else {
            text.push(c);
        }
    }
    RenderedText { text, generated }
}

/// An error of the template with its causes, on one line.
fn described(error: &JinjaError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn date() -> NaiveDate {
        NaiveDate::from_ymd_opt(2025, 3, 9).expect("a date")
    }

    fn render(source: &str, named: Json) -> Result<RenderedText, String> {
        let template = ChatTemplate::new(source, date()).map_err(|error| error.to_string())?;
        let named = named.as_object().expect("an object").clone();
        let private = Private::unused(std::iter::empty::<&str>()).expect("nothing is used");
        let messages = [Message::new("user", " hi "), Message::new("assistant", "<think>a</think>\n\nb")];
        template.render(&messages, &Variables { named, ..Variables::default() }, true, private)
    }

    /// What each expression prints in Python is written beside it by hand.
    #[test]
    fn expressions_print_what_they_print_in_python() {
        let check = |source: &str, expected: &str| {
            let value =
                json!({"x": {"b": [1, 2.5, null, true], "a": "ü<\"'\n"}, "big": 1e16, "small": 0.00001});
            assert_eq!(render(source, value).expect(source).text, expected, "{source}");
        };
        check("{{ x | tojson }}", r#"{"b": [1, 2.5, null, true], "a": "ü<\"'\n"}"#);
        check(
            "{{ x | tojson(sort_keys=true, ensure_ascii=true) }}",
            r#"{"a": "\u00fc<\"'\n", "b": [1, 2.5, null, true]}"#,
        );
        check("{{ x.b | tojson(indent=2) }}", "[\n  1,\n  2.5,\n  null,\n  true\n]");
        check("{{ [] | tojson(indent=2) }}{{ x.b | tojson(separators=(',', ':')) }}", "[][1,2.5,null,true]");
        check("{{ big }} {{ small }} {{ 1.0 }} {{ 3 }}", "1e+16 1e-05 1.0 3");
        check("{{ true }} {{ none }} {{ nothing }} {{ x.b }}", "True None  [1, 2.5, None, True]");
        check("{{ {'k': \"it's\"} }}", "{'k': \"it's\"}");
        check(
            "{{ messages[0].content.strip() }}|{{ messages[1]['content'].split('</think>')[-1].lstrip('\\n') }}",
            "hi|b",
        );
        check("{% for k, v in x.items() %}{{ k }}{% endfor %}", "ba");
        check(
            "{{ 'abc'.startswith('a') }}{{ 'a-b'.replace('-', '') }}{{ messages[::-1][0].role }}",
            "Trueabassistant",
        );
        check("{{ strftime_now('%d %b %Y') }}", "09 Mar 2025");
        check(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        );
        check(
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            "user",
        );
        check("{% if tools is not none %}t{% endif %}{% if not documents %}d{% endif %}", "d");
        check("  {% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb");
    }

    #[test]
    fn generation_tags_are_remembered_and_leave_no_trace() {
        let check = |source: &str, text: &str, generated: &[&str]| {
            let rendered = render(source, json!({})).expect(source);
            assert_eq!(rendered.text, text, "{source}");
            let held: Vec<&str> =
                rendered.generated.iter().map(|range| &rendered.text[range.clone()]).collect();
            assert_eq!(held, generated, "{source}");
        };
        check("a{% generation %}b{% endgeneration %}c", "abc", &["b"]);
        check("a\n{%- generation -%}\n b \n{%- endgeneration -%}\nc", "abc", &["b"]);
        check("a\n{% generation %}\nb\n{% endgeneration %}\nc", "a\nb\nc", &["b\n"]);
        let looped = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}\
            {{ loop.index0 }}{{ m.content[-1:] }}{% endgeneration %}{% else %}u{% endif %}{% endfor %}";
        check(looped, "u1b", &["1b"]);
        assert!(ChatTemplate::new(looped, date()).expect("compiles").has_generation_tags);
        assert!(!ChatTemplate::new(CHATML, date()).expect("compiles").has_generation_tags);
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_template() {
        let check = |source: &str, expected: &str| {
            let error = render(source, json!({})).expect_err(source);
            assert!(error.contains(expected), "{error}");
        };
        check("{{ raise_exception('no user turns') }}", "no user turns");
        check("{% for %}", "chat template");
        check("{{ messages[0].content.reversed() }}", "reversed");
    }
}
