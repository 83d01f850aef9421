//! Tools that the model may call.

use nexa_core::lm::ToolSyntax;
use serde_json::{Value, json};

use crate::api::check_error;
use crate::fake::{ASSISTANT, CALL_MARKS, END, Fake, VOCAB};
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

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// A model that answers with this, as far as it may.
fn answering(answer: &str) -> Fake {
    writing(bytes(answer), VOCAB)
}

/// A model of some vocabulary that answers with these tokens, as far as it may.
fn writing(answer: Vec<u32>, vocabulary: usize) -> Fake {
    let model = Fake::new(move |pieces| {
        let all = pieces.concat();
        let written = all.iter().rev().take_while(|&&id| id != ASSISTANT).count();
        let next = answer.get(written).copied().unwrap_or(END);
        (0..vocabulary as u32).map(|id| if id == next { 99.0 } else { 0.0 }).collect()
    });
    model.with_context_length(4096)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_taken_out_of_the_text_whole_and_streamed() {
    let server = Server::start(answering(CALLING)).await;
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
    for seed in 0..40 {
        for choice in [json!("required"), json!({"type": "function", "function": {"name": "add"}})] {
            let body = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed, "temperature": 2});
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
async fn calls_are_found_in_each_way_of_writing_them() {
    for (syntax, answer) in [
        (ToolSyntax::Object, r#"{"name": "add", "parameters": {"a": 1, "b": 2}}"#),
        (ToolSyntax::Array, r#"[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": 2}}]"#),
        (ToolSyntax::Array, r#"[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}"#),
    ] {
        let server = Server::start(answering(answer).with_tool_syntax(syntax)).await;
        let whole: Value = server.post(PATH, chat(json!({"tools": tools()}))).await.json().await.unwrap();
        let choice = &whole["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        let streamed = chunks(&server, PATH, chat(json!({"tools": tools(), "stream": true}))).await;
        let streamed =
            streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array());
        let streamed: Vec<&Value> = streamed.flatten().collect();
        assert_eq!(streamed.len(), 1, "{answer}");
        for call in [&choice["message"]["tool_calls"][0], streamed[0]] {
            assert_eq!(
                call["function"],
                json!({"name": "add", "arguments": "{\"a\":1,\"b\":2}"}),
                "{answer}"
            );
            let id = call["id"].as_str().unwrap();
            if syntax == ToolSyntax::Array {
                // Mistral's templates refuse any other.
                assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
            } else {
                assert!(id.starts_with("call_"), "{id}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_calls_that_are_special_tokens_are_seen_where_tools_are_offered() {
    let [calls, arguments, call_id] = [0, 1, 2].map(|mark| vec![(VOCAB + mark) as u32]);
    let object = bytes(r#"{"a": 1, "b": 2}"#);
    let answer = [calls, bytes("add"), call_id, bytes("x1"), arguments, object].concat();
    let model = writing(answer, VOCAB + CALL_MARKS.len()).with_tool_syntax(ToolSyntax::Array);
    let server = Server::start(model).await;
    let whole: Value = server.post(PATH, chat(json!({"tools": tools()}))).await.json().await.unwrap();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let expected = json!({"name": "add", "arguments": "{\"a\":1,\"b\":2}"});
    assert_eq!(choice["message"]["tool_calls"][0]["function"], expected, "{whole}");
    let streamed = chunks(&server, PATH, chat(json!({"tools": tools(), "stream": true}))).await;
    let streamed = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array());
    let streamed: Vec<&Value> = streamed.flatten().map(|call| &call["function"]).collect();
    assert_eq!(streamed, [&expected]);
    // Elsewhere they are no text.
    let plain: Value = server.post(PATH, chat(json!({}))).await.json().await.unwrap();
    assert_eq!(plain["choices"][0]["message"]["content"], r#"addx1{"a": 1, "b": 2}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_tools_that_bear_the_same_names_are_kept_apart() {
    let first = json!({
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "required": ["a"],
        "additionalProperties": false,
        "$defs": {"A": {"type": "integer", "minimum": 0, "maximum": 9}},
    });
    let second = json!({
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/properties/a"}},
        "required": ["a", "b"],
        "additionalProperties": false,
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/definitions/B"}, "minItems": 1, "maxItems": 2}},
        "definitions": {"B": {"enum": ["x", "y"]}},
    });
    let schemas = [first, second];
    let tool = |(index, schema): (usize, &Value)| json!({"type": "function", "function": {"name": format!("tool_{index}"), "parameters": schema}});
    let tools: Vec<Value> = schemas.iter().enumerate().map(tool).collect();
    for syntax in [ToolSyntax::Tagged, ToolSyntax::Object, ToolSyntax::Array] {
        let server = Server::start(Fake::mixing().with_context_length(4096).with_tool_syntax(syntax)).await;
        for (index, schema) in schemas.iter().enumerate() {
            let named = json!({"type": "function", "function": {"name": format!("tool_{index}")}});
            for choice in [json!("required"), named] {
                let body = json!({
                    "tools": tools, "tool_choice": choice, "parallel_tool_calls": false, "seed": index, "temperature": 1,
                });
                let reply: Value = server.post(PATH, chat(body)).await.json().await.unwrap();
                let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
                let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
                let called = if choice == "required" {
                    schemas
                        .iter()
                        .enumerate()
                        .find(|(index, _)| call["name"] == format!("tool_{index}"))
                        .unwrap()
                        .1
                } else {
                    schema
                };
                assert!(jsonschema::validator_for(called).unwrap().is_valid(&arguments), "{call}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_demanded_comes_before_another_form_of_the_answer() {
    let server = Server::start(Fake::mixing().with_context_length(4096)).await;
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let schema = json!({
        "type": "object", "properties": {"x": digit}, "required": ["x"], "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let ask = async |choice: Value| {
        let body = json!({"tools": tools(), "tool_choice": choice, "response_format": format, "seed": 2});
        let reply: Value = server.post(PATH, chat(body)).await.json().await.unwrap();
        reply["choices"][0].clone()
    };
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "add"}})] {
        let answer = ask(choice).await;
        assert_eq!(answer["finish_reason"], "tool_calls", "{answer}");
    }
    for choice in [json!("auto"), json!("none")] {
        let answer = ask(choice).await;
        assert!(answer["message"].get("tool_calls").is_none(), "{answer}");
        let said: Value = serde_json::from_str(answer["message"]["content"].as_str().unwrap()).unwrap();
        assert!((0..=9).contains(&said["x"].as_i64().unwrap()), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_arguments_of_a_strict_tool_fit_its_schema_though_no_call_is_demanded() {
    let wrong = "Well.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": \"one\"}}\n</tool_call>";
    let offered = |strict: Value| {
        let mut tools = tools();
        tools[0]["function"]["strict"] = strict;
        tools
    };
    let server = Server::start(answering(wrong)).await;
    let arguments = async |strict: Value| {
        let body = chat(json!({"tools": offered(strict)}));
        let reply: Value = server.post(PATH, body).await.json().await.unwrap();
        let message = &reply["choices"][0]["message"];
        assert_eq!(message["content"], "Well.\n", "{reply}");
        let arguments = message["tool_calls"][0]["function"]["arguments"].as_str();
        serde_json::from_str::<Value>(arguments.unwrap_or_else(|| panic!("{reply}"))).unwrap()
    };
    for loose in [json!(false), Value::Null] {
        assert_eq!(arguments(loose).await, json!({"a": "one"}));
    }
    let schema = tools()[0]["function"]["parameters"].clone();
    let held = arguments(json!(true)).await;
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&held), "{held}");

    // Who calls nothing says what he likes.
    let plain = "1 < 2 <tool {}";
    let server = Server::start(answering(plain)).await;
    let reply: Value =
        server.post(PATH, chat(json!({"tools": offered(json!(true))}))).await.json().await.unwrap();
    assert_eq!(reply["choices"][0]["message"]["content"], plain);

    // Where nothing marks a call, it holds only for one that is demanded.
    let loose = r#"{"name": "add", "parameters": {"a": "one"}}"#;
    let server = Server::start(answering(loose).with_tool_syntax(ToolSyntax::Object)).await;
    let body = chat(json!({"tools": offered(json!(true))}));
    let reply: Value = server.post(PATH, body).await.json().await.unwrap();
    let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "add", "arguments": "{\"a\":\"one\"}"}), "{reply}");
    let server =
        Server::start(Fake::mixing().with_context_length(4096).with_tool_syntax(ToolSyntax::Object)).await;
    let named = json!({"type": "function", "function": {"name": "add"}});
    let body = chat(json!({"tools": offered(json!(true)), "tool_choice": named}));
    let reply: Value = server.post(PATH, body).await.json().await.unwrap();
    let held = reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str();
    let held: Value = serde_json::from_str(held.unwrap_or_else(|| panic!("{reply}"))).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&held), "{held}");
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

    // Tools are shown as they are to a chat.
    let body = json!({"messages": [{"role": "user", "content": "add"}], "tools": tools(), "return_token_strs": true});
    let encoded: Value = server.post("/tokenize", body.clone()).await.json().await.unwrap();
    let shown: String =
        encoded["token_strs"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let shown: Value = serde_json::from_str(shown.strip_suffix("<assistant>").unwrap()).unwrap();
    assert_eq!(shown["tools"], tools());
    // What cannot be rendered is refused.
    for mut body in [body, json!({"messages": messages})] {
        body["add_generation_prompt"] = false.into();
        check(server.post("/tokenize", body).await, 400, "add_generation_prompt", "invalid_value").await;
    }

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
        (json!({"tools": [{"type": "function", "function": {"name": "a", "strict": "yes"}}]}), "tools"),
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
    let body = json!({"messages": [{"role": "user", "content": "x"}], "tools": tools()});
    check(server.post("/tokenize", body).await, 400, "tools", "invalid_value").await;
}
