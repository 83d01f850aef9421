//! What reviewers decide takes effect on the data, and is part of the stage's key.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::review::{Choice, Deck, Labels, Session, Verdict};
use nexa_core::stage::Inputs;
use nexa_core::table::{JsonLines, Row};
use nexa_core::{ExitCode, config};
use nexa_distill::filter::{Filter, thresholds};
use nexa_distill::package::Package;
use nexa_distill::regenerate::Regenerate;
use nexa_distill::review::{Config, Review};
use serde_json::{Value, json};

use crate::support::{TestLab, object, rows};

struct Desk {
    lab: TestLab,
    filtered: Artifact,
    deck: Deck,
}

impl Desk {
    /// Six answers, the last of which the gates reject as a refusal.
    fn new() -> Self {
        let prompts = ["0 + 0?", "1 + 1?", "2 + 2?", "3 + 3?", "4 + 4?"];
        let mut answers: Vec<Row> =
            prompts.into_iter().enumerate().map(|(n, prompt)| answer(n, prompt)).collect();
        let mut refusal = answer(5, "5 + 5?");
        refusal.insert(columns::TEACHER_OUTPUT.to_owned(), json!("I'm sorry, but I can't help with that."));
        answers.push(refusal);
        Self::filter(answers, None)
    }

    /// An answer to each prompt, which judges may have scored.
    fn of<const N: usize>(prompts: &[&str; N], scores: Option<[f64; N]>) -> Self {
        let answers = prompts.iter().enumerate().map(|(n, prompt)| answer(n, prompt)).collect();
        let verdict = |(n, score): (usize, f64)| object(json!({"id": format!("r{n}"), "score": score}));
        Self::filter(answers, scores.map(|scores| scores.into_iter().enumerate().map(verdict).collect()))
    }

    fn filter(answers: Vec<Row>, verdicts: Option<Vec<Row>>) -> Self {
        let lab = TestLab::new();
        let mut inputs = Inputs::none().with("outputs", lab.put(Kind::TeacherOutputs, "outputs", answers));
        if let Some(verdicts) = verdicts {
            inputs = inputs.with("verdicts", lab.put(Kind::Verdicts, "verdicts", verdicts));
        }
        let value = config::parse_yaml("{judge: {min_score: 1}}", "test").unwrap();
        let stage = Filter::new(config::from_value(value, "test").unwrap()).unwrap();
        let filtered = lab.execute(&stage, "filtered", &inputs).unwrap();
        let has = |file: &str| filtered.manifest.files.iter().any(|entry| entry.name == file);
        let table = |file| Arc::new(if has(file) { rows(&filtered, file) } else { Vec::new() });
        let deck = Deck::new(filtered.id(), table("parquet"), table("rejected.parquet")).unwrap();
        Self { lab, filtered, deck }
    }

    fn package(&self, reviewed: Artifact, yaml: &str) -> Artifact {
        let value = config::parse_yaml(yaml, "test").unwrap();
        let package = Package::new(config::from_value(value, "test").unwrap()).unwrap();
        self.lab.execute(&package, "sft", &Inputs::none().with("filtered", reviewed)).unwrap()
    }

    fn session(&self, reviewer: &str) -> Session<'_> {
        Session::open(Labels::new(&self.lab.lab, self.filtered.id()), &self.deck, reviewer).unwrap()
    }

    fn decide(&self, reviewer: &str, row_id: &str, verdict: Verdict, text: Option<&str>) {
        let reason = Some("because").filter(|_| !verdict.keeps());
        let choice = Choice { row_id, verdict, text, reason, adjudicates: false };
        self.session(reviewer).decide(&choice).unwrap();
    }

    fn review(&self, yaml: &str) -> Artifact {
        let value = config::parse_yaml(yaml, "test").unwrap();
        let stage = Review::new(&self.lab.lab, config::from_value::<Config>(value, "test").unwrap()).unwrap();
        let inputs = Inputs::none().with("filtered", self.filtered.clone());
        self.lab.execute(&stage, "reviewed", &inputs).unwrap()
    }
}

