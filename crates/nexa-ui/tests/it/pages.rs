//! What the pages say about a lab, and that each twin says the same.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use nexa_core::artifact::{ArtifactId, Kind};
use nexa_core::cost::Spend;
use nexa_core::lab::Lab;
use nexa_core::run::RunRecord;
use nexa_core::stage::Inputs;
use nexa_core::table::{JsonLines, Row, Tables};
use nexa_ui::{Estimate, Group, LeaderboardView, Standing};
use serde_json::{Value, json};

use crate::http::{Board, Server};
use crate::lab::{Fake, PROJECT, fabricate};

const BOARD: Board = Board(|project| {
    let standing = |rank, model: &str, value: f64| Standing {
        rank: Some(rank),
        model: model.to_owned(),
        evaluation: format!("{project}/evaluation_v{rank}"),
        exact_match: Some(Estimate { value, ci_low: Some(value - 0.05), ci_high: Some(value + 0.05) }),
        bits_per_byte: None,
        p_value: (rank > 1).then_some(0.02),
        verdict: (rank > 1).then(|| "worse than the first".to_owned()),
        model_spend: Some(Spend {
            unknown: vec!["machine time".to_owned()],
            machine_seconds: 1.0,
            ..Spend::default()
        }),
        created_at: None,
    };
    let rows = vec![
        standing(1, &format!("{project}/student_v2"), 0.875),
        standing(2, "<script>model</script>", 0.5),
    ];
    let dataset = format!("{project}/problems_v1");
    let groups = vec![Group { dataset, split: "test".to_owned(), n: 90, rows }];
    Ok(LeaderboardView { groups, boards: Vec::new() })
});

/// A lab that only reading tests share, and its server.
fn shared() -> &'static (Lab, Server) {
    static SHARED: OnceLock<(tempfile::TempDir, (Lab, Server))> = OnceLock::new();
    &SHARED
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let lab = fabricate(folder.path()).unwrap_or_else(|e| panic!("{e}"));
            let server = Server::start(&lab, BOARD);
            (folder, (lab, server))
        })
        .1
}

/// The run that made an artifact, or that was to make it.
fn run_of(lab: &Lab, stem: &str) -> RunRecord {
    let made =
        |run: &RunRecord| run.output.as_ref().map_or_else(|| run.name.clone(), ArtifactId::stem) == stem;
    nexa_core::run::all(lab).unwrap().into_iter().rfind(made).unwrap()
}

fn check(path: &str, holds: &[&str], lacks: &[&str]) {
    shared().1.check(path, holds, lacks);
}

#[test]
fn the_overview_shows_projects_runs_leaders_and_spend() {
    let student = format!("/data/{PROJECT}/student_v2");
    check(
        "/",
        &[PROJECT, "status finished", "status failed", &student, "87.5 %", "unknown (machine time)"],
        &["$0.0000"],
    );
    let data = shared().1.json("/.json");
    assert_eq!((&data["projects"][0]["artifacts"], &data["projects"][0]["runs"]), (&7.into(), &9.into()));
    assert_eq!(data["leaders"][0]["groups"][0]["rows"][0]["rank"], 1);
}

#[test]
fn runs_are_filtered() {
    let count = |query: &str, expected: usize| {
        let data = shared().1.json(&format!("/runs.json{query}"));
        assert_eq!(data["runs"].as_array().unwrap().len(), expected, "{query}");
    };
    count("", 9);
    count("?stage=train", 4);
    count("?stage=train&status=finished&q=", 2);
    count("?status=killed", 1);
    count("?status=running", 0);
    count("?project=other", 0);
    count("?q=teacher", 1);
    check(
        "/runs?stage=train",
        &["<option value=\"train\" selected", "status killed", "status failed"],
        &["distill.collect</td>"],
    );
}

#[test]
fn a_run_shows_its_facts_and_the_way_on() {
    let run = run_of(&shared().0, "student_v2");
    let path = format!("/runs/{}", run.id);
    let from = format!("/data/{PROJECT}/filtered_v1");
    let made = format!("/data/{PROJECT}/student_v2");
    check(
        &path,
        &["num_hidden_layers: 4", &from, &made, "grad_norm", "metrics.csv", &run.host.name],
        &["data-live"],
    );
    let data = shared().1.json(&format!("{path}.json"));
    assert_eq!(data["record"]["config"]["learning_rate"], 0.002);
    let keys: Vec<_> =
        data["metrics"].as_array().unwrap().iter().map(|metric| metric["key"].clone()).collect();
    assert_eq!(keys, ["loss", "learning_rate", "grad_norm", "val_loss"]);
}

