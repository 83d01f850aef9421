//! Sends rejected prompts back to a teacher, with what was wrong, as new teacher inputs.
//!
//! What is rejected by gates, by judges or by reviewers stands in one file with its reason, so it comes back in one way.
//! A stronger teacher is asked by naming it to the collection that follows. Each row knows its try, the row of its first
//! try and the prompt that was asked first, which is what a student learns to answer.

use std::collections::HashSet;
use std::path::Path;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{Row, Tables};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::check;
use crate::gates::Answer;
use crate::inputs::{Template, TemplateConfig};
use crate::{Error, Result, review, table};

const STAGE: &str = "distill.regenerate";
const REJECTED: &str = "rejected.parquet";
/// The columns that are carried over.
const CARRIED: [&str; 5] =
    [columns::GROUP, columns::DOMAIN, columns::SYSTEM_PROMPT, columns::REFERENCE, columns::SOURCE_FILE];

/// What is asked again, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The text that is asked: `{prompt}` is what was asked first, and any column of the rejected rows can be used, such
    /// as `{rejection_reason}` and `{teacher_output}`. Default: the prompt, and after it what was wrong.
    pub template: TemplateConfig,
    /// How often a prompt is asked again at most. Default 2.
    pub max_attempts: u32,
    /// Gates whose rejects are not asked again. Default: `duplicate`.
    pub skip_gates: Vec<String>,
    /// Asks again only where no answer to the prompt was accepted, and once. Default true.
    pub only_unanswered: bool,
    /// Takes this many prompts from the beginning. Default: all.
    pub limit: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        let text = "{prompt}\n\nAn earlier answer was not accepted ({rejection_reason}). Answer completely and correctly, \
                    and keep to what was asked.";
        Self {
            template: TemplateConfig { name: "stricter".to_owned(), text: text.to_owned() },
            max_attempts: 2,
            skip_gates: vec!["duplicate".to_owned()],
            only_unanswered: true,
            limit: None,
        }
    }
}

/// The stage `distill.regenerate`: role `filtered` in, teacher inputs out.
#[derive(Debug, Clone)]
pub struct Regenerate {
    config: Config,
    template: Template,
}

/// What is asked again, and what was asked often enough.
#[derive(Debug, Default, PartialEq)]
struct Sorted {
    inputs: Vec<Row>,
    exhausted: Vec<Row>,
}

impl Regenerate {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a template that cannot be read, and where no attempt is allowed.
    pub fn new(config: Config) -> Result<Self> {
        check(STAGE, "max_attempts", config.max_attempts)
            .that(config.max_attempts > 0, "there must be at least one")?;
        let template = Template::parse(&config.template.name, &config.template.text)?;
        Ok(Self { config, template })
    }

    /// Counts the prompts that would be asked again.
    ///
    /// # Errors
    /// Fails when the rows cannot be read, and on a template with a variable that they do not have.
    pub fn pending(&self, tables: &dyn Tables, filtered: &Artifact) -> Result<usize> {
        if filtered.file(REJECTED).is_err() {
            return Ok(0);
        }
        Ok(self.read(tables, filtered)?.inputs.len())
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let filtered = context.inputs.require("filtered")?;
        let Sorted { inputs, exhausted } = self.read(context.services.tables, filtered)?;
        if inputs.is_empty() {
            return Err(nothing(exhausted.len(), "no rejected prompt may be asked again"));
        }
        context.services.tables.write(&context.output.join("parquet"), &inputs)?;
        if !exhausted.is_empty() {
            context.services.tables.write(&context.output.join("exhausted.parquet"), &exhausted)?;
        }
        context.set_rows(inputs.len() as u64);
        context.state("exhausted", exhausted.len())?;
        Ok(())
    }

    /// Sorts what was rejected; what is above the limit is left out.
    fn read(&self, tables: &dyn Tables, filtered: &Artifact) -> Result<Sorted> {
        let accepted = table::read_by(tables, filtered)?;
        let place = filtered.file(REJECTED).map_err(|_| nothing(accepted.len(), "nothing was rejected"))?;
        let mut sorted = self.sort(&accepted, &tables.read(&place)?, &place)?;
        sorted.inputs.truncate(self.config.limit.unwrap_or(usize::MAX));
        Ok(sorted)
    }

    fn sort(&self, accepted: &[Row], rejected: &[Row], place: &Path) -> Result<Sorted> {
        let Some(first) = rejected.first() else { return Ok(Sorted::default()) };
        self.template.check(first)?;
        let asked = |row: &Row| {
            let Answer { system_prompt, prompt, .. } = Answer::of(row);
            (system_prompt.into_owned(), prompt.into_owned())
        };
        let mut settled: HashSet<_> = accepted.iter().map(asked).collect();
        let mut sorted = Sorted::default();
        for row in rejected {
            let gate = table::cell(row, columns::REJECTION_GATE).unwrap_or_default();
            if self.config.skip_gates.contains(&gate) || review::is_undecided(row) {
                continue;
            }
            // What a person wants to be asked again is, whatever other answers there are.
            let is_settled = !settled.insert(asked(row)) && !review::is_wanted_again(row);
            if self.config.only_unanswered && is_settled {
                continue;
            }
            let before = row.get(columns::ATTEMPT).and_then(Value::as_u64).unwrap_or(0);
            if before >= self.config.max_attempts.into() {
                sorted.exhausted.push(row.clone());
            } else {
                sorted.inputs.push(self.input(row, before + 1, place)?);
            }
        }
        Ok(sorted)
    }

