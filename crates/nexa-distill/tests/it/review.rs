//! What reviewers decide takes effect on the data, and is part of the stage's key.

use std::sync::Arc;

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::review::{Choice, Deck, Labels, Session, Verdict};
use nexa_core::stage::Inputs;
use nexa_core::table::Row;
use nexa_core::{ExitCode, config};
use nexa_distill::filter::Filter;
use nexa_distill::package::Package;
use nexa_distill::review::{Config, Review};
use serde_json::{Value, json};

use crate::support::{TestLab, rows};

struct Desk {
    lab: TestLab,
    filtered: Artifact,
    deck: Deck,
}

impl Desk {
    /// Six answers, the last of which the gates reject as a refusal.
    fn new() -> Self {
        let lab = TestLab::new();
        let row = |n: usize, output: &str| -> Row {
            let row = json!({
                "id": format!("r{n}"), "group": format!("g{n}"), "user_prompt": format!("What is {n} + {n}?"),
                "teacher_output": output, "finish_reason": "stop", "reference": null,
            });
            row.as_object().unwrap().clone()
        };
        let mut answers: Vec<Row> = (0..5).map(|n| row(n, &format!("It is {}.", 2 * n))).collect();
        answers.push(row(5, "I'm sorry, but I can't help with that."));
        let outputs = lab.put(Kind::TeacherOutputs, "outputs", answers);
        let stage = Filter::new(Default::default()).unwrap();
        let filtered = lab.execute(&stage, "filtered", &Inputs::none().with("outputs", outputs)).unwrap();
        let table = |file| Arc::new(rows(&filtered, file));
        let deck = Deck::new(filtered.id(), table("parquet"), table("rejected.parquet")).unwrap();
        Self { lab, filtered, deck }
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

    let value = config::parse_yaml("{test_share: 0, validation_share: 0}", "test").unwrap();
    let package = Package::new(config::from_value(value, "test").unwrap()).unwrap();
    let sft = desk.lab.execute(&package, "sft", &Inputs::none().with("filtered", reviewed)).unwrap();
    let packaged = rows(&sft, "train.jsonl");
    assert_eq!(ids(&packaged), ["r0", "r2", "r4", "r5"]);
    assert_eq!(packaged[1][columns::MESSAGES][1]["content"], "It is four.");
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
