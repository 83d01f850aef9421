//! Turns a dataset into prompts for a teacher.

mod enhanced;
mod template;

use std::path::{Path, PathBuf};

use nexa_core::artifact::Kind;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use nexa_core::{answer, columns};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::check;
use crate::{Result, table};

pub use template::Template;

const STAGE: &str = "distill.inputs";

/// How prompts are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files `*_enhanced.json`, or folders of them, whose `texts` are asked instead of a dataset's rows; relative to the
    /// lab. Default: none.
    pub sources: Vec<PathBuf>,
    /// A folder of templates, `*.txt`, each named for its file, instead of `templates`; relative to the lab.
    pub prompts: Option<PathBuf>,
    /// The column that is asked. Default `question`, as in GSM8K; `text` where `sources` are given.
    pub prompt_column: Option<String>,
    /// The column with a conversation, as a list of `role` and `content`, that is asked as it is: a turn of the assistant
    /// at its end is what the teacher is to write. Default: none.
    pub messages_column: Option<String>,
    /// The column with the right answer; a worked solution is reduced to what follows `#### `. Default: `reference`
    /// where there is one.
    pub reference_column: Option<String>,
    /// The column with the subject. Default: `domain` where there is one.
    pub domain_column: Option<String>,
    /// The column that says which rows are the same problem. Default: `group` where there is one, else each row is on
    /// its own.
    pub group_column: Option<String>,
    /// What stands before the conversation: text in which `{template_name}` and any `{column}` can stand. Default: nothing.
    pub system_prompt: Option<String>,
    /// The texts that are made of a row; with several, each row is asked in each. Default: the prompt as it is.
    pub templates: Vec<TemplateConfig>,
    /// Takes this many rows from the beginning. Default: all.
    pub limit: Option<usize>,
}

/// A prompt template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// Its name, which stands in the rows that it makes.
    pub name: String,
    /// Its text: `{prompt}` and any `{column}`; a brace itself is written twice.
    pub text: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            prompts: None,
            prompt_column: None,
            messages_column: None,
            reference_column: None,
            domain_column: None,
            group_column: None,
            system_prompt: None,
            templates: vec![TemplateConfig { name: "plain".to_owned(), text: "{prompt}".to_owned() }],
            limit: None,
        }
    }
}

/// The column that is asked where none is named.
const QUESTION: &str = "question";

/// The stage `distill.inputs`: role `dataset` in, unless there are `sources`; teacher inputs out.
#[derive(Debug, Clone)]
pub struct Inputs {
    config: Config,
    root: PathBuf,
    sources: Vec<PathBuf>,
    prompts: Vec<PathBuf>,
    templates: Vec<Template>,
    system_prompt: Option<Template>,
}

