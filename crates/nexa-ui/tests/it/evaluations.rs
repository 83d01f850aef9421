//! Evaluations in the browser: metrics, samples, two models side by side, verdicts, and the report in one file.

use std::sync::OnceLock;

use nexa_core::artifact::{Artifact, Kind, Store};
use nexa_core::lab::Lab;
use nexa_core::table::JsonLines;
use nexa_ui::{
    Board, Calibration, CalibrationBin, Estimate, JudgedScore, LeaderboardView, Place, ReportConfig, report,
};

use crate::evaluations_lab::add;
use crate::http::{self, Server};
use crate::lab::{PROJECT, fabricate};

struct Site {
    _folder: tempfile::TempDir,
    lab: Lab,
    server: Server,
    evaluations: [Artifact; 2],
    verdicts: Artifact,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let lab = fabricate(folder.path()).unwrap_or_else(|e| panic!("{e}"));
        let store = Store::new(&lab);
        let checkpoints = store.of_kind(PROJECT, Kind::Checkpoint).unwrap();
        let checkpoints: [Artifact; 2] = checkpoints.try_into().unwrap_or_else(|_| panic!("two students"));
        let evaluations = add(&lab, checkpoints).unwrap_or_else(|e| panic!("{e}"));
        let verdicts = store.latest(PROJECT, Kind::Verdicts).unwrap();
        let server = Server::start(&lab, http::Board(board));
        Site { _folder: folder, lab, server, evaluations, verdicts }
    })
}

fn board(project: &str) -> Result<LeaderboardView, String> {
    let place = |rank: u32, value: f64| Place {
        rank,
        ranks: Some((1, 2)),
        model: format!("{project}/student_v{rank}"),
        evaluation: format!("{project}/tasks_v{rank}"),
        value: Estimate { value, ci_low: Some(value - 0.1), ci_high: Some(value + 0.1) },
        p_value: (rank > 1).then_some(0.25),
        verdict: (rank > 1).then(|| "no difference to the first shown".to_owned()),
        spend: nexa_core::cost::Spend::default(),
        model_spend: None,
        made_from: vec![("sft_dataset".to_owned(), format!("{project}/filtered_v1"))],
        created_at: None,
    };
    let board = |task: &str, dataset: Option<&str>| Board {
        task: task.to_owned(),
        metric: "exact_match,strict-match".to_owned(),
        metrics: ["exact_match,strict-match", "exact_match,flexible-extract"].map(str::to_owned).into(),
        higher_is_better: true,
        documents: 60,
        num_fewshot: Some(2),
        subtasks: 0,
        dataset: dataset.map(str::to_owned),
        places: vec![place(1, 0.75), place(2, 0.5)],
    };
    Ok(LeaderboardView {
        groups: Vec::new(),
        boards: vec![
            board("exact_match", Some("held/out_v1")),
            board("sums", None),
            board("<i>odd</i>", None),
        ],
    })
}

fn url(artifact: &Artifact, kind: &str) -> String {
    format!("/{kind}/{PROJECT}/{}", artifact.id().stem())
}

fn check(path: &str, holds: &[&str], lacks: &[&str]) {
    site().server.check(path, holds, lacks);
}

