//! Evaluations by tasks, with samples and verdicts, in the form in which evaluation leaves them behind.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::judging::Verdict;
use nexa_core::lab::Lab;
use nexa_core::stage::{Context, Inputs, StageError};
use nexa_core::table::Row;
use serde_json::{Value, json};

use crate::lab::Fake;

/// Documents of each task.
const DOCUMENTS: u64 = 60;

/// Evaluates two checkpoints by a task that generates and one of choices, and has the first of them judged.
pub(crate) fn add(lab: &Lab, checkpoints: [Artifact; 2]) -> Result<[Artifact; 2], StageError> {
    let [first, second] = checkpoints;
    let made = [(first, 4), (second, 3)].map(|(checkpoint, wrong_every)| {
        let inputs = Inputs::none().with("checkpoint", checkpoint);
        evaluation(wrong_every).run(lab, "tasks", &inputs)
    });
    let [first, second] = made;
    let (first, second) = (first?, second?);
    verdicts().run(lab, "tasks_verdicts", &Inputs::none().with("evaluation", first.clone()))?;
    Ok([first, second])
}

fn evaluation(wrong_every: u64) -> Fake {
    let config = json!({ "tasks": ["sums", "capitals"], "num_fewshot": 2, "wrong_every": wrong_every });
    Fake::new("evaluate", Kind::Evaluation, config, move |context| {
        let is_right = |index: u64| !index.is_multiple_of(wrong_every);
        let rows: Vec<Row> = (0..DOCUMENTS)
            .map(|index| sum(index, is_right(index)))
            .chain((0..DOCUMENTS).map(|index| capital(index, is_right(index + 1))))
            .filter_map(|row| row.as_object().cloned())
            .collect();
        context.services.tables.write(&context.output.join("predictions.jsonl"), &rows)?;
        context.set_rows(rows.len() as u64);
        let right = (0..DOCUMENTS).filter(|index| is_right(*index)).count() as f64 / DOCUMENTS as f64;
        nexa_core::files::write_json(&context.output.join("metrics.json"), &metrics(right))?;
        let questions = |hash: &str| json!({"documents": DOCUMENTS, "num_fewshot": 2, "hash": hash});
        let facts = json!({"questions": {"sums": questions("blake3:1"), "capitals": questions("blake3:2")}});
        nexa_core::files::write_json(&context.output.join("facts.json"), &facts)?;
        let rule = json!({
            "words": 13, "min_share": 0.0, "overlapping": 6, "share": 0.1, "metrics": [{
                "metric": "exact_match", "filter": "strict-match", "all": {"value": right, "ci_low": right - 0.1, "ci_high": right + 0.1},
                "overlapping": {"value": 1.0, "ci_low": 0.6, "ci_high": 1.0}, "clean": {"value": right - 0.02},
            }],
        });
        let found =
            json!({"is_known": true, "tasks": [{"task": "sums", "documents": DOCUMENTS, "rules": [rule]}]});
        nexa_core::files::write_json(&context.output.join("contamination.json"), &found)?;
        Ok(())
    })
}

fn metrics(right: f64) -> Value {
    let row = |task: &str, metric: &str, filter: &str, value: f64| {
        json!({
            "task": task, "metric": metric, "filter": filter, "value": value, "standard_error": 0.05,
            "ci_low": value - 0.1, "ci_high": value + 0.1, "confidence": 0.95, "n": DOCUMENTS, "too_long": 0,
            "higher_is_better": true, "num_fewshot": 2, "version": 1.0, "subtasks": [],
            "by_domain": {
                "north": {"value": value - 0.05, "ci_low": value - 0.2, "ci_high": value + 0.1, "n": 30},
                "south": {"value": value + 0.05, "ci_low": value - 0.1, "ci_high": value + 0.2, "n": 30},
            },
        })
    };
    json!([
        row("sums", "exact_match", "strict-match", right),
        row("sums", "exact_match", "flexible-extract", right + 0.05),
        row("capitals", "acc", "none", right),
    ])
}

