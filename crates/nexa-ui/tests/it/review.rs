//! The review over HTTP: forms that decide, keep drafts and undo, and who may send them.

use nexa_core::lab::Lab;
use nexa_ui::LeaderboardView;
use serde_json::Value;

use crate::http::{Board, Server};
use crate::lab::{PROJECT, fabricate};

const EMPTY: Board = Board(|_| Ok(LeaderboardView::default()));

struct Desk {
    _folder: tempfile::TempDir,
    lab: Lab,
    server: Server,
    token: String,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = fabricate(folder.path()).unwrap_or_else(|e| panic!("{e}"));
        let server = Server::start(&lab, EMPTY);
        let page = server.get(&path("ana", "")).1;
        let start = page.find("name=\"token\" value=\"").unwrap() + "name=\"token\" value=\"".len();
        let token = page[start..start + 32].to_owned();
        Self { _folder: folder, lab, server, token }
    }

    /// Sends a form; returns the status and where it leads.
    fn send(&self, reviewer: &str, query: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let own = [("token", self.token.as_str()), ("reviewer", reviewer)];
        let answer = self.server.post(&path(reviewer, query), &[], &[&own, fields].concat());
        let place = answer.head.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned));
        (answer.status, place.unwrap_or_default())
    }

    fn decide(&self, reviewer: &str, row: &str, action: &str) -> String {
        let (status, place) = self.send(reviewer, "", &[("row", row), ("action", action)]);
        assert_eq!(status, 303, "{row}");
        place
    }

    fn json(&self, reviewer: &str, query: &str) -> Value {
        self.server.json(&path(reviewer, query).replace("?", ".json?"))
    }

    /// How a row stands, and its text.
    fn standing(&self, reviewer: &str, row: &str) -> Value {
        self.json(reviewer, &format!("&row={row}"))["record"]["standing"].clone()
    }

    fn labels(&self, reviewer: &str) -> std::path::PathBuf {
        let folder = self.lab.project(PROJECT).unwrap().processed_folder().join("distillation/labels");
        folder.join(format!("filtered_v1.{reviewer}.jsonl"))
    }
}

fn path(reviewer: &str, query: &str) -> String {
    format!("/review/{PROJECT}/filtered_v1?reviewer={reviewer}{query}")
}

#[test]
fn what_can_be_reviewed_is_listed() {
    let desk = Desk::new();
    desk.decide("ana", "problem-0001", "accept");
    let (status, page) = desk.server.get("/review");
    assert_eq!(status, 200);
    for text in ["filtered_v1", "teacher_outputs_v1", "ana", "nexa distill apply-review"] {
        assert!(page.contains(text), "{text}");
    }
    let data = desk.server.json("/review.json?reviewer=ana");
    assert_eq!(data["artifacts"].as_array().unwrap().len(), 2);
    // What holds no answers says so.
    let (status, page) = desk.server.get(&format!("/review/{PROJECT}/problems_v1?reviewer=ana"));
    assert!(status == 409 && page.contains("it is a dataset"), "{status}: {page}");
}

#[test]
fn a_row_shows_what_was_asked_answered_and_judged() {
    let desk = Desk::new();
    let page = desk.server.get(&path("ana", "&row=problem-0000")).1;
    for text in [
        "rejected by <strong>answer</strong>: final answer 7",
        "What is",
        "The answer is",
        "completion_tokens",
        "<kbd>a</kbd> accept",
        "other columns",
        "180 rows",
    ] {
        assert!(page.contains(text), "no `{text}` in {page}");
    }
    // The row of the lab that would break a page that does not escape.
    let page = desk.server.get(&path("ana", "&row=problem-0004")).1;
    assert!(page.contains("&lt;script&gt;alert") && !page.contains("<script>alert"));
}

