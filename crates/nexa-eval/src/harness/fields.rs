//! What the keys `doc_to_text`, `doc_to_target` and `doc_to_choice` make of a document.

use nexa_core::table::Row;
use serde_json::Value;

use crate::harness::python;
use crate::harness::spec::{Field, Spec};
use crate::harness::template::Template;
use crate::{Error, Result};

/// The fields of a task, or of its examples, ready to be filled in.
#[derive(Debug)]
pub(crate) struct Fields {
    task: String,
    text: Compiled,
    target: Compiled,
    choices: Option<Compiled>,
    prefix: Option<Compiled>,
    description: Option<Compiled>,
    has_choices: bool,
}

/// A document in the words of its task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// What is asked.
    pub(crate) text: Text,
    /// The right answer: a text, an index among the choices, or a list of these.
    pub(crate) target: Value,
    /// What there is to choose from.
    pub(crate) choices: Option<Vec<String>>,
    /// How the answer begins.
    pub(crate) prefix: Option<String>,
    /// What stands before everything.
    pub(crate) description: String,
    /// Whether a field that is empty was printed, which reads `None`.
    pub(crate) prints_none: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Text {
    /// A prompt, before the choices.
    Prompt(String),
    /// The choices are prompts themselves, and this one is right.
    Choice(usize),
}

impl Question {
    /// The question for people and for whoever looks for likenesses: without examples, and with what there is to choose from
    /// where nothing stands before that.
    pub(crate) fn in_words(&self) -> String {
        match (&self.text, &self.choices) {
            (Text::Prompt(prompt), _) if !prompt.trim().is_empty() => prompt.clone(),
            (_, Some(choices)) => choices.join("\n"),
            _ => self.answer().unwrap_or_default().to_owned(),
        }
    }

    /// Which of the choices are right; none where the target is not among them.
    pub(crate) fn right_choices(&self) -> Vec<usize> {
        let choices = self.choices.as_deref().unwrap_or_default();
        let index = |value: &Value| match value {
            Value::String(text) => choices.iter().position(|choice| choice == text),
            other => index_of(other),
        };
        let indices: Vec<usize> = match (&self.text, &self.target) {
            (Text::Choice(index), _) => vec![*index],
            (_, Value::Array(many)) => many.iter().filter_map(index).collect(),
            (_, one) => index(one).into_iter().collect(),
        };
        indices.into_iter().filter(|&at| at < choices.len()).collect()
    }

    /// The target as text: a choice where it is the index of one, the first where it is a list.
    pub(crate) fn answer(&self) -> Option<&str> {
        match (&self.target, &self.choices) {
            (Value::String(text), _) => Some(text),
            (Value::Array(many), _) => many.first()?.as_str(),
            (index, Some(choices)) => choices.get(index_of(index)?).map(String::as_str),
            _ => None,
        }
    }
}

/// A whole number, as which Python takes a truth value too.
pub(crate) fn index_of(value: &Value) -> Option<usize> {
    match value {
        Value::Bool(flag) => Some(usize::from(*flag)),
        other => other.as_u64().and_then(|index| usize::try_from(index).ok()),
    }
}

