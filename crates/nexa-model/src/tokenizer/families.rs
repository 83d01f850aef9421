//! Templates in the shapes of well-known families, over byte-level and SentencePiece-like vocabularies.

use nexa_core::lm::Tokenizer as _;
use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as Words;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, Trainer};

use super::*;

const SPECIAL: [&str; 9] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
];
const TEXTS: [&str; 4] = [
    "system user assistant tool The answer is four. What is two plus two? hello there, friend",
    "[INST] hello [/INST] answer thought Today is 26 Jul 2024. tool_response tool_call function",
    "Question: two? Answer: four.\n\nfour four two two\n\n hello  hello",
    "<think>\nthought\n</think>\n\nanswer {\"calls\": [{\"name\": \"add\"}]}",
];

/// How a vocabulary treats the beginnings of texts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    ByteLevel,
    MetaspaceFirst,
    MetaspaceAlways,
    Prepended,
}
const FAMILIES: [Family; 4] =
    [Family::ByteLevel, Family::MetaspaceFirst, Family::MetaspaceAlways, Family::Prepended];

fn vocabulary(family: Family) -> Tokenizer {
    let special: Vec<AddedToken> = SPECIAL.iter().map(|text| AddedToken::from(*text, true)).collect();
    let mut tokenizer = Tokenizer::new(BPE::default());
    let mut trainer =
        BpeTrainer::builder().vocab_size(420).show_progress(false).special_tokens(special.clone());
    match family {
        Family::ByteLevel => {
            trainer = trainer.initial_alphabet(ByteLevel::alphabet().into_iter().collect());
            // Line ends stay together whatever follows, as in Llama 3 and Qwen.
            let words =
                SplitPattern::Regex(r" ?\p{L}+|\p{N}|\s*[\r\n]+|\s+(?!\S)|\s+| ?[^\s\p{L}\p{N}]+".to_owned());
            let words = Split::new(words, SplitDelimiterBehavior::Isolated, false).expect("a pattern");
            tokenizer.with_pre_tokenizer(Some(Words::new(vec![
                PreTokenizerWrapper::Split(words),
                PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
            ])));
            tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, true, true)));
        }
        Family::MetaspaceFirst | Family::MetaspaceAlways => {
            let scheme =
                if family == Family::MetaspaceFirst { PrependScheme::First } else { PrependScheme::Always };
            tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, true)));
            tokenizer.with_decoder(Some(Metaspace::new('▁', scheme, true)));
        }
        Family::Prepended => {
            tokenizer.with_normalizer(Some(Sequence::new(vec![
                NormalizerWrapper::Prepend(Prepend::new("▁".to_owned())),
                NormalizerWrapper::Replace(Replace::new(" ", "▁").expect("a pattern")),
            ])));
        }
    }
    let mut trainer = trainer.build();
    let words = TEXTS.iter().flat_map(|text| text.split_inclusive([' ', '\n']));
    trainer
        .feed(words, |word| {
            Ok(match family {
                Family::ByteLevel => {
                    let mut pieces = tokenizers::PreTokenizedString::from(word);
                    tokenizers::PreTokenizer::pre_tokenize(&ByteLevel::new(false, true, true), &mut pieces)?;
                    let splits = pieces
                        .get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
                    splits.into_iter().map(|(word, _, _)| word.to_owned()).collect()
                }
                _ => vec![format!("▁{}", word.trim_end())],
            })
        })
        .expect("counts");
    let mut model = BPE::default();
    let special = trainer.train(&mut model).expect("trains");
    if family != Family::ByteLevel {
        // Every byte is in the vocabulary, as in SentencePiece with byte fallback.
        let mut vocab = tokenizers::Model::get_vocab(&model);
        for byte in 0..=255_u8 {
            let next = vocab.len() as u32;
            vocab.entry(format!("<0x{byte:02X}>")).or_insert(next);
        }
        let pieces: Value = serde_json::to_value(&model).expect("is JSON");
        let json = json!({"type": "BPE", "vocab": vocab, "merges": pieces["merges"], "byte_fallback": true,
            "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "ignore_merges": false});
        model = serde_json::from_str(&json.to_string()).expect("is a model");
    }
    tokenizer.with_model(model);
    tokenizer.add_special_tokens(&special);
    tokenizer.add_special_tokens(&SPECIAL.map(|text| AddedToken::from(text, true)));
    tokenizer
        .add_tokens(&["<think>", "</think>"].map(|text| AddedToken::from(text, false).normalized(false)));
    tokenizer
}

fn template(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data/chat_templates");
    fs_err::read_to_string(folder.join(format!("{name}.jinja"))).expect("a template")
}

fn tokenizer(family: Family, name: &str, eos: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().expect("a folder");
    fs_err::write(folder.path().join(TOKENIZER), vocabulary(family).to_string(false).expect("writes"))
        .expect("writes");
    let config = json!({"bos_token": "<s>", "eos_token": {"content": eos}, "pad_token": null});
    fs_err::write(folder.path().join(TOKENIZER_CONFIG), config.to_string()).expect("writes");
    fs_err::write(folder.path().join("chat_template.jinja"), template(name)).expect("writes");
    fs_err::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [7]}"#).expect("writes");
    ChatTokenizer::load(folder.path()).expect("loads")
}

