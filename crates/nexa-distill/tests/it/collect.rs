//! Collecting: same bytes whatever happens on the way, and nothing asked or paid twice.

use nexa_core::ExitCode;
use nexa_core::columns;
use nexa_distill::collect::{Collect, Config};
use nexa_distill::embedded::{self, EmbeddedTeacher, Faults};
use nexa_distill::problems;

use crate::server::{Server, bad, good};
use crate::support::{CancelAt, TestLab, rows};

fn questions(count: usize) -> Vec<String> {
    let config = problems::Config { problems: count, ..Default::default() };
    let rows = problems::generate(&config).unwrap();
    rows.iter().map(|row| row[problems::QUESTION].as_str().unwrap().to_owned()).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("question {n:03}")).collect()
}

fn collect(teacher: &str, change: impl FnOnce(&mut Config)) -> Collect {
    let mut config = Config { teacher: teacher.to_owned(), max_concurrent_requests: 4, ..Config::default() };
    change(&mut config);
    Collect::new(config).unwrap()
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes_and_asks_nothing_twice() {
    let faults = Faults { rate_limited: 0.0, failing: 0.0, ..Faults::default() };
    let teacher = EmbeddedTeacher::start(embedded::Config { seed: 3, faults }).unwrap();
    let stage = collect(&format!("{}#{}", teacher.base_url(), embedded::MODEL), |_| {});
    let prompts = questions(120);

    let straight = TestLab::new();
    let inputs = straight.put_prompts(&prompts);
    let expected = straight.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!(teacher.requests(), 120);

    let mut broken = TestLab::new();
    let inputs = broken.put_prompts(&prompts);
    for answers in [1, 50, 51] {
        let watch = CancelAt { cancel: broken.cancel.clone(), answers };
        let error = broken.execute_watched(&stage, "answers", &inputs, &watch).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Interrupted);
        broken.cancel = Default::default();
    }
    let between = teacher.requests() - 120;
    assert!((50..120).contains(&between), "{between}");
    let found = broken.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!(teacher.requests(), 240);
    assert_eq!(found.manifest.content_hash, expected.manifest.content_hash);
    assert_eq!(found.manifest.spend.requests, 120);
}

#[test]
fn neither_concurrency_nor_faults_of_the_transport_change_the_result() {
    let hash = |max_concurrent_requests, rate_limited, failing| {
        let lab = TestLab::new();
        let inputs = lab.put_prompts(&questions(150));
        let stage = collect("embedded", |config| {
            config.max_concurrent_requests = max_concurrent_requests;
            config.embedded.rate_limited = rate_limited;
            config.embedded.failing = failing;
        });
        lab.execute(&stage, "answers", &inputs).unwrap().manifest.content_hash
    };
    let expected = hash(1, 0.0, 0.0);
    assert_eq!(hash(16, 0.0, 0.0), expected);
    assert_eq!(hash(16, 0.2, 0.05), expected);
}

#[test]
fn the_embedded_teacher_costs_a_known_nothing() {
    let lab = TestLab::with("budget: {max_usd_per_run: 0.0}\n", "");
    let inputs = lab.put_prompts(&questions(20));
    let made = lab.execute(&collect("embedded", |_| {}), "answers", &inputs).unwrap();
    let spend = &made.manifest.spend;
    assert_eq!((spend.usd, spend.requests), (0.0, 20));
    assert!(!spend.unknown.iter().any(|what| what.starts_with("tokens")), "{spend:?}");
}

#[test]
fn another_run_does_not_pay_for_the_same_answers() {
    let server = Server::start(|call| good(&call.prompt, 1));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(10));
    let stage = |limit| collect(&server.teacher("m"), |config| config.limit = Some(limit));
    lab.execute(&stage(6), "some", &inputs).unwrap();
    assert_eq!(server.calls().len(), 6);
    let all = lab.execute(&stage(10), "all", &inputs).unwrap();
    assert_eq!(server.calls().len(), 10);
    assert_eq!((all.manifest.summary["reused"].as_u64(), all.manifest.spend.requests), (Some(6), 4));
}