fn sum(index: u64, right: bool) -> Value {
    let (a, b) = (index + 11, index * 3 % 17 + 2);
    let said = if right { a + b } else { a + b + 1 };
    let asked = match index {
        8 => "What is <script>alert('unescaped')</script> 3 + 4?".to_owned(),
        _ => format!("What is {a} + {b}?"),
    };
    json!({
        "task": "sums", "id": format!("sum-{index}"), "domain": domain(index), "group": null,
        "prompt": format!("Question: What is 1 + 1?\nAnswer: 1 + 1 = 2\n#### 2\n\nQuestion: {asked}\nAnswer:"),
        "reference": format!("{a} + {b} = {}\n#### {}", a + b, a + b),
        "output": format!(" First the tens, then the ones: <b>{a}</b> + {b} is {said}.\n#### {said}"),
        "prediction": said.to_string(), "correct": right, "finish_reason": "stop", "logprob_nats": null,
        "metrics": json!({"exact_match,strict-match": f64::from(u8::from(right)), "exact_match,flexible-extract": 1.0}).to_string(),
        "answers": json!({"strict-match": [said.to_string()], "flexible-extract": [(a + b).to_string()]}).to_string(),
        "choices": null, "messages": null,
    })
}

fn capital(index: u64, right: bool) -> Value {
    let names = ["Aston", "Birk", "Corvo", "Dell"];
    let target = (index % 4) as usize;
    let chosen = if right { target } else { (target + 1) % 4 };
    let sure = 0.4 + (index % 10) as f64 / 10.0;
    let choice = |at: usize| {
        let nats = if at == chosen { -3.0 } else { -3.0 - 2.0 * sure };
        json!({"text": names[at], "logprob_nats": nats, "tokens": 2, "bytes": 5, "is_greedy": false})
    };
    json!({
        "task": "capitals", "id": format!("land-{index}"), "domain": domain(index), "group": null,
        "prompt": format!("The capital of land {index} is"), "reference": names[target], "output": null,
        "prediction": names[chosen], "correct": right, "finish_reason": null, "logprob_nats": null,
        "metrics": json!({"acc,none": f64::from(u8::from(right))}).to_string(), "answers": null,
        "choices": json!((0..4).map(choice).collect::<Vec<_>>()).to_string(), "messages": null,
    })
}

fn domain(index: u64) -> &'static str {
    if index.is_multiple_of(2) { "north" } else { "south" }
}

fn verdicts() -> Fake {
    let config = json!({ "judges": ["openai:judge", "embedded"] });
    Fake::new("distill.judge", Kind::Verdicts, config, |context| {
        let one = |index: u64, judge: &str| {
            let score = (1 + (index + judge.len() as u64) % 5) as f64;
            let problem = (index == 7).then(|| "no verdict in the text".to_owned());
            Verdict {
                id: format!("sum-{index}"),
                model: Some("student".to_owned()),
                task: Some("sums".to_owned()),
                domain: Some(domain(index).to_owned()),
                judge: judge.to_owned(),
                score: problem.is_none().then_some(score),
                decisions: Some(json!({"right": score, "clear": 4.0}).to_string()),
                explanation: Some(format!("Step {index} says <i>why</i> it is so.")),
                text: problem.is_some().then(|| "I would rather not say.".to_owned()),
                problem,
                ..Verdict::default()
            }
            .to_row()
        };
        let rows: Vec<Row> =
            (0..20).flat_map(|index| ["openai:judge", "embedded"].map(|judge| one(index, judge))).collect();
        write(context, &rows)
    })
}

fn write(context: &Context<'_>, rows: &[Row]) -> Result<(), StageError> {
    context.services.tables.write(&context.output.join(nexa_core::judging::FILE), rows)?;
    context.services.tables.write(&context.output.join("jsonl"), &rows[..1])?;
    context.set_rows(rows.len() as u64);
    Ok(())
}
