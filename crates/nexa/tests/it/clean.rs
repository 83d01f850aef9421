//! `nexa data score`, `clean` and `thresholds`: measured once, judged as often as wanted.

use serde_json::Value;

use crate::support::Shell;

/// A lab with three rows: one that every gate lets pass, one too short, and one with an address in it.
fn lab_with_rows() -> Shell {
    let shell = Shell::in_lab();
    let prose = "The old bridge was closed on a cold morning. Nobody had seen such a flood since 1954.\n\
                 Later that day some engineers walked along both banks. Their report, which filled nine pages, blamed the ice.\n\
                 Farmers brought gravel in carts while children watched from a hill. By evening forty loads had arrived.\n\
                 Work began again with the first warm week of spring. Stone after stone went back to its former place.";
    let rows = [
        ("good", prose.to_owned()),
        ("short", "Too short.".to_owned()),
        ("mail", format!("{prose}\nAsk a.b@mail.org for more.")),
    ];
    let lines: Vec<String> =
        rows.iter().map(|(id, text)| serde_json::json!({"id": id, "text": text}).to_string()).collect();
    shell.write("rows.jsonl", &lines.join("\n"));
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    shell
}

/// Runs a command that must succeed and returns what it printed.
fn printed(shell: &Shell, arguments: &[&str]) -> String {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

#[test]
fn rows_are_scored_once_and_cleaned_by_thresholds() {
    let shell = lab_with_rows();
    assert_eq!(printed(&shell, &["data", "score"]), "tutor/scores_v1\n");
    assert_eq!(printed(&shell, &["data", "clean"]), "tutor/clean_v1\n");
    assert_eq!(printed(&shell, &["data", "clean", "gopher.min_words=60"]), "tutor/clean_v2\n");
    assert_eq!(printed(&shell, &["data", "clean"]), "tutor/clean_v1\n", "the same again is not made again");
    assert_eq!(
        printed(&shell, &["data", "score"]),
        "tutor/scores_v1\n",
        "what was cleaned is not scored anew"
    );
    let kept = printed(&shell, &["data", "show", "clean_v1", "--json"]);
    assert!(kept.contains("Ask <EMAIL_1> for more.") && !kept.contains("a.b@mail.org"), "{kept}");
    let rejected = printed(&shell, &["data", "show", "clean_v1", "--file", "rejected.parquet", "--json"]);
    assert!(rejected.contains("words 2.0000 is below min_words 50"), "{rejected}");
}

#[test]
fn other_thresholds_are_tried_without_writing() {
    let shell = lab_with_rows();
    printed(&shell, &["data", "score"]);
    let told = printed(&shell, &["data", "thresholds", "--set", "gopher.min_words=1000", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["kept_before"], &told["kept_after"], &told["flipped"]),
        (&2.into(), &0.into(), &2.into())
    );
    assert!(!printed(&shell, &["data", "list"]).contains("clean"), "nothing is written");
    let ran = shell.run(&["data", "thresholds", "--set", "gopher.min_wrds=3"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("did you mean `gopher.min_words`?"), "{}", ran.stderr);
}