    /// The prompt that asks again for what a row was to answer.
    fn input(&self, row: &Row, attempt: u64, place: &Path) -> Result<Row> {
        let first_id = table::cell(row, columns::FIRST_ID)
            .or_else(|| table::cell(row, columns::ID))
            .ok_or_else(|| nexa_core::Error::malformed(place, "a row has no `id`"))?;
        let first_prompt = Answer::of(row).prompt;
        let carried =
            CARRIED.map(|column| (column.to_owned(), row.get(column).cloned().unwrap_or(Value::Null)));
        let mut input = Row::from_iter([(columns::ID.to_owned(), json!(format!("{first_id}-r{attempt}")))]);
        input.extend(carried);
        input.extend(row.get(columns::SPLIT).map(|split| (columns::SPLIT.to_owned(), split.clone())));
        input.extend([
            (columns::TEMPLATE_NAME.to_owned(), json!(self.template.name())),
            (columns::USER_PROMPT.to_owned(), json!(self.template.fill(&first_prompt, row))),
            (columns::ATTEMPT.to_owned(), json!(attempt)),
            (columns::FIRST_ID.to_owned(), json!(first_id)),
            (columns::FIRST_PROMPT.to_owned(), json!(first_prompt)),
            (
                columns::REJECTION_REASON.to_owned(),
                row.get(columns::REJECTION_REASON).cloned().unwrap_or(Value::Null),
            ),
        ]);
        Ok(input)
    }
}

impl Stage for Regenerate {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::TeacherInputs
    }

    fn code_version(&self) -> u32 {
        2
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

fn nothing(rows: usize, message: &str) -> Error {
    Error::NothingLeft { stage: STAGE, rows, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, prompt: &str, gate: &str, more: Value) -> Row {
        let mut row = json!({
            "id": id, "group": "g", "user_prompt": prompt, "teacher_output": "no", "reference": "4",
            "rejection_gate": gate, "rejection_reason": format!("{gate} said so"),
        })
        .as_object()
        .unwrap()
        .clone();
        row.extend(more.as_object().unwrap().clone());
        row
    }

    fn sorted(change: impl FnOnce(&mut Config), accepted: &[Row], rejected: &[Row]) -> Sorted {
        let mut config = Config::default();
        change(&mut config);
        Regenerate::new(config).unwrap().sort(accepted, rejected, Path::new("rejected")).unwrap()
    }

    fn ids(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_rejected_prompt_comes_back_with_the_reason_and_its_origin() {
        let found = sorted(|_| {}, &[], &[row("a", "2 + 2?", "wrong_answer", json!({}))]);
        let input = &found.inputs[0];
        assert_eq!(input["id"], "a-r1");
        assert_eq!(input["first_id"], "a");
        assert_eq!(input["first_prompt"], "2 + 2?");
        assert_eq!(
            (&input["attempt"], &input["group"], &input["reference"]),
            (&json!(1), &json!("g"), &json!("4"))
        );
        let prompt = input["user_prompt"].as_str().unwrap();
        assert!(prompt.starts_with("2 + 2?\n\n") && prompt.contains("(wrong_answer said so)"), "{prompt}");
    }

    #[test]
    fn a_second_try_still_knows_the_first_and_the_last_one_is_the_last() {
        let again = json!({"attempt": 1, "first_id": "a", "first_prompt": "2 + 2?"});
        let found = sorted(|_| {}, &[], &[row("a-r1", "2 + 2? Be strict.", "refusal", again.clone())]);
        assert_eq!(found.inputs[0]["id"], "a-r2");
        assert!(found.inputs[0]["user_prompt"].as_str().unwrap().starts_with("2 + 2?\n\n"));
        let found =
            sorted(|c| c.max_attempts = 1, &[], &[row("a-r1", "2 + 2? Be strict.", "refusal", again)]);
        assert_eq!((found.inputs.len(), ids(&found.exhausted)), (0, vec!["a-r1"]));
    }

    #[test]
    fn what_is_answered_is_not_asked_again() {
        let accepted = [row("z", "a?", "", json!({}))];
        let rejected = [
            row("a", "a?", "refusal", json!({})),
            row("b", "b?", "refusal", json!({})),
            row("c", "b?", "refusal", json!({})),
            row("d", "d?", "duplicate", json!({})),
        ];
        assert_eq!(ids(&sorted(|_| {}, &accepted, &rejected).inputs), ["b-r1"]);
        let all = sorted(|c| c.only_unanswered = false, &accepted, &rejected);
        assert_eq!(ids(&all.inputs), ["a-r1", "b-r1", "c-r1"]);
    }

    #[test]
    fn an_unknown_variable_is_named() {
        let template = TemplateConfig { name: "t".to_owned(), text: "{rejection_reson}".to_owned() };
        let stage = Regenerate::new(Config { template, ..Config::default() }).unwrap();
        let error =
            stage.sort(&[], &[row("a", "a?", "refusal", json!({}))], Path::new("rejected")).unwrap_err();
        assert!(error.to_string().contains("`{rejection_reson}`"), "{error}");
    }
}
