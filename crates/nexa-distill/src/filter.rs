//! Lets a teacher's answers through the gates; what is rejected is kept, with the gate and the reason.

mod funnel;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::files;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use serde_json::{Value, json};

use crate::gates::{self, Answer};
use crate::{Error, Result, table};

pub use crate::gates::Config;
pub use funnel::{Funnel, GateCount};

const STAGE: &str = "distill.filter";

/// The stage `distill.filter`: role `outputs` in; what passed, what did not, and the funnel out.
#[derive(Debug, Clone)]
pub struct Filter {
    config: Config,
}

/// Rows, sorted by the gates.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorted {
    /// Rows that passed every gate, in their order.
    pub passed: Vec<Row>,
    /// Rows that did not, with `rejection_gate` and `rejection_reason`, in their order.
    pub rejected: Vec<Row>,
    /// How many went where.
    pub funnel: Funnel,
}

impl Filter {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        config.check(STAGE)?;
        Ok(Self { config })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let outputs = context.inputs.require("outputs")?;
        let rows = table::read(context, outputs)?;
        table::required_column(None, columns::TEACHER_OUTPUT, &rows[0], &outputs.file("parquet")?)?;
        let total = rows.len();
        let sorted = sort(rows, &self.config);
        let table = sorted.funnel.to_string();
        if sorted.passed.is_empty() {
            return Err(Error::NothingLeft { stage: STAGE, rows: total, message: format!("\n{table}") });
        }
        context.services.tables.write(&context.output.join("parquet"), &sorted.passed)?;
        if !sorted.rejected.is_empty() {
            context.services.tables.write(&context.output.join("rejected.parquet"), &sorted.rejected)?;
        }
        files::write_json(&context.output.join("funnel.json"), &sorted.funnel)?;
        context.set_rows(sorted.passed.len() as u64);
        context.state("funnel", &sorted.funnel)?;
        context.emit(Event::info(table));
        Ok(())
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

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// Asks the gates about every row; the first that rejects it decides.
pub fn sort(rows: Vec<Row>, config: &Config) -> Sorted {
    let mut gates = config.chain();
    let mut rejections = vec![0; gates.len()];
    let total = rows.len();
    let (mut passed, mut rejected) = (Vec::new(), Vec::new());
    for mut row in rows {
        let answer = Answer::of(&row);
        let verdict = gates
            .iter_mut()
            .enumerate()
            .find_map(|(at, gate)| Some((at, gate.name(), gate.reject(&answer)?)));
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
    let gates = gates.iter().map(|gate| (gate.name(), gate.version()));
    Sorted { passed, rejected, funnel: Funnel::new(total, gates.zip(rejections)) }
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

    #[test]
    fn each_row_goes_through_or_to_the_gate_that_stopped_it() {
        let sorted = sort(rows(), &Config::default());
        let ids = |rows: &[Row]| rows.iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(ids(&sorted.passed), [1, 8]);
        let gates: Vec<_> =
            sorted.rejected.iter().map(|row| row[columns::REJECTION_GATE].as_str().unwrap()).collect();
        assert_eq!(gates, ["length", "refusal", "truncation", "repetition", "duplicate", "wrong_answer"]);
        assert_eq!(sorted.rejected[5][columns::REJECTION_REASON], "final answer 3, not 2");
        assert_eq!(sorted.rejected[5]["teacher_output"], "1 + 1 = 3\n#### 3");
    }

    #[test]
    fn the_funnel_adds_up() {
        let sorted = sort(rows(), &Config::default());
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
        let sorted = sort(rows(), &config);
        assert_eq!(sorted.passed.len(), 3);
        assert!(sorted.funnel.gates.iter().all(|gate| gate.gate != "wrong_answer"));
    }
}
