//! Judging: what is asked, what is read, what it costs, and that nothing is paid twice.

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::config;
use nexa_core::cost::{Entry, Ledger};
use nexa_core::env::Environment;
use nexa_core::hash::ContentHash;
use nexa_core::judging::{FILE, Verdict};
use nexa_core::stage::{Inputs, StageError};
use nexa_core::table::JsonLines;
use nexa_distill::judge::Judge;
use serde_json::json;

use crate::server::{Call, Reply, Server, good, nothing};
use crate::support::{TestLab, object, rows};

const RUBRIC: &str = "
name: tutoring
criteria:
  - {name: right, question: Is it right?, weight: 3, levels: [no, hardly, partly, mostly, yes]}
  - {name: clear, question: Is it clear?, levels: [no, hardly, partly, mostly, yes]}
";

fn lab() -> TestLab {
    let lab = TestLab::with(
        "prices: {models: {judge-1: {input_usd_per_million: 1.0, output_usd_per_million: 1.0}, \
         judge-2: {input_usd_per_million: 10.0, output_usd_per_million: 10.0}}}\n",
        &[],
    );
    std::fs::write(lab.folder.path().join("rubric.yaml"), RUBRIC).unwrap();
    lab
}

fn outputs(lab: &TestLab) -> Inputs {
    let row = |id: &str, prompt: &str, text: &str| {
        object(json!({"id": id, "user_prompt": prompt, "teacher_output": text, "finish_reason": "stop"}))
    };
    let rows = vec![row("a", "2 + 2?", "GOOD 4"), row("b", "2 + 2?", "BAD 5"), row("c", "3 + 3?", "GOOD 6")];
    Inputs::none().with("outputs", lab.put(Kind::TeacherOutputs, "outputs", rows))
}

fn stage(lab: &TestLab, judges: &[String], yaml: &str) -> Judge {
    let mut value = config::parse_yaml(yaml, "test").unwrap();
    if !judges.is_empty() {
        value["judges"] = json!(judges);
    }
    let config = config::from_value(value, "test").unwrap();
    Judge::new(config, lab.folder.path(), &Environment::of([])).unwrap()
}

fn judge(lab: &TestLab, judges: &[String], yaml: &str) -> Result<Artifact, StageError> {
    lab.execute(&stage(lab, judges, yaml), "verdicts", &outputs(lab))
}

fn verdict(right: u8, clear: u8) -> Reply {
    good(
        &format!(
            "Let me see. {{\"explanation\": \"because\", \"scores\": {{\"right\": {right}, \"clear\": {clear}}}}}"
        ),
        100,
    )
}

/// Likes what calls itself good.
fn fair(call: &Call) -> Reply {
    if call.prompt.contains("GOOD") { verdict(5, 5) } else { verdict(1, 3) }
}

fn scores(artifact: &Artifact) -> Vec<(String, Option<f64>)> {
    let of = |row: &nexa_core::table::Row| (row["id"].as_str().unwrap().to_owned(), row["score"].as_f64());
    rows(artifact, "parquet").iter().map(of).collect()
}

fn expected(scores: [(&str, f64); 3]) -> Vec<(String, Option<f64>)> {
    scores.map(|(id, score)| (id.to_owned(), Some(score))).to_vec()
}

#[test]
fn each_answer_gets_a_score_an_explanation_and_a_bill() {
    let lab = lab();
    let server = Server::start(fair);
    let made = judge(&lab, &[server.teacher("judge-1")], "{}").unwrap();
    assert_eq!(scores(&made), expected([("a", 5.0), ("b", 1.5), ("c", 5.0)]));
    let verdict = rows(&made, FILE).remove(1);
    assert_eq!((verdict["id"].as_str(), verdict["explanation"].as_str()), (Some("b"), Some("because")));
    assert_eq!(verdict["decisions"], "{\"right\":1,\"clear\":3}");
    assert_eq!((verdict["judge_model"].as_str(), verdict["length"].as_u64()), (Some("mock-1"), Some(5)));
    let spend = &made.manifest.spend;
    assert_eq!((spend.requests, spend.prompt_tokens), (3, 300));
    assert!((spend.usd - 3.0 * 200.0 / 1e6).abs() < 1e-12, "{}", spend.usd);
    let call = &server.calls()[0];
    assert!(call.prompt.contains("right: Is it right?\n  1 = no\n"), "{}", call.prompt);
    assert_eq!(call.body["temperature"], 0.0);
    let system = call.body["messages"][0]["content"].as_str().unwrap();
    let asked = ContentHash::of_json(&json!([system, call.prompt]));
    assert!(
        rows(&made, FILE).iter().any(|row| row["prompt_hash"] == asked.as_str()),
        "the hash is of what was asked"
    );
}