impl Fields {
    /// Compiles the fields of a task; a name is a column where the documents have such a one.
    ///
    /// # Errors
    /// Fails with task and key where a template is malformed.
    pub(crate) fn of_task(spec: &Spec, columns: &Row) -> Result<Self> {
        let compile = |key: &'static str, field: &Field| Compiled::new(spec, key, field, columns);
        let text = |key: &'static str, text: Option<&String>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| compile(key, &Field::Text(text.clone()))).transpose()
        };
        Ok(Self {
            task: spec.task.clone(),
            text: compile("doc_to_text", &spec.doc_to_text)?,
            target: compile("doc_to_target", &spec.doc_to_target)?,
            choices: spec.doc_to_choice.as_ref().map(|field| compile("doc_to_choice", field)).transpose()?,
            prefix: text("gen_prefix", spec.gen_prefix.as_ref())?,
            description: text("description", Some(&spec.description))?,
            has_choices: spec.doc_to_choice.is_some(),
        })
    }

    /// Compiles the fields of a task's examples, which are those of the task where nothing else is said.
    ///
    /// # Errors
    /// As [`Self::of_task`].
    pub(crate) fn of_examples(spec: &Spec, columns: &Row) -> Result<Self> {
        let mut changed = spec.clone();
        if let Some(config) = &spec.fewshot_config {
            changed.doc_to_text = config.doc_to_text.clone().unwrap_or(changed.doc_to_text);
            changed.doc_to_target = config.doc_to_target.clone().unwrap_or(changed.doc_to_target);
            changed.doc_to_choice = config.doc_to_choice.clone().or(changed.doc_to_choice);
            changed.gen_prefix = config.gen_prefix.clone().or(changed.gen_prefix);
        }
        let mut fields = Self::of_task(&changed, columns)?;
        fields.has_choices = spec.doc_to_choice.is_some();
        Ok(fields)
    }

    /// Puts a document into the words of the task; `place` names it in errors.
    ///
    /// # Errors
    /// Fails with task, key and document where a template asks for a field that is not there, or gives what the key
    /// cannot hold.
    pub(crate) fn question(&self, document: &Row, place: &str) -> Result<Question> {
        let error = |key: &'static str, message: String| Error::Document {
            task: self.task.clone(),
            key,
            document: place.to_owned(),
            message,
        };
        let mut prints_none = false;
        let printed = &mut prints_none;
        let text = self.text(document, printed).map_err(|message| error("doc_to_text", message))?;
        let target = self.target(document, printed).map_err(|message| error("doc_to_target", message))?;
        let choices = self.choices.as_ref().map(|field| choices(field, document, printed)).transpose();
        let choices = choices.map_err(|message| error("doc_to_choice", message))?;
        if let (Text::Choice(index), Some(choices)) = (&text, &choices)
            && *index >= choices.len()
        {
            let message = format!("choice {index} of {}, which are counted from 0", choices.len());
            return Err(error("doc_to_text", message));
        }
        let mut plain = |key: &'static str, field: Option<&Compiled>| match field {
            Some(field) => {
                let value = field.value(document, &mut prints_none);
                value.map(|value| python::text(&value)).map_err(|text| error(key, text))
            }
            None => Ok(String::new()),
        };
        let prefix = plain("gen_prefix", self.prefix.as_ref())?;
        let description = plain("description", self.description.as_ref())?;
        Ok(Question {
            text,
            target,
            choices,
            prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
            description,
            prints_none,
        })
    }

    fn text(&self, document: &Row, prints_none: &mut bool) -> Result<Text, String> {
        match self.text.value(document, prints_none)? {
            Value::String(text) if self.text.is_template() && self.has_choices && is_digits(&text) => {
                text.parse().map(Text::Choice).map_err(|_| format!("{text} is no index"))
            }
            Value::String(text) => Ok(Text::Prompt(text)),
            other => match index_of(&other).filter(|_| self.has_choices) {
                Some(index) => Ok(Text::Choice(index)),
                None => Err(format!("{} is no text", python::repr(&other))),
            },
        }
    }

    fn target(&self, document: &Row, prints_none: &mut bool) -> Result<Value, String> {
        let value = self.target.value(document, prints_none)?;
        *prints_none |= value.is_null();
        let Some(text) = value.as_str().filter(|_| self.target.is_template()) else { return Ok(value) };
        if is_digits(text) && self.has_choices {
            return text.parse::<u64>().map(Value::from).map_err(|_| format!("{text} is no index"));
        }
        let is_list = text.len() >= 2 && text.starts_with('[') && text.ends_with(']');
        Ok(is_list.then(|| python::literal(text).ok()).flatten().unwrap_or(value))
    }
}

fn choices(field: &Compiled, document: &Row, prints_none: &mut bool) -> Result<Vec<String>, String> {
    let value = match (field.value(document, prints_none)?, field.is_template()) {
        (Value::String(text), true) => python::literal(&text)
            .map_err(|problem| format!("the template prints no list: {problem}; it printed {text:?}"))?,
        (value, _) => value,
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            *prints_none |= items.iter().any(Value::is_null);
            Ok(items.iter().map(python::text).collect())
        }
        other => Err(format!("{} is no list of choices", python::repr(&other))),
    }
}

/// Whether a text can only be meant as the name of a field.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a task lists a word as a choice.
fn is_choice(spec: &Spec, word: &str) -> bool {
    let is_word = |choice: &Value| choice.as_str() == Some(word);
    matches!(&spec.doc_to_choice, Some(Field::List(choices)) if choices.iter().any(is_word))
}

/// `str.isdigit` for what ASCII spells.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[derive(Debug)]
enum Compiled {
    Constant(Value),
    Column(String),
    Template(Template),
}

