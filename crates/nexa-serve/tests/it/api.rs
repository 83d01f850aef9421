//! Errors, listings, `/infer` and metrics.

use nexa_core::hash::ContentHash;
use nexa_core::lineage::Node;
use nexa_serve::{About, Engine, EngineConfig, Evaluation, Loaded, ServerConfig};
use reqwest::header::{ALLOW, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::engine::metric;
use crate::fake::Fake;
use crate::life::{Server, chat};

/// Checks status, `param` and `code`, and that the error has OpenAI's four keys.
pub(crate) async fn check_error(
    response: reqwest::Response,
    status: u16,
    param: Option<&str>,
    code: Option<&str>,
) {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let found = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = &body["error"];
    assert_eq!((found, error["param"].as_str(), error["code"].as_str()), (status, param, code), "{body}");
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"]);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_chats_are_refused_by_the_name_of_the_parameter() {
    let server = Server::start(Fake::saying("hi").with_context_length(64)).await;
    let check = async |more: Value, status, param: &str, code: &str| {
        let response = server.post("/v1/chat/completions", chat(more.clone())).await;
        check_error(response, status, Some(param), Some(code)).await;
    };
    check(json!({"model": "gpt-9"}), 404, "model", "model_not_found").await;
    for (name, value) in [
        ("model", json!(3)),
        ("messages", json!(null)),
        ("messages", json!([])),
        ("messages", json!("hi")),
        ("temperature", json!(2.5)),
        ("temperature", json!(-0.1)),
        ("temperature", json!("warm")),
        ("top_p", json!(1.01)),
        ("top_k", json!(-2)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(1.5)),
        ("max_completion_tokens", json!(-1)),
        ("seed", json!("x")),
        ("stop", json!([""])),
        ("stop", json!(7)),
        ("stop", json!(vec!["x"; 17])),
        ("n", json!(0)),
        ("n", json!(129)),
        ("min_p", json!(1.5)),
        ("repetition_penalty", json!(0)),
        ("frequency_penalty", json!(-3)),
        ("presence_penalty", json!("x")),
        ("logit_bias", json!({"a": 1})),
        ("logit_bias", json!({"5": 101})),
        ("logit_bias", json!({"5": 1, "259": 1})),
        ("logprobs", json!(1)),
        ("top_logprobs", json!(3)),
        ("top_logprobs", json!(21)),
        ("min_tokens", json!(-1)),
        ("stream", json!("yes")),
        ("stream_options", json!({"include_usage": true})),
    ] {
        check(json!({name: value}), 400, name, "invalid_value").await;
    }
    let both = json!({"max_tokens": 1, "max_completion_tokens": 2});
    check(both, 400, "max_tokens", "invalid_value").await;
    for (name, value) in [("reasoning_effort", json!("high"))] {
        check(json!({name: value}), 400, name, "unsupported_parameter").await;
    }
    check(json!({"temprature": 0.5}), 400, "temprature", "unknown_parameter").await;
    for (message, param, code) in [
        (json!("hi"), "messages[0]", "invalid_value"),
        (json!({"content": "hi"}), "messages[0].role", "invalid_value"),
        (json!({"role": "wizard", "content": "hi"}), "messages[0].role", "invalid_value"),
        (json!({"role": "user"}), "messages[0].content", "invalid_value"),
        (json!({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content", "invalid_value"),
        (
            json!({"role": "user", "content": "", "tool_calls": [1]}),
            "messages[0].tool_calls",
            "invalid_value",
        ),
    ] {
        check(json!({"messages": [message]}), 400, param, code).await;
    }
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(61)}]});
    check(long, 400, "messages", "context_length_exceeded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_answers_come_from_seeds_that_follow_each_other() {
    let server = Server::start(Fake::mixing()).await;
    let ask = async |more: Value| {
        let mut body = json!({"seed": 5, "temperature": 1, "max_tokens": 8});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", chat(body)).await
    };
    let reply: Value = ask(json!({"n": 3})).await.json().await.unwrap();
    let choices = reply["choices"].as_array().unwrap();
    let prompt_tokens = reply["usage"]["prompt_tokens"].as_u64().unwrap();
    for (index, choice) in choices.iter().enumerate() {
        let alone: Value = ask(json!({"seed": 5 + index})).await.json().await.unwrap();
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"], alone["choices"][0]["message"]);
        assert_eq!(alone["usage"]["prompt_tokens"], prompt_tokens);
    }
    assert_eq!(choices.len(), 3);
    assert_ne!(choices[0]["message"], choices[1]["message"]);

    // The same answers, told apart by their index, as they are written.
    let page = ask(json!({"n": 3, "stream": true, "stream_options": {"include_usage": true}})).await;
    let page = page.text().await.unwrap();
    let mut texts = vec![String::new(); 3];
    let mut usage = Value::Null;
    for data in page.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        match chunk["choices"].as_array().unwrap().as_slice() {
            [choice] => {
                let index = choice["index"].as_u64().unwrap() as usize;
                texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            }
            _ => usage = chunk["usage"].clone(),
        }
    }
    for (text, choice) in texts.iter().zip(choices) {
        assert_eq!(choice["message"]["content"], *text);
    }
    assert_eq!(usage, reply["usage"]);
    assert!(page.trim_end().ends_with("data: [DONE]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_prompts_get_the_answers_that_each_gets_alone() {
    let server = Server::start(Fake::mixing()).await;
    let ask = async |prompt: Value, more: Value| {
        let mut body = json!({"prompt": prompt, "seed": 7, "max_tokens": 5, "n": 2, "ignore_eos": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", body).await
    };
    for more in [json!({}), json!({"echo": true, "logprobs": 1})] {
        let all: Value =
            ask(json!(["once", "upon a", [116, 105, 109]]), more.clone()).await.json().await.unwrap();
        let (mut choices, mut tokens) = (Vec::new(), 0);
        for prompt in [json!("once"), json!("upon a"), json!([116, 105, 109])] {
            let alone: Value = ask(prompt, more.clone()).await.json().await.unwrap();
            choices.extend(alone["choices"].as_array().unwrap().clone());
            tokens += alone["usage"]["total_tokens"].as_u64().unwrap();
        }
        for (index, choice) in choices.iter_mut().enumerate() {
            choice["index"] = index.into();
        }
        assert_eq!(all["choices"], json!(choices));
        assert_eq!(all["usage"]["total_tokens"], tokens);

        let mut streamed = more;
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({"include_usage": true});
        let page = ask(json!(["once", "upon a", [116, 105, 109]]), streamed).await.text().await.unwrap();
        let mut texts = vec![String::new(); 6];
        let mut usage = Value::Null;
        for data in page.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let chunk: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
            match chunk["choices"].as_array().unwrap().as_slice() {
                [choice] => {
                    let index = choice["index"].as_u64().unwrap() as usize;
                    texts[index].push_str(choice["text"].as_str().unwrap());
                }
                _ => usage = chunk["usage"].clone(),
            }
        }
        let expected: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(
            (texts, usage["total_tokens"].as_u64()),
            (expected.into_iter().map(str::to_owned).collect(), Some(tokens))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probabilities_have_the_form_of_each_api() {
    let server = Server::start(Fake::saying("ab")).await;
    let more = json!({"logprobs": true, "top_logprobs": 2, "temperature": 0});
    let reply: Value = server.post("/v1/chat/completions", chat(more)).await.json().await.unwrap();
    let content = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let tokens: Vec<&str> = content.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), reply["choices"][0]["message"]["content"].as_str().unwrap());
    let expected = f64::from(9.0 - (9.0f32.exp() + 258.0).ln());
    for (entry, byte) in content.iter().zip(b"ab") {
        assert!((entry["logprob"].as_f64().unwrap() - expected).abs() < 1e-5);
        assert_eq!(entry["bytes"], json!([byte]));
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (2, &entry["token"]));
    }

    let body = json!({"prompt": ">", "logprobs": 1, "temperature": 0, "stream": true});
    let page = server.post("/v1/completions", body).await.text().await.unwrap();
    let mut offsets = Vec::new();
    for data in page.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let choice = &chunk["choices"][0];
        if let Some(tokens) = choice["logprobs"]["tokens"].as_array() {
            assert_eq!(
                tokens.iter().map(|token| token.as_str().unwrap()).collect::<String>(),
                choice["text"]
            );
            offsets.extend(choice["logprobs"]["text_offset"].as_array().unwrap().clone());
        }
    }
    assert_eq!(offsets, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_nothing_is_taken() {
    let server = Server::start(Fake::saying("hi")).await;
    let more = json!({
        "user": "me", "metadata": {"a": "b"}, "store": true, "n": 1, "tools": [], "logprobs": false,
        "response_format": {"type": "text"}, "presence_penalty": 0, "logit_bias": {}, "stop": null,
        "messages": [
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
        ],
    });
    let response = server.post("/v1/chat/completions", chat(more)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let reply: Value = response.json().await.unwrap();
    // Begin, `be short`, end, `h` and `i` on lines of their own, end, opening.
    assert_eq!(reply["usage"]["prompt_tokens"], 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_no_requests_are_refused() {
    let config = ServerConfig { max_body_bytes: 2_000, ..ServerConfig::default() };
    let server = Server::with(Fake::saying("hi"), EngineConfig::default(), config).await;
    let path = "/v1/chat/completions";
    let post = async |kind: &str, body: String| {
        server.request(Method::POST, path).header(CONTENT_TYPE, kind).body(body).send().await.unwrap()
    };
    let valid = chat(json!({})).to_string();
    check_error(post("application/json", "{\"model\":".to_owned()).await, 400, None, None).await;
    check_error(post("application/json", "[1]".to_owned()).await, 400, None, None).await;
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(900), "]".repeat(900));
    check_error(post("application/json", deep).await, 400, None, None).await;
    let no_text = [b"{\"user\":\"".as_slice(), &[0xC3, 0x28], b"\"}"].concat();
    let request = server.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(no_text);
    check_error(request.send().await.unwrap(), 400, None, None).await;
    check_error(post("text/plain", valid.clone()).await, 415, None, Some("unsupported_media_type")).await;
    assert_eq!(post("application/json; charset=utf-8", valid).await.status(), StatusCode::OK);
    let large = chat(json!({"user": "x".repeat(2_000)})).to_string();
    check_error(post("application/json", large).await, 413, None, Some("request_too_large")).await;
    check_error(server.get("/v2/nothing").await, 404, None, Some("unknown_url")).await;
    let wrong_method = server.get(path).await;
    assert_eq!(wrong_method.headers()[ALLOW], "POST");
    check_error(wrong_method, 405, None, Some("method_not_allowed")).await;
    check_error(server.get("/v1/models/gpt-9").await, 404, Some("model"), Some("model_not_found")).await;
    check_error(server.post("/v1/completions", json!({})).await, 400, Some("prompt"), Some("invalid_value"))
        .await;
    for prompt in [json!([]), json!(["one", 2]), json!([[1], true]), json!([1, "two"]), json!(vec!["x"; 129])]
    {
        let answer = server.post("/v1/completions", json!({"prompt": prompt, "max_tokens": 1})).await;
        check_error(answer, 400, Some("prompt"), Some("invalid_value")).await;
    }
    let unknown_id = json!({"prompt": [1, 9_999]});
    check_error(server.post("/v1/completions", unknown_id).await, 400, None, None).await;
    for path in ["/v1/completions", "/infer"] {
        let biased = server.post(path, json!({"prompt": "x", "logit_bias": {"259": 1}})).await;
        check_error(biased, 400, Some("logit_bias"), Some("invalid_value")).await;
    }
    check_error(server.post("/infer", json!({})).await, 400, Some("prompt"), Some("invalid_value")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_when_to_try_again() {
    let (model, gate) = Fake::saying("hi").gated();
    let engine = EngineConfig { max_batch: 1, max_queued: 1, ..EngineConfig::default() };
    let server = Server::with(model, engine, ServerConfig::default()).await;
    // Streams answer as soon as the engine has accepted them.
    let stream = json!({"stream": true});
    let running = server.post("/v1/chat/completions", chat(stream.clone())).await;
    let waiting = server.post("/v1/chat/completions", chat(stream.clone())).await;
    let refused = server.post("/v1/chat/completions", chat(stream)).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    check_error(refused, 429, None, Some("queue_full")).await;
    drop(gate);
    for accepted in [running, waiting] {
        assert!(accepted.text().await.unwrap().contains("[DONE]"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_listed_under_each_of_its_names() {
    let config =
        ServerConfig { aliases: vec!["org/nice".to_owned(), "fake".to_owned()], ..ServerConfig::default() };
    let engine = Engine::start(Box::new(Fake::saying("hi")), EngineConfig::default()).unwrap();
    let about = About { checkpoint_path: Some("some/checkpoint".into()), ..About::default() };
    let server = Server::of(Loaded { engine, about, adapters: Vec::new() }, config).await;
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!((list["object"].as_str(), ids), (Some("list"), vec!["fake", "org/nice"]));
    let one: Value = server.get("/v1/models/org/nice").await.json().await.unwrap();
    assert_eq!(one, list["data"][1]);
    let reply = server.post("/v1/chat/completions", chat(json!({"model": "org/nice"}))).await;
    assert_eq!(reply.json::<Value>().await.unwrap()["model"], "org/nice");
    let info: Value = server.get("/model/info").await.json().await.unwrap();
    let expected = json!({
        "model_id": "fake", "architecture": "hash", "device": "cpu", "parameters": 0, "context_length": 512,
        "format": "f32", "weight_bytes": 0,
        "weights_hash": "blake3:0123456789abcdef", "checkpoint_path": "some/checkpoint",
        "manifest": null, "config": null, "lineage": null, "evaluations": [],
    });
    assert_eq!(info, expected);
    assert_eq!(server.get("/v1/model/info").await.json::<Value>().await.unwrap(), expected);
}

/// What a lab knows of a checkpoint.
pub(crate) fn known() -> About {
    let hash = ContentHash::of_bytes(b"weights");
    let node = |id: &str, role: &str, kind: &str, next| Node {
        id: id.to_owned(),
        role: role.to_owned(),
        kind: kind.to_owned(),
        content_hash: hash.clone(),
        run: Some("run_1".to_owned()),
        changed: false,
        removed: None,
        next,
    };
    let data = node("tutor/sft_v1", "sft_dataset", "sft_dataset", Vec::new());
    About {
        checkpoint_path: None,
        manifest: Some("tutor/student_v3".parse().unwrap()),
        config: Some(json!({"model_type": "llama"})),
        lineage: Some(node("tutor/student_v3", "", "checkpoint", vec![data])),
        evaluations: vec![Evaluation {
            id: "tutor/student_eval_v1".to_owned(),
            dataset: "tutor/sft_v1".to_owned(),
            items: 100,
            metrics: [("exact_match".to_owned(), 0.75)].into(),
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_model_of_the_lab_names_its_manifest() {
    let engine = Engine::start(Box::new(Fake::saying("hi")), EngineConfig::default()).unwrap();
    let server =
        Server::of(Loaded { engine, about: known(), adapters: Vec::new() }, ServerConfig::default()).await;
    let text = json!({"prompt": "x", "max_tokens": 1});
    for (path, body) in [
        ("/v1/chat/completions", chat(json!({}))),
        ("/v1/completions", text.clone()),
        ("/v1/chat/completions", chat(json!({"stream": true}))),
        ("/infer", text),
        ("/tokenize", json!({"prompt": "x"})),
        ("/detokenize", json!({"tokens": [65]})),
        ("/v1/embeddings", json!({"input": "x"})),
        ("/v1/chat/completions", json!({})),
    ] {
        let reply = server.post(path, body).await;
        assert_eq!(reply.headers()["x-nexa-manifest"], "tutor/student_v3", "{path}");
        let text = reply.text().await.unwrap();
        for chunk in text.lines().filter(|line| line.contains("\"choices\"")) {
            assert!(chunk.contains("\"system_fingerprint\":\"tutor/student_v3\""), "{chunk}");
        }
    }
    let info = server.get("/v1/model/info").await;
    assert_eq!(info.headers()["x-nexa-manifest"], "tutor/student_v3");
    let info: Value = info.json().await.unwrap();
    assert_eq!(info["manifest"], "tutor/student_v3");
    assert_eq!(info["config"]["model_type"], "llama");
    assert_eq!(info["lineage"]["next"][0]["id"], "tutor/sft_v1");
    assert_eq!(info["evaluations"][0]["metrics"]["exact_match"], 0.75);

    let outside = Server::start(Fake::saying("hi")).await;
    let reply = outside.post("/v1/chat/completions", chat(json!({}))).await;
    assert!(!reply.headers().contains_key("x-nexa-manifest"));
    assert_eq!(reply.json::<Value>().await.unwrap()["system_fingerprint"], "fp_0123456789ab");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infer_answers_as_a_chat_or_continues_where_there_is_no_template() {
    for (model, prompt) in
        [(Fake::saying("four"), "2 + 2"), (Fake::saying("four").without_template(), "2 + 2 >")]
    {
        let server = Server::start(model).await;
        let body = json!({"prompt": prompt, "max_tokens": 3, "temperature": 0.0, "top_p": 1.0});
        let reply: Value = server.post("/infer", body).await.json().await.unwrap();
        assert_eq!(
            (&reply["text"], &reply["tokens"], &reply["model_id"]),
            (&json!("fou"), &json!(3), &json!("fake"))
        );
        assert!(reply["latency_ms"].as_f64().unwrap() > 0.0);
    }
    let server = Server::start(Fake::saying("four").without_template()).await;
    let refused = server.post("/v1/chat/completions", chat(json!({}))).await;
    check_error(refused, 400, Some("messages"), Some("invalid_value")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infer_takes_further_parameters_and_the_name_of_a_model() {
    let engine = Engine::start(Box::new(Fake::mixing()), EngineConfig::default()).unwrap();
    let adapter = engine.load_adapter("8".as_ref()).unwrap();
    let loaded = Loaded { engine, about: About::default(), adapters: vec![("eight".to_owned(), adapter)] };
    let config = ServerConfig { aliases: vec!["nice".to_owned()], ..ServerConfig::default() };
    let server = Server::of(loaded, config).await;
    let ask = async |more: Value| {
        let mut body = json!({"prompt": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/infer", body).await
    };
    let sampling = json!({"max_tokens": 9, "temperature": 1, "seed": 4, "ignore_eos": true});
    let beside: Value = ask(sampling.clone()).await.json().await.unwrap();
    let within: Value = ask(json!({"parameters": sampling, "model": "nice"})).await.json().await.unwrap();
    assert_eq!((&beside["text"], &beside["tokens"]), (&within["text"], &json!(9)));
    assert_eq!((&beside["model_id"], &within["model_id"]), (&json!("fake"), &json!("nice")));
    let corrected: Value = ask(json!({"parameters": sampling, "model": "eight"})).await.json().await.unwrap();
    assert_eq!(corrected["model_id"], "eight");
    assert_ne!(corrected["text"], beside["text"]);

    let check = async |more: Value, status, param: &str, code: &str| {
        check_error(ask(more).await, status, Some(param), Some(code)).await;
    };
    check(json!({"parameters": [1]}), 400, "parameters", "invalid_value").await;
    check(json!({"parameters": {"temprature": 1}}), 400, "temprature", "unknown_parameter").await;
    check(json!({"parameters": {"top_p": 2}}), 400, "top_p", "invalid_value").await;
    for own in ["prompt", "model", "lora_generation", "parameters"] {
        let place = format!("parameters.{own}");
        check(json!({"parameters": {own: 1}}), 400, &place, "unknown_parameter").await;
    }
    let twice = json!({"seed": 1, "parameters": {"seed": 1}});
    check(twice, 400, "parameters.seed", "invalid_value").await;
    check(json!({"model": "gpt-9"}), 404, "model", "model_not_found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_equal_the_load() {
    let server = Server::start(Fake::endless()).await;
    for _ in 0..3 {
        let response = server
            .post("/v1/completions", json!({"prompt": "four", "max_tokens": 10, "temperature": 0}))
            .await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    let page = server.metrics().await;
    for (name, expected) in [
        ("num_requests_running", 0),
        ("num_requests_waiting", 0),
        ("prompt_tokens_total", 12),
        ("generation_tokens_total", 30),
        ("time_to_first_token_seconds_count", 3),
        ("inter_token_latency_seconds_count", 27),
        ("request_queue_time_seconds_count", 3),
        ("request_prefill_time_seconds_count", 3),
        ("request_decode_time_seconds_count", 3),
        ("request_inference_time_seconds_count", 3),
        // A step reads a prompt, nine more a token each.
        ("iteration_tokens_total_count", 30),
        ("iteration_tokens_total_sum", 3 * (4 + 9)),
        ("e2e_request_latency_seconds_count", 3),
    ] {
        assert_eq!(metric(&page, name), expected, "{name}");
    }
    assert!(
        page.contains("nexa_request_success_total{model_name=\"fake\",finished_reason=\"length\"} 3\n"),
        "{page}"
    );
}
