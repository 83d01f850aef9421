//! Tokenizers through GGUF's keys and back, against what encodes the same texts before and after.

use std::path::Path;

use tokenizers::Tokenizer;

use super::{Model, Token, TokenType, Vocabulary};
use crate::gguf::metadata::{Metadata, Value};
use crate::tokenizer::tests::sample;

const TEXTS: &[&str] = &[
    "",
    "Ava has 12 apples.",
    "  \n\n\t x",
    "żółć 漢字 🦀 e\u{301}",
    "\u{0}\u{7f}\r\n",
    "a<|im_end|>b",
    "It's 3.14",
];

/// A small SentencePiece vocabulary: marks, bytes, characters and pieces with scores.
fn sentence_piece() -> Vocabulary {
    let mut tokens: Vec<(String, TokenType, f32)> = vec![
        ("<unk>".to_owned(), TokenType::Unknown, 0.0),
        ("<s>".to_owned(), TokenType::Control, 0.0),
        ("</s>".to_owned(), TokenType::Control, 0.0),
    ];
    tokens.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), TokenType::Byte, 0.0)));
    for (text, score) in [
        ("\u{2581}t", -1.0),
        ("he", -2.0),
        ("\u{2581}the", -3.0),
        ("at", -4.0),
        ("\u{2581}", -10.0),
        ("t", -11.0),
        ("h", -12.0),
        ("e", -13.0),
        ("a", -14.0),
    ] {
        tokens.push((text.to_owned(), TokenType::Normal, score));
    }
    tokens.push(("<|turn|>".to_owned(), TokenType::UserDefined, 0.0));
    Vocabulary {
        model: Model::SentencePiece {
            scores: tokens.iter().map(|(.., score)| *score).collect(),
            add_space_prefix: true,
        },
        tokens: tokens.into_iter().map(|(text, token_type, _)| Token { text, token_type }).collect(),
        bos: Some(1),
        eos: Some(2),
        eot: None,
        pad: None,
        unknown: Some(0),
        add_bos: true,
        add_eos: false,
        chat_template: Some("{{ messages }}".to_owned()),
    }
}

fn through_metadata(vocabulary: &Vocabulary) -> Vocabulary {
    let mut metadata = Metadata::new(Path::new("m.gguf"));
    vocabulary.put(&mut metadata);
    Vocabulary::from_metadata(&metadata).unwrap()
}

fn written(vocabulary: &Vocabulary) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    vocabulary.write_files(folder.path(), 64, Path::new("m.gguf")).unwrap();
    let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    (folder, tokenizer)
}

fn ids(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Vec<u32> {
    tokenizer.encode(text, add_special_tokens).unwrap().get_ids().to_vec()
}

#[test]
fn a_byte_level_tokenizer_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    sample().save(folder.path()).unwrap();
    let before = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let rows = 296;
    let vocabulary = Vocabulary::read_files(folder.path(), rows).unwrap();
    assert_eq!(vocabulary.tokens.len(), rows, "rows without a token have names");
    assert_eq!(through_metadata(&vocabulary), vocabulary);
    let (folder, after) = written(&vocabulary);
    for text in TEXTS {
        assert_eq!(ids(&after, text, true), ids(&before, text, true), "{text:?}");
        let decoded = after.decode(&ids(&after, text, false), false).unwrap();
        assert_eq!(decoded, *text);
    }
    assert_eq!(Vocabulary::read_files(folder.path(), rows).unwrap(), vocabulary);
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let vocabulary = through_metadata(&sentence_piece());
    assert_eq!(vocabulary, sentence_piece());
    let (folder, tokenizer) = written(&vocabulary);
    let id = |text: &str| tokenizer.token_to_id(text).unwrap();
    let check = |text: &str, expected: &[&str]| {
        let expected: Vec<u32> = expected.iter().map(|text| id(text)).collect();
        assert_eq!(ids(&tokenizer, text, false), expected, "{text:?}");
    };
    // `▁t` + `he` has a better score than `t` + `h`, and a blank stands before the text.
    check("the", &["\u{2581}the"]);
    check("that", &["\u{2581}t", "h", "at"]);
    check("a t", &["\u{2581}", "a", "\u{2581}t"]);
    check("é", &["\u{2581}", "<0xC3>", "<0xA9>"]);
    assert_eq!(ids(&tokenizer, "the", true)[0], id("<s>"), "the first token is put before texts");
    for text in ["that the", "é\n", " two  blanks"] {
        assert_eq!(tokenizer.decode(&ids(&tokenizer, text, false), false).unwrap(), text);
    }
    // Scores that are made of the merges order them as the first ones did.
    let again = Vocabulary::read_files(folder.path(), vocabulary.tokens.len()).unwrap();
    let (_folder, after) = written(&again);
    for text in ["the", "that the heat", "é", "a<|turn|>t"] {
        assert_eq!(ids(&after, text, true), ids(&tokenizer, text, true), "{text:?}");
    }
    let types = |vocabulary: &Vocabulary| vocabulary.tokens.clone();
    assert_eq!(types(&again), types(&vocabulary));
}

#[test]
fn what_is_not_understood_is_named() {
    let check = |key: &str, value: Value, expected: &str| {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        let mut vocabulary = Metadata::new(Path::new("m.gguf"));
        let folder = tempfile::tempdir().unwrap();
        sample().save(folder.path()).unwrap();
        Vocabulary::read_files(folder.path(), 290).unwrap().put(&mut vocabulary);
        for (name, old) in vocabulary.iter() {
            metadata.put(name, if name == key { value.clone() } else { old.clone() });
        }
        let error = Vocabulary::from_metadata(&metadata).unwrap_err().to_string();
        assert!(error.starts_with(&format!("m.gguf: `{key}` {expected}")), "{error}");
    };
    let text = |text: &str| Value::String(text.to_owned());
    check("tokenizer.ggml.pre", text("viking"), "is `viking`, whose rules are not known");
    check("tokenizer.ggml.model", text("t5"), "is `t5`, only `gpt2` and `llama` are supported");
    check("tokenizer.ggml.eos_token_id", Value::U32(290), "is 290, outside a vocabulary of 290");
    check("tokenizer.ggml.merges", Value::Array(vec![text("ab")]), "holds `ab`, no pair");
    check("tokenizer.ggml.tokens", Value::U8(1), "is not a list of texts");
    check("tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1)]), "has 1 entries for 290 tokens");
}

#[test]
fn a_tokenizer_that_llama_cpp_would_read_otherwise_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    sample().save(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let original: serde_json::Value = nexa_core::files::read_json(&path).unwrap();
    let check = |key: &str, value: serde_json::Value, expected: &str| {
        let mut json = original.clone();
        *json.pointer_mut(key).unwrap() = value;
        nexa_core::files::write_json(&path, &json).unwrap();
        let error = Vocabulary::read_files(folder.path(), 290).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("/pre_tokenizer", serde_json::json!({ "type": "Whitespace" }), "`pre_tokenizer` follows no rule");
    check("/normalizer", serde_json::json!({ "type": "Lowercase" }), "`normalizer` changes texts");
    check("/model/type", "Unigram".into(), "only BPE can be exported");
    nexa_core::files::write_json(&path, &original).unwrap();
    let error = Vocabulary::read_files(folder.path(), 289).unwrap_err().to_string();
    assert!(error.contains("an id outside of the 289 rows"), "{error}");
}