impl Compiled {
    fn new(spec: &Spec, key: &str, field: &Field, columns: &Row) -> Result<Self> {
        Ok(match field {
            Field::Index(index) => Self::Constant(Value::from(*index)),
            Field::List(items) => Self::Constant(Value::Array(items.clone())),
            Field::Text(text) if columns.contains_key(text) => Self::Column(text.clone()),
            Field::Text(text) if key.starts_with("doc_to_") && is_name(text) && !is_choice(spec, text) => {
                let near = nexa_core::config::nearest(text, columns.keys().map(String::as_str));
                let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                let known = columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "there is no field `{text}`; {near}there are: {known}; for the word itself write `{{{{ '{text}' }}}}`"
                );
                return Err(spec.error(key, message));
            }
            Field::Text(text) => {
                Self::Template(Template::new(text).map_err(|message| spec.error(key, message))?)
            }
        })
    }

    fn is_template(&self) -> bool {
        matches!(self, Self::Template(_))
    }

    /// Its value; says so where it prints a field that is empty.
    fn value(&self, document: &Row, prints_none: &mut bool) -> Result<Value, String> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Column(name) => match document.get(name) {
                Some(value) => Ok(value.clone()),
                None => Err(format!("there is no field `{name}`")),
            },
            Self::Template(template) => {
                let rendered = template.render(document)?;
                *prints_none |= rendered.prints_none;
                Ok(Value::String(rendered.text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(task: &str, document: Value) -> Result<Question, String> {
        let value = nexa_core::config::parse_yaml(task, "task").unwrap();
        let spec: Spec = nexa_core::config::from_value(value, "task").unwrap();
        let Value::Object(document) = document else { unreachable!("documents are objects") };
        let fields = Fields::of_task(&spec, &document).map_err(|error| error.to_string())?;
        fields.question(&document, "7").map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_becomes_a_question() {
        let check = |task: &str, document: Value, text: Text, target: Value, choices: Option<&[&str]>| {
            let found = question(task, document).unwrap();
            let choices = choices.map(|choices| choices.iter().map(|&choice| choice.to_owned()).collect());
            assert_eq!((found.text, found.target, found.choices), (text, target, choices), "{task}");
        };
        let prompt = |text: &str| Text::Prompt(text.to_owned());
        check("{doc_to_text: q, doc_to_target: a}", json!({"q": "x", "a": 3}), prompt("x"), json!(3), None);
        check(
            "{doc_to_text: '{{q}}?', doc_to_target: '{{a}}', doc_to_choice: [no, yes]}",
            json!({"q": "x", "a": 1}),
            prompt("x?"),
            json!(1),
            Some(&["no", "yes"]),
        );
        check(
            "{doc_to_text: '{{l}}', doc_to_target: 'the rest', doc_to_choice: '{{[s, t]}}'}",
            json!({"l": 1, "s": "it's", "t": "b"}),
            Text::Choice(1),
            json!("the rest"),
            Some(&["it's", "b"]),
        );
        check(
            "{doc_to_text: '', doc_to_target: '{{a}}'}",
            json!({"a": ["x", "y"]}),
            prompt(""),
            json!(["x", "y"]),
            None,
        );
        check(
            "{doc_to_text: '12', doc_to_target: '[not a list'}",
            json!({}),
            prompt("12"),
            json!("[not a list"),
            None,
        );
        check(
            "{doc_to_choice: {a: one, b: two}, doc_to_target: 0}",
            json!({}),
            prompt(""),
            json!(0),
            Some(&["one", "two"]),
        );
    }

    #[test]
    fn an_empty_field_that_is_printed_is_told() {
        let check = |task: &str, expected: bool| {
            let found = question(task, json!({"q": "x", "a": null, "c": ["x", null]})).unwrap();
            assert_eq!(found.prints_none, expected, "{task}");
        };
        check("{doc_to_text: q, doc_to_target: q}", false);
        check("{doc_to_text: '{{q}} {{a}}', doc_to_target: q}", true);
        check("{doc_to_text: '{% if a %}{{a}}{% endif %}{{q}}', doc_to_target: q}", false);
        check("{doc_to_text: q, doc_to_target: a}", true);
        check("{doc_to_text: q, doc_to_target: 0, doc_to_choice: c}", true);
        check("{doc_to_text: q, doc_to_target: left, doc_to_choice: [left, right]}", false);
    }

    #[test]
    fn what_a_document_lacks_is_named() {
        let check = |task: &str, expected: &str| {
            let error = question(task, json!({"q": null, "n": 1})).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "{task: t, doc_to_text: '{{question}}'}",
            "task `t`: `doc_to_text` of document 7: there is no field `question`",
        );
        check("{task: t, doc_to_text: q}", "`doc_to_text` of document 7: None is no text");
        check(
            "{task: t, doc_to_target: answer}",
            "task `t`: `doc_to_target`: there is no field `answer`; did you mean `n`? there are: q, n; for the word",
        );
        check("{task: t, doc_to_choice: '{{n}}'}", "`doc_to_choice` of document 7: 1 is no list of choices");
        check("{task: t, doc_to_choice: 'a b'}", "the template prints no list");
        check("{task: t, doc_to_text: n, doc_to_choice: [a]}", "choice 1 of 1");
        check("{task: t, doc_to_text: '{{ q'}", "task `t`: `doc_to_text`: ");
    }
}
