use nexa_core::table::JsonLines;
use nexa_eval::Leaderboard;
use nexa_eval::compare::Verdict;
use nexa_eval::evaluate::Config;
use nexa_eval::metric::Name;

use crate::adder::Adder;
use crate::bench::Bench;

#[test]
fn checkpoints_are_ranked_within_their_test_set() {
    let bench = Bench::new();
    let (dataset, other) = (bench.sums(40), bench.sums(10));
    bench.evaluate("weak", &Adder::new(|a| a < 10), &dataset, Config::default());
    bench.evaluate("best", &Adder::new(|a| a < 30), &dataset, Config::default());
    bench.evaluate("near", &Adder::new(|a| (2..31).contains(&a)), &dataset, Config::default());
    bench.evaluate("like_near", &Adder::new(|a| (2..31).contains(&a)), &dataset, Config::default());
    bench.evaluate("weak", &Adder::new(|a| a < 10), &other, Config::default());

    let board = Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap();
    let shown: Vec<_> = board.rows.iter().map(|row| (row.n, row.rank, row.model.as_str())).collect();
    assert_eq!(
        shown,
        [
            (10, Some(1), "weak"),
            (40, Some(1), "best"),
            (40, Some(2), "like_near"),
            (40, Some(2), "near"),
            (40, Some(4), "weak"),
        ]
    );
    assert_eq!(board.by_test_set().map(<[_]>::len).collect::<Vec<_>>(), [1, 4]);
    assert!(
        board.rows.iter().all(|row| row.ranked_by == Name::EXACT_MATCH && row.checkpoint_spend.is_some())
    );
    assert_eq!(board.rows[1].versus_best, None);
    let near = board.rows[3].versus_best.unwrap();
    assert_eq!((near.difference, near.verdict), (-1.0 / 40.0, Verdict::NoDifferenceShown));
    let weak = board.rows[4].versus_best.unwrap();
    // scipy 1.17.1 binomtest(0, 20), then three times that.
    assert_eq!((weak.p_value, weak.p_adjusted), (1.907_348_632_812_5e-6, 5.722_045_898_437_5e-6));
    assert_eq!((weak.difference, weak.verdict), (-0.5, Verdict::Worse));
    let text = serde_json::to_string(&board).unwrap();
    assert_eq!(serde_json::from_str::<Leaderboard>(&text).unwrap(), board);
}

#[test]
fn the_newest_evaluation_of_a_checkpoint_counts() {
    let bench = Bench::new();
    let dataset = bench.sums(10);
    // The same checkpoint would answer the same, so a model that changes must be asked.
    let config = |seed| Config { seed, cache: false, ..Config::default() };
    bench.evaluate("model", &Adder::new(|_| false), &dataset, config(1));
    let newer = bench.evaluate("model", &Adder::new(|_| true), &dataset, config(2));
    let board = Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap();
    assert_eq!(board.rows.len(), 1);
    assert_eq!((&board.rows[0].evaluation, board.rows[0].exact_match.unwrap().value), (newer.id(), 1.0));
    assert!(bench.root().join("runs").join(board.rows[0].run.as_str()).is_dir());
}

#[test]
fn without_answers_bits_per_byte_ranks() {
    let bench = Bench::new();
    let dataset = bench.sums(20);
    let config = || Config { tasks: vec!["perplexity".to_owned()], ..Config::default() };
    let model = |nats_per_byte| Adder { nats_per_byte, ..Adder::new(|_| true) };
    bench.evaluate("high", &model(|a| 1.0 + 0.001 * a as f64), &dataset, config());
    bench.evaluate("low", &model(|_| 0.9), &dataset, config());
    let board = Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap();
    let shown: Vec<_> =
        board.rows.iter().map(|row| (row.rank, row.model.as_str(), row.exact_match)).collect();
    assert_eq!(shown, [(Some(1), "low", None), (Some(2), "high", None)]);
    assert_eq!(board.rows[1].versus_best.unwrap().verdict, Verdict::Worse);

    // Once one checkpoint has answers they rank, and one without them has no rank.
    bench.evaluate("answers", &Adder::new(|a| a < 2), &dataset, Config::default());
    let board = Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap();
    let shown: Vec<_> = board.rows.iter().map(|row| (row.rank, row.model.as_str())).collect();
    assert_eq!(shown, [(Some(1), "answers"), (None, "high"), (None, "low")]);
    assert!(board.rows.iter().all(|row| row.versus_best.is_none()));
}

#[test]
fn a_project_without_evaluations_has_an_empty_board() {
    let bench = Bench::new();
    assert_eq!(Leaderboard::of_project(&bench.store(), "sums", &JsonLines).unwrap().rows, []);
}