#[test]
fn a_decision_leads_to_the_next_open_row_and_stays() {
    let desk = Desk::new();
    assert_eq!(desk.json("ana", "")["record"]["row_id"], "problem-0001");
    let place = desk.decide("ana", "problem-0001", "accept");
    assert!(place.ends_with("row=problem-0002"), "{place}");
    let fields = [("row", "problem-0002"), ("action", "reject"), ("reason", "wrong sum")];
    assert_eq!(desk.send("ana", "", &fields).0, 303);
    let fields = [("row", "problem-0003"), ("action", "edit"), ("text", "one\r\ntwo")];
    assert_eq!(desk.send("ana", "", &fields).0, 303);
    assert_eq!(desk.standing("ana", "problem-0003")["decision"]["text"], "one\ntwo", "a browser's line ends");
    assert_eq!(desk.standing("ana", "problem-0002")["decision"]["reason"], "wrong sum");
    let fields = [("row", "problem-0003"), ("action", "accept"), ("text", "one\r\ntwo")];
    assert_eq!(desk.send("ana", "", &fields).0, 303);
    assert_eq!(
        desk.standing("ana", "problem-0003")["decision"]["verdict"],
        "edit",
        "what is shown is accepted"
    );
    let progress = &desk.json("ana", "")["progress"];
    assert_eq!(
        (&progress["accept"], &progress["reject"], &progress["edit"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(std::fs::read_to_string(desk.labels("ana")).unwrap().lines().count(), 4);
}

#[test]
fn undo_goes_back_row_by_row_and_a_draft_is_kept() {
    let desk = Desk::new();
    let draft = [("row", "problem-0001"), ("action", "draft"), ("text", "half"), ("reason", "")];
    assert_eq!(desk.send("ana", "", &draft).0, 204);
    assert_eq!(desk.standing("ana", "problem-0001")["draft"]["text"], "half");
    let edit = [("row", "problem-0001"), ("action", "edit"), ("text", "whole")];
    desk.send("ana", "", &edit);
    desk.decide("ana", "problem-0002", "accept");
    let undo = || desk.send("ana", "", &[("row", "problem-0005"), ("action", "undo")]).1;
    assert!(undo().ends_with("row=problem-0002"));
    assert!(undo().ends_with("row=problem-0001"));
    assert_eq!(
        desk.standing("ana", "problem-0001")["draft"]["text"],
        "half",
        "what was typed is there again"
    );
    assert!(undo().ends_with("row=problem-0005"), "nothing is left to undo");
}

#[test]
fn filters_narrow_and_bulk_needs_the_count() {
    let desk = Desk::new();
    let check = |query: &str, expected: usize| {
        assert_eq!(desk.json("ana", query)["matching"], expected, "{query}");
    };
    check("", 180);
    check("&gate=passed", 150);
    check("&gate=answer", 15);
    check("&q=problem-000", 10);
    check("&score=completion_tokens&min=21", 40);
    check("&gate=answer&score=completion_tokens&max=14", 5);
    check("&status=draft", 0);
    let bulk = |count: &str| {
        let fields = [("action", "bulk"), ("verdict", "reject"), ("count", count)];
        desk.send("ana", "&gate=answer", &fields).0
    };
    assert_eq!((bulk("14"), bulk(""), bulk("15")), (409, 409, 303));
    check("&status=reject", 15);
    desk.send("ana", "", &[("action", "undo"), ("row", "")]);
    check("&status=reject", 0);
}

#[test]
fn two_reviewers_are_blind_and_a_third_settles() {
    let desk = Desk::new();
    for row in ["problem-0001", "problem-0002"] {
        desk.decide("ana", row, "accept");
    }
    let others = |reviewer: &str, row: &str| {
        desk.json(reviewer, &format!("&row={row}"))["record"]["others"].as_array().unwrap().len()
    };
    assert_eq!(others("ben", "problem-0001"), 0);
    let before = desk.server.get(&path("ben", "&row=problem-0001&adjudicate=1")).1;
    assert!(
        !before.contains("<strong>ana</strong>"),
        "asking to settle tells nothing where nobody disagrees"
    );
    desk.decide("ben", "problem-0001", "reject");
    desk.decide("ben", "problem-0002", "accept");
    assert_eq!(others("ben", "problem-0001"), 1);

    let agreement = |reviewer: &str| {
        desk.server.json(&format!("/review/{PROJECT}/filtered_v1/agreement.json?reviewer={reviewer}"))
    };
    let data = agreement("cy");
    assert_eq!((&data["agreement"]["rows"], &data["agreement"]["raw"]["value"]), (&2.into(), &0.5.into()));
    assert_eq!(
        (&data["disputed"][0]["row_id"], &data["disputed"][0]["is_yours"]),
        (&"problem-0001".into(), &true.into())
    );
    assert_eq!(agreement("ben")["disputed"][0]["is_yours"], false);
    let page = desk.server.get(&path("cy", "&row=problem-0001&adjudicate=1")).1;
    assert!(page.contains("<strong>ana</strong>") && page.contains("<strong>ben</strong>"), "{page}");

    let settle = [("row", "problem-0001"), ("action", "reject"), ("adjudicate", "1")];
    assert_eq!(desk.send("ben", "&adjudicate=1", &settle).0, 409, "who disagrees does not settle it");
    let (status, place) = desk.send("cy", "&adjudicate=1", &settle);
    assert_eq!((status, place.contains("/agreement?")), (303, true), "{place}");
    assert!(agreement("dan")["disputed"].as_array().unwrap().is_empty());
}

#[test]
fn only_forms_of_this_process_and_its_pages_write() {
    let desk = Desk::new();
    let written = desk.labels("ana");
    let own = desk.token.clone();
    let origin = format!("http://127.0.0.1:{}", desk.server.port());
    let send = |token: &str, headers: &[(&str, &str)]| {
        let form = [("token", token), ("reviewer", "ana"), ("row", "problem-0001"), ("action", "accept")];
        desk.server.post(&path("ana", ""), headers, &form).status
    };
    assert_eq!(send("0123", &[]), 403);
    assert_eq!(send(&own, &[("Origin", "http://evil.example")]), 403);
    assert_eq!(send(&own, &[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(send(&own, &[("Host", "rebound.example")]), 403);
    assert!(!written.exists(), "nothing was written");
    assert_eq!(send(&own, &[("Origin", &origin)]), 303);
    assert!(written.exists());
}

#[test]
fn what_cannot_be_written_is_told_and_changes_nothing() {
    let desk = Desk::new();
    let check = |reviewer: &str, row: &str, action: &str, status: u16| {
        assert_eq!(
            desk.send(reviewer, "", &[("row", row), ("action", action)]).0,
            status,
            "{reviewer} {action}"
        );
    };
    check("ana", "problem-9999", "accept", 404);
    check("ana", "problem-0001", "acept", 404);
    check("ana", "problem-0001", "edit", 409);
    check("../ana", "problem-0001", "accept", 404);
    // A folder in the place of the file: as with a full disk or a missing permission, nothing can be written.
    std::fs::create_dir_all(desk.labels("ben")).unwrap();
    let fields =
        [("token", desk.token.as_str()), ("reviewer", "ben"), ("row", "problem-0001"), ("action", "accept")];
    let answer = desk.server.post(&path("ben", ""), &[], &fields);
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("filtered_v1.ben.jsonl"));
}

#[test]
fn a_cut_line_is_told_on_the_page() {
    let desk = Desk::new();
    desk.decide("ana", "problem-0001", "accept");
    let mut bytes = std::fs::read(desk.labels("ana")).unwrap();
    bytes.extend_from_slice(b"{\"row_id\":\"problem-00");
    std::fs::write(desk.labels("ana"), bytes).unwrap();
    let page = desk.server.get(&path("ana", "")).1;
    assert!(page.contains("filtered_v1.ana.jsonl: line 2 is cut off"), "{page}");
    desk.decide("ana", "problem-0002", "accept");
    assert!(!desk.server.get(&path("ana", "")).1.contains("cut off"));
    assert_eq!(desk.json("ana", "")["progress"]["accept"], 2);
}
