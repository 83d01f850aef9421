//! Lets a teacher's answers through the gates; what is rejected is kept, with the gate and the reason, and so are all
//! scores, by which bounds can be moved later.

mod funnel;
mod scores;
pub mod thresholds;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::lm::TokenizerLoader;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use serde_json::{Value, json};

use crate::gates::{self, Answer, Gate, Given, Measure};
use crate::student::Opener;
use crate::{Error, Result, table};

pub use crate::gates::Config;
pub use funnel::{Funnel, GateCount};

const STAGE: &str = "distill.filter";

/// The files beside the rows that hold what the gates measured.
pub(crate) const MEASURED: [&str; 2] = [scores::FILE, funnel::FILE];

/// The stage `distill.filter`: role `outputs` in, perhaps with `verdicts` and the student's `tokenizer` or `student`;
/// what passed, what did not, the scores and the funnel out.
#[derive(Debug, Clone)]
pub struct Filter {
    config: Config,
    folder: PathBuf,
    tokenizers: Opener,
}

/// Rows, sorted by the gates.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorted {
    /// Rows that passed every gate, in their order.
    pub passed: Vec<Row>,
    /// Rows that did not, with `rejection_gate` and `rejection_reason`, in their order.
    pub rejected: Vec<Row>,
    /// The scores of every row: its `id`, and one column for each gate.
    pub scores: Vec<Row>,
    /// How many went where.
    pub funnel: Funnel,
}

impl Filter {
    /// Makes the stage; checks read files and run commands in the current folder.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        Self::in_folder(config, Path::new("."))
    }

    /// Makes the stage; checks read files and run commands in a folder.
    ///
    /// # Errors
    /// As [`Filter::new`].
    pub fn in_folder(config: Config, folder: &Path) -> Result<Self> {
        config.check(STAGE, folder)?;
        Ok(Self { config, folder: folder.to_owned(), tokenizers: Opener::default() })
    }

    /// The stage with what opens the student's tokenizer.
    #[must_use]
    pub fn with_tokenizers(mut self, loader: Arc<dyn TokenizerLoader>) -> Self {
        self.tokenizers = Opener::new(loader);
        self
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let outputs = context.inputs.require("outputs")?;
        let rows = table::read(context, outputs)?;
        table::required_column(None, columns::TEACHER_OUTPUT, &rows[0], &outputs.file("parquet")?)?;
        let total = rows.len();
        let sorted = sort(rows, self.config.gates(&self.given(context)?)?)?;
        let table = sorted.funnel.to_string();
        if sorted.passed.is_empty() {
            return Err(Error::NothingLeft { stage: STAGE, rows: total, message: format!("\n{table}") });
        }
        let write =
            |name: &str, rows: &[Row]| context.services.tables.write(&context.output.join(name), rows);
        write("parquet", &sorted.passed)?;
        if !sorted.rejected.is_empty() {
            write("rejected.parquet", &sorted.rejected)?;
        }
        write(scores::FILE, &sorted.scores)?;
        files::write_json(&context.output.join(funnel::FILE), &sorted.funnel)?;
        context.set_rows(sorted.passed.len() as u64);
        context.state("funnel", &sorted.funnel)?;
        context.emit(Event::info(table));
        Ok(())
    }

    fn given(&self, context: &Context<'_>) -> Result<Given> {
        let verdicts = match context.inputs.get("verdicts") {
            Some(verdicts) => Some(gates::Scores::of(&table::read(context, verdicts)?)),
            None => None,
        };
        let tokenizer = self.tokenizers.open(context, STAGE)?;
        Ok(Given {
            tokenizer,
            verdicts,
            folder: self.folder.clone(),
            cancel: context.services.cancel.clone(),
        })
    }
}