#[test]
fn the_leaderboard_has_a_table_for_each_task_and_leads_on() {
    let samples = format!("/evaluation/{PROJECT}/tasks_v2?task=sums");
    let versus = format!("/versus?a={PROJECT}%2Ftasks_v1&amp;b={PROJECT}%2Ftasks_v2&amp;task=sums");
    let data = format!("/data/{PROJECT}/filtered_v1");
    check(
        "/leaderboard",
        &["75.0 %", "1–2", &samples, &versus, &data, "p = 0.250", "&lt;i&gt;odd&lt;/i&gt;", "2-shot"],
        &["<i>odd", "held/out_v1"],
    );
    check("/leaderboard?task=exact_match", &["held/out_v1"], &["task=sums&amp;judged"]);
    check("/leaderboard?task=none", &["Nothing has been evaluated by this task"], &[]);
    let flexible = "/leaderboard?metric=exact_match%2Cflexible-extract";
    check(
        flexible,
        &["<th>exact_match,flexible-extract</th>", "held/out_v1"],
        &["<th>exact_match,strict-match"],
    );
    check("/leaderboard?metric=none", &["Nothing has been evaluated by this task and metric"], &["<table"]);
    let twin = site().server.json("/leaderboard.json?task=sums");
    assert_eq!(twin["boards"][0]["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn an_evaluation_shows_metrics_and_leads_to_its_samples() {
    let url = url(&site().evaluations[0], "evaluation");
    let student = format!("/data/{PROJECT}/student_v1");
    check(
        &url,
        &[
            "exact_match,flexible-extract",
            "75.0 %",
            &format!("{url}?task=capitals"),
            &student,
            "tasks_verdicts_v1",
        ],
        &["Samples"],
    );
    check(
        &format!("{url}?task=sums"),
        &["60 samples, page 1 of 3", "What is 11 + 2?", "by domain"],
        &["The capital"],
    );
    let (status, page) = site().server.get(&format!("{url}?task=sms"));
    assert_eq!(status, 404);
    assert!(page.contains("it has: sums, capitals"), "{page}");
    assert_eq!(site().server.get(&format!("/evaluation/{PROJECT}/student_v1")).0, 404, "no evaluation");
}

#[test]
fn samples_are_filtered_and_paged() {
    let url = url(&site().evaluations[0], "evaluation");
    let count = |query: &str, expected: usize| {
        let twin = site().server.json(&format!("{url}.json?task=sums{query}"));
        assert_eq!(twin["samples"]["matching"], expected, "{query}");
        twin
    };
    // Every fourth is wrong.
    let wrong = count("&judged=wrong", 15);
    assert_eq!(wrong["samples"]["counts"]["right"], 45);
    assert_eq!(wrong["samples"]["rows"][1]["id"], "sum-4");
    count("&q=WHAT+IS+11", 1);
    count("&domain=north&judged=wrong", 15);
    count("&domain=south&judged=wrong", 0);
    count("&metric=exact_match%2Cstrict-match&max=0.5", 15);
    count("&metric=exact_match%2Cflexible-extract&min=0.5", 60);
    assert_eq!(count("&page=3", 60)["samples"]["rows"].as_array().unwrap().len(), 10);
    check(&format!("{url}?task=sums&q=unescaped"), &["&lt;script&gt;alert("], &["<script>alert("]);
}

#[test]
fn a_sample_is_shown_in_full_with_filters_choices_and_verdicts() {
    let url = url(&site().evaluations[0], "evaluation");
    check(
        &format!("{url}/9?task=sums&judged=wrong"),
        &[
            "#### 2",
            "&lt;script&gt;alert(",
            "strict-match",
            "&lt;b&gt;19&lt;/b&gt;",
            "says &lt;i&gt;why&lt;/i&gt;",
            "rel=\"prev\"",
            "3 of 15",
            &format!("{url}/13?"),
            "openai:judge",
            "clear",
        ],
        &["<script>alert(", "<b>19", "<i>why"],
    );
    check(
        &format!("{url}/find?task=capitals&id=land-2"),
        &["Corvo", "probability among them", "target", "chosen"],
        &["openai:judge"],
    );
    let twin = site().server.json(&format!("{url}/63.json"));
    let shares = twin["probabilities"].as_array().unwrap();
    assert!(
        (shares.iter().filter_map(serde_json::Value::as_f64).sum::<f64>() - 1.0).abs() < 1e-9,
        "{shares:?}"
    );
    for number in ["0", "121", "x", "find?id=nobody"] {
        assert_eq!(site().server.get(&format!("{url}/{number}")).0, 404, "{number}");
    }
}

#[test]
fn two_models_stand_side_by_side() {
    let [a, b] = &site().evaluations;
    let query = format!("?a={}&b={}&task=sums", a.id(), b.id());
    let count = |show: &str| {
        site().server.json(&format!("/versus.json{query}&show={show}"))["sides"]["matching"].clone()
    };
    // A is wrong on multiples of 4, B on those of 3: 15 and 20 of 60, 5 of them common.
    let counts: Vec<u64> = ["differ", "only_a", "only_b", "both_wrong", "all"]
        .map(|show| count(show).as_u64().unwrap())
        .to_vec();
    assert_eq!(counts, [25, 15, 10, 5, 60]);
    let page = format!("/versus{query}&show=only_b");
    check(
        &page,
        &["sum-4", "<mark>29</mark>", "<mark>30</mark>", "only B right", "in full"],
        &["sum-3<", "<b>15", "asked in different ways"],
    );
    check("/versus", &["Choose two evaluations", "tasks_v1"], &[]);
    assert_eq!(site().server.get(&format!("/versus{query}x")).0, 404);
}

#[test]
fn verdicts_are_listed_by_judge_criterion_and_score() {
    let url = url(&site().verdicts, "verdicts");
    let count = |query: &str, expected: usize| {
        assert_eq!(site().server.json(&format!("{url}.json{query}"))["matching"], expected, "{query}");
    };
    count("", 40);
    count("?judge=embedded", 20);
    count("?unreadable=1", 2);
    count("?judge=embedded&min=5", 4);
    count("?criterion=clear&min=4", 40);
    count("?q=step+19", 2);
    let sample = format!("/evaluation/{PROJECT}/tasks_v1/find?id=sum-0&amp;task=sums");
    check(&url, &[&sample, "&lt;i&gt;why", "could not be read", "40 verdicts, page 1 of 2"], &["<i>why"]);
}

#[test]
fn a_report_holds_everything_and_loads_nothing() {
    let right = Estimate { value: 0.5, ci_low: Some(0.3), ci_high: Some(0.7) };
    let config = ReportConfig {
        samples: 12,
        calibrations: vec![Calibration {
            task: "capitals".to_owned(),
            n: 60,
            expected_error: 0.125,
            bins: vec![CalibrationBin { confidence: 0.6, right, n: 60 }],
        }],
        judged: vec![JudgedScore { label: "clear of student".to_owned(), value: right, n: 20 }],
        ..ReportConfig::default()
    };
    let id = site().evaluations[0].id();
    let page = report(&site().lab, &JsonLines, id, &config).unwrap();
    for text in [
        "student_v1",
        "12 of 120",
        "12.5 %",
        "clear of student",
        "75.0 %",
        "whisker",
        "north",
        "tasks_verdicts_v1",
        "filtered_v1",
        "&lt;b&gt;",
        "num_fewshot",
        "6 of 60, 10.0 %",
    ] {
        assert!(page.contains(text), "the report lacks `{text}`");
    }
    for text in ["<script", "http://", "https://", "src=", "<link", "href=", "@import", "url("] {
        assert!(!page.contains(text), "the report holds `{text}`");
    }
    // Wrong ones come first: of the two tasks there are six each, and more wrong ones than that.
    assert_eq!(page.matches("class=\"wrong\">wrong").count(), 12);
    assert_eq!(page, report(&site().lab, &JsonLines, id, &config).unwrap());
    assert_ne!(page, report(&site().lab, &JsonLines, id, &ReportConfig { seed: 1, ..config }).unwrap());
}
