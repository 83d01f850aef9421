//! The leaderboard of every task: who stands on one board, in which order, and which ranks tests leave open.

use std::num::NonZeroUsize;
use std::sync::Arc;

use nexa_core::artifact::Artifact;
use nexa_core::event::Cancel;
use nexa_core::stage::Inputs;
use nexa_core::table::JsonLines;
use nexa_eval::compare::Verdict;
use nexa_eval::evaluate::{Config, Limit};
use nexa_eval::leaderboard::{Board, Choice, RankRange};
use nexa_eval::{Evaluate, Leaderboard};
use serde_json::{Value, json};

use crate::adder::Adder;
use crate::bench::Bench;
use crate::parrot::Parrot;

fn write(bench: &Bench, path: &str, rows: &[Value]) {
    let path = bench.root().join("data/raw/benchmarks").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

fn evaluate(bench: &Bench, name: &str, model: Parrot, config: Config) -> Artifact {
    let inputs = Inputs::none().with("checkpoint", bench.checkpoint(name));
    let stage = Evaluate::new(config, bench.root(), Arc::new(model)).unwrap();
    let made = bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false);
    made.unwrap().artifact().clone()
}

/// Forty problems, the number of each its answer.
fn gsm8k(bench: &Bench) {
    let row = |n: usize| json!({"question": format!("{n}?"), "answer": format!("#### {n}")});
    write(bench, "gsm8k/test.jsonl", &(0..40).map(row).collect::<Vec<_>>());
}

fn config(tasks: &[&str]) -> Config {
    let tasks = tasks.iter().map(|&task| task.to_owned()).collect();
    Config { tasks, num_fewshot: Some(0), ..Config::default() }
}

fn number(prompt: &str) -> usize {
    prompt.rsplit("Question: ").next().unwrap().split('?').next().unwrap().parse().unwrap()
}

/// Right below a number, in the strict form below another.
fn answer(prompt: &str, right: usize, strict: usize) -> String {
    let number = number(prompt);
    match () {
        () if number >= right => "no idea".to_owned(),
        () if number >= strict => format!("it is {number}"),
        () => format!("#### {number}"),
    }
}

fn boards(bench: &Bench, task: Option<&str>, metric: Option<&str>) -> Vec<Board> {
    let choice = Choice { task: task.map(str::to_owned), metric: metric.map(str::to_owned) };
    Leaderboard::choose(&bench.store(), "sums", &JsonLines, &choice).unwrap().boards
}

/// The names of the metrics that a board could be ranked by.
fn that_could_rank(board: &Board) -> Vec<String> {
    board.metrics.iter().map(ToString::to_string).collect()
}

/// Rank, model, and the ranks left open.
type Shown<'b> = (usize, &'b str, Option<(usize, usize)>);

fn shown(board: &Board) -> Vec<Shown<'_>> {
    let range = |range: RankRange| (range.best, range.worst);
    board
        .entries
        .iter()
        .map(|entry| (entry.rank, entry.model.as_str(), entry.rank_range.map(range)))
        .collect()
}

#[test]
fn checkpoints_are_ranked_by_task_with_the_ranks_that_tests_leave_open() {
    let bench = Bench::new();
    gsm8k(&bench);
    evaluate(&bench, "best", Parrot::new(|prompt| answer(prompt, 40, 36)), config(&["gsm8k"]));
    evaluate(&bench, "near", Parrot::new(|prompt| answer(prompt, 35, 35)), config(&["gsm8k"]));
    evaluate(&bench, "weak", Parrot::new(|prompt| answer(prompt, 40, 10)), config(&["gsm8k"]));
    evaluate(&bench, "none", Parrot::new(|prompt| answer(prompt, 0, 0)), config(&["gsm8k"]));

    let found = boards(&bench, None, None);
    assert_eq!(found.len(), 1);
    let board = &found[0];
    assert_eq!(board.metric.to_string(), "gsm8k/exact_match,strict-match");
    assert_eq!((board.asked.documents, board.asked.num_fewshot), (40, Some(0)));
    let filters = ["gsm8k/exact_match,strict-match", "gsm8k/exact_match,flexible-extract"];
    assert_eq!(that_could_rank(board), filters);
    // McNemar: 36 against 35 is p = 1, 35 against 10 is 2 * 0.5^25, 10 against 0 is 2 * 0.5^10, all far below 0.05 / 6.
    assert_eq!(
        shown(board),
        [
            (1, "best", Some((1, 2))),
            (2, "near", Some((1, 2))),
            (3, "weak", Some((3, 3))),
            (4, "none", Some((4, 4)))
        ]
    );
    let [best, near, weak, _] = board.entries.as_slice() else { panic!("{board:?}") };
    assert_eq!((best.value.value, best.versus_best), (0.9, None));
    assert!(best.value.ci_low.unwrap() < 0.9 && best.value.ci_high.unwrap() > 0.9);
    assert_eq!(near.versus_best.unwrap().verdict, Verdict::NoDifferenceShown);
    let weak = weak.versus_best.unwrap();
    assert_eq!((weak.p_value, weak.p_adjusted), (2.0 * 0.5_f64.powi(26), 2.0 * 2.0 * 0.5_f64.powi(26)));

    // By the other filter, two that are equal share a rank.
    let flexible = &boards(&bench, Some("gsm8k"), Some("exact_match,flexible-extract"))[0];
    assert_eq!((flexible.metric.to_string().as_str(), that_could_rank(flexible).len()), (filters[1], 2));
    assert_eq!(
        shown(flexible).iter().map(|(rank, name, _)| (*rank, *name)).collect::<Vec<_>>(),
        [(1, "best"), (1, "weak"), (3, "near"), (4, "none")]
    );
}

