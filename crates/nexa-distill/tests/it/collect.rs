//! Collecting: same bytes whatever happens on the way, and nothing asked or paid twice.

use nexa_core::ExitCode;
use nexa_core::columns;
use nexa_core::table::{JsonLines, Tables};
use nexa_distill::embedded::{self, EmbeddedTeacher, Faults};
use nexa_distill::problems;

use crate::server::{Server, bad, good};
use crate::support::{CancelAt, TestLab, collect, numbered, rows};

fn questions(count: usize) -> Vec<String> {
    let config = problems::Config { problems: count, ..Default::default() };
    let rows = problems::generate(&config).unwrap();
    rows.iter().map(|row| row[problems::QUESTION].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes_and_asks_nothing_twice() {
    let faults = Faults { rate_limited: 0.0, failing: 0.0, ..Faults::default() };
    let teacher = EmbeddedTeacher::start(embedded::Config { seed: 3, faults, ..Default::default() }).unwrap();
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

#[test]
fn a_key_is_sent_and_stands_nowhere_else() {
    const KEY: &str = "sk-test-0123456789";
    /// So much of it would still tell what it is.
    const PART: usize = 10;
    // What is shown of a provider's words ends after 200 characters, which here is in the middle of the key.
    let padding = "x".repeat(200 - "Bearer ".len() - " ".len() - PART);
    let words = padding.clone();
    let server = Server::start(move |call| match call.prompt.as_str() {
        "question 001" => bad(400, &format!("{words} {}", call.authorization)),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::with("", &[("NEXA_API_KEY", KEY)]);
    let inputs = lab.put_prompts(&numbered(3));
    let stage = collect(&server.teacher("m"), |config| config.max_failed_share = 0.5);
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert!(server.calls().iter().all(|call| call.authorization == format!("Bearer {KEY}")));
    let reasons = lab.run_folder(&made).join("reasons.jsonl");
    let reasons = JsonLines.read(&reasons).unwrap();
    assert_eq!(reasons[0]["reason"], format!("400 Bad Request: {padding} Bearer …"));
    for file in nexa_core::files::walk(lab.folder.path()).unwrap() {
        let bytes = std::fs::read(lab.folder.path().join(&file)).unwrap();
        let part = &KEY.as_bytes()[..PART];
        assert!(!bytes.windows(PART).any(|window| window == part), "{}", file.display());
    }
}

#[test]
fn retries_and_what_was_there_before_are_told_but_not_hashed() {
    let fails_first = |count: usize| {
        Server::start(move |call| match call.before < count {
            true => (429, vec![("retry-after", "0".to_owned())], serde_json::json!({})),
            false => good(&call.prompt, 1),
        })
    };
    let made = |server: &Server, dies: bool| {
        let lab = TestLab::new();
        let inputs = lab.put_prompts(&numbered(6));
        let stage = collect(&server.teacher("m"), |_| {});
        if dies {
            lab.die(&stage, &inputs, 2);
        }
        lab.execute(&stage, "answers", &inputs).unwrap().manifest
    };
    let (straight, broken) = (made(&fails_first(0), false), made(&fails_first(2), true));
    assert_ne!(straight.summary["retries"], broken.summary["retries"]);
    assert_ne!(straight.summary["reused"], broken.summary["reused"]);
    assert_eq!(straight.content_hash, broken.content_hash);
}