impl Inputs {
    /// Makes the stage; paths are relative to `root`.
    ///
    /// # Errors
    /// Fails on a template that cannot be read, and when there is none or two have one name.
    pub fn new(config: Config, root: &Path) -> Result<Self> {
        let folder = config.prompts.as_ref().map(|folder| root.join(folder));
        let configs = match &folder {
            Some(folder) => enhanced::templates(folder)?,
            None => config.templates.clone(),
        };
        check(STAGE, "templates", "empty").that(!configs.is_empty(), "there must be at least one")?;
        for (position, template) in configs.iter().enumerate() {
            let is_first = configs[..position].iter().all(|earlier| earlier.name != template.name);
            check(STAGE, "templates.name", &template.name)
                .that(is_first, "each template needs a name of its own")?;
        }
        let templates = configs.iter().map(|t| Template::parse(&t.name, &t.text)).collect::<Result<_>>()?;
        let system_prompt = config.system_prompt.as_ref();
        let system_prompt = system_prompt.map(|text| Template::parse("system_prompt", text)).transpose()?;
        let sources = enhanced::sources(&config.sources, root)?;
        let prompts = folder.map(|folder| enhanced::with_ending(&folder, ".txt")).transpose()?;
        let prompts = prompts.unwrap_or_default();
        Ok(Self { root: root.to_owned(), sources, prompts, templates, system_prompt, config })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let (mut rows, place) = if self.sources.is_empty() {
            let dataset = context.inputs.require("dataset")?;
            (table::read(context, dataset)?, dataset.file("parquet")?)
        } else {
            (enhanced::rows(&self.sources, &self.root)?, self.sources[0].clone())
        };
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        let inputs = self.prompts(&rows, &place)?;
        context.services.tables.write(&context.output.join("parquet"), &inputs)?;
        context.set_rows(inputs.len() as u64);
        let without = inputs.iter().filter(|row| row[columns::REFERENCE].is_null()).count();
        context.state("without_reference", without)?;
        context.state("templates", self.templates.iter().map(Template::name).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Makes the prompts of a dataset's rows; `place` is named in errors.
    fn prompts(&self, rows: &[Row], place: &Path) -> Result<Vec<Row>> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let config = &self.config;
        let asked = if self.sources.is_empty() { QUESTION } else { enhanced::TEXT };
        let messages_column = config.messages_column.as_deref();
        let prompt_column = match messages_column {
            // The conversation is the prompt.
            Some(column) => table::required_column(Some(column), "", first, place)?,
            None => table::required_column(config.prompt_column.as_deref(), asked, first, place)?,
        };
        let id_column = table::required_column(None, columns::ID, first, place)?;
        let optional = |named: &'_ Option<String>, default: &'static str| {
            table::column(named.as_deref(), &[default], first, place).map(|found| found.map(str::to_owned))
        };
        let reference_column = optional(&config.reference_column, columns::REFERENCE)?;
        let domain_column = optional(&config.domain_column, columns::DOMAIN)?;
        let group_column = optional(&config.group_column, columns::GROUP)?;
        for template in &self.templates {
            template.check(first)?;
        }
        if let Some(system_prompt) = &self.system_prompt {
            let mut named = first.clone();
            named.insert(columns::TEMPLATE_NAME.to_owned(), Value::Null);
            system_prompt.check(&named)?;
        }
        let mut inputs = Vec::with_capacity(rows.len() * self.templates.len());
        for row in rows {
            let cell =
                |column: &Option<String>| column.as_deref().and_then(|column| table::cell(row, column));
            let prompt = match messages_column {
                Some(_) => "",
                None => table::filled(row, prompt_column, place)?,
            };
            let id = table::cell(row, id_column).unwrap_or_default();
            let group = cell(&group_column).unwrap_or_else(|| id.clone());
            let reference = cell(&reference_column).and_then(|text| reference(&text));
            for template in &self.templates {
                let id =
                    if self.templates.len() == 1 { id.clone() } else { format!("{id}-{}", template.name()) };
                let mut named = row.clone();
                named.insert(columns::TEMPLATE_NAME.to_owned(), json!(template.name()));
                let system_prompt = self.system_prompt.as_ref().map(|text| text.fill(prompt, &named));
                let mut input = Row::from_iter([
                    (columns::ID.to_owned(), json!(id)),
                    (columns::GROUP.to_owned(), json!(group)),
                    (columns::DOMAIN.to_owned(), table::value(cell(&domain_column))),
                    (columns::TEMPLATE_NAME.to_owned(), json!(template.name())),
                    (columns::SYSTEM_PROMPT.to_owned(), table::value(system_prompt)),
                    (columns::USER_PROMPT.to_owned(), json!(template.fill(prompt, row))),
                    (columns::TEMPLATE_PROMPT.to_owned(), json!(template.text())),
                    (columns::REFERENCE.to_owned(), table::value(reference.clone())),
                    (columns::SOURCE_FILE.to_owned(), table::value(table::cell(row, columns::SOURCE_FILE))),
                    (columns::GENERATED_AT.to_owned(), table::value(table::cell(row, columns::GENERATED_AT))),
                ]);
                if let Some(split) = row.get(columns::SPLIT) {
                    input.insert(columns::SPLIT.to_owned(), split.clone());
                }
                if let Some(column) = messages_column {
                    input.insert(
                        columns::MESSAGES.to_owned(),
                        row.get(column).cloned().unwrap_or(Value::Null),
                    );
                    input.insert(columns::USER_PROMPT.to_owned(), last_question(row.get(column)));
                }
                inputs.push(input);
            }
        }
        Ok(inputs)
    }
}

impl Stage for Inputs {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::TeacherInputs
    }

