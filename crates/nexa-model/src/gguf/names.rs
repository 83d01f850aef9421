//! Which tensor of a GGUF file is which of Hugging Face, and in which order its rows stand.

use super::architecture::Architecture;
use super::config::Shape;

/// Factors on the rotary frequencies, which Hugging Face computes from `config.json`.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// A tensor under both names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) gguf: String,
    pub(super) hugging_face: String,
    /// Rows before columns; one number for norms and biases.
    pub(super) shape: Vec<usize>,
    /// The heads whose rows GGUF interleaves, where it does.
    interleaved_heads: Option<usize>,
}

/// The tensors that a model must have, in the order of its layers.
pub(super) fn pairs(architecture: Architecture, shape: &Shape) -> Vec<Pair> {
    let (hidden, inner, vocab) = (shape.hidden, shape.inner, shape.vocab);
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut pairs = Vec::new();
    let mut push = |gguf: String, hugging_face: String, shape: &[usize]| {
        pairs.push(Pair { gguf, hugging_face, shape: shape.to_vec(), interleaved_heads: None });
    };
    push("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), &[vocab, hidden]);
    for layer in 0..shape.layers {
        let gguf = |part: &str| format!("blk.{layer}.{part}");
        let hugging_face = |part: &str| format!("model.layers.{layer}.{part}");
        push(gguf("attn_norm.weight"), hugging_face("input_layernorm.weight"), &[hidden]);
        for (short, long, rows) in [("q", "q_proj", q), ("k", "k_proj", kv), ("v", "v_proj", kv)] {
            let (gguf, hugging_face) =
                (gguf(&format!("attn_{short}")), hugging_face(&format!("self_attn.{long}")));
            push(format!("{gguf}.weight"), format!("{hugging_face}.weight"), &[rows, hidden]);
            if shape.qkv_bias {
                push(format!("{gguf}.bias"), format!("{hugging_face}.bias"), &[rows]);
            }
        }
        if architecture.normalises_heads() {
            push(gguf("attn_q_norm.weight"), hugging_face("self_attn.q_norm.weight"), &[shape.head_dim]);
            push(gguf("attn_k_norm.weight"), hugging_face("self_attn.k_norm.weight"), &[shape.head_dim]);
        }
        push(gguf("attn_output.weight"), hugging_face("self_attn.o_proj.weight"), &[hidden, q]);
        if shape.output_bias {
            push(gguf("attn_output.bias"), hugging_face("self_attn.o_proj.bias"), &[hidden]);
        }
        push(gguf("ffn_norm.weight"), hugging_face("post_attention_layernorm.weight"), &[hidden]);
        push(gguf("ffn_gate.weight"), hugging_face("mlp.gate_proj.weight"), &[inner, hidden]);
        push(gguf("ffn_up.weight"), hugging_face("mlp.up_proj.weight"), &[inner, hidden]);
        push(gguf("ffn_down.weight"), hugging_face("mlp.down_proj.weight"), &[hidden, inner]);
    }
    push("output_norm.weight".to_owned(), "model.norm.weight".to_owned(), &[hidden]);
    if !shape.tied {
        push("output.weight".to_owned(), "lm_head.weight".to_owned(), &[vocab, hidden]);
    }
    if architecture.interleaves_heads() {
        for pair in &mut pairs {
            pair.interleaved_heads = match pair.gguf.rsplit('.').nth(1) {
                Some("attn_q") => Some(shape.heads),
                Some("attn_k") => Some(shape.kv_heads),
                _ => None,
            };
        }
    }
    pairs
}

impl Pair {
    /// Puts rows from the order of GGUF into that of Hugging Face.
    pub(super) fn to_hugging_face<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        self.reorder(values, |half, i| i % half * 2 + i / half)
    }

    /// Puts rows from the order of Hugging Face into that of GGUF.
    pub(super) fn to_gguf<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        self.reorder(values, |half, i| i % 2 * half + i / 2)
    }

    /// Takes row `i` of every head from the row that `source` gives.
    fn reorder<T: Copy>(&self, values: Vec<T>, source: impl Fn(usize, usize) -> usize) -> Vec<T> {
        let Some(heads) = self.interleaved_heads else { return values };
        let head_dim = self.shape[0] / heads;
        // A bias has one entry for each row; stored bytes have several entries for each number.
        let row = values.len() / self.shape[0];
        let mut reordered = Vec::with_capacity(values.len());
        for head in values.chunks_exact(head_dim * row) {
            for i in 0..head_dim {
                reordered.extend_from_slice(&head[source(head_dim / 2, i) * row..][..row]);
            }
        }
        reordered
    }
}