fn answer(n: usize, prompt: &str) -> Row {
    object(json!({
        "id": format!("r{n}"), "group": prompt, "user_prompt": prompt, "teacher_output": format!("It is {}.", 2 * n),
        "finish_reason": "stop", "reference": null,
    }))
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn decisions_change_what_is_packaged() {
    let desk = Desk::new();
    desk.decide("ana", "r0", Verdict::Accept, None);
    desk.decide("ana", "r1", Verdict::Reject, None);
    desk.decide("ana", "r2", Verdict::Edit, Some("It is four."));
    desk.decide("ana", "r3", Verdict::Regenerate, None);
    desk.decide("ana", "r5", Verdict::Accept, None);
    let reviewed = desk.review("{}");

    let passed = rows(&reviewed, "parquet");
    assert_eq!(ids(&passed), ["r0", "r2", "r4", "r5"], "what a gate rejected is taken back");
    let edited = &passed[1];
    assert_eq!(edited[columns::TEACHER_OUTPUT], "It is four.");
    assert_eq!(
        (&edited[columns::EDITED_BY], &edited[columns::ORIGINAL_OUTPUT]),
        (&json!("ana"), &json!("It is 4."))
    );
    assert_eq!(passed[2][columns::REVIEW], Value::Null);
    let names = |row: &Row| row.keys().cloned().collect::<Vec<_>>();
    assert!(passed.iter().all(|row| names(row) == names(&passed[0])), "one table, one set of columns");

    let rejected = rows(&reviewed, "rejected.parquet");
    assert_eq!(ids(&rejected), ["r1", "r3"]);
    for (row, review) in rejected.iter().zip(["reject", "regenerate"]) {
        assert_eq!(
            (&row[columns::REVIEW], &row[columns::REJECTION_GATE]),
            (&json!(review), &json!("review"))
        );
        assert_eq!(row[columns::REJECTION_REASON], "because");
    }
    let counts = &reviewed.manifest.summary["review"];
    assert_eq!(
        (&counts["rows_in"], &counts["rows_out"], &counts["taken_back"]),
        (&json!(6), &json!(4), &json!(1))
    );

    let sft = desk.package(reviewed, "{test_share: 0, validation_share: 0}");
    let packaged = rows(&sft, "train.jsonl");
    assert_eq!(ids(&packaged), ["r0", "r2", "r4", "r5"]);
    assert_eq!(packaged[1][columns::MESSAGES][1]["content"], "It is four.");
    let card = std::fs::read_to_string(sft.file("card.md").unwrap()).unwrap();
    let reviewed = "Reviewers: 1. 6 rows in, 2 accepted, 1 edited, 1 taken back from a gate, 1 rejected";
    assert!(
        card.contains(reviewed) && card.contains("- 1 of the answers passed without a decision"),
        "{card}"
    );
}

#[test]
fn what_was_measured_outlives_a_review() {
    let desk = Desk::new();
    desk.decide("ana", "r1", Verdict::Reject, None);
    desk.decide("ana", "r2", Verdict::Edit, Some("It is four."));
    let reviewed = desk.review("{}");
    for file in ["scores.parquet", "funnel.json"] {
        let read = |artifact: &Artifact| std::fs::read(artifact.file(file).unwrap()).unwrap();
        assert_eq!(read(&reviewed), read(&desk.filtered), "{file}");
    }
    let changes = ["refusal=1".parse().unwrap()];
    let explored = thresholds::explore(&reviewed, &JsonLines, &changes).unwrap();
    assert_eq!((explored.rows, explored.flips.len()), (6, 1));
}

#[test]
fn reviewers_make_pairs_of_better_and_worse_answers() {
    // Two answers to each of three prompts, judged 5 and 1, 4 and 2, 3 and 3.
    let desk = Desk::of(&["a", "a", "b", "b", "c", "c"], Some([5.0, 1.0, 4.0, 2.0, 3.0, 3.0]));
    let pairs = |reviewed: Artifact| -> Vec<(String, String, String, Option<f64>)> {
        let sft = desk.package(reviewed, "{test_share: 0, validation_share: 0, formats: [dpo]}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows(&sft, "train.dpo.jsonl")
            .iter()
            .map(|pair| {
                let said = |column: &str| text(&pair[column][0]["content"]);
                let because = text(&pair["rejected_because"]);
                (said("chosen"), said("rejected"), because, pair["rejected_score"].as_f64())
            })
            .collect()
    };
    let pair = |chosen: &str, rejected: &str, because: &str, score: f64| {
        (chosen.to_owned(), rejected.to_owned(), because.to_owned(), Some(score))
    };
    let judged = [pair("It is 0.", "It is 2.", "judge", 1.0), pair("It is 4.", "It is 6.", "judge", 2.0)];
    assert_eq!(pairs(desk.review("{}")), judged);
    // Edits come before judges, who have not seen them; what a person rejected is worse.
    desk.decide("ana", "r0", Verdict::Edit, Some("It is none."));
    desk.decide("ana", "r5", Verdict::Reject, None);
    let edited = pair("It is none.", "It is 0.", "edit", 5.0);
    let expected = [edited, judged[1].clone(), pair("It is 8.", "It is 10.", "review", 3.0)];
    assert_eq!(pairs(desk.review("{}")), expected);
    // What nobody has decided on is no worse answer, nor what reviewers disagree about.
    desk.decide("ana", "r2", Verdict::Accept, None);
    desk.decide("ana", "r4", Verdict::Accept, None);
    desk.decide("ben", "r5", Verdict::Accept, None);
    assert_eq!(pairs(desk.review("{require_review: true}")), expected[..1]);
}

#[test]
fn what_a_person_wants_again_is_asked_again_and_what_nobody_decided_is_not() {
    let desk = Desk::of(&["a", "a", "b", "c"], None);
    let again = |reviewed: Artifact| {
        let stage = Regenerate::new(Default::default()).unwrap();
        let made = desk.lab.execute(&stage, "again", &Inputs::none().with("filtered", reviewed)).unwrap();
        ids(&rows(&made, "parquet")).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    desk.decide("ana", "r0", Verdict::Accept, None);
    desk.decide("ana", "r1", Verdict::Regenerate, None);
    desk.decide("ana", "r2", Verdict::Reject, None);
    // Although another answer to its prompt was accepted.
    assert_eq!(again(desk.review("{require_review: true}")), ["r1-r1", "r2-r1"]);
}

#[test]
fn what_is_pending_passes_unless_a_review_is_required() {
    let desk = Desk::new();
    desk.decide("ana", "r0", Verdict::Accept, None);
    desk.decide("ben", "r0", Verdict::Accept, None);
    desk.decide("ana", "r1", Verdict::Accept, None);
    let check = |yaml: &str, expected: &[&str]| {
        assert_eq!(ids(&rows(&desk.review(yaml), "parquet")), expected, "{yaml}");
    };
    check("{}", &["r0", "r1", "r2", "r3", "r4"]);
    check("{require_review: true}", &["r0", "r1"]);
    check("{require_review: true, min_reviewers: 2}", &["r0"]);
    let reviewed = desk.review("{require_review: true}");
    let rejected = rows(&reviewed, "rejected.parquet");
    assert_eq!(ids(&rejected), ["r2", "r3", "r4", "r5"]);
    assert_eq!(rejected[0][columns::REJECTION_REASON], "fewer than 1 have reviewed it");
    assert_eq!(rejected[3][columns::REJECTION_GATE], "refusal", "what a gate said is kept");
}

#[test]
fn a_disagreement_leaves_the_row_out_until_a_third_settles_it() {
    let desk = Desk::new();
    desk.decide("ana", "r0", Verdict::Accept, None);
    desk.decide("ben", "r0", Verdict::Reject, None);
    let reviewed = desk.review("{}");
    let rejected = rows(&reviewed, "rejected.parquet");
    assert_eq!(rejected[0][columns::REJECTION_REASON], "reviewers disagree (ana: accept, ben: reject)");
    assert_eq!(rejected[0][columns::REVIEW], "disagree");
    let settle =
        Choice { row_id: "r0", verdict: Verdict::Accept, text: None, reason: None, adjudicates: true };
    desk.session("cy").decide(&settle).unwrap();
    let settled = desk.review("{}");
    let passed = rows(&settled, "parquet");
    assert_eq!((ids(&passed)[0], &passed[0][columns::REVIEWED_BY]), ("r0", &json!("cy")));
}

#[test]
fn the_labels_are_part_of_the_key() {
    let desk = Desk::new();
    let first = desk.review("{}");
    assert_eq!(desk.review("{}"), first, "nothing has changed");
    desk.decide("ana", "r0", Verdict::Reject, None);
    let second = desk.review("{}");
    assert_eq!((first.id().version, second.id().version), (1, 2));
    let file = second.manifest.parents.iter().find(|parent| parent.id.starts_with("file:")).unwrap();
    assert!(file.id.ends_with("labels/filtered_v1.ana.jsonl"), "{}", file.id);
    desk.session("ana").undo().unwrap();
    let third = desk.review("{}");
    assert_eq!(third.manifest.content_hash, first.manifest.content_hash, "an undo has undone it");
}

#[test]
fn when_reviewers_leave_nothing_the_stage_says_so() {
    let desk = Desk::new();
    for row_id in ["r0", "r1", "r2", "r3", "r4"] {
        desk.decide("ana", row_id, Verdict::Reject, None);
    }
    let stage = Review::new(&desk.lab.lab, Config::default()).unwrap();
    let inputs = Inputs::none().with("filtered", desk.filtered.clone());
    let error = desk.lab.execute(&stage, "reviewed", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Input);
    let bad = Config { min_reviewers: 0, ..Config::default() };
    let error = Review::new(&desk.lab.lab, bad).unwrap_err().to_string();
    assert_eq!(error, "distill.review: `min_reviewers` is 0, but nothing could ever be pending");
}
