//! Answers that came but cannot be used as they are, what is asked besides a prompt, and what comes besides a text.

use std::sync::Arc;

use nexa_core::artifact::Kind;
use nexa_core::lm::{
    self, ChatModel, ChatReply, ChatRequest, FinishReason, LoadedModel, ModelInfo, ModelLoader,
};
use nexa_core::stage::Inputs;
use nexa_distill::collect::{Config, Filtered, ResponseSchema, Truncated};
use serde_json::{Value, json};

use crate::server::{Reply, Server, good};
use crate::support::{TestLab, collect, numbered, rows};

/// An answer that ended so.
fn ended(text: &str, finish_reason: &str) -> Reply {
    let (status, headers, mut body) = good(text, 1);
    body["choices"][0]["finish_reason"] = json!(finish_reason);
    (status, headers, body)
}

#[test]
fn an_answer_that_was_cut_off_is_asked_for_once_with_more_room() {
    let server = Server::start(|call| match (call.prompt.as_str(), call.body["max_tokens"].as_u64()) {
        ("question 001", Some(10)) => ended("cut", "length"),
        ("question 002", _) => ended("never done", "length"),
        (prompt, _) => good(prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(3));
    let stage = |max_tokens, change: fn(&mut Config)| {
        collect(&server.teacher("m"), |config| {
            config.max_tokens = max_tokens;
            config.max_tokens_cap = Some(40);
            change(config);
        })
    };
    let made = lab.execute(&stage(10, |_| ()), "answers", &inputs).unwrap();
    let texts: Vec<_> = rows(&made, "parquet").iter().map(|row| row["teacher_output"].clone()).collect();
    assert_eq!(texts, ["question 000", "question 001", "never done"]);
    assert_eq!(server.calls().len(), 5);
    assert_eq!(made.manifest.summary["failures"], json!({"truncated": 3}));

    // With more room from the beginning, what was not cut off is not paid for again.
    lab.execute(&stage(20, |_| ()), "longer", &inputs).unwrap();
    assert_eq!(server.calls().len(), 5 + 2);
    let dropped = lab
        .execute(&stage(10, |config| config.on_failure.truncated = Truncated::Drop), "dropped", &inputs)
        .unwrap();
    assert_eq!(server.calls().len(), 7);
    assert_eq!(rows(&dropped, "failed.jsonl").len(), 2);
    assert_eq!(rows(&dropped, "failed.jsonl")[0]["failure"], "truncated");
}

#[test]
fn what_a_provider_withholds_is_no_row_unless_asked_for() {
    let server = Server::start(|call| match call.prompt.as_str() {
        "question 001" => ended("", "content_filter"),
        prompt => good(prompt, 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(3));
    let made = lab.execute(&collect(&server.teacher("m"), |_| {}), "answers", &inputs).unwrap();
    assert_eq!(made.manifest.counts.rows, Some(2));
    assert_eq!(rows(&made, "failed.jsonl")[0]["failure"], "filtered");
    assert_eq!((&made.manifest.summary["dropped"], &made.manifest.summary["failed"]), (&json!(1), &json!(1)));
    let keeps = collect(&server.teacher("m"), |config| config.on_failure.filtered = Filtered::Keep);
    let kept = lab.execute(&keeps, "kept", &inputs).unwrap();
    assert_eq!((kept.manifest.counts.rows, server.calls().len()), (Some(3), 3));
}

#[test]
fn an_answer_that_does_not_fit_its_schema_is_asked_for_again_with_another_seed() {
    let server = Server::start(|call| match (call.prompt.as_str(), call.before) {
        ("question 001", 0) | ("question 002", _) => good("The answer is 4.", 1),
        _ => good("{\"answer\": 4}", 1),
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(3));
    let schema = json!({"type": "object", "required": ["answer"]});
    let stage = collect(&server.teacher("m"), |config| {
        config.response_schema = Some(ResponseSchema::Inline(schema.as_object().unwrap().clone()));
    });
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!(made.manifest.counts.rows, Some(2));
    assert_eq!(rows(&made, "failed.jsonl")[0]["failure"], "schema");
    let calls = server.calls();
    assert_eq!(calls.len(), 1 + 2 + 3);
    assert!(calls.iter().all(|call| call.body["response_format"]["json_schema"]["schema"] == schema));
    let seeds: Vec<_> =
        calls.iter().filter(|call| call.prompt == "question 002").map(|call| &call.body["seed"]).collect();
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
}

#[test]
fn what_stands_beside_a_text_has_a_column_of_its_own() {
    let server = Server::start(|call| {
        let (status, headers, mut body) = good("4", 1);
        if call.prompt == "question 001" {
            body["choices"][0]["message"]["reasoning_content"] = json!("2 + 2");
        }
        body["choices"][0]["logprobs"] = json!({"content": [{"token": "4", "logprob": -0.5}]});
        (status, headers, body)
    });
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(2));
    let stage = collect(&server.teacher("m"), |config| config.top_logprobs = Some(2));
    let made = rows(&lab.execute(&stage, "answers", &inputs).unwrap(), "parquet");
    assert_eq!(
        (&made[0]["teacher_reasoning"], &made[1]["teacher_reasoning"]),
        (&Value::Null, &json!("2 + 2"))
    );
    assert_eq!(made[0]["logprobs"], r#"{"content":[{"token":"4","logprob":-0.5}]}"#);
    assert!(
        server.calls().iter().all(|call| call.body["top_logprobs"] == 2 && call.body["logprobs"] == true)
    );
}

#[test]
fn a_conversation_is_asked_turn_by_turn() {
    let server =
        Server::start(|call| good(&format!("{} turns", call.body["messages"].as_array().unwrap().len()), 1));
    let lab = TestLab::new();
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let row = json!({
        "id": "talk", "system_prompt": "Be kind.",
        "messages": [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "old")],
    });
    let talk = lab.put(Kind::TeacherInputs, "talk", vec![row.as_object().unwrap().clone()]);
    let inputs = Inputs::none().with("inputs", talk);
    let made = lab.execute(&collect(&server.teacher("m"), |_| {}), "answers", &inputs).unwrap();
    assert_eq!(rows(&made, "parquet")[0]["teacher_output"], "4 turns");
}

#[test]
fn a_ceiling_on_tokens_stops_before_it_is_passed() {
    let server = Server::start(|call| good(&call.prompt, 30));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(10));
    let stage = |max_total_tokens| {
        collect(&server.teacher("m"), |config| {
            config.max_tokens = 50;
            config.max_total_tokens = Some(max_total_tokens);
        })
    };
    // A call takes at most 12 bytes of prompt, 16 for the message and 50 of answer; it takes 60.
    let error = lab.execute(&stage(260), "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), nexa_core::ExitCode::Budget);
    assert!(error.to_string().contains("stay below 260 tokens: 240 are used"), "{error}");
    assert_eq!(server.calls().len(), 4);
    lab.execute(&stage(10_000), "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 10);
}

/// A model that says how it was asked.
struct Parrot;

impl ChatModel for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn chat(
        &self,
        requests: &[ChatRequest],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<ChatReply>, lm::Error> {
        let replies = requests.iter().enumerate().map(|(position, request)| {
            done(position);
            let question = &request.messages.last().unwrap().content;
            ChatReply {
                text: format!("{question}, top {}", request.sampling.top_k),
                finish_reason: FinishReason::Stop,
                prompt_tokens: 3,
                completion_tokens: 4,
                cut_tokens: 0,
            }
        });
        Ok(replies.collect())
    }
}

impl ModelLoader for Parrot {
    fn load(&self, _checkpoint: &std::path::Path) -> Result<LoadedModel<'static>, lm::Error> {
        let info = ModelInfo {
            name: "parrot".to_owned(),
            architecture: "llama".to_owned(),
            parameters: 1,
            context_length: 8,
            weights_hash: "none".to_owned(),
            device: "cpu".to_owned(),
            format: "f32".to_owned(),
            weight_bytes: 0,
        };
        Ok(LoadedModel { info, chat: Arc::new(Parrot), completer: None, scorer: None })
    }
}

#[test]
fn a_checkpoint_of_the_lab_can_teach() {
    let lab = TestLab::new();
    let checkpoint = lab.put(Kind::Checkpoint, "student", vec![json!({"w": 1}).as_object().unwrap().clone()]);
    let inputs = lab.put_prompts(&numbered(9)).with("teacher", checkpoint);
    let stage = collect("local", |config| config.top_k = Some(5)).with_loader(Arc::new(Parrot));
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    let row = &rows(&made, "parquet")[8];
    assert_eq!(
        (&row["teacher_output"], &row["model_id"]),
        (&json!("question 008, top 5"), &json!("tutor/student_v1"))
    );
    let spend = &made.manifest.spend;
    assert_eq!((spend.usd, spend.requests, spend.completion_tokens), (0.0, 9, 36));
    let without = lab.execute(&stage, "more", &lab.put_prompts(&numbered(9))).unwrap_err();
    assert!(without.to_string().contains("input `teacher`"), "{without}");
}
