//! What happens when a provider fails: each kind of failure in its own way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nexa_core::ExitCode;
use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::{Event, EventSink};
use nexa_core::files;
use nexa_core::lm::{Calls, ChatMessage, ChatReply, ChatRequest, Role, Sampling};
use nexa_core::stage::{Context, Inputs, Stage, StageError};
use nexa_core::table::{JsonLines, Tables};
use nexa_distill::api::{self, ApiModel};
use nexa_distill::collect::{Collect, Config};

use crate::server::{Reply, Server, bad, broken_off, good};
use crate::support::{TestLab, collect, numbered, rows};

fn stage(server: &Server, change: impl FnOnce(&mut Config)) -> Collect {
    collect(&server.teacher("m"), change)
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
    assert!(!failed.contains_key("reason"), "a provider may word it anew each time");
    let reasons = JsonLines.read(&lab.run_folder(&made).join("reasons.jsonl")).unwrap();
    assert_eq!(reasons[0]["reason"], "400 Bad Request: too odd");
    assert_eq!(made.manifest.summary["failed"], 1);
}

#[test]
fn what_failed_in_passing_is_never_committed_and_alone_asked_for_again() {
    let check = |fails: fn() -> Reply| {
        let is_back = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_back);
        let server = Server::start(move |call| match call.prompt.as_str() {
            "question 001" if !seen.load(Ordering::SeqCst) => fails(),
            prompt => good(prompt, 1),
        });
        let lab = TestLab::new();
        let inputs = lab.put_prompts(&numbered(4));
        let stage = stage(&server, |config| {
            config.max_retries = 1;
            config.max_failed_share = 0.5;
        });
        let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Unavailable);
        assert!(error.to_string().contains("1 of 4 are missing"), "{error}");
        assert!(error.hint().unwrap().contains("asks only for what is missing"));
        assert_eq!(server.calls().len(), 4 + 1, "the retries come to an end");
        is_back.store(true, Ordering::SeqCst);
        let made = lab.execute(&stage, "answers", &inputs).unwrap();
        assert_eq!((made.manifest.counts.rows, server.calls().len()), (Some(4), 4 + 2));
    };
    check(|| (429, vec![("retry-after", "0".to_owned())], serde_json::json!({})));
    check(|| bad(500, "try again"));
    check(|| broken_off(200));
    check(|| (200, Vec::new(), serde_json::json!({"choices": []})));
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
    for cool_down_s in [0.0, 0.01] {
        let before = server.calls().len();
        let stage = stage(&server, |config| {
            config.max_concurrent_requests = 10;
            config.cool_down_s = cool_down_s;
        });
        let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Unavailable);
        assert!(
            error.to_string().contains("http://127.0.0.1") && error.to_string().contains("maintenance"),
            "{error}"
        );
        let calls = server.calls().len() - before;
        assert!(calls <= 30, "{cool_down_s}: {calls}");
    }
}

#[test]
fn an_endpoint_that_comes_back_is_asked_on_once_one_call_says_so() {
    // The first 12 calls fail; whatever the order, the breaker has opened by then.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |call| match count.fetch_add(1, Ordering::SeqCst) {
        0..12 => bad(503, "maintenance"),
        _ => good(&call.prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(30));
    let stage = stage(&server, |config| {
        config.max_concurrent_requests = 12;
        config.cool_down_s = 0.01;
    });
    let heard = Heard::default();
    let made = lab.execute_watched(&stage, "answers", &inputs, &heard).unwrap();
    assert_eq!(made.manifest.counts.rows, Some(30));
    assert_eq!(server.calls().len(), 12 + 30);
    let lines = heard.0.into_inner().unwrap();
    let told = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((told("one call decides"), told("answers again")), (1, 1), "{lines:?}");
}

/// Keeps the messages of a run.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl EventSink for Heard {
    fn emit(&self, event: Event) {
        if let Event::Info { message } | Event::Warning { message } = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

#[test]
fn nothing_is_sent_without_the_key() {
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(1));
    let environment = Environment::of([("OPENROUTER_API_KEY", "another provider's")]);
    let config = Config { teacher: "mistral:m".to_owned(), ..Config::default() };
    let error = lab.execute(&Collect::new(config, &environment).unwrap(), "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Credentials);
    assert!(error.to_string().contains("`MISTRAL_API_KEY` is not set"), "{error}");
}

#[test]
fn another_address_of_the_same_teacher_is_another_key() {
    let [first, second] = ["first", "second"].map(|text| Server::start(move |_| good(text, 1)));
    let base_url = |server: &Server| server.teacher("m").trim_end_matches("#m").to_owned();
    let variables = [("OPENAI_API_KEY", "key"), ("OPENAI_BASE_URL", &base_url(&first))];
    let lab = TestLab::with("", &variables);
    let inputs = lab.put_prompts(&numbered(1));
    let answer = |server: &Server| {
        let environment = Environment::of([("OPENAI_BASE_URL", base_url(server).as_str())]);
        let config = Config { teacher: "openai:m".to_owned(), ..Config::default() };
        let stage = Collect::new(config, &environment).unwrap();
        let made = lab.execute(&stage, "answers", &inputs).unwrap();
        (made.manifest.id.version, rows(&made, "parquet")[0]["teacher_output"].clone())
    };
    assert_eq!(answer(&first), (1, "first".into()));
    assert_eq!(answer(&second), (2, "second".into()));
    assert_eq!(answer(&first), (1, "first".into()));
}

/// A stage that asks a model behind an API, and keeps what it hears.
struct Asks {
    prompts: Vec<String>,
    heard: Mutex<Vec<Result<ChatReply, String>>>,
}

impl Stage for Asks {
    fn name(&self) -> &'static str {
        "test.asks"
    }

    fn kind(&self) -> Kind {
        Kind::Evaluation
    }

    fn code_version(&self) -> u32 {
        1
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "prompts": self.prompts })
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        let model = api::open(context.inputs.require("model")?, context, &Calls::default())?;
        let request = |prompt: &String| ChatRequest {
            messages: vec![ChatMessage::new(Role::User, prompt.as_str())],
            sampling: Sampling::default(),
        };
        let requests: Vec<ChatRequest> = self.prompts.iter().map(request).collect();
        *self.heard.lock().unwrap() = model.chat.chat_each(&requests, &mut |_| {})?;
        assert!(model.chat.chat(&requests, &mut |_| {}).is_err(), "one that failed fails them all");
        Ok(files::write_json(&context.output.join("asked.json"), &requests.len())?)
    }
}

#[test]
fn a_model_behind_an_api_says_of_each_request_why_it_has_no_answer() {
    let server = Server::start(|call| match call.prompt.as_str() {
        "question 002" => bad(400, "too odd"),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::new();
    let named = api::Config { model: server.teacher("m"), source: None };
    let model = ApiModel::new(named, &lab.environment).unwrap();
    let model = lab.execute(&model, "model", &Inputs::none()).unwrap();
    let asks = Asks { prompts: numbered(4), heard: Mutex::default() };
    lab.execute(&asks, "asked", &Inputs::none().with("model", model)).unwrap();
    let heard = asks.heard.lock().unwrap();
    assert_eq!((heard.len(), heard[0].as_ref().unwrap().text.as_str()), (4, "question 000"));
    assert_eq!(heard[2].as_ref().unwrap_err(), "bad_request: 400 Bad Request: too odd");
}