#[test]
fn equal_prompts_share_an_answer_and_samples_do_not() {
    let server = Server::start(|call| good(&format!("seed {}", call.body["seed"]), 1));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&["same".to_owned(), "other".to_owned(), "same".to_owned()]);
    let stage = collect(&server.teacher("m"), |config| {
        config.samples_per_prompt = 2;
        config.seed = 7;
    });
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 4);
    let found: Vec<_> = rows(&made, "parquet")
        .iter()
        .map(|row| {
            format!(
                "{} {}",
                row[columns::ID].as_str().unwrap(),
                row[columns::TEACHER_OUTPUT].as_str().unwrap()
            )
        })
        .collect();
    let expected =
        ["p0-s0 seed 7", "p0-s1 seed 8", "p1-s0 seed 7", "p1-s1 seed 8", "p2-s0 seed 7", "p2-s1 seed 8"];
    assert_eq!(found, expected);
}

const PRICES: &str =
    "prices: {models: {m: {input_usd_per_million: 0.0, output_usd_per_million: 1000000.0}}}\n";

#[test]
fn a_ceiling_stops_before_it_is_passed_and_nothing_is_lost() {
    // An answer costs 2 dollars, and could cost 5.
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, "");
    let inputs = lab.put_prompts(&numbered(10));
    let stage = |max_cost_usd| {
        collect(&server.teacher("m"), |config| {
            config.max_tokens = 5;
            config.max_cost_usd = max_cost_usd;
        })
    };
    let error = lab.execute(&stage(Some(11.0)), "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Budget);
    assert!(error.hint().unwrap().contains("max_cost_usd"));
    // After four answers 8 are spent, and a fifth might pass 11.
    assert_eq!(server.calls().len(), 4, "{error}");
    let error = lab.execute(&stage(Some(12.0)), "answers", &inputs).unwrap_err();
    assert_eq!((error.exit_code(), server.calls().len()), (ExitCode::Budget, 4), "earlier attempts count");
    let made = lab.execute(&stage(None), "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 10);
    assert_eq!(made.manifest.spend.usd, 20.0);
}

#[test]
fn a_ceiling_needs_a_price() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, "");
    let inputs = lab.put_prompts(&numbered(2));
    let stage = collect(&server.teacher("unpriced"), |config| config.max_cost_usd = Some(1.0));
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    assert!(error.to_string().contains("unpriced") && server.calls().is_empty(), "{error}");
}

#[test]
fn what_has_no_price_is_unknown() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(2));
    let made = lab.execute(&collect(&server.teacher("m"), |_| {}), "answers", &inputs).unwrap();
    assert!(made.manifest.spend.unknown.contains(&"tokens of m".to_owned()), "{:?}", made.manifest.spend);
}

#[test]
fn a_key_is_sent_and_stands_nowhere_else() {
    const KEY: &str = "sk-test-0123456789";
    let server = Server::start(|call| match call.prompt.as_str() {
        "question 001" => bad(400, &format!("unreadable, sent with {}", call.authorization)),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::with("", &format!("NEXA_API_KEY={KEY}\n"));
    let inputs = lab.put_prompts(&numbered(3));
    let stage = collect(&server.teacher("m"), |config| config.max_failed_share = 0.5);
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert!(server.calls().iter().all(|call| call.authorization == format!("Bearer {KEY}")));
    let failed = &rows(&made, "failed.jsonl")[0];
    assert_eq!(failed["reason"], "400 Bad Request: unreadable, sent with Bearer …");
    for file in nexa_core::files::walk(lab.folder.path()).unwrap() {
        let bytes = std::fs::read(lab.folder.path().join(&file)).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", file.display());
    }
}