#[test]
fn what_was_asked_otherwise_stands_on_a_board_of_its_own() {
    let bench = Bench::new();
    gsm8k(&bench);
    let model = || Parrot::new(|prompt| answer(prompt, 20, 20));
    evaluate(&bench, "one", model(), config(&["gsm8k"]));
    let told = Config { system_instruction: Some("Add.".to_owned()), ..config(&["gsm8k"]) };
    evaluate(&bench, "other", model(), told);
    let found = boards(&bench, None, None);
    assert_eq!(found.iter().map(|board| board.entries.len()).collect::<Vec<_>>(), [1, 1]);
    assert_ne!(found[0].asked.hash, found[1].asked.hash);
    // Of one checkpoint the newest evaluation counts.
    let again = Config { seed: 9, ..config(&["gsm8k"]) };
    let newer = evaluate(&bench, "one", model(), again);
    let found = boards(&bench, None, None);
    assert_eq!((found.len(), &found[0].entries[0].evaluation), (2, newer.id()));
}

#[test]
fn a_group_is_ranked_by_the_documents_of_its_tasks() {
    let bench = Bench::new();
    let row = |n: usize| json!({"sentence_good": format!("good {n}."), "sentence_bad": format!("evil {n}.")});
    write(&bench, "blimp/adjunct_island.jsonl", &(0..10).map(row).collect::<Vec<_>>());
    write(&bench, "blimp/causative.jsonl", &(10..40).map(row).collect::<Vec<_>>());
    let right = Parrot {
        nats: |_, text| if text.contains("evil") { 9.0 } else { 1.0 },
        ..Parrot::new(str::to_owned)
    };
    let wrong = Parrot {
        nats: |_, text| if text.contains("evil") { 1.0 } else { 9.0 },
        ..Parrot::new(str::to_owned)
    };
    // Right about the task of ten documents alone: tasks count alike, so that is a half.
    let half = Parrot {
        nats: |_, text| if text.contains("evil") == (text.len() > " good 1.".len()) { 1.0 } else { 9.0 },
        ..Parrot::new(str::to_owned)
    };
    evaluate(&bench, "right", right, config(&["blimp"]));
    evaluate(&bench, "half", half, config(&["blimp"]));
    evaluate(&bench, "wrong", wrong, config(&["blimp"]));
    let found = boards(&bench, Some("blimp"), None);
    let [board] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((board.asked.subtasks.len(), board.asked.documents), (2, 40));
    assert_eq!(
        shown(board),
        [(1, "right", Some((1, 1))), (2, "half", Some((2, 2))), (3, "wrong", Some((3, 3)))]
    );
    let difference = board.entries[1].versus_best.unwrap();
    assert!(
        (difference.difference + 0.5).abs() < 1e-9 && difference.ci_high.unwrap() < 0.0,
        "{difference:?}"
    );
    assert!((board.entries[2].versus_best.unwrap().difference + 1.0).abs() < 1e-9);
}

#[test]
fn corpus_ratios_are_tested_though_their_documents_have_no_value() {
    let bench = Bench::new();
    std::fs::write(bench.root().join("notes.txt"), "one line\n\nanother line of words\n").unwrap();
    let row = |n: usize| json!({"text": format!("line {n}")});
    write(&bench, "notes.jsonl", &(0..12).map(row).collect::<Vec<_>>());
    let task = format!("text:{}", bench.root().join("data/raw/benchmarks/notes.jsonl").display());
    let model = |nats: fn(&str, &str) -> f64| Parrot { nats, ..Parrot::new(str::to_owned) };
    evaluate(&bench, "low", model(|_, text| 0.5 * text.len() as f64), config(&[&task]));
    evaluate(&bench, "high", model(|_, text| 0.9 * text.len() as f64), config(&[&task]));
    let found = boards(&bench, None, None);
    let [board] = found.as_slice() else { panic!("{found:?}") };
    assert!(!board.higher_is_better);
    assert_eq!(shown(board), [(1, "low", Some((1, 1))), (2, "high", Some((2, 2)))]);
    let versus = board.entries[1].versus_best.unwrap();
    assert_eq!(versus.verdict, Verdict::Worse);
    let difference = board.entries[1].value.value - board.entries[0].value.value;
    assert!((versus.difference - difference).abs() < 1e-9, "{versus:?}");
    let bits = &boards(&bench, None, Some("bits_per_byte"))[0];
    assert!(bits.entries[1].versus_best.unwrap().ci_low.is_some(), "{bits:?}");
}

