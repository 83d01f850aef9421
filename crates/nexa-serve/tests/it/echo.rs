//! The probabilities of prompts: `echo` as in OpenAI's older API, `prompt_logprobs` as in vLLM's.

use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::Fake;
use crate::life::{Server, chat};
use crate::stream::chunks;

/// `[tokens, token_logprobs, top_logprobs, text_offset]`.
fn lists(logprobs: &Value) -> [Vec<Value>; 4] {
    ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
        .map(|name| logprobs[name].as_array().unwrap().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echoed_prompt_stands_before_the_answer_with_its_probabilities() {
    let server = Server::start(Fake::mixing()).await;
    let body = |more: Value| {
        let mut body = json!({"prompt": "once", "max_tokens": 3, "temperature": 0, "ignore_eos": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let ask = async |more: Value| {
        let reply: Value = server.post("/v1/completions", body(more)).await.json().await.unwrap();
        reply
    };
    let plain = ask(json!({"logprobs": 2})).await;
    let answer = plain["choices"][0]["text"].as_str().unwrap();
    let echoed = ask(json!({"logprobs": 2, "echo": true})).await;
    let choice = &echoed["choices"][0];
    assert_eq!(choice["text"], format!("once{answer}"));
    assert_eq!(echoed["usage"], plain["usage"]);
    let [tokens, logprobs, top, offsets] = lists(&choice["logprobs"]);
    assert_eq!((tokens.len(), logprobs.len(), top.len(), offsets.len()), (7, 7, 7, 7));
    assert_eq!(tokens[..4], ["o", "n", "c", "e"].map(Value::from));
    assert_eq!((&logprobs[0], &top[0]), (&Value::Null, &Value::Null));
    assert!(logprobs[1..].iter().all(|logprob| logprob.as_f64().unwrap() < 0.0));
    assert!(top[1..].iter().all(|top| !top.as_object().unwrap().is_empty()));
    assert_eq!(offsets[..5], [0, 1, 2, 3, 4].map(Value::from));
    let [own, own_logprobs, ..] = lists(&plain["choices"][0]["logprobs"]);
    assert_eq!((&tokens[4..], &logprobs[4..]), (own.as_slice(), own_logprobs.as_slice()));

    // Alone, as harnesses ask that measure the prompt.
    let alone = ask(json!({"logprobs": 1, "echo": true, "max_tokens": 0})).await;
    let choice = &alone["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("once"), &json!("length")));
    assert_eq!(lists(&choice["logprobs"])[1], logprobs[..4]);
    assert_eq!(alone["usage"]["completion_tokens"], 0);
    let silent = ask(json!({"echo": true})).await;
    assert_eq!(silent["choices"][0]["text"], format!("once{answer}"));
    assert_eq!(silent["choices"][0]["logprobs"], Value::Null);
    // Token ids are echoed as the text that they are.
    let ids = ask(json!({"prompt": [111, 110, 99, 101], "echo": true, "logprobs": 2})).await;
    assert_eq!(ids["choices"], echoed["choices"]);

    // Streamed, the chunks hold the same.
    for more in [
        json!({"logprobs": 2, "echo": true}),
        json!({"echo": true}),
        json!({"echo": true, "max_tokens": 0, "logprobs": 1}),
    ] {
        let whole = ask(more.clone()).await;
        let mut streamed = body(more);
        streamed["stream"] = true.into();
        let page = server.post("/v1/completions", streamed).await.text().await.unwrap();
        let (mut text, mut logprobs) = (String::new(), Vec::new());
        for data in page.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let chunk: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
            let choice = &chunk["choices"][0];
            text.push_str(choice["text"].as_str().unwrap());
            logprobs.extend(choice["logprobs"]["token_logprobs"].as_array().into_iter().flatten().cloned());
        }
        assert_eq!(whole["choices"][0]["text"], text.as_str());
        let expected = whole["choices"][0]["logprobs"]["token_logprobs"].as_array().cloned();
        assert_eq!(logprobs, expected.unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_characters_of_the_text_whole_and_streamed() {
    let server = Server::start(Fake::saying("a€b")).await;
    let parts =
        |character: &str| character.bytes().map(|byte| format!("bytes:\\x{byte:02x}")).collect::<Vec<_>>();
    let answer = [vec!["a".to_owned()], parts("€"), vec!["b".to_owned()]].concat();
    let prompt = [vec!["<begin>".to_owned()], parts("€"), vec![">".to_owned()]].concat();
    for (echo, tokens, offsets) in [
        (false, answer.clone(), json!([0, 1, 1, 1, 2])),
        (true, [prompt, answer].concat(), json!([0, 7, 7, 7, 8, 9, 10, 10, 10, 11])),
    ] {
        let body = |stream| json!({"prompt": "<begin>€>", "logprobs": 1, "temperature": 0, "echo": echo, "stream": stream});
        let whole: Value = server.post("/v1/completions", body(false)).await.json().await.unwrap();
        let whole = lists(&whole["choices"][0]["logprobs"]);
        assert_eq!((json!(whole[0]), json!(whole[3])), (json!(tokens), offsets));
        let mut streamed: [Vec<Value>; 4] = std::array::from_fn(|_| Vec::new());
        for chunk in chunks(&server, "/v1/completions", body(true)).await {
            let logprobs = &chunk["choices"][0]["logprobs"];
            if logprobs.is_object() {
                for (all, more) in streamed.iter_mut().zip(lists(logprobs)) {
                    all.extend(more);
                }
            }
        }
        assert_eq!(streamed, whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chosen_token_is_told_however_improbable_it_is() {
    let server = Server::start(Fake::saying("ab")).await;
    for (most, expected) in [(0, json!(["z"])), (1, json!(["a", "z"]))] {
        // The bias moves the choice to `z`, and not the probabilities that are told.
        let body = json!({
            "prompt": ">", "logprobs": most, "temperature": 0, "max_tokens": 1, "logit_bias": {"122": 100},
        });
        let reply: Value = server.post("/v1/completions", body).await.json().await.unwrap();
        let [tokens, logprobs, top, _] = lists(&reply["choices"][0]["logprobs"]);
        assert_eq!(tokens, [json!("z")]);
        let told = top[0].as_object().unwrap();
        assert_eq!(json!(told.keys().collect::<Vec<_>>()), expected);
        assert_eq!(told["z"], logprobs[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_prompts_are_echoed_too() {
    let server = Server::start(Fake::saying("hi")).await;
    for (prompt, tokens) in [("", json!([])), (">", json!([">"]))] {
        for stream in [false, true] {
            let body =
                json!({"prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 0, "stream": stream});
            let page = server.post("/v1/completions", body).await.text().await.unwrap();
            let first = page.lines().next().unwrap();
            let reply: Value = serde_json::from_str(first.strip_prefix("data: ").unwrap_or(first)).unwrap();
            assert_eq!(reply["choices"][0]["text"], prompt);
            assert_eq!(reply["choices"][0]["logprobs"]["tokens"], tokens);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompt_logprobs_have_an_entry_for_each_token() {
    let server = Server::start(Fake::mixing()).await;
    let body = json!({"prompt": "once", "max_tokens": 1, "prompt_logprobs": 2});
    let reply: Value = server.post("/v1/completions", body).await.json().await.unwrap();
    let entries = reply["choices"][0]["prompt_logprobs"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]), (4, &Value::Null));
    for (entry, (id, text)) in entries[1..].iter().zip([("110", "n"), ("99", "c"), ("101", "e")]) {
        let own = &entry[id];
        assert_eq!(own["decoded_token"], text);
        let entries: Vec<&Value> = entry.as_object().unwrap().values().collect();
        assert!((2..=3).contains(&entries.len()), "{entry}");
        let by_rank = |rank: u64| entries.iter().find(|entry| entry["rank"] == rank).unwrap();
        assert!(by_rank(1)["logprob"].as_f64() >= by_rank(2)["logprob"].as_f64());
        assert!(own["rank"].as_u64().unwrap() >= 1);
    }
    // The same numbers as those of an echo.
    let body = json!({"prompt": "once", "max_tokens": 0, "echo": true, "logprobs": 0, "prompt_logprobs": 1});
    let echoed: Value = server.post("/v1/completions", body).await.json().await.unwrap();
    let echoed = echoed["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    for (entry, (id, logprob)) in entries[1..].iter().zip(["110", "99", "101"].iter().zip(&echoed[1..])) {
        assert_eq!(&entry[id]["logprob"], logprob);
    }

    let reply: Value = server
        .post("/v1/chat/completions", chat(json!({"prompt_logprobs": 0, "max_tokens": 1})))
        .await
        .json()
        .await
        .unwrap();
    // Begin, `hi`, end, opening.
    assert_eq!(reply["prompt_logprobs"].as_array().unwrap().len(), 5);
    let streamed = json!({"prompt_logprobs": 0, "stream": true});
    let refused = server.post("/v1/chat/completions", chat(streamed)).await;
    check_error(refused, 400, Some("prompt_logprobs"), Some("invalid_value")).await;
    let without: Value =
        server.post("/v1/chat/completions", chat(json!({"max_tokens": 1}))).await.json().await.unwrap();
    assert!(without.get("prompt_logprobs").is_none());
    let refused = server.post("/v1/completions", json!({"prompt": "a", "max_tokens": 0})).await;
    check_error(refused, 400, Some("max_tokens"), Some("invalid_value")).await;
    let refused = server.post("/v1/chat/completions", chat(json!({"echo": true}))).await;
    check_error(refused, 400, Some("echo"), Some("unsupported_parameter")).await;
}