#[test]
fn a_jury_is_asked_and_every_judge_counts_alike() {
    let lab = lab();
    let (one, other) = (Server::start(fair), Server::start(|_| verdict(3, 3)));
    let juror = [one.teacher("judge-1"), other.teacher("judge-1")];
    let made = judge(&lab, &juror, "samples: 2").unwrap();
    assert_eq!(scores(&made), expected([("a", 4.0), ("b", 2.25), ("c", 4.0)]));
    assert_eq!(rows(&made, FILE).len(), 12);
    assert_eq!(made.manifest.spend.requests, 12);
    // The same again costs nothing, even for another stage of the same question.
    let again = judge(&lab, &juror[..1], "samples: 2").unwrap();
    assert_eq!((again.manifest.spend.requests, one.calls().len()), (0, 6));
}

#[test]
fn a_ceiling_holds_for_the_jury_together() {
    let lab = lab();
    // Each verdict costs 0.002 dollars, and at worst a little more.
    let dear = |_: &Call| good("{\"right\": 5, \"clear\": 5}", 1000);
    let (one, other) = (Server::start(dear), Server::start(dear));
    let jury = [one.teacher("judge-1"), other.teacher("judge-1")];
    let error = judge(&lab, &jury, "{max_cost_usd: 0.009, max_concurrent_requests: 1}").unwrap_err();
    assert!(error.to_string().contains("stay below $0.0090"), "{error}");
    assert_eq!(one.calls().len(), 3, "the ceiling was met by the second judge");
    let made = judge(&lab, &jury, "max_cost_usd: 1").unwrap();
    assert_eq!(one.calls().len() + other.calls().len(), 6, "nothing is paid twice");
    assert_eq!(made.manifest.spend.requests, 6);
}

#[test]
fn a_call_that_was_under_way_is_charged_to_the_judge_that_was_asked() {
    let lab = lab();
    let one = Server::start(fair);
    // Answers one question; the two others stay open in the first attempt.
    let other = Server::start(|call| {
        let is_answered = call.prompt.contains("GOOD 4") || call.before > 0;
        if is_answered { verdict(3, 3) } else { nothing() }
    });
    let jury = [one.teacher("judge-1"), other.teacher("judge-2")];
    judge(&lab, &jury[..1], "{}").unwrap();
    let inputs = outputs(&lab);
    lab.die(&stage(&lab, &jury, "{}"), &inputs, 1);
    let made = lab.execute(&stage(&lab, &jury, "{}"), "answers", &inputs).unwrap();
    assert_eq!((one.calls().len(), other.calls().len()), (3, 5), "nothing is paid twice");
    let charges: Vec<_> = Ledger::charges(&lab.run_folder(&made))
        .unwrap()
        .into_iter()
        .filter_map(|charge| match charge.entry {
            Entry::Tokens { model, requests, usd, .. } => {
                Some((model, requests, usd.is_some(), charge.calls, charge.at_most_usd.is_some()))
            }
            Entry::Machine { .. } => None,
        })
        .collect();
    let [(_, 1, true, first, false), (_, 0, false, lost, true), (_, 2, true, last, false)] = &charges[..]
    else {
        panic!("one answer, two lost calls, two answers: {charges:?}")
    };
    assert!(charges.iter().all(|(model, ..)| model == "judge-2"), "{charges:?}");
    let mut calls = [first.as_slice(), lost, last].concat();
    calls.sort_unstable();
    assert_eq!(calls, [1, 2, 3, 4, 5]);
}

