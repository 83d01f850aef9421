//! Judging as a person types it, by the judge inside the program: what comes out, and with which exit code.

use crate::support::{Shell, small_pipeline};

const RUBRIC: &str = "
name: tutoring
criteria:
  - {name: right, question: Is it right?, weight: 3, levels: [no, hardly, partly, mostly, yes]}
  - {name: clear, question: Is it clear?, levels: [no, hardly, partly, mostly, yes]}
";

/// A lab with answers of the embedded teacher, some of them wrong.
fn lab() -> Shell {
    let shell = Shell::in_lab();
    shell.write("small.yaml", &small_pipeline(""));
    shell.write("elsewhere/rubric.yaml", RUBRIC);
    let ran = shell.run(&["run", "small.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    shell
}

#[test]
fn a_score_that_is_too_low_ends_with_a_code_of_its_own() {
    let shell = lab();
    let judge = |bound: &str| {
        shell.run(&[
            "judge",
            "--outputs",
            "outputs",
            "--judges",
            "embedded",
            "--rubric",
            "elsewhere/rubric.yaml",
            "--fail-below",
            bound,
        ])
    };
    let passed = judge("2");
    assert_eq!(passed.code, 0, "{}", passed.stderr);
    assert_eq!(passed.stdout, "tutor/verdicts_v1\n");
    for told in ["goes by rules and is no model", "95 % interval", "`right`", "passed: nothing is below 2"] {
        assert!(passed.stderr.contains(told), "{told}: {}", passed.stderr);
    }
    let failed = judge("4.99");
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("failed: score"), "{}", failed.stderr);
    assert!(failed.stderr.contains("up to date"), "nothing is judged twice: {}", failed.stderr);
}

#[test]
fn a_report_holds_a_judge_against_people() {
    let shell = lab();
    let made = shell.run(&[
        "judge",
        "--outputs",
        "outputs",
        "--judges",
        "embedded",
        "--rubric",
        "elsewhere/rubric.yaml",
        "--json",
    ]);
    let found: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(found["report"]["unreadable"], 0, "{}", made.stderr);
    let rows = shell.run(&["data", "show", "verdicts", "--limit", "3", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap();
    let rows: Vec<(&str, f64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["score"].as_f64().unwrap()))
        .collect();
    // People say what the judge says of two answers, and something else of the third.
    let labels: String = rows
        .iter()
        .enumerate()
        .map(|(position, (id, score))| {
            let own = score.round();
            let label = if position < 2 { own } else { [5.0, 1.0][usize::from(own > 1.0)] };
            format!("{{\"id\": \"{id}\", \"score\": {label}}}\n")
        })
        .collect();
    shell.write("labels.jsonl", &labels);
    let report = shell.run(&["judge", "report", "verdicts", "--labels", "labels.jsonl"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
    let shown = |measure: &str| {
        let cells =
            report.stdout.lines().find_map(|line| line.strip_prefix(measure)?.split_whitespace().next());
        cells.map(str::to_owned)
    };
    assert_eq!(shown("agreement").as_deref(), Some("0.67"), "{}", report.stdout);
    let found = shell.run(&["judge", "report", "verdicts", "--labels", "labels.jsonl", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    let card = &found["cards"][0];
    assert_eq!((card["items"].as_u64(), card["agreement"]["value"].as_f64()), (Some(3), Some(2.0 / 3.0)));
    for (measure, key) in [
        ("Krippendorff's alpha, ordinal", "alpha_ordinal"),
        ("judge off people", "mean_absolute_error"),
        ("corrected by people, all items", "corrected_mean"),
    ] {
        let value = card[key]["value"].as_f64().map(|value| format!("{value:.2}"));
        assert!(value.is_some(), "{key}: {card}");
        assert_eq!(shown(measure), value, "{measure}: {}", report.stdout);
    }

    let check = |arguments: &[&str], code: i32, message: &str| {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    };
    shell.write("bad.jsonl", "{\"id\": \"a\", \"score\": \"good\"}\n");
    check(&["judge", "report", "--labels", "bad.jsonl"], 4, "row 1: `score` is `good`");
    check(&["judge", "report", "--labels", "none.jsonl"], 4, "none.jsonl");
    let of_nobody = format!("{{\"id\": \"{}\", \"model\": \"nobody\", \"score\": 4}}\n", rows[0].0);
    shell.write("nobody.jsonl", &of_nobody);
    check(
        &["judge", "report", "verdicts", "--labels", "nobody.jsonl"],
        0,
        "no item that was judged has a label of nobody.jsonl",
    );
    check(&["judge", "report", "outputs"], 3, "verdicts");
    check(&["judge", "--outputs", "outputs"], 3, "`judges` is empty");
    check(&["judge", "--judges", "embedded", "--mt-bench"], 4, "evaluation");
    check(&["judge", "--versus", "x", "--judges", "embedded"], 2, "--evaluation");
}

/// Rounds follow the record of the verdicts, which names the rubric itself and not its file.
#[test]
fn answers_that_are_asked_for_again_are_judged_as_the_first_were() {
    let shell = Shell::in_lab();
    shell.write("rubric.yaml", RUBRIC);
    let judged = "  verdicts: {uses: distill.judge, in: {outputs: outputs}, with: {judges: [embedded], rubric: rubric.yaml}}
  passed: {uses: distill.filter, in: {outputs: outputs, verdicts: verdicts}}
";
    shell.write("small.yaml", &small_pipeline(judged));
    let ran = shell.run(&["run", "small.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    std::fs::remove_file(shell.path("rubric.yaml")).unwrap();
    let rounds = shell.run(&["distill", "regenerate", "--rounds", "1", "--in", "filtered=passed"]);
    assert_eq!(rounds.code, 0, "{}", rounds.stderr);
    assert!(rounds.stderr.contains("regenerated_verdicts_v1"), "{}", rounds.stderr);
}