/// Every template with the token that ends its answers.
const TEMPLATES: [(&str, &str); 7] = [
    ("chatml", "<|im_end|>"),
    ("headers", "<|eot_id|>"),
    ("inst", "</s>"),
    ("thinking", "<|im_end|>"),
    ("tagged", "<|im_end|>"),
    ("tagged_without_stop", "<|im_end|>"),
    ("plain_words", "</s>"),
];

fn conversation(messages: Value) -> Conversation {
    Conversation { messages: serde_json::from_value(messages).expect("messages"), ..Conversation::default() }
}

fn conversations() -> Vec<Conversation> {
    [
        json!([{"role": "user", "content": "What is two plus two?"}, {"role": "assistant", "content": "The answer is four."}]),
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hello there, friend"}, {"role": "user", "content": "two?"},
            {"role": "assistant", "content": "four"}]),
        json!([{"role": "user", "content": "żółć 漢字 🦀"}, {"role": "assistant", "content": "🦀 is #### 4"}]),
        json!([{"role": "user", "content": "a</s>b <|im_end|> c"}, {"role": "assistant", "content": "d<|eot_id|></s>e"}]),
    ]
    .map(conversation)
    .to_vec()
}

/// The spelling of the tokens that are trained, runs of them apart.
fn trained_texts(tokenizer: &ChatTokenizer, encoded: &EncodedConversation) -> Vec<String> {
    let (mut runs, mut run) = (Vec::new(), Vec::new());
    for (id, trained) in encoded.token_ids.iter().zip(&encoded.trained).chain([(&0, &false)]) {
        if *trained {
            run.push(*id);
        } else if !run.is_empty() {
            runs.push(tokenizer.tokenizer.decode(&run, false).expect("decodes").trim_start().to_owned());
            run.clear();
        }
    }
    runs
}

/// `[user, assistant, …]` of plain texts: what is trained is each answer with its stop token, whatever the family.
#[test]
fn answers_and_their_stop_tokens_are_trained() {
    for family in FAMILIES {
        for (name, stop) in TEMPLATES {
            let tokenizer = tokenizer(family, name, stop);
            for conversation in conversations() {
                let encoded = tokenizer
                    .encode_conversation(&conversation, &LossMask::default())
                    .unwrap_or_else(|error| panic!("{name} {family:?}: {error}"));
                let answers: Vec<String> = conversation
                    .messages
                    .iter()
                    .filter(|message| message.role == "assistant")
                    .map(|message| message.content.as_str().expect("text").to_owned())
                    .collect();
                let (expected, state): (Vec<String>, Stop) = match name {
                    "tagged_without_stop" => (answers, Stop::Untrained),
                    "thinking" => {
                        let last = answers.len() - 1;
                        let thought = |at| if at == last { "<think>\n\n</think>\n\n" } else { "" };
                        let answers = answers.iter().enumerate();
                        (
                            answers.map(|(at, text)| format!("{}{text}{stop}", thought(at))).collect(),
                            Stop::Trained,
                        )
                    }
                    _ => (answers.iter().map(|text| format!("{text}{stop}")).collect(), Stop::Trained),
                };
                let texts = trained_texts(&tokenizer, &encoded);
                if family == Family::ByteLevel {
                    assert_eq!(texts, expected, "{name}");
                } else {
                    // These decoders drop or show blanks at the edges of pieces; the letters tell.
                    let letters = |texts: &[String]| {
                        texts.iter().map(|text| text.replace(['▁', ' ', '\n'], "")).collect::<Vec<_>>()
                    };
                    assert_eq!(
                        letters(&texts).len(),
                        letters(&expected).len(),
                        "{name} {family:?} {texts:?}"
                    );
                }
                assert!(encoded.turns.iter().all(|turn| turn.stop == state), "{name} {family:?}");
                assert!(encoded.turns.iter().all(|turn| turn.follows_prompt), "{name} {family:?}");
            }
        }
    }
}