#[test]
fn failed_and_killed_runs_say_why() {
    let failed = run_of(&shared().0, "broken");
    check(&format!("/runs/{}", failed.id), &["status failed", "the loss is not finite at step 40"], &[]);
    check("/runs/20260101-000000-train-dead", &["status killed", "Its process is gone"], &["status running"]);
}

#[test]
fn curves_are_thinned_but_keep_spikes_and_the_cursor() {
    let run = run_of(&shared().0, "student_v2");
    let data = shared().1.json(&format!("/runs/{}/curves.json", run.id));
    assert_eq!(data["cursor"], "2000-0");
    let loss = data["curves"].as_array().unwrap().iter().find(|curve| curve["key"] == "loss").unwrap();
    let points = loss["points"].as_array().unwrap();
    assert!(points.len() <= 1500, "{} points", points.len());
    assert!(points.iter().any(|point| point[0] == 1200.0), "the spike at step 1200 is lost");
    assert_eq!((&points[0][0], &points[points.len() - 1][0]), (&0.0.into(), &1999.0.into()));
}

#[test]
fn metrics_are_downloaded_in_full() {
    let run = run_of(&shared().0, "student_v2");
    let answer = shared().1.open(&format!("/runs/{}/metrics.csv", run.id), &[]);
    assert!(answer.head.contains("attachment") && answer.head.contains("text/csv"));
    let csv = answer.text();
    assert_eq!(csv.lines().count(), 2001);
    assert!(
        csv.starts_with("step,tokens,epoch,loss,learning_rate,grad_norm,val_loss\r\n0,0,0.0,"),
        "{}",
        &csv[..120]
    );
}

#[test]
fn a_comparison_shows_only_what_differs() {
    let runs: Vec<_> =
        nexa_core::run::all(&shared().0).unwrap().into_iter().filter(|run| run.name == "student").collect();
    let query = format!("?run={}&run={}&run={}", runs[0].id, runs[1].id, runs[0].id);
    check(
        &format!("/compare{query}"),
        &["config.learning_rate", "config.model.num_hidden_layers"],
        &["config.max_steps"],
    );
    let data = shared().1.json(&format!("/compare.json{query}"));
    let keys: Vec<_> = data["differences"].as_array().unwrap().iter().map(|d| d["key"].clone()).collect();
    assert_eq!(keys, ["config.learning_rate", "config.model.num_hidden_layers"]);
    assert_eq!(data["runs"].as_array().unwrap().len(), 2, "a run named twice is one run");
    check("/compare", &["Choose two or more"], &[]);
    assert_eq!(shared().1.get("/compare?run=no-such-run").0, 404);
}

#[test]
fn the_leaderboard_shows_intervals_tests_and_samples() {
    let wrong = format!("/evaluation/{PROJECT}/evaluation_v1?task=exact_match&amp;judged=wrong");
    check(
        "/leaderboard",
        &["82.5 % to 92.5 %", "p = 0.020", "worse than the first", &wrong, "<svg", "unknown (machine time)"],
        &["<script>model", "bits per byte</th>"],
    );
    let data = shared().1.json("/leaderboard.json");
    assert_eq!(data["boards"][0]["groups"][0]["rows"][0]["exact_match"]["ci_low"], 0.825);
}

#[test]
fn what_has_no_rank_or_no_interval_is_shown_without() {
    let server = Server::start(
        &shared().0,
        Board(|project| {
            let row = Standing {
                rank: None,
                model: "unranked".to_owned(),
                evaluation: format!("{project}/evaluation_v1"),
                exact_match: None,
                bits_per_byte: Some(Estimate { value: 0.75, ci_low: None, ci_high: None }),
                p_value: None,
                verdict: None,
                model_spend: None,
                created_at: None,
            };
            let dataset = format!("{project}/problems_v1");
            Ok(LeaderboardView {
                groups: vec![Group { dataset, split: "test".to_owned(), n: 1, rows: vec![row] }],
                boards: Vec::new(),
            })
        }),
    );
    let page = server.get("/leaderboard").1;
    assert!(page.contains("<td class=\"number\">—</td>") && page.contains("0.7500"), "{page}");
    assert!(!page.contains("NaN") && !page.contains("4294967295"), "{page}");
    let twin = server.json("/leaderboard.json");
    let row = &twin["boards"][0]["groups"][0]["rows"][0];
    assert!(row["rank"].is_null() && row["bits_per_byte"]["ci_low"].is_null(), "{row}");
}

