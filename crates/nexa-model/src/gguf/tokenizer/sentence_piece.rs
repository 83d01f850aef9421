//! The BPE of SentencePiece as parts of `tokenizer.json`.
//!
//! SentencePiece merges the pair of neighbours that makes the piece with the highest score; `tokenizers` merges the
//! pair that stands first in a list. So the list holds every way to make a piece of two others, best piece first. What
//! has no piece becomes its bytes.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::{Token, TokenType};

/// Stands for a blank in pieces.
const BLANK: &str = "\u{2581}";

/// What a vocabulary of SentencePiece says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces<'a> {
    pub(super) tokens: &'a [Token],
    /// One of each token.
    pub(super) scores: &'a [f32],
    /// Whether a blank stands before every text.
    pub(super) add_space_prefix: bool,
    /// The token of what has no other.
    pub(super) unknown: Option<&'a str>,
}

/// The parts that make a SentencePiece tokenizer.
pub(super) fn to_json(pieces: Pieces<'_>, vocab: Map<String, Json>) -> Json {
    let Pieces { tokens, scores, add_space_prefix, unknown } = pieces;
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": BLANK });
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": BLANK }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if add_space_prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": BLANK }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges(tokens, scores),
        },
    })
}

/// Every way to make a piece of two others: pieces of higher score first, and of one piece the way whose left part
/// comes first in the vocabulary, as that part is there earlier.
fn merges<'a>(tokens: &'a [Token], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let piece = |token: &Token| matches!(token.token_type, TokenType::Normal | TokenType::UserDefined);
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| piece(token))
        .map(|(id, token)| (token.text.as_str(), id))
        .collect();
    let mut found = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(_, token)| token.token_type == TokenType::Normal) {
        for (at, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                found.push((scores[id], left_id, right_id, (left, right)));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    found.into_iter().map(|(.., pair)| pair).collect()
}

/// Scores that make SentencePiece merge in the order of a list: the earlier the first way to make a piece, the higher.
///
/// Pieces that no merge makes are single characters, which need no score; they come after all others, as in files of
/// SentencePiece. Marks and bytes have zero.
pub(super) fn scores(tokens: &[Token], merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    // Ranks of pieces, not of merges, so that all are exact in single precision.
    let mut order: Vec<usize> = ranks.values().copied().collect();
    order.sort_unstable();
    let place: HashMap<usize, usize> = order.iter().enumerate().map(|(place, &rank)| (rank, place)).collect();
    tokens
        .iter()
        .map(|token| match (token.token_type, ranks.get(&token.text)) {
            (TokenType::Normal, Some(rank)) => -(place[rank] as f32),
            (TokenType::Normal, None) => -(order.len() as f32),
            _ => 0.0,
        })
        .collect()
}
