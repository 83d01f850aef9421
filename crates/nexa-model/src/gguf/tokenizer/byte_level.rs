//! Byte-level BPE as parts of `tokenizer.json`.

use serde_json::{Map, Value as Json, json};

use super::pre_tokenizer::PreTokenizer;

/// The parts that make a byte-level tokenizer.
pub(super) fn to_json(
    pre_tokenizer: PreTokenizer,
    vocab: Map<String, Json>,
    merges: &[(String, String)],
) -> Json {
    json!({
        "normalizer": pre_tokenizer.normalizer(),
        "pre_tokenizer": pre_tokenizer.to_json(),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre_tokenizer.ignores_merges(),
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// Whether what is done to a text first is nothing, or what llama.cpp leaves out for this rule.
pub(super) fn normalizer_is_known(normalizer: &Json, pre_tokenizer: PreTokenizer) -> bool {
    normalizer.is_null() || *normalizer == pre_tokenizer.normalizer()
}