#[test]
fn pairs_are_compared_in_both_orders() {
    let lab = lab();
    let first_wins = Server::start(|_| good("{\"explanation\": \"x\", \"winner\": \"A\"}", 10));
    let made = judge(&lab, &[first_wins.teacher("judge-1")], "mode: pairs").unwrap();
    let found = scores(&made);
    assert_eq!(found[..2], [("a".to_owned(), Some(3.0)), ("b".to_owned(), Some(3.0))]);
    assert_eq!(found[2].1, None, "nothing to compare with");

    let fair = Server::start(|call| {
        let winner = if call.prompt.contains("<answer_a>\nGOOD") { "A" } else { "B" };
        good(&format!("{{\"winner\": \"{winner}\"}}"), 10)
    });
    let found = scores(&judge(&lab, &[fair.teacher("judge-1")], "mode: pairs").unwrap());
    assert_eq!(found[..2], [("a".to_owned(), Some(5.0)), ("b".to_owned(), Some(1.0))]);
}

#[test]
fn what_cannot_be_read_is_kept_with_what_is_wrong() {
    let lab = lab();
    let server =
        Server::start(
            |call| if call.prompt.contains("BAD") { good("It is bad.", 10) } else { verdict(5, 5) },
        );
    let judges = [server.teacher("judge-1")];
    let error = judge(&lab, &judges, "{}").unwrap_err();
    assert_eq!(error.to_string(), "read the verdicts: 1 of 3 are unreadable; the first: no JSON object");
    assert_eq!(server.calls().len(), 5, "what cannot be read is asked again, twice");
    let made = judge(&lab, &judges, "max_unreadable_share: 0.5").unwrap();
    assert_eq!(server.calls().len(), 5, "what was paid for is kept");
    assert_eq!(scores(&made)[1].1, None);
    let verdict = rows(&made, FILE).remove(1);
    assert_eq!(
        (verdict["problem"].as_str(), verdict["text"].as_str(), verdict["repeats"].as_u64()),
        (Some("no JSON object"), Some("It is bad."), Some(2))
    );
    assert_eq!(made.manifest.summary["unreadable"], 1);
    assert_eq!(made.manifest.spend.requests, 5, "every call is in the bill");
    assert_eq!(made.manifest.summary["mean_score"], 5.0);
}

/// Of a pair that was read in one order alone nothing is known, least of all a score below the lowest.
#[test]
fn where_nothing_has_a_score_there_is_no_mean() {
    let lab = lab();
    let server = Server::start(|call| {
        let is_forward = call.prompt.contains("<answer_a>\nGOOD");
        good(if is_forward { "{\"winner\": \"A\"}" } else { "It is hard to say." }, 10)
    });
    let made = judge(&lab, &[server.teacher("judge-1")], "{mode: pairs, max_unreadable_share: 0.5}").unwrap();
    assert!(scores(&made).iter().all(|(_, score)| score.is_none()), "{:?}", scores(&made));
    assert_eq!(made.manifest.summary["unreadable"], 1);
    assert_eq!(made.manifest.summary["mean_score"], json!(null));
}

