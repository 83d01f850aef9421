//! `nexa data diff`, `tag`, `checkout` and `gc`, and receipts of rows, as a person uses them.

use serde_json::Value;

use crate::support::{PACKAGED, Ran, Shell, small_pipeline};

fn row(id: &str, text: &str) -> String {
    serde_json::json!({"id": id, "text": text}).to_string() + "\n"
}

/// A lab with so many versions of the data set `dataset`; each has one more row, and the first row says another thing.
fn lab(versions: usize) -> Shell {
    let shell = Shell::in_lab();
    for version in 1..=versions {
        let more: String = (0..version).map(|n| row(&format!("r{n}"), "same")).collect();
        shell.write("rows.jsonl", &(row("first", &format!("version {version}")) + &more));
        done(&shell, &["data", "ingest", "paths=[rows.jsonl]"]);
    }
    shell
}

fn done(shell: &Shell, arguments: &[&str]) -> Ran {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

fn json(shell: &Shell, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&done(shell, &arguments).stdout).unwrap()
}

#[test]
fn two_versions_differ_by_their_rows() {
    let shell = lab(2);
    let ran = done(&shell, &["data", "diff", "dataset@v1", "dataset"]);
    assert!(ran.stderr.contains("tutor/dataset_v1 → tutor/dataset_v2, rows by id"), "{}", ran.stderr);
    let counts = ran.stdout.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(counts, ["1", "0", "1", "1"], "{}", ran.stdout);
    assert!(ran.stdout.contains("+ id=r1  text=same"), "{}", ran.stdout);
    assert!(ran.stdout.contains("~ id=first\n    text: version 1 → version 2"), "{}", ran.stdout);

    let value = json(&shell, &["data", "diff", "dataset@v1", "dataset@v2", "--key", "id"]);
    assert_eq!(value["rows"]["added"], 1);
    assert_eq!(value["changed_columns"], serde_json::json!([{"column": "text", "rows": 1}]));
    assert_eq!(shell.run(&["data", "diff", "dataset@v1", "dataset@v2", "--exit-code"]).code, 1);
    assert_eq!(shell.run(&["data", "diff", "dataset@v1", "dataset_v1", "--exit-code"]).code, 0);
    let refused = shell.run(&["data", "diff", "dataset@v1", "dataset@v2", "--key", "idd"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean `id`?"), "{}", refused.stderr);
    let refused = shell.run(&["data", "diff", "dataset@v1", "dataset@v2", "--key", "text"]);
    assert!(refused.stderr.contains("rows 2 and 3 have the same key (text \"same\")"), "{}", refused.stderr);
}

#[test]
fn a_tag_names_a_version_wherever_an_artifact_can_be_named() {
    let shell = lab(2);
    let ran = done(&shell, &["data", "tag", "dataset@v1", "golden"]);
    assert!(ran.stderr.contains("tutor/dataset_v1 is dataset:golden"), "{}", ran.stderr);
    for command in [
        &["data", "show", "dataset:golden", "--contains", "version"][..],
        &["data", "verify", "dataset:golden"],
        &["data", "stats", "dataset:golden"],
        &["data", "split", "--from", "dataset:golden"],
        &["lineage", "dataset:golden"],
        &["lineage", "dataset:golden", "--children"],
    ] {
        done(&shell, command);
    }
    let facts = json(&shell, &["data", "show", "dataset:golden", "--facts"]);
    assert_eq!((&facts["tags"], &facts["counts"]["rows"]), (&serde_json::json!(["golden"]), &2.into()));
    assert_eq!(facts["schema"][0], serde_json::json!({"name": "id", "type": "text"}));
    let listed = done(&shell, &["data", "list"]);
    let line = listed.stdout.lines().find(|line| line.starts_with("tutor/dataset_v1")).unwrap();
    assert!(line.contains("golden"), "{line}");

    let refused = shell.run(&["data", "tag", "dataset@v2", "golden"]);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("dataset@v1 has it; `--move`"), "{}", refused.stderr);
    done(&shell, &["data", "tag", "dataset@v2", "golden", "--move"]);
    done(&shell, &["data", "tag", "dataset", "golden", "--delete"]);
    assert_eq!(json(&shell, &["data", "tag"]), serde_json::json!([]));
    assert_eq!(json(&shell, &["data", "tag", "--history"]).as_array().unwrap().len(), 3);
    for word in ["v3", "3", "latest", "Golden"] {
        let refused = shell.run(&["data", "tag", "dataset", word]);
        assert_eq!(refused.code, 3, "{word}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(&format!("error: tag `{word}`: ")), "{}", refused.stderr);
    }
    let unknown = shell.run(&["lineage", "dataset:golden"]);
    assert!(unknown.stderr.contains("find tag `dataset:golden`"), "{}", unknown.stderr);
}

#[test]
fn a_tag_that_asks_for_something_is_not_given_for_nothing() {
    let shell = lab(2);
    let settings = std::fs::read_to_string(shell.path("nexa.yaml")).unwrap();
    shell.write("nexa.yaml", &format!("{settings}\npromotion: {{prod: {{}}}}\n"));
    // The file that the first version was made of is another now.
    let refused = shell.run(&["data", "tag", "dataset@v1", "prod"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("fails: everything that it descends from"), "{}", refused.stderr);
    assert!(refused.stderr.contains("rows.jsonl has changed since it was used"), "{}", refused.stderr);
    assert_eq!(json(&shell, &["data", "tag"]), serde_json::json!([]));

    let checked = json(&shell, &["data", "tag", "dataset@v2", "prod", "--check"]);
    assert_eq!(
        (checked[0]["holds"].as_bool(), json(&shell, &["data", "tag"])),
        (Some(true), serde_json::json!([]))
    );
    let given = done(&shell, &["data", "tag", "dataset@v2", "prod"]);
    assert!(given.stderr.contains("tutor/dataset_v2 is dataset:prod"), "{}", given.stderr);
    done(&shell, &["data", "tag", "dataset@v1", "other"]);

    shell.write("nexa.yaml", &format!("{settings}\npromotion: {{prod: {{requires: []}}}}\n"));
    let misspelt = shell.run(&["data", "tag", "dataset@v2", "prod"]);
    assert_eq!(misspelt.code, 3, "{}", misspelt.stderr);
    assert!(misspelt.stderr.contains("requires"), "{}", misspelt.stderr);
}

#[test]
fn a_version_is_checked_out() {
    let shell = lab(1);
    let ran = done(&shell, &["data", "checkout", "dataset", "out"]);
    assert!(ran.stdout.contains("out/dataset_v1.parquet"), "{}", ran.stdout);
    assert!(shell.path("out/dataset_v1.manifest.json").is_file());
    assert_eq!(shell.run(&["data", "checkout", "dataset", "out"]).code, 3);
}

#[test]
fn a_collection_says_first_what_would_go() {
    let shell = lab(4);
    done(&shell, &["data", "tag", "dataset@v1", "golden"]);
    done(&shell, &["data", "split", "--from", "dataset@v2", "--output", "sides"]);
    let would = done(&shell, &["data", "gc", "--keep-last", "1"]);
    assert!(would.stdout.contains("would go"), "{}", would.stdout);
    assert!(would.stderr.contains("would remove: 1 artifacts and 0 leftovers"), "{}", would.stderr);
    for (id, why) in [
        ("dataset_v1", "tagged golden"),
        ("dataset_v2", "tutor/sides_v1 descends from it"),
        ("dataset_v4", "among the newest of its name"),
    ] {
        let line = would.stdout.lines().find(|line| line.starts_with(&format!("tutor/{id}"))).unwrap();
        assert!(line.ends_with(why), "{line}");
    }
    done(&shell, &["data", "show", "dataset@v3"]);

    let young = json(&shell, &["data", "gc", "--keep-last", "1", "--older-than", "1d"]);
    assert_eq!(young["removed"], serde_json::json!([]));
    let settings = std::fs::read_to_string(shell.path("nexa.yaml")).unwrap();
    shell.write("nexa.yaml", &format!("{settings}\nretention: {{keep_last: 1}}\n"));
    let removed = json(&shell, &["data", "gc", "--yes"]);
    assert_eq!(removed["removed"][0]["id"], "tutor/dataset_v3");
    let gone = shell.run(&["data", "show", "dataset@v3"]);
    assert_eq!(gone.code, 4);
    assert!(gone.stderr.contains("`nexa data gc` removed it on 20"), "{}", gone.stderr);
    let tree = done(&shell, &["lineage", "dataset@v3"]);
    assert!(
        tree.stdout.contains("REMOVED by gc at 20") && tree.stdout.contains("rows.jsonl"),
        "{}",
        tree.stdout
    );
    let doctor = done(&shell, &["doctor"]);
    assert!(doctor.stdout.contains("current"), "{}", doctor.stdout);
    let nothing = done(&shell, &["data", "gc", "--yes"]);
    assert!(nothing.stderr.contains("nothing to remove"), "{}", nothing.stderr);

    shell.write("nexa.yaml", &format!("{settings}\nretention: {{older_than: 30 days}}\n"));
    let refused = shell.run(&["data", "gc"]);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("`retention.older_than`: age `30 days`"), "{}", refused.stderr);
}

#[test]
fn a_row_has_a_receipt_and_a_source_its_reach() {
    let shell = Shell::new();
    shell.write("nexa.yaml", "project: tutor\n");
    shell.write("p.yaml", &small_pipeline(PACKAGED));
    done(&shell, &["run", "p.yaml"]);
    let rows = json(&shell, &["data", "show", "sft", "-n", "1"]);
    let id = rows[0]["id"].as_str().unwrap();
    let receipt = json(&shell, &["lineage", id]);
    assert_eq!(receipt["row"], id);
    assert_eq!(receipt["origins"][0]["source_file"], "raw.jsonl");
    assert!(receipt["origins"][0]["line"].is_u64(), "{receipt}");
    assert_eq!(receipt["attempts"][0]["teacher"], "embedded");
    assert_eq!(receipt["attempts"][0]["paid"]["usd"], 0.0, "the embedded teacher is free, and said to be");
    assert_eq!(receipt["gates"][0]["stage"], "distill.filter");
    assert!(receipt["packages"][0]["split"].is_string());
    let told = done(&shell, &["lineage", id]).stdout;
    for head in ["from", "asked", "answered", "sifted", "packaged"] {
        assert!(told.contains(&format!("\n{head}\n  tutor/")), "{head}: {told}");
    }

    let reached = json(&shell, &["lineage", id, "--reached"]);
    let of = |id: &str| {
        let artifacts = reached["artifacts"].as_array().unwrap();
        artifacts.iter().find(|one| one["id"] == id).map(|one| one["rows"].clone())
    };
    assert_eq!((of("tutor/rows_v1"), of("tutor/sft_v1")), (Some(1.into()), Some(1.into())), "{reached}");
    let reached = done(&shell, &["lineage", "problems", "--reached"]).stdout;
    assert!(reached.contains("tutor/sft_v1"), "{reached}");

    let unknown = shell.run(&["lineage", "nobody-7"]);
    assert_eq!(unknown.code, 4);
    assert!(unknown.stderr.contains("find row `nobody-7`"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("neither an artifact nor a row of the"), "{}", unknown.stderr);
}