#[test]
fn held_out_splits_have_boards_too() {
    let bench = Bench::new();
    let dataset = bench.sums(20);
    bench.evaluate("good", &Adder::new(|a| a < 18), &dataset, Config::default());
    bench.evaluate("weak", &Adder::new(|a| a < 2), &dataset, Config::default());
    let found = boards(&bench, None, None);
    let names: Vec<String> = found.iter().map(|board| board.metric.to_string()).collect();
    assert_eq!(names, ["exact_match", "bits_per_byte"]);
    assert_eq!(that_could_rank(&found[0]), ["exact_match", "exact_match_flexible"]);
    assert_eq!(that_could_rank(&found[1]), ["loss", "perplexity", "bits_per_byte"]);
    // Boards of earlier versions name none.
    let mut text = json!(found[0]);
    text.as_object_mut().unwrap().remove("metrics");
    assert_eq!(serde_json::from_value::<Board>(text).unwrap().metrics, []);
    assert_eq!(shown(&found[0]), [(1, "good", Some((1, 1))), (2, "weak", Some((2, 2)))]);
    assert_eq!(found[0].asked.dataset.as_deref(), Some(dataset.id().to_string().as_str()));
    let all = Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap();
    assert_eq!(all.rows[0].rank_range, Some(RankRange { best: 1, worst: 1 }));
    let flexible = boards(&bench, Some("exact_match"), Some("exact_match_flexible"));
    assert!(flexible[0].entries[1].versus_best.unwrap().ci_low.is_some());
}

#[test]
fn what_stopped_when_it_was_decided_stands_alone() {
    let bench = Bench::new();
    let dataset = bench.sums(300);
    let right = || Config { tasks: vec!["exact_match".to_owned()], ..Config::default() };
    let base = bench.evaluate("base", &Adder::new(|a| a % 3 != 0), &dataset, right());
    for name in ["stopped", "likewise"] {
        let inputs = Inputs::none()
            .with("checkpoint", bench.checkpoint(name))
            .with("sft_dataset", dataset.clone())
            .with("versus", base.clone());
        let config = Config { stop_when_decided: Some(0.05), ..right() };
        let stage = Evaluate::new(config, bench.root(), Arc::new(Adder::new(|a| a % 4 == 0))).unwrap();
        bench.execute(&stage, &format!("{name}_eval"), &inputs, &Cancel::default(), false).unwrap();
    }
    let asked = boards(&bench, None, None).iter().map(|board| board.asked.documents).min().unwrap();
    assert!(asked < 300, "{asked}");
    // As many items, but the first ones.
    let limit = NonZeroUsize::new(asked).map(Limit::first);
    bench.evaluate("limited", &Adder::new(|a| a % 4 == 0), &dataset, Config { limit, ..right() });
    let found = boards(&bench, None, None);
    let mut shown: Vec<_> = found.iter().map(|board| (board.asked.documents, board.entries.len())).collect();
    shown.sort_unstable();
    assert_eq!(shown, [(asked, 1), (asked, 1), (asked, 1), (300, 1)]);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let bench = Bench::new();
    gsm8k(&bench);
    evaluate(&bench, "one", Parrot::new(str::to_owned), config(&["gsm8k"]));
    let check = |task: Option<&str>, metric: Option<&str>, expected: &[&str]| {
        let choice = Choice { task: task.map(str::to_owned), metric: metric.map(str::to_owned) };
        let error = Leaderboard::choose(&bench.store(), "sums", &JsonLines, &choice).unwrap_err();
        let text = format!("{error} / {:?}", nexa_core::Diagnose::hint(&error));
        for part in expected {
            assert!(text.contains(part), "`{part}` in {text}");
        }
    };
    check(Some("gsm9k"), None, &["gsm9k", "did you mean `gsm8k`?"]);
    check(Some("gsm8k"), Some("exact_mtch"), &["exact_mtch", "did you mean `exact_match`?"]);
    let nowhere = Choice { task: Some("gsm8k".to_owned()), metric: None };
    let empty = Bench::new();
    assert_eq!(Leaderboard::choose(&empty.store(), "sums", &JsonLines, &nowhere).unwrap().boards, []);
}
