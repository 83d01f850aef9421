//! Tools that the model may call.

use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::{ASSISTANT, END, Fake, VOCAB};
use crate::life::{Server, chat};
use crate::stream::chunks;

const PATH: &str = "/v1/chat/completions";
const CALLING: &str =
    "I add.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call>";

async fn check(response: reqwest::Response, status: u16, param: &str, code: &str) {
    check_error(response, status, Some(param), Some(code)).await;
}

fn tools() -> Value {
    let number = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let parameters = json!({
        "type": "object",
        "properties": {"a": number, "b": number},
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
    json!([
        {"type": "function", "function": {"name": "add", "description": "adds", "parameters": parameters}},
        {"type": "function", "function": {"name": "stop", "parameters": nothing}},
    ])
}

/// A model that answers with [`CALLING`].
fn calling() -> Fake {
    let model = Fake::new(|pieces| {
        let all = pieces.concat();
        let written = all.iter().rev().take_while(|&&id| id != ASSISTANT).count();
        let next = CALLING.as_bytes().get(written).map_or(END, |&byte| u32::from(byte));
        (0..VOCAB as u32).map(|id| if id == next { 99.0 } else { 0.0 }).collect()
    });
    model.with_context_length(4096)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_taken_out_of_the_text_whole_and_streamed() {
    let server = Server::start(calling()).await;
    let whole: Value = server.post(PATH, chat(json!({"tools": tools()}))).await.json().await.unwrap();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &json!("I add.\n"))
    );
    let [call] = choice["message"]["tool_calls"].as_array().unwrap().as_slice() else { panic!("{whole}") };
    assert!(call["id"].as_str().unwrap().starts_with("call_") && call.get("index").is_none(), "{call}");
    assert_eq!(call["function"], json!({"name": "add", "arguments": "{\"a\":1,\"b\":2}"}));

    let streamed = chunks(&server, PATH, chat(json!({"tools": tools(), "stream": true}))).await;
    let deltas: Vec<&Value> = streamed.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let said: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(said, "I add.\n");
    let calls: Vec<&Value> =
        deltas.iter().filter_map(|delta| delta["tool_calls"].as_array()).flatten().collect();
    let [streamed_call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((&streamed_call["index"], &streamed_call["function"]), (&json!(0), &call["function"]));
    assert_eq!(streamed.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    // Who offers no tools gets the text.
    for more in [json!({}), json!({"tools": tools(), "tool_choice": "none"})] {
        let plain: Value = server.post(PATH, chat(more)).await.json().await.unwrap();
        assert_eq!(plain["choices"][0]["message"]["content"], CALLING);
        assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_demanded_is_one_of_the_tools_whatever_is_drawn() {
    let server = Server::start(Fake::mixing().with_context_length(4096)).await;
    let mut called = std::collections::BTreeSet::new();
    for seed in 0..12 {
        for choice in [json!("required"), json!({"type": "function", "function": {"name": "add"}})] {
            let body =
                json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed});
            let reply: Value = server.post(PATH, chat(body)).await.json().await.unwrap();
            let message = &reply["choices"][0]["message"];
            let [call] = message["tool_calls"].as_array().unwrap().as_slice() else { panic!("{reply}") };
            assert_eq!(
                (&message["content"], &reply["choices"][0]["finish_reason"]),
                (&Value::Null, &json!("tool_calls"))
            );
            let name = call["function"]["name"].as_str().unwrap();
            let arguments: Value =
                serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            match name {
                "add" => assert!((0..=9).contains(&arguments["b"].as_i64().unwrap()), "{arguments}"),
                name => assert!(name == "stop" && choice == "required" && arguments == json!({})),
            }
            called.insert(name.to_owned());
        }
    }
    assert_eq!(called.len(), 2, "each is drawn at some time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_template_sees_tools_and_earlier_calls() {
    let server = Server::start(Fake::mixing()).await;
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}});
    let messages = json!([
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1"},
    ]);
    let body = json!({"messages": messages, "return_token_strs": true});
    let encoded: Value = server.post("/tokenize", body).await.json().await.unwrap();
    let shown: String =
        encoded["token_strs"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let shown: Value = serde_json::from_str(shown.strip_suffix("<assistant>").unwrap()).unwrap();
    assert_eq!(shown["messages"][1]["tool_calls"][0]["function"]["arguments"], json!({"a": 1}));
    assert_eq!(shown["messages"][2], json!({"role": "tool", "content": "3", "tool_call_id": "call_1"}));

    let count = |reply: Value| reply["usage"]["prompt_tokens"].as_u64().unwrap();
    let ask = async |more: Value| server.post(PATH, chat(more)).await.json::<Value>().await.unwrap();
    let without = count(ask(json!({"max_tokens": 1})).await);
    let with = count(ask(json!({"max_tokens": 1, "tools": tools()})).await);
    assert!(with > without + 100, "{with} and {without}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_that_make_no_sense_are_refused_by_name() {
    let server = Server::start(Fake::mixing()).await;
    let named = json!({"type": "function", "function": {"name": "nothing"}});
    for (body, param) in [
        (json!({"tools": [{"type": "retrieval"}]}), "tools"),
        (json!({"tools": [{"type": "function", "function": {}}]}), "tools"),
        (json!({"tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}]}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": tools(), "tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tools": tools(), "tool_choice": named}), "tool_choice"),
    ] {
        check(server.post(PATH, chat(body)).await, 400, param, "invalid_value").await;
    }
    let messages =
        json!([{"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{"}}]}]);
    let body = json!({"messages": messages});
    check(server.post(PATH, body).await, 400, "messages[0].tool_calls", "invalid_value").await;
    let server = Server::start(Fake::mixing().without_template()).await;
    check(server.post(PATH, chat(json!({"tools": tools()}))).await, 400, "tools", "invalid_value").await;
}
