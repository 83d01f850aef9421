//! Makes word problems with known answers: data for a first pipeline, without a download.

use std::collections::HashSet;

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::Row;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::embedded::families::{self, FAMILIES, Family};
use crate::error::{check, check_share};
use crate::{Error, Result};

const STAGE: &str = "distill.problems";

/// The column that holds the question.
pub const QUESTION: &str = "question";

/// Which problems are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many. Default 3,000: enough for a model of a million weights to learn the families.
    pub problems: usize,
    /// The share of them that says an earlier problem in other words. Default 0.1: paraphrases are what makes a split
    /// by rows leak, so there should be some.
    pub paraphrases: f64,
    /// Decides families, numbers and words. Default 0.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { problems: 3_000, paraphrases: 0.1, seed: 0 }
    }
}

/// The stage `distill.problems`.
#[derive(Debug, Clone)]
pub struct Problems {
    config: Config,
}

impl Problems {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        check(STAGE, "problems", config.problems).that(config.problems > 0, "there must be at least one")?;
        check_share(STAGE, "paraphrases", config.paraphrases)?;
        Ok(Self { config })
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let rows = generate(&self.config)?;
        context.services.tables.write(&context.output.join("jsonl"), &rows)?;
        context.set_rows(rows.len() as u64);
        let groups: HashSet<_> = rows.iter().map(|row| row.get(columns::GROUP)).collect();
        context.state("groups", groups.len())?;
        context.state("families", FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>())?;
        Ok(())
    }
}

impl Stage for Problems {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::Raw
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// Makes the rows: `id`, `question`, `reference`, `domain`, `group`. No question stands twice.
///
/// # Errors
/// Fails when there are not as many different problems.
pub fn generate(config: &Config) -> Result<Vec<Row>> {
    /// So many draws in a row that were all there before mean that hardly any are left.
    const PATIENCE: usize = 10_000;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut drawn: Vec<(&'static Family, Vec<i64>)> = Vec::new();
    let mut questions = HashSet::new();
    let mut rows = Vec::with_capacity(config.problems);
    let mut in_vain = 0;
    while rows.len() < config.problems {
        if in_vain == PATIENCE {
            return Err(Error::TooManyProblems { wanted: config.problems, made: rows.len() });
        }
        let says_again = !drawn.is_empty() && rng.random_bool(config.paraphrases);
        let (family, numbers) = if says_again {
            drawn[rng.random_range(0..drawn.len())].clone()
        } else {
            let family = &FAMILIES[rng.random_range(0..FAMILIES.len())];
            (family, families::draw_numbers(family, &mut rng))
        };
        let problem = families::word(family, &numbers, &mut rng);
        if !questions.insert(problem.question.clone()) {
            in_vain += 1;
            continue;
        }
        in_vain = 0;
        drawn.push((family, numbers));
        let id = format!("problem-{:06}", rows.len() + 1);
        let cells = [
            (columns::ID, id),
            (QUESTION, problem.question),
            (columns::REFERENCE, problem.answer.to_string()),
            (columns::DOMAIN, problem.family.to_owned()),
            (columns::GROUP, problem.group),
        ];
        rows.push(cells.into_iter().map(|(column, text)| (column.to_owned(), Value::String(text))).collect());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn problems_differ_and_the_teacher_knows_their_answers() {
        let rows = generate(&Config::default()).unwrap();
        let questions: HashSet<_> = rows.iter().map(|row| row[QUESTION].as_str().unwrap()).collect();
        assert_eq!(questions.len(), 3_000);
        for row in &rows {
            let solution = families::solve(row[QUESTION].as_str().unwrap()).unwrap();
            assert_eq!(row[columns::REFERENCE], solution.answer().to_string());
        }
        let mut sizes = BTreeMap::<_, usize>::new();
        for row in &rows {
            *sizes.entry(row[columns::DOMAIN].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(sizes.len(), FAMILIES.len());
        assert!(sizes.values().all(|size| *size > 250), "{sizes:?}");
    }

    #[test]
    fn paraphrases_share_the_group_of_what_they_paraphrase() {
        let groups = |paraphrases| {
            let config = Config { problems: 1_000, paraphrases, seed: 1 };
            let rows = generate(&config).unwrap();
            rows.iter().map(|row| row[columns::GROUP].to_string()).collect::<HashSet<_>>().len()
        };
        assert!(groups(0.3) + 150 < groups(0.0), "{} {}", groups(0.3), groups(0.0));
    }

    #[test]
    fn more_than_there_are_is_an_error() {
        let config = Config { problems: 100_000_000, paraphrases: 1.0, seed: 0 };
        let made = match generate(&config) {
            Err(Error::TooManyProblems { made, .. }) => made,
            other => panic!("{:?}", other.map(|rows| rows.len())),
        };
        assert!(made > 50, "{made}");
    }

    #[test]
    fn the_seed_decides() {
        let make = |seed| generate(&Config { problems: 50, seed, ..Config::default() }).unwrap();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