#[test]
fn a_verdict_that_could_not_be_read_at_first_counts_once_it_can() {
    let lab = lab();
    let server = Server::start(|call| {
        if call.before == 0 && call.prompt.contains("BAD") {
            good("Hm. {\"right\": 9}", 10)
        } else {
            fair(call)
        }
    });
    let made = judge(&lab, &[server.teacher("judge-1")], "max_unreadable_share: 0").unwrap();
    assert_eq!(scores(&made), expected([("a", 5.0), ("b", 1.5), ("c", 5.0)]));
    let seeds: Vec<_> = server.calls().iter().map(|call| call.body["seed"].clone()).collect();
    assert_eq!(seeds.len(), 4);
    assert!(seeds.iter().any(|seed| *seed != seeds[0]), "asked again with another seed: {seeds:?}");
    assert_eq!(
        (&made.manifest.summary["asked_again"], &made.manifest.summary["unreadable"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn an_api_is_told_the_shape_of_verdicts_where_it_is_asked_to() {
    let lab = lab();
    let server = Server::start(|call| match call.body["response_format"].as_object() {
        Some(_) => fair(call),
        None => good("No shape was asked for.", 10),
    });
    let judges = [server.teacher("judge-1")];
    // Of a URL nothing is known.
    judge(&lab, &judges, "{}").unwrap_err();
    // The explanation around the object does not fit the shape, and is read all the same.
    let made = judge(&lab, &judges, "constrain: true").unwrap();
    assert_eq!(scores(&made), expected([("a", 5.0), ("b", 1.5), ("c", 5.0)]));
    let calls = server.calls();
    assert_eq!(calls.len(), 3 * 3 + 3, "nothing is asked again for its shape");
    let schema = &calls[calls.len() - 1].body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["required"], json!(["explanation", "scores"]));
    let levels = json!({"type": "integer", "enum": [1, 2, 3, 4, 5]});
    assert_eq!(schema["properties"]["scores"]["properties"], json!({"right": levels, "clear": levels}));
}

#[test]
fn what_cannot_be_judged_is_named_before_anything_is_asked() {
    let lab = lab();
    let check = |yaml: &str, expected: &str| {
        let config = config::from_value(config::parse_yaml(yaml, "test").unwrap(), "test").unwrap();
        let error = Judge::new(config, lab.folder.path(), &Environment::of([])).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    check("{}", "`judges` is empty");
    check("{judges: ['openai:m', 'openai:m']}", "each judge is asked once");
    check("{judges: ['opnai:m']}", "unknown provider");
    check("{judges: ['openai:m'], rubric: none.yaml}", "none.yaml");
}

/// An evaluation of a model, with what it answered to each item.
fn evaluation(lab: &TestLab, model: &str, answers: &[(&str, Option<&str>)]) -> Artifact {
    let rows = answers.iter().map(|(id, output)| {
        object(json!({
            "id": id, "domain": "sums", "prompt": format!("question {id}"), "reference": "4", "output": output,
        }))
    });
    lab.put_evaluation(model, rows.collect())
}

fn verdicts(artifact: &Artifact) -> Vec<Verdict> {
    Verdict::read_all(artifact, &JsonLines).unwrap()
}

#[test]
fn what_a_model_answered_in_an_evaluation_is_judged() {
    let lab = lab();
    let server = Server::start(fair);
    let one = evaluation(&lab, "one", &[("a", Some("GOOD 4")), ("b", None), ("c", Some("5"))]);
    let inputs = Inputs::none().with("evaluation", one);
    let stage = stage(&lab, &[server.teacher("judge-1")], "{}");
    let made = lab.execute(&stage, "verdicts", &inputs).unwrap();
    assert_eq!(
        scores(&made).iter().map(|(_, score)| *score).collect::<Vec<_>>(),
        [Some(5.0), None, Some(1.5)]
    );
    assert_eq!(made.manifest.summary["unanswered"], 1);
    let found = verdicts(&made);
    assert_eq!(found.len(), 2, "what was not answered is not judged");
    assert_eq!((found[0].model.as_deref(), found[0].domain.as_deref()), (Some("one"), Some("sums")));
    assert!(server.calls()[0].prompt.contains("<reference>\n4\n"));
}

#[test]
fn a_rubric_for_each_item_is_that_of_its_item() {
    let lab = lab();
    let server = Server::start(|call| {
        let score = if call.prompt.contains("about a?") { 5 } else { 2 };
        good(&format!("{{\"explanation\": \"x\", \"scores\": {{\"score\": {score}}}}}"), 10)
    });
    let rubric = |id: &str| {
        let mut rubric = json!({"criteria": format!("Is it about {id}?")});
        (1..=5)
            .for_each(|level| rubric[format!("score{level}_description")] = json!(format!("level {level}")));
        json!({"id": id, "input": "q", "score_rubric": rubric})
    };
    let write = |rubrics: serde_json::Value| {
        std::fs::write(lab.folder.path().join("each.json"), rubrics.to_string()).unwrap();
    };
    let judge = || {
        let answers = evaluation(&lab, "one", &[("a", Some("1")), ("b", Some("2"))]);
        let inputs = Inputs::none().with("evaluation", answers);
        lab.execute(&stage(&lab, &[server.teacher("judge-1")], "rubric: each.json"), "verdicts", &inputs)
    };
    write(json!([rubric("a"), rubric("b")]));
    assert_eq!(scores(&judge().unwrap()), [("a".to_owned(), Some(5.0)), ("b".to_owned(), Some(2.0))]);
    write(json!([rubric("a")]));
    assert_eq!(judge().unwrap_err().to_string(), "rubric `each`: there is none for item `b`");
}

#[test]
fn two_models_are_compared_item_by_item_in_both_orders() {
    let lab = lab();
    let server = Server::start(|call| {
        let winner = if call.prompt.contains("<answer_a>\nGOOD") { "A" } else { "B" };
        good(&format!("{{\"explanation\": \"x\", \"winner\": \"{winner}\"}}"), 10)
    });
    let one = evaluation(&lab, "one", &[("a", Some("GOOD 4")), ("b", Some("5"))]);
    // Another order of the items, and the same items.
    let other = evaluation(&lab, "other", &[("b", Some("6")), ("a", Some("3"))]);
    let judge = |versus: &Artifact, yaml: &str| {
        let inputs = Inputs::none().with("evaluation", one.clone()).with("versus", versus.clone());
        lab.execute(&stage(&lab, &[server.teacher("judge-1")], yaml), "verdicts", &inputs)
    };
    let made = judge(&other, "{}").unwrap();
    // On `b` the judge says B whatever the order is: a tie.
    assert_eq!(scores(&made), [("a".to_owned(), Some(5.0)), ("b".to_owned(), Some(3.0))]);
    let found = verdicts(&made);
    let of = |verdict: &Verdict| (verdict.id.clone(), verdict.order.unwrap(), verdict.score.unwrap());
    use nexa_core::judging::Order::{Backward, Forward};
    let a = |order, score| ("a".to_owned(), order, score);
    assert_eq!(found[..2].iter().map(of).collect::<Vec<_>>(), [a(Forward, 5.0), a(Backward, 1.0)]);
    assert_eq!((found[0].model.as_deref(), found[0].other_model.as_deref()), (Some("one"), Some("other")));
    assert_eq!((found[0].length, found[0].other_length), (Some(6), Some(1)));

    let fails = |versus: &Artifact, yaml: &str, expected: &str| {
        let error = judge(versus, yaml).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    fails(&evaluation(&lab, "short", &[("a", Some("1"))]), "{}", "`versus` has no item `b`");
    let long = evaluation(&lab, "long", &[("a", Some("1")), ("b", Some("1")), ("z", Some("1"))]);
    fails(&long, "{}", "`versus` has 1 items more");
    fails(&other, "mode: single", "`mode` is single");
    assert_eq!(server.calls().len(), 4, "nothing is asked before the items are known to be the same");
}

#[test]
fn judging_stops_when_it_is_decided_and_resumes_to_the_same() {
    let lab = lab();
    let likes_good = |call: &Call| {
        let winner = if call.prompt.contains("<answer_a>\nGOOD") { "A" } else { "B" };
        good(&format!("{{\"explanation\": \"x\", \"winner\": \"{winner}\"}}"), 10)
    };
    let ids: Vec<String> = (0..100).map(|item| format!("i{item:02}")).collect();
    let of = |model: &str, text: &str| {
        let answers: Vec<_> = ids.iter().map(|id| (id.as_str(), Some(text))).collect();
        evaluation(&lab, model, &answers)
    };
    let inputs = Inputs::none().with("evaluation", of("one", "GOOD")).with("versus", of("other", "bad"));
    let server = Server::start(likes_good);
    let judge = stage(&lab, &[server.teacher("judge-1")], "stop_when_decided: 0.05");
    let made = lab.execute(&judge, "answers", &inputs).unwrap();
    // A judge that never errs decides within the first round of 32 items; each is asked in two orders.
    assert_eq!((verdicts(&made).len(), server.calls().len()), (64, 64));
    let standing = &made.manifest.summary["sequential"];
    assert_eq!(standing["decided"]["first_is_better"], true, "{standing}");
    assert_eq!(scores(&made).iter().filter(|(_, score)| score.is_some()).count(), 32);

    let killed = TestLab::with("", &[]);
    std::fs::write(killed.folder.path().join("rubric.yaml"), RUBRIC).unwrap();
    let again = Server::start(likes_good);
    let judge = stage(&killed, &[again.teacher("judge-1")], "stop_when_decided: 0.05");
    let of = |model: &str, text: &str| {
        let answers: Vec<_> = ids.iter().map(|id| (id.as_str(), Some(text))).collect();
        evaluation(&killed, model, &answers)
    };
    let inputs = Inputs::none().with("evaluation", of("one", "GOOD")).with("versus", of("other", "bad"));
    killed.die(&judge, &inputs, 20);
    let resumed = killed.execute(&judge, "answers", &inputs).unwrap();
    let text = |made: &Artifact| {
        let rows = verdicts(made).into_iter().map(|verdict| Verdict { judge: String::new(), ..verdict });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(text(&resumed), text(&made));
    let alone = Inputs::none().with("evaluation", of("one", "GOOD"));
    let error = killed.execute(&judge, "answers", &alone).unwrap_err().to_string();
    assert!(error.contains("`versus`"), "{error}");
}

#[test]
fn mt_bench_rates_each_turn_from_1_to_10() {
    let lab = lab();
    let server = Server::start(|call| {
        let rating = if call.prompt.contains("2 turns") { "[[10]]" } else { "First [[3]], but then: [[1]]" };
        good(&format!("It is so.\n\nRating: {rating}"), 10)
    });
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let talk =
        json!([turn("user", "q1"), turn("assistant", "a1"), turn("user", "q2"), turn("assistant", "a2")]);
    let row = object(
        json!({"id": "m", "domain": "math", "prompt": "q1", "reference": null, "messages": talk, "output": "a2"}),
    );
    let inputs = Inputs::none().with("evaluation", lab.put_evaluation("one", vec![row]));
    let stage = stage(&lab, &[server.teacher("judge-1")], "protocol: mt_bench");
    let made = lab.execute(&stage, "verdicts", &inputs).unwrap();
    let found: Vec<_> = verdicts(&made).iter().map(|verdict| (verdict.turn, verdict.score)).collect();
    assert_eq!(found, [(Some(1), Some(1.0)), (Some(2), Some(10.0))]);
    assert_eq!(scores(&made), [("m".to_owned(), Some(3.0))], "on the scale of all scores");
    let body = &server.calls()[0].body;
    assert_eq!((&body["temperature"], &body["max_tokens"]), (&json!(0.0), &json!(2048)));
}

#[test]
fn probabilities_of_the_verdict_give_an_expected_score() {
    let lab = lab();
    let server = Server::start(|call| {
        let (status, headers, mut body) = good("Rating: [[8]]", 10);
        if call.body["top_logprobs"] == 5 {
            let other = |token: &str, p: f64| json!({"token": token, "logprob": p.ln()});
            let token =
                |token: &str, others: Vec<serde_json::Value>| json!({"token": token, "top_logprobs": others});
            body["choices"][0]["logprobs"] = json!({"content": [
                token("Rating: [[", vec![]), token("8", vec![other("8", 0.75), other("4", 0.25)]), token("]]", vec![]),
            ]});
        }
        (status, headers, body)
    });
    let made = judge(&lab, &[server.teacher("judge-1")], "{protocol: mt_bench, top_logprobs: 5}").unwrap();
    let verdict = verdicts(&made).remove(0);
    assert_eq!((verdict.score, verdict.expected_score), (Some(8.0), Some(7.0)));
}

#[test]
fn the_judge_inside_the_program_says_that_it_goes_by_rules() {
    let lab = lab();
    let right = evaluation(&lab, "one", &[("a", Some("2 + 2 = 4\n#### 4")), ("b", Some("#### 5"))]);
    let inputs = Inputs::none().with("evaluation", right);
    let made = lab.execute(&stage(&lab, &["embedded".to_owned()], "{}"), "verdicts", &inputs).unwrap();
    assert_eq!(scores(&made), [("a".to_owned(), Some(5.0)), ("b".to_owned(), Some(1.0))]);
    let verdict = verdicts(&made).remove(0);
    assert_eq!(verdict.judge_model.as_deref(), Some(nexa_core::judging::RULES));
    assert!(verdict.explanation.unwrap().starts_with("By rule: "));
}
