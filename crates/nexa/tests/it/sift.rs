//! `nexa data dedup`, `decontaminate` and `split`, one after the other, and what packaging asks for.

use crate::support::Shell;

const QUESTION: &str = "A baker fills fourteen trays with nine rolls each and sells two thirds of them before noon. \
                        How many rolls does the baker have left for the afternoon?";

fn lab() -> Shell {
    let shell = Shell::in_lab();
    let row = |id: &str, question: &str| {
        serde_json::json!({"id": id, "question": question, "answer": "#### 42"}).to_string() + "\n"
    };
    let mut rows: String = (0..40).map(|n| row(&format!("r{n}"), &format!("What is {n} and {n}?"))).collect();
    rows.push_str(&row("copy", "what is 7  and 7?"));
    rows.push_str(&row("leak", &format!("Solve this. {QUESTION} Think well.")));
    shell.write("rows.jsonl", &rows);
    shell.write("exam.jsonl", &row("exam", QUESTION));
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    shell
}

#[test]
fn rows_are_sifted_without_arguments_one_command_after_the_other() {
    let shell = lab();
    let settings = std::fs::read_to_string(shell.path("nexa.yaml")).unwrap();
    shell.write("nexa.yaml", &format!("{settings}\nevaluation_sets: [{{path: exam.jsonl}}]\n"));

    let refused = shell.run(&["distill", "package", "--in", "dataset=dataset"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("it was not held against exam.jsonl"), "{}", refused.stderr);
    assert!(refused.stderr.contains("nexa data decontaminate --from tutor/dataset_v1"), "{}", refused.stderr);

    let summary = |arguments: &[&str]| -> serde_json::Value {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["summary"].clone()
    };
    let unique = summary(&["data", "dedup", "--json"]);
    assert_eq!((&unique["exact_duplicates"], &unique["near_duplicates"]), (&1.into(), &0.into()));
    let clean = summary(&["data", "decontaminate", "--json"]);
    assert_eq!((&clean["rows_in"], &clean["removed"]), (&41.into(), &1.into()));
    let split = summary(&["data", "split", "test_share=0.3", "validation_share=0.3", "--json"]);
    assert!(split["rows"]["test"].as_u64().unwrap() > 0);

    let shown = shell.run(&["data", "show", "decontaminated", "--file", "rejected.parquet", "--json"]);
    assert!(shown.stdout.contains("100 % of the question of item `exam` of exam.jsonl"), "{}", shown.stdout);
    let packaged = shell.run(&[
        "distill",
        "package",
        "--in",
        "dataset=split",
        "split_column=split",
        "test_values=[test]",
        "validation_values=[validation]",
    ]);
    assert_eq!(packaged.code, 0, "{}", packaged.stderr);
}

#[test]
fn an_unknown_setting_and_an_artifact_without_rows_are_told() {
    let shell = lab();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    check(&["data", "dedup", "min_similarty=0.5"], 3, "did you mean `min_similarity`?");
    check(&["data", "decontaminate"], 3, "there are no evaluation items");
    check(&["data", "split", "--from", "nothing"], 4, "nothing");
}
