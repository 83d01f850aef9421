//! What happens when a provider fails: each kind of failure in its own way.

use nexa_core::ExitCode;
use nexa_distill::collect::{Collect, Config};

use crate::server::{Server, bad, good};
use crate::support::{TestLab, rows};

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("question {n:03}")).collect()
}

fn stage(server: &Server, change: impl FnOnce(&mut Config)) -> Collect {
    let mut config = Config { teacher: server.teacher("m"), max_concurrent_requests: 4, ..Config::default() };
    change(&mut config);
    Collect::new(config).unwrap()
}

#[test]
fn failures_in_passing_are_tried_again() {
    let server = Server::start(|call| match (call.prompt.as_str(), call.before) {
        ("question 000", 0..2) => (429, vec![("retry-after", "0".to_owned())], serde_json::json!({})),
        ("question 001", 0) => bad(500, "try again"),
        ("question 002", 0) => (200, Vec::new(), serde_json::json!({"choices": []})),
        ("question 003", 0) => (200, Vec::new(), serde_json::json!({"error": {"message": "upstream"}})),
        (prompt, _) => good(prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(8));
    let made = lab.execute(&stage(&server, |_| {}), "answers", &inputs).unwrap();
    assert_eq!(made.manifest.counts.rows, Some(8));
    assert_eq!(made.manifest.summary["retries"], 5);
    assert_eq!(server.calls().len(), 13);
    assert!(made.file("failed.jsonl").is_err());
}

#[test]
fn what_a_provider_does_not_accept_is_kept_apart_and_not_tried_again() {
    let server = Server::start(|call| match call.prompt.as_str() {
        "question 002" => bad(400, "too odd"),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(4));
    let error = lab.execute(&stage(&server, |_| {}), "answers", &inputs).unwrap_err();
    assert!(error.to_string().contains("1 of 4 failed") && error.to_string().contains("too odd"), "{error}");
    assert_eq!(server.calls().len(), 4);

    let lenient = stage(&server, |config| config.max_failed_share = 0.25);
    let made = lab.execute(&lenient, "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 5, "only the failed one is asked again");
    let ids: Vec<_> = rows(&made, "parquet").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["p0", "p1", "p3"]);
    let failed = &rows(&made, "failed.jsonl")[0];
    assert_eq!((&failed["id"], &failed["failure"]), (&"p2".into(), &"bad_request".into()));
    assert_eq!(made.manifest.summary["failed"], 1);
}

#[test]
fn retries_come_to_an_end() {
    let server = Server::start(|call| match call.prompt.as_str() {
        "question 001" => (429, vec![("retry-after", "0".to_owned())], serde_json::json!({})),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(2));
    let stage = stage(&server, |config| {
        config.max_retries = 3;
        config.max_failed_share = 0.5;
    });
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!(rows(&made, "failed.jsonl")[0]["failure"], "rate_limited");
    assert_eq!(server.calls().len(), 1 + 1 + 3);
}

#[test]
fn some_failures_stop_everything() {
    let check = |status: u16, expected: ExitCode| {
        let server = Server::start(move |call| match call.prompt.as_str() {
            "question 000" => good(&call.prompt, 1),
            _ => bad(status, "no"),
        });
        let lab = TestLab::new();
        let inputs = lab.put_prompts(&numbered(100));
        let stage = stage(&server, |config| config.max_concurrent_requests = 1);
        let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
        assert_eq!(error.exit_code(), expected, "{error}");
        assert_eq!(server.calls().len(), 2, "{status}");
    };
    check(401, ExitCode::Credentials);
    check(403, ExitCode::Credentials);
    check(402, ExitCode::Budget);
    check(404, ExitCode::Config);
}

#[test]
fn an_endpoint_that_is_down_is_named_and_not_asked_forever() {
    let server = Server::start(|_| bad(503, "maintenance"));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(100));
    let stage = stage(&server, |config| config.max_concurrent_requests = 10);
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unavailable);
    assert!(
        error.to_string().contains("http://127.0.0.1") && error.to_string().contains("maintenance"),
        "{error}"
    );
    assert!(server.calls().len() <= 30, "{}", server.calls().len());
}

#[test]
fn nothing_is_sent_without_the_key() {
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(1));
    // A key of the process would be used, so the test looks for a provider that has none.
    let Some((teacher, variable)) =
        [("mistral:m", "MISTRAL_API_KEY"), ("deepseek:m", "DEEPSEEK_API_KEY"), ("groq:m", "GROQ_API_KEY")]
            .into_iter()
            .find(|(_, variable)| std::env::var_os(variable).is_none())
    else {
        return;
    };
    let stage = Collect::new(Config { teacher: teacher.to_owned(), ..Config::default() }).unwrap();
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Credentials);
    assert!(error.to_string().contains(variable), "{error}");
}