#[test]
fn a_leaderboard_that_fails_says_so() {
    let server = Server::start(&shared().0, Board(|_| Err("predictions of `x_v1` are gone".to_owned())));
    assert!(server.get("/leaderboard").1.contains("predictions of `x_v1` are gone"));
    assert_eq!(server.get("/").0, 200, "the overview lives on");
}

#[test]
fn data_is_listed_and_filtered() {
    check("/data", &["problems_v1", "5,230", "jsonl", "student_v1"], &[]);
    check("/data?kind=evaluation", &["evaluation_v2"], &["problems_v1<"]);
    assert_eq!(shared().1.json("/data.json?q=student")["artifacts"].as_array().unwrap().len(), 2);
}

#[test]
fn rows_are_shown_searched_and_escaped() {
    let path = format!("/data/{PROJECT}/problems_v1");
    let escaped = "&lt;script&gt;alert(";
    check(&path, &[escaped, "page 1 of 4", "addition", "problem-0049"], &["<script>alert(", "problem-0050"]);
    check(&format!("{path}?page=2"), &["problem-0050"], &["problem-0049"]);
    check(&format!("{path}?q=UNESCAPED"), &["1 of 180 rows"], &["problem-0005"]);
    check(&format!("{path}?q=%3Cb%3E&page=7"), &["value=\"&lt;b&gt;\"", "1 of 180 rows"], &["<b>5"]);
    check(&format!("{path}?column=domain&value=addition"), &["60 of 180 rows"], &["problem-0001"]);
    check(&format!("{path}?q=nothing+like+this"), &["No row fits"], &[]);
    let data = shared().1.json(&format!("{path}.json?q=unescaped"));
    assert_eq!((&data["table"]["matching"], &data["table"]["rows"][0]["number"]), (&1.into(), &5.into()));
    check(&format!("{path}/5"), &[escaped, "of 180", &format!("{path}/6?file=jsonl")], &["<script>alert("]);
    assert_eq!(shared().1.json(&format!("{path}/5.json"))["row"]["id"], "problem-0004");
    for row in ["0", "181", "x"] {
        assert_eq!(shared().1.get(&format!("{path}/{row}")).0, 404, "row {row}");
    }
}

/// Counts how often a table is read.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Tables for Counting {
    fn read(&self, path: &Path) -> nexa_core::Result<Vec<Row>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        JsonLines.read(path)
    }

    fn write(&self, path: &Path, rows: &[Row]) -> nexa_core::Result<()> {
        JsonLines.write(path, rows)
    }

    fn split_name<'n>(&self, name: &'n str) -> Option<(&'n str, &'static str)> {
        JsonLines.split_name(name)
    }
}

#[test]
fn the_last_few_tables_are_kept() {
    let tables = Arc::new(Counting::default());
    let server = Server::start_with(&shared().0, BOARD, tables.clone());
    let read = |path: &str, reads: usize| {
        assert_eq!(server.get(&format!("/data/{PROJECT}/{path}")).0, 200, "{path}");
        assert_eq!(tables.0.load(Ordering::SeqCst), reads, "{path}");
    };
    read("problems_v1", 1);
    read("problems_v1?page=2", 1);
    read("problems_v1/7", 1);
    read("teacher_outputs_v1", 2);
    read("filtered_v1", 3);
    read("filtered_v1?file=rejected.jsonl", 4);
    read("problems_v1", 4);
    read("evaluation_v1", 5);
    read("problems_v1", 5);
    read("teacher_outputs_v1", 6);
}

#[test]
fn an_artifact_shows_its_files_and_its_funnel() {
    let path = format!("/data/{PROJECT}/filtered_v1");
    check(
        &path,
        &["funnel", "teacher outputs", "<rect class=\"fill\"", "0.09090", "rejected.jsonl"],
        &["rejection_gate"],
    );
    check(&format!("{path}?file=rejected.jsonl"), &["rejection_gate", "30 of 30 rows"], &[]);
    check(&format!("{path}?file=no.such.jsonl"), &["error: find file `no.such.jsonl"], &[]);
    check(&format!("/data/{PROJECT}/student_v1"), &["model.safetensors", "val_loss"], &["No row fits"]);
}

