//! `nexa data query` as a person uses it.

use insta::assert_snapshot;

use crate::support::{Ran, Shell};

fn lab() -> Shell {
    let shell = Shell::in_lab();
    let rows: String = (0..100)
        .map(|n| serde_json::json!({"question": format!("What is {n} and {n}?"), "n": n, "even": n % 2 == 0}))
        .map(|row| row.to_string() + "\n")
        .collect();
    shell.write("rows.jsonl", &rows);
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    shell
}

fn query(shell: &Shell, arguments: &[&str]) -> Ran {
    shell.run(&[&["data", "query"], arguments].concat())
}

/// What was told, without the time that it took.
fn told(ran: &Ran) -> String {
    let kept = ran.stderr.lines().map(|line| line.rsplit_once(" in ").map_or(line, |(told, _)| told));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_table_for_people_is_short_and_says_so() {
    let shell = lab();
    let ran = query(&shell, &["SELECT n, question FROM dataset ORDER BY n DESC", "--limit", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_snapshot!(ran.stdout, @r"
     n  question
    99  What is 99 and 99?
    98  What is 98 and 98?
    ");
    assert_snapshot!(told(&ran), @"100 rows, of which 98 are left out (`--limit N` shows more, `--format` and `--output` all)");
}

#[test]
fn answers_go_to_stdout_and_files_in_every_format() {
    let shell = lab();
    let sql = "SELECT even, count(*) AS n, avg(n) AS mean FROM tutor.dataset_v1 GROUP BY even ORDER BY even";
    assert_snapshot!(query(&shell, &[sql, "--format", "csv"]).stdout, @r"
    even,n,mean
    false,50,50.0
    true,50,49.0
    ");
    assert_snapshot!(query(&shell, &[sql, "--json"]).stdout, @r#"[{"even":false,"n":50,"mean":50.0},{"even":true,"n":50,"mean":49.0}]"#);
    let ran = query(&shell, &[sql, "--output", "out/answer.jsonl.zst"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert_eq!(told(&ran), "out/answer.jsonl.zst: 2 rows");
    let again = query(&shell, &[sql, "--output", "out/answer.jsonl.zst"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert_snapshot!(again.stderr, @r"
    error: write `out/answer.jsonl.zst`: it is there already
    hint: `--force` replaces it
    ");
    assert_eq!(query(&shell, &[sql, "--output", "out/answer.parquet"]).code, 0);
    let back = "SELECT a.even FROM 'out/answer.parquet' a JOIN 'out/answer.jsonl.zst' b ON a.mean = b.mean ORDER BY 1";
    assert_eq!(query(&shell, &[back, "--format", "jsonl"]).stdout, "{\"even\":false}\n{\"even\":true}\n");
    let unknown = query(&shell, &[sql, "--output", "answer.xls"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("`--format` says what it is"), "{}", unknown.stderr);
}

#[test]
fn mistakes_are_one_line_with_what_to_do() {
    let shell = lab();
    let check = |sql: &str, code: i32, message: &str, hint: &str| {
        let ran = query(&shell, &[sql]);
        assert_eq!(ran.code, code, "{sql}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].contains(message), "{sql}: {}", ran.stderr);
        assert!(lines.get(1).copied().unwrap_or_default().contains(hint), "{sql}: {}", ran.stderr);
        assert!(lines.len() <= 2, "{sql}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{sql}");
    };
    check("SELECT * FROM datasets", 4, "find table `tutor.datasets`", "did you mean `dataset`?");
    check("SELECT quesion FROM dataset", 2, "there is no column `quesion`", "did you mean `question`?");
    check("SELECT * FROM dataset_v2", 4, "find version `tutor/dataset_v2`", "there are: v1");
    check("DELETE FROM dataset", 2, "only statements that read", "begins with SELECT");
    check("SELECT (question FROM dataset", 2, "query: ", "");
    check("SELECT upperr(question) FROM dataset", 2, "upperr", "");
    check("SELECT * FROM 's3://bucket/*.parquet'", 7, "AWS_ACCESS_KEY_ID is not set", ".env");
    let ran = query(&shell, &["SELECT array_agg(question) FROM dataset", "--memory-limit", "1KiB"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("does not fit into 1.0 kB of memory"), "{}", ran.stderr);
}
