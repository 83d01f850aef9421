//! Turns a dataset into prompts for a teacher.

mod template;

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
    /// The column that is asked. Default `question`, as in GSM8K.
    pub prompt_column: String,
    /// The column with the right answer; a worked solution is reduced to what follows `#### `. Default: `reference`
    /// where there is one.
    pub reference_column: Option<String>,
    /// The column with the subject. Default: `domain` where there is one.
    pub domain_column: Option<String>,
    /// The column that says which rows are the same problem. Default: `group` where there is one, else each row is on
    /// its own.
    pub group_column: Option<String>,
    /// What stands before the conversation. Default: nothing.
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
            prompt_column: "question".to_owned(),
            reference_column: None,
            domain_column: None,
            group_column: None,
            system_prompt: None,
            templates: vec![TemplateConfig { name: "plain".to_owned(), text: "{prompt}".to_owned() }],
            limit: None,
        }
    }
}

/// The stage `distill.inputs`: role `dataset` in, teacher inputs out.
#[derive(Debug, Clone)]
pub struct Inputs {
    config: Config,
    templates: Vec<Template>,
}

impl Inputs {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a template that cannot be read, and when there is none or two have one name.
    pub fn new(config: Config) -> Result<Self> {
        check(STAGE, "templates", "empty")
            .that(!config.templates.is_empty(), "there must be at least one")?;
        for (position, template) in config.templates.iter().enumerate() {
            let is_first = config.templates[..position].iter().all(|earlier| earlier.name != template.name);
            check(STAGE, "templates.name", &template.name)
                .that(is_first, "each template needs a name of its own")?;
        }
        let templates =
            config.templates.iter().map(|t| Template::parse(&t.name, &t.text)).collect::<Result<_>>()?;
        Ok(Self { config, templates })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let dataset = context.inputs.require("dataset")?;
        let mut rows = table::read(context, dataset)?;
        rows.truncate(self.config.limit.unwrap_or(usize::MAX));
        let inputs = self.prompts(&rows, &dataset.file("parquet")?)?;
        context.services.tables.write(&context.output.join("parquet"), &inputs)?;
        context.set_rows(inputs.len() as u64);
        let without = inputs.iter().filter(|row| row[columns::REFERENCE].is_null()).count();
        context.state("without_reference", without)?;
        context.state("templates", self.templates.iter().map(Template::name).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Makes the prompts of a dataset's rows; `place` is named in errors.
    fn prompts(&self, rows: &[Row], place: &std::path::Path) -> Result<Vec<Row>> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let config = &self.config;
        let prompt_column = table::required_column(Some(&config.prompt_column), "", first, place)?;
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
        let mut inputs = Vec::with_capacity(rows.len() * self.templates.len());
        for row in rows {
            let cell =
                |column: &Option<String>| column.as_deref().and_then(|column| table::cell(row, column));
            let prompt = table::filled(row, prompt_column, place)?;
            let id = table::cell(row, id_column).unwrap_or_default();
            let group = cell(&group_column).unwrap_or_else(|| id.clone());
            let reference = cell(&reference_column).and_then(|text| reference(&text));
            for template in &self.templates {
                let id =
                    if self.templates.len() == 1 { id.clone() } else { format!("{id}-{}", template.name()) };
                inputs.push(Row::from_iter([
                    (columns::ID.to_owned(), json!(id)),
                    (columns::GROUP.to_owned(), json!(group)),
                    (columns::DOMAIN.to_owned(), table::value(cell(&domain_column))),
                    (columns::TEMPLATE_NAME.to_owned(), json!(template.name())),
                    (columns::SYSTEM_PROMPT.to_owned(), table::value(config.system_prompt.clone())),
                    (columns::USER_PROMPT.to_owned(), json!(template.fill(prompt, row))),
                    (columns::REFERENCE.to_owned(), table::value(reference.clone())),
                    (columns::SOURCE_FILE.to_owned(), table::value(table::cell(row, columns::SOURCE_FILE))),
                ]));
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
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// The final answer that a reference gives: what follows `#### ` in a worked solution, else the text itself.
pub(crate) fn reference(text: &str) -> Option<String> {
    if text.contains("####") { answer::final_answer(text) } else { Some(answer::normalise(text.trim())) }
        .filter(|answer| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let prompts = Inputs::new(config).unwrap().prompts(&rows(), Path::new("data")).unwrap();
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
            let error =
                Inputs::new(config).and_then(|stage| stage.prompts(&rows(), Path::new("data"))).unwrap_err();
            let hint = nexa_core::Diagnose::hint(&error).unwrap();
            assert!(error.to_string().contains(expected) && hint.contains(nearest), "{error} {hint}");
        };
        let asks = |text| Config { templates: vec![template("t", text)], ..Config::default() };
        check(asks("{quesion}"), "unknown variable `{quesion}`", "{question}");
        check(Config { prompt_column: "answr".to_owned(), ..Config::default() }, "`answr`", "answer");
        check(
            Config { reference_column: Some("units".to_owned()), ..Config::default() },
            "`units`",
            "`unit`",
        );
        check(asks("{prompt"), "never closed", "twice");
    }

    #[test]
    fn an_empty_prompt_is_named() {
        let mut rows = rows();
        rows[0]["question"] = json!("  ");
        let error = Inputs::new(Config::default()).unwrap().prompts(&rows, Path::new("data")).unwrap_err();
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
