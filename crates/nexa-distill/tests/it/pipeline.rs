//! From problems to training data, against the embedded teacher with all its faults.

use std::collections::{BTreeMap, HashMap};

use nexa_core::artifact::Kind;
use nexa_core::columns;
use nexa_core::env::Environment;
use nexa_core::stage::Inputs;
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_distill::collect::{self, Collect};
use nexa_distill::filter::{self, Filter, Funnel};
use nexa_distill::package::{self, Package};
use nexa_distill::problems::{self, Problems};
use nexa_distill::{embedded, inputs};

use crate::support::{TestLab, rows};

const PROBLEMS: usize = 1_000;

#[test]
fn the_whole_way() {
    let lab = TestLab::new();
    let config = problems::Config { problems: PROBLEMS, ..Default::default() };
    let raw = lab.execute(&Problems::new(config).unwrap(), "problems", &Inputs::none()).unwrap();
    let dataset: Vec<Row> = JsonLines
        .read(&raw.file("jsonl").unwrap())
        .unwrap()
        .into_iter()
        .map(|mut row| {
            row.insert(columns::SOURCE_FILE.to_owned(), "problems.jsonl".into());
            row
        })
        .collect();
    let dataset = Inputs::none().with("dataset", lab.put(Kind::Dataset, "dataset", dataset));

    let stage = inputs::Inputs::new(inputs::Config::default(), std::path::Path::new("")).unwrap();
    let prompts = lab.execute(&stage, "prompts", &dataset).unwrap();
    let prompt_rows = rows(&prompts, "parquet");
    let names: Vec<_> = prompt_rows[0].keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "id",
            "group",
            "domain",
            "template_name",
            "system_prompt",
            "user_prompt",
            "template_prompt",
            "reference",
            "source_file",
            "generated_at"
        ]
    );

    let stage = Collect::new(collect::Config::default(), &Environment::of([])).unwrap();
    let outputs = lab.execute(&stage, "outputs", &Inputs::none().with("inputs", prompts)).unwrap();
    let output_rows = rows(&outputs, "parquet");
    assert_eq!(output_rows.len(), PROBLEMS);
    for (input, output) in prompt_rows.iter().zip(&output_rows) {
        assert_eq!(input[columns::ID], output[columns::ID]);
        assert_eq!(output[columns::MODEL_ID], embedded::MODEL);
        assert!(output[columns::COMPLETION_TOKENS].as_u64().is_some());
    }

    let stage = Filter::new(filter::Config::default()).unwrap();
    let filtered = lab.execute(&stage, "filtered", &Inputs::none().with("outputs", outputs)).unwrap();
    check_filtered(&rows(&filtered, "parquet"), &rows(&filtered, "rejected.parquet"));
    let funnel: Funnel = nexa_core::files::read_json(&filtered.file("funnel.json").unwrap()).unwrap();
    assert_eq!((funnel.rows_in, funnel.rows_out), (PROBLEMS, rows(&filtered, "parquet").len()));
    assert_eq!(serde_json::json!(funnel), filtered.manifest.summary["funnel"]);

    let stage = Package::new(package::Config::default()).unwrap();
    let sft = lab.execute(&stage, "sft", &Inputs::none().with("filtered", filtered)).unwrap();
    let all = rows(&sft, "parquet");
    let mut sides = HashMap::new();
    for row in &all {
        let side = sides.entry(row[columns::GROUP].clone()).or_insert_with(|| row[columns::SPLIT].clone());
        assert_eq!(side, &row[columns::SPLIT], "{row:?}");
    }
    let train = rows(&sft, "train.jsonl");
    assert!(train.len() * 100 > all.len() * 80, "{} of {}", train.len(), all.len());
    assert_eq!(train[0][columns::MESSAGES][1]["role"], "assistant");
    assert!(train[0][columns::MESSAGES][1]["content"].as_str().unwrap().contains('\n'));
}

/// Every good answer passes, every bad one does not, about as many as the rates say, each at its own gate.
fn check_filtered(passed: &[Row], rejected: &[Row]) {
    assert_eq!(passed.len() + rejected.len(), PROBLEMS);
    for row in passed {
        let output = row[columns::TEACHER_OUTPUT].as_str().unwrap();
        assert_eq!(nexa_core::answer::final_answer(output).as_deref(), row[columns::REFERENCE].as_str());
    }
    let mut by_gate = BTreeMap::<&str, usize>::new();
    for row in rejected {
        *by_gate.entry(row[columns::REJECTION_GATE].as_str().unwrap()).or_default() += 1;
    }
    let check = |gate: &str, share: f64| {
        let found = by_gate.get(gate).copied().unwrap_or(0) as f64 / PROBLEMS as f64;
        assert!((found - share).abs() < 0.02, "{gate}: {found} instead of {share}");
    };
    check("wrong_answer", 0.06);
    check("refusal", 0.03);
    check("truncation", 0.03);
    check("loop", 0.02);
    assert_eq!(by_gate.len(), 4, "{by_gate:?}");
}