#[test]
fn the_main_table_is_shown_and_only_tables_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::init(folder.path(), Some(PROJECT)).unwrap();
    let files = ["notes.csv", "rejected.jsonl", "train.jsonl"];
    let stage = Fake::new("distill.package", Kind::SftDataset, Value::Null, move |context| {
        for name in files {
            nexa_core::files::write_atomic(
                &context.output.join(name),
                format!("{{\"from\":\"{name}\"}}\n").as_bytes(),
            )?;
        }
        Ok(())
    });
    stage.run(&lab, "sft", &Inputs::none()).unwrap_or_else(|e| panic!("{e}"));
    let server = Server::start(&lab, BOARD);
    let path = format!("/data/{PROJECT}/sft_v1");
    let page = server.json(&format!("{path}.json"));
    assert_eq!((&page["table"]["file"], &page["tables"]), (&json!("train.jsonl"), &json!(files[1..])));
    let page = server.get(&path).1;
    assert!(page.contains("?file=rejected.jsonl") && !page.contains("?file=notes.csv"), "{page}");
    assert_eq!(server.json("/data.json")["artifacts"][0]["formats"], json!(["csv", "jsonl"]));
}

#[test]
fn wrong_predictions_can_be_chosen() {
    let path = format!("/data/{PROJECT}/evaluation_v1?column=correct&value=false");
    check(&path, &["30 of 90 rows", "class=\"wrong\""], &["class=\"right\""]);
}

#[test]
fn lineage_goes_both_ways() {
    let path = format!("/lineage/{PROJECT}/filtered_v1");
    check(&path, &["teacher_outputs_v1", "problems_v1", "student_v2", "evaluation_v1"], &["CHANGED"]);
    let data = shared().1.json(&format!("{path}.json"));
    assert_eq!(data["ancestors"]["next"][0]["next"][0]["id"], format!("{PROJECT}/problems_v1"));
}

#[test]
fn unknown_costs_are_not_shown_as_nothing() {
    check(
        "/cost",
        &["$0.3320 + unknown", "unknown (machine time)", "has no price", "distill.collect"],
        &["$0.0000"],
    );
    let data = shared().1.json("/cost.json");
    let train = data["by_stage"].as_array().unwrap().iter().find(|line| line["name"] == "train").unwrap();
    assert!(train["cost"]["usd"].is_null(), "{train}");
}

#[test]
fn what_is_not_there_is_said_so() {
    let not_found = |path: &str, text: &str| {
        let (status, page) = shared().1.get(path);
        assert_eq!((status, page.contains(text)), (404, true), "{path}: {page}");
    };
    not_found("/nothing/here", "find page `/nothing/here`");
    not_found("/runs/no-such-run", "find run `no-such-run`");
    not_found("/runs/..%2F..%2Fetc", "only letters, digits");
    not_found(&format!("/data/{PROJECT}/none_v1"), "none_v1");
    not_found(&format!("/lineage/{PROJECT}/none_v1.json"), "\"error\":");
    not_found("/data/..%2F..%2Fetc/passwd_v1", "project");
    not_found("/nothing.json", "\"hint\":");
}

#[test]
fn a_broken_file_is_named_and_the_rest_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lab = fabricate(folder.path()).unwrap_or_else(|e| panic!("{e}"));
    let run = run_of(&lab, "evaluation_v1");
    std::fs::write(lab.runs_folder().join(run.id.as_str()).join("run.json"), "{\"run_version\": 1, \"id\":")
        .unwrap();
    let manifests = folder.path().join(format!("data/processed/{PROJECT}/distillation/filtered"));
    std::fs::write(manifests.join("filtered_v1.manifest.json"), "{\"manifest_version\": \"1\", \"id\": 5}")
        .unwrap();
    std::fs::write(
        folder.path().join(format!("data/processed/{PROJECT}/datasets/problems_v1.jsonl")),
        "{\"id\":",
    )
    .unwrap();
    let server = Server::start(&lab, BOARD);
    let check = |path: &str, status: u16, texts: &[&str]| {
        let (found, page) = server.get(path);
        assert_eq!(found, status, "{path}: {page}");
        for text in texts {
            assert!(page.contains(text), "{path} lacks `{text}`:\n{page}");
        }
    };
    let record = format!("runs/{}/run.json", run.id);
    check("/", 200, &[&record, "filtered_v1.manifest.json", "teacher_outputs"]);
    check("/runs", 200, &[&record, "status finished"]);
    check("/cost", 200, &[&record, "$0.3320"]);
    check("/data", 200, &["filtered_v1.manifest.json", "problems_v1"]);
    check(&format!("/runs/{}", run.id), 500, &["run.json"]);
    check(&format!("/data/{PROJECT}/filtered_v1"), 500, &["filtered_v1.manifest.json"]);
    check(&format!("/lineage/{PROJECT}/problems_v1"), 500, &["filtered_v1.manifest.json"]);
    check(&format!("/data/{PROJECT}/problems_v1"), 200, &["problems_v1.jsonl", "line 1", "rows"]);
}