impl Stage for Filter {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Filtered
    }

    fn code_version(&self) -> u32 {
        gates::version()
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn outside_files(&self) -> Vec<PathBuf> {
        self.config.checks.iter().flat_map(|check| check.files(&self.folder)).collect()
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// Has the gates measure every row; the first whose bounds do not hold rejects it.
///
/// # Errors
/// Fails where a gate cannot be asked.
pub fn sort(rows: Vec<Row>, mut gates: Vec<Gate>) -> Result<Sorted> {
    let answers: Vec<Answer<'_>> = rows.iter().map(Answer::of).collect();
    let measures: Vec<Vec<Option<Measure>>> =
        gates.iter_mut().map(|gate| gate.measure(&answers)).collect::<Result<_>>()?;
    let scores = scores::table(&rows, &gates, &measures);
    let mut rejections = vec![0; gates.len()];
    let total = rows.len();
    let (mut passed, mut rejected) = (Vec::new(), Vec::new());
    for (position, mut row) in rows.into_iter().enumerate() {
        let verdict = gates.iter().zip(&measures).enumerate().find_map(|(at, (gate, measures))| {
            Some((at, gate.name(), gate.reject(measures[position].as_ref()?)?))
        });
        match verdict {
            None => passed.push(row),
            Some((at, gate, reason)) => {
                rejections[at] += 1;
                row.insert(columns::REJECTION_GATE.to_owned(), json!(gate));
                row.insert(columns::REJECTION_REASON.to_owned(), json!(reason));
                rejected.push(row);
            }
        }
    }
    Ok(Sorted { passed, rejected, scores, funnel: Funnel::new(total, gates.iter().zip(rejections)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32, output: &str, finish_reason: &str, reference: &str) -> Row {
        let row = json!({
            "id": id, "user_prompt": format!("question {id}"), "teacher_output": output,
            "finish_reason": finish_reason, "reference": reference,
        });
        row.as_object().unwrap().clone()
    }

    fn rows() -> Vec<Row> {
        vec![
            row(1, "1 + 1 = 2\n#### 2", "stop", "2"),
            row(2, " ", "stop", "2"),
            row(3, "I'm sorry, but I can't help with that.", "stop", "2"),
            row(4, "1 + 1", "length", "2"),
            row(5, &"1 + 1 = 2\n".repeat(9), "stop", "2"),
            row(1, "1 + 1 = 2\n#### 2", "stop", "2"),
            row(7, "1 + 1 = 3\n#### 3", "stop", "2"),
            row(8, "2 + 2 = 4\n#### 4", "stop", "4"),
        ]
    }

    fn sorted(config: &Config) -> Sorted {
        sort(rows(), config.gates(&Given::default()).unwrap()).unwrap()
    }

    #[test]
    fn each_row_goes_through_or_to_the_gate_that_stopped_it() {
        let sorted = sorted(&Config::default());
        let ids = |rows: &[Row]| rows.iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(ids(&sorted.passed), [1, 8]);
        let gates: Vec<_> =
            sorted.rejected.iter().map(|row| row[columns::REJECTION_GATE].as_str().unwrap()).collect();
        assert_eq!(gates, ["empty", "refusal", "truncation", "loop", "duplicate", "wrong_answer"]);
        assert_eq!(sorted.rejected[5][columns::REJECTION_REASON], "final answer 3, not 2");
        assert_eq!(sorted.rejected[5]["teacher_output"], "1 + 1 = 3\n#### 3");
    }

    #[test]
    fn every_row_has_its_scores_whatever_became_of_it() {
        let sorted = sorted(&Config::default());
        assert_eq!(sorted.scores.len(), 8);
        assert_eq!(sorted.scores[3]["truncation"], 1.0);
        assert_eq!(sorted.scores[3]["length"], 5.0);
        assert_eq!(sorted.scores[4]["loop"], 0.7778);
        assert_eq!(sorted.scores[0]["json"], Value::Null);
    }

    #[test]
    fn the_funnel_adds_up() {
        let sorted = sorted(&Config::default());
        let funnel = &sorted.funnel;
        assert_eq!(funnel.rows_in, 8);
        assert_eq!(funnel.rows_out, sorted.passed.len());
        let mut open = funnel.rows_in;
        for gate in &funnel.gates {
            assert_eq!(gate.rows_in, open, "{gate:?}");
            assert_eq!(gate.rows_out + gate.rejected, gate.rows_in, "{gate:?}");
            open = gate.rows_out;
        }
        assert_eq!(open, funnel.rows_out);
        assert_eq!(sorted.rejected.len(), funnel.gates.iter().map(|gate| gate.rejected).sum::<usize>());
    }

    #[test]
    fn a_gate_can_be_switched_off() {
        let value = nexa_core::config::parse_yaml("wrong_answer: {enabled: false}", "test").unwrap();
        let config: Config = nexa_core::config::from_value(value, "test").unwrap();
        let sorted = sorted(&config);
        assert_eq!(sorted.passed.len(), 3);
        assert!(sorted.funnel.gates.iter().all(|gate| gate.gate != "wrong_answer"));
    }

    #[test]
    fn what_cannot_be_checked_is_named() {
        let check = |yaml: &str, expected: &str| {
            let value = nexa_core::config::parse_yaml(yaml, "test").unwrap();
            let config: Config = nexa_core::config::from_value(value, "test").unwrap();
            let error = Filter::new(config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{yaml}: {error}");
        };
        check("checks: [{regex: '(' }]", "check 1: pattern `(`: unclosed group");
        check("checks: [{regex: a}, {}]", "check 2: it has not exactly one of");
        check("checks: [{regex: a, command: [b]}]", "check 1: it has not exactly one of");
        check("checks: [{command: []}]", "check 1: `command` is empty");
        check("checks: [{regex: a}, {regex: b}]", "`checks.name` is regex, but another gate has that name");
        check("checks: [{regex: a, name: judge}]", "`checks.name` is judge");
        check("checks: [{json_schema: no-such.json}]", "no-such.json");
        check("checks: [{numeric_answer: {tolerance: -1}}]", "check 1: `tolerance` is -1");
        check("judge: {min_score: 7}", "`judge.min_score` is 7");
        check("checks: [{regex: a}, {regex: b, name: second}]", "");
    }
}