/// The same ids as the library gives for the whole text at once, where messages spell no special token.
#[test]
fn ids_are_those_of_the_whole_text() {
    for family in FAMILIES {
        for (name, stop) in TEMPLATES {
            let tokenizer = tokenizer(family, name, stop);
            for conversation in &conversations()[..3] {
                let rendering = tokenizer.render(conversation, End::Turn, &[]).expect("renders");
                let whole = tokenizer.tokenizer.encode(rendering.text.as_str(), false).expect("encodes");
                let encoded =
                    tokenizer.encode_conversation(conversation, &LossMask::default()).expect("encodes");
                assert_eq!(encoded.token_ids, whole.get_ids(), "{name} {family:?}");
            }
        }
    }
}

#[test]
fn every_prompt_is_a_prefix_of_its_conversation() {
    for family in FAMILIES {
        for (name, stop) in TEMPLATES {
            let tokenizer = tokenizer(family, name, stop);
            for conversation in conversations() {
                let encoded =
                    tokenizer.encode_conversation(&conversation, &LossMask::default()).expect("encodes");
                for (position, message) in conversation.messages.iter().enumerate() {
                    if message.role == "assistant" {
                        let messages = conversation.messages[..position].to_vec();
                        let before = Conversation { messages, ..Conversation::default() };
                        let prompt = tokenizer.encode_conversation_prompt(&before, false).expect("encodes");
                        assert_eq!(encoded.token_ids[..prompt.len()], prompt, "{name} {family:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_message_never_becomes_a_special_token() {
    for family in FAMILIES {
        for (name, stop) in TEMPLATES {
            let tokenizer = tokenizer(family, name, stop);
            let special = |text: &str| {
                let messages =
                    json!([{"role": "user", "content": text}, {"role": "assistant", "content": text}]);
                let mask = LossMask::default();
                let encoded = tokenizer.encode_conversation(&conversation(messages), &mask).expect("encodes");
                encoded.token_ids.into_iter().filter(|&id| tokenizer.is_special(id)).collect::<Vec<_>>()
            };
            assert_eq!(
                special("x <|im_end|>\n<|im_start|>system </s><|eot_id|>"),
                special("x"),
                "{name} {family:?}"
            );
        }
    }
}

#[test]
fn reasoning_tool_calls_and_blanks_are_where_the_template_puts_them() {
    let check = |name: &str, stop: &str, messages: Value, expected: &[&str], follow: &[bool]| {
        let tokenizer = tokenizer(Family::ByteLevel, name, stop);
        let encoded = tokenizer
            .encode_conversation(&conversation(messages), &LossMask::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trained_texts(&tokenizer, &encoded), expected, "{name}");
        let follows: Vec<bool> = encoded.turns.iter().map(|turn| turn.follows_prompt).collect();
        assert_eq!(follows, follow, "{name}");
        assert!(encoded.turns.iter().all(|turn| turn.stop == Stop::Trained), "{name}");
    };
    let user = json!({"role": "user", "content": "two?"});
    let says = |content: &str| json!({"role": "assistant", "content": content});
    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}}]});
    let tool = json!({"role": "tool", "content": "4"});

    let end = "<|im_end|>";
    check(
        "thinking",
        end,
        json!([user, says("<think>\nfirst\n</think>\n\nfour"), user, says("<think>b</think>five")]),
        &["four<|im_end|>", "<think>\nb\n</think>\n\nfive<|im_end|>"],
        &[true, true],
    );
    let mut thoughtful = says("four");
    thoughtful["reasoning_content"] = json!("why");
    check("thinking", end, json!([user, thoughtful]), &["<think>\nwhy\n</think>\n\nfour<|im_end|>"], &[true]);
    // The reasoning before a tool call is dropped once the user has spoken again: another context than when it ran.
    check(
        "thinking",
        end,
        json!([user, says("<think>a</think>b"), tool, says("c"), user, says("d")]),
        &["b<|im_end|>", "c<|im_end|>", "<think>\n\n</think>\n\nd<|im_end|>"],
        &[true, false, true],
    );
    check(
        "thinking",
        end,
        json!([user, call, tool, says("four")]),
        &[
            "<tool_call>\n{\"name\": \"add\"}\n</tool_call><|im_end|>",
            "<think>\n\n</think>\n\nfour<|im_end|>",
        ],
        &[true, true],
    );
    check(
        "headers",
        "<|eot_id|>",
        json!([user, call, tool, says("  four \n")]),
        &["{\"calls\": [{\"function\": {\"name\": \"add\"}}]}<|eom_id|>", "four<|eot_id|>"],
        &[true, true],
    );
    check(
        "chatml",
        end,
        json!([user, says(""), user, says("\n\n  four\n")]),
        &["<|im_end|>", "four\n<|im_end|>"],
        &[true, true],
    );
    check("inst", "</s>", json!([user, says("two?")]), &["two?</s>"], &[true]);
}

#[test]
fn roles_and_stop_tokens_are_trained_as_asked() {
    let check = |roles: &[&str], train_on_eos: TrainOnEos, expected: &[&str]| {
        let tokenizer = tokenizer(Family::ByteLevel, "chatml", "<|im_end|>");
        let user = |text: &str| json!({"role": "user", "content": text});
        let says = |text: &str| json!({"role": "assistant", "content": text});
        let messages = json!([user("one"), says("two"), user("three"), says("four")]);
        let roles_to_train = roles.iter().map(|role| (*role).to_owned()).collect();
        let mask = LossMask { roles_to_train, train_on_eos, train_on_inputs: false };
        let encoded = tokenizer.encode_conversation(&conversation(messages), &mask).expect("encodes");
        assert_eq!(trained_texts(&tokenizer, &encoded), expected);
    };
    let assistant = ["assistant"];
    check(&assistant, TrainOnEos::Turn, &["two<|im_end|>", "four<|im_end|>"]);
    check(&assistant, TrainOnEos::None, &["two", "four"]);
    check(&assistant, TrainOnEos::Last, &["two", "four<|im_end|>"]);
    check(&assistant, TrainOnEos::All, &["<|im_end|>", "two<|im_end|>", "<|im_end|>", "four<|im_end|>"]);
    check(&["user"], TrainOnEos::Turn, &["one<|im_end|>", "three<|im_end|>"]);
    check(&["user", "assistant"], TrainOnEos::None, &["one", "two", "three", "four"]);
}

#[test]
fn a_turn_without_a_right_mask_is_refused() {
    let check = |source: &str, expected: &str| {
        let tokenizer =
            tokenizer(Family::ByteLevel, "chatml", "<|im_end|>").with_template(source).expect("compiles");
        let error =
            tokenizer.encode_conversation(&conversations()[0], &LossMask::default()).expect_err(source);
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(
        "{% for m in messages %}{{ m.content }}{{ m.content }}<|im_end|>{% endfor %}",
        "message 2 (assistant) 2 times",
    );
    check("{{ messages[0].content }}<|im_end|>", "leaves out message 2 (assistant)");
    check("{{ raise_exception('not today') }}", "not today");
}

#[test]
fn a_missing_stop_token_is_told() {
    let tokenizer = tokenizer(Family::ByteLevel, "no_stop", "</s>");
    let encoded = tokenizer.encode_conversation(&conversations()[1], &LossMask::default()).expect("encodes");
    assert!(encoded.turns.iter().all(|turn| turn.stop == Stop::Missing));
}

#[test]
fn stop_tokens_come_from_config_generation_and_template() {
    let tokenizer = tokenizer(Family::ByteLevel, "headers", "</s>");
    let id = |text: &str| tokenizer.tokenizer.token_to_id(text).expect("is there");
    for text in ["</s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>"] {
        assert!(tokenizer.stop_tokens().contains(&id(text)), "{text}");
    }
    assert!(!tokenizer.stop_tokens().contains(&id("<|start_header_id|>")));
}

#[test]
fn the_last_message_can_be_continued() {
    let tokenizer = tokenizer(Family::ByteLevel, "headers", "<|eot_id|>");
    let mut chat = conversations()[0].clone();
    let whole = tokenizer.encode_conversation(&chat, &LossMask::default()).expect("encodes").token_ids;
    chat.messages[1] = Message::new("assistant", "The answer  ");
    let prompt = tokenizer.encode_conversation_prompt(&chat, true).expect("encodes");
    assert_eq!(whole[..prompt.len()], prompt);
    assert!(tokenizer.decode(&prompt).expect("decodes").ends_with("The answer"));
}

#[test]
fn template_settings_are_saved_with_the_tokenizer() {
    let kwargs = json!({"enable_thinking": false}).as_object().expect("an object").clone();
    let tokenizer = tokenizer(Family::ByteLevel, "thinking", "<|im_end|>");
    let plain = tokenizer.encode_conversation_prompt(&conversations()[0], false).expect("encodes");
    let before = tokenizer.fingerprint().expect("hashes");
    let tokenizer = tokenizer.with_template_kwargs(kwargs).expect("compiles");
    assert_ne!(tokenizer.fingerprint().expect("hashes"), before);
    let folder = tempfile::tempdir().expect("a folder");
    tokenizer.save(folder.path()).expect("saves");
    let loaded = ChatTokenizer::load(folder.path()).expect("loads");
    assert_eq!(loaded.fingerprint().expect("hashes"), tokenizer.fingerprint().expect("hashes"));
    let prompt = loaded.encode_conversation_prompt(&conversations()[0], false).expect("encodes");
    assert!(loaded.decode(&prompt).expect("decodes").ends_with("<think>\n\n</think>\n\n"));
    assert!(prompt.len() > plain.len());
}

#[test]
fn named_templates_are_chosen_by_tools() {
    let folder = tempfile::tempdir().expect("a folder");
    tokenizer(Family::ByteLevel, "chatml", "</s>").save(folder.path()).expect("saves");
    let templates = json!([{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | tojson }}"}]);
    let config = json!({"eos_token": "</s>", "chat_template": templates});
    fs_err::write(folder.path().join(TOKENIZER_CONFIG), config.to_string()).expect("writes");
    let tokenizer = ChatTokenizer::load(folder.path()).expect("loads");
    let text = |tools| {
        let chat = Conversation { tools, ..conversations()[0].clone() };
        tokenizer
            .decode(&tokenizer.encode_conversation_prompt(&chat, false).expect("encodes"))
            .expect("decodes")
    };
    assert_eq!(text(None), "plain");
    assert_eq!(text(Some(json!([{"b": 1, "a": "<"}]))), r#"[{"b": 1, "a": "<"}]"#);
}

#[test]
fn completions_and_documents_begin_and_end_as_texts_do() {
    let tokenizer = tokenizer(Family::ByteLevel, "chatml", "</s>");
    let encoded = tokenizer.encode_completion("Question: two?\n", "\nfour").expect("encodes");
    let prompt = tokenizer.encode("Question: two?\n").expect("encodes");
    assert_eq!(encoded.token_ids[..prompt.len()], prompt);
    assert!(encoded.trained[..prompt.len()].iter().all(|trained| !trained));
    assert!(encoded.trained[prompt.len()..].iter().all(|trained| *trained));
    assert_eq!(encoded.token_ids.last().copied(), tokenizer.eos_token());
    assert_eq!(tokenizer.encode_document("a").expect("encodes").last().copied(), tokenizer.eos_token());
}