    fn code_version(&self) -> u32 {
        3
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        [self.sources.as_slice(), self.prompts.as_slice()].concat()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// What the user says last in a conversation, for whoever looks at one prompt alone.
fn last_question(messages: Option<&Value>) -> Value {
    let turns = messages.and_then(Value::as_array);
    let last = turns.and_then(|turns| turns.iter().rfind(|turn| turn["role"] == "user"));
    last.map_or(Value::Null, |turn| turn["content"].clone())
}

/// The final answer that a reference gives: what follows `#### ` in a worked solution, else the text itself.
pub(crate) fn reference(text: &str) -> Option<String> {
    if text.contains("####") { answer::final_answer(text) } else { Some(answer::normalise(text.trim())) }
        .filter(|answer| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = json!({"id": "r1", "question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4", "unit": "cm", "n": 7});
        vec![row.as_object().unwrap().clone()]
    }

    fn template(name: &str, text: &str) -> TemplateConfig {
        TemplateConfig { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_row_becomes_a_prompt_for_each_template() {
        let config = Config {
            reference_column: Some("answer".to_owned()),
            system_prompt: Some("Think.".to_owned()),
            templates: vec![
                template("plain", "{prompt}"),
                template("unit", "{{{n}}} {prompt} Answer in {unit}."),
            ],
            ..Config::default()
        };
        let prompts =
            Inputs::new(config, Path::new("")).unwrap().prompts(&rows(), Path::new("data")).unwrap();
        let texts: Vec<_> = prompts.iter().map(|row| row[columns::USER_PROMPT].as_str().unwrap()).collect();
        assert_eq!(texts, ["What is 2 + 2?", "{7} What is 2 + 2? Answer in cm."]);
        assert_eq!(prompts[1][columns::ID], "r1-unit");
        assert_eq!(prompts[1][columns::GROUP], "r1");
        assert_eq!(prompts[1][columns::REFERENCE], "4");
        assert_eq!(prompts[1][columns::DOMAIN], Value::Null);
        assert_eq!(prompts[1][columns::SYSTEM_PROMPT], "Think.");
    }

    #[test]
    fn what_is_missing_is_named_with_the_nearest() {
        let check = |config: Config, expected: &str, nearest: &str| {
            let error = Inputs::new(config, Path::new(""))
                .and_then(|stage| stage.prompts(&rows(), Path::new("data")))
                .unwrap_err();
            let hint = nexa_core::Diagnose::hint(&error).unwrap();
            assert!(error.to_string().contains(expected) && hint.contains(nearest), "{error} {hint}");
        };
        let asks = |text| Config { templates: vec![template("t", text)], ..Config::default() };
        check(asks("{quesion}"), "unknown variable `{quesion}`", "{question}");
        check(Config { prompt_column: Some("answr".to_owned()), ..Config::default() }, "`answr`", "answer");
        check(
            Config { reference_column: Some("units".to_owned()), ..Config::default() },
            "`units`",
            "`unit`",
        );
        check(asks("{prompt"), "never closed", "twice");
    }

    #[test]
    fn texts_are_crossed_with_templates_that_are_files() {
        let lab = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = lab.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "data/raw/biology_enhanced.json",
            r#"{"texts": ["Cells divide.", "Genes code."], "generated_at": "2025-11-18"}"#,
        );
        write("data/raw/other.json", "{}");
        write("prompts/hypothesis.txt", "State a hypothesis.\n");
        write("prompts/method.txt", "A method for: {text}");
        let config = Config {
            sources: vec!["data/raw".into()],
            prompts: Some("prompts".into()),
            system_prompt: Some("You write a {template_name}.".to_owned()),
            ..Config::default()
        };
        let stage = Inputs::new(config.clone(), lab.path()).unwrap();
        assert_eq!(stage.outside_files().len(), 3);
        let rows = enhanced::rows(&stage.sources, lab.path()).unwrap();
        let prompts = stage.prompts(&rows, Path::new("data")).unwrap();
        assert_eq!(prompts.len(), 4);
        let seven = [
            ("domain", "biology"),
            ("template_name", "hypothesis"),
            ("user_prompt", "State a hypothesis.\n\nCells divide."),
            ("template_prompt", "State a hypothesis.\n\n{prompt}"),
            ("system_prompt", "You write a hypothesis."),
            ("source_file", "data/raw/biology_enhanced.json"),
            ("generated_at", "2025-11-18"),
        ];
        seven.iter().for_each(|(column, expected)| assert_eq!(prompts[0][*column], *expected, "{column}"));
        assert_eq!(prompts[3]["user_prompt"], "A method for: Genes code.");

        write("data/raw/broken_enhanced.json", r#"{"texts": [1]}"#);
        let stage = Inputs::new(config, lab.path()).unwrap();
        let error = enhanced::rows(&stage.sources, lab.path()).unwrap_err().to_string();
        assert!(error.contains("broken_enhanced.json"), "{error}");
        let nowhere = Config { prompts: Some("absent".into()), ..Config::default() };
        assert!(Inputs::new(nowhere, lab.path()).unwrap_err().to_string().contains("absent"));
    }

    #[test]
    fn a_conversation_is_passed_on() {
        let turns = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]);
        let row = json!({"id": "r1", "talk": turns}).as_object().unwrap().clone();
        let config = Config { messages_column: Some("talk".to_owned()), ..Config::default() };
        let inputs = Inputs::new(config, Path::new("")).unwrap();
        let made = inputs.prompts(&[row], Path::new("data")).unwrap();
        assert_eq!((&made[0]["messages"], &made[0]["user_prompt"]), (&turns, &json!("hi")));
    }

    #[test]
    fn an_empty_prompt_is_named() {
        let mut rows = rows();
        rows[0]["question"] = json!("  ");
        let error = Inputs::new(Config::default(), Path::new(""))
            .unwrap()
            .prompts(&rows, Path::new("data"))
            .unwrap_err();
        assert_eq!(error.to_string(), "data: row `r1`: column `question` is empty");
    }

    #[test]
    fn references_are_reduced_to_the_answer() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(reference(text).as_deref(), expected);
        check("a\n#### 1,200", Some("1200"));
        check(" 12 ", Some("12"));
        check("#### none", None);
        check("", None);
    }
}
