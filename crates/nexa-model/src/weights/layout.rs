//! The parameters of a decoder: what they are for, how large they are, and where they stand in files.
//!
//! [`Network`] is the tree that they form, with anything at its leaves; a decoder keeps its tensors in it. The list of
//! all leaves, in the order of the tree, is the order of every list of parameters, gradients and moments.

use crate::DecoderConfig;

/// What a parameter is for, which decides how it starts and whether it decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedding, and the output layer where it is not the embedding.
    Embedding,
    /// The scale of a normalisation.
    Norm,
    /// A projection inside a block.
    Projection,
    /// A projection that writes to the residual stream.
    ResidualProjection,
    /// What a projection adds to its result.
    Bias,
    /// A matrix of a low-rank correction.
    Adapter,
}

/// One parameter: a matrix `[outputs, inputs]`, `[1, width]` for a norm, `[outputs, 1]` for a bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it is for.
    pub kind: Kind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The tensors in files that it consists of, from the first row on: names and rows.
    pub parts: Vec<(String, usize)>,
}

impl Parameter {
    /// Returns the shape in files of a part with so many rows; norms and biases are vectors there.
    pub fn file_shape(&self, rows: usize) -> Vec<usize> {
        match self.kind {
            Kind::Norm => vec![self.shape[1]],
            Kind::Bias => vec![rows],
            _ => vec![rows, self.shape[1]],
        }
    }
}

/// A product with a weight, and perhaps a bias.
#[derive(Debug, Clone)]
pub(crate) struct Projection<T> {
    pub(crate) weight: T,
    pub(crate) bias: Option<T>,
}

/// The parameters of a block.
#[derive(Debug, Clone)]
pub(crate) struct Block<T> {
    /// Norm before attention.
    pub(crate) input_norm: T,
    /// Queries, keys and values.
    pub(crate) qkv: Projection<T>,
    /// Norms of every query and every key.
    pub(crate) qk_norm: Option<[T; 2]>,
    /// Output of the attention.
    pub(crate) output: Projection<T>,
    /// Norm before the feed-forward.
    pub(crate) mlp_norm: T,
    /// Gate and up projection.
    pub(crate) gate_up: Projection<T>,
    /// Down projection.
    pub(crate) down: Projection<T>,
}

/// The parameters of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct Network<T> {
    pub(crate) embedding: T,
    pub(crate) blocks: Vec<Block<T>>,
    /// Norm after the last block.
    pub(crate) norm: T,
    /// The output layer, where it is not the embedding.
    pub(crate) head: Option<T>,
}

impl<T> Projection<T> {
    fn map<U>(self, change: &mut impl FnMut(T) -> U) -> Projection<U> {
        Projection { weight: change(self.weight), bias: self.bias.map(change) }
    }
}

impl<T> Block<T> {
    /// Puts something else at every leaf, in the order of the list.
    pub(crate) fn map<U>(self, change: &mut impl FnMut(T) -> U) -> Block<U> {
        Block {
            input_norm: change(self.input_norm),
            qkv: self.qkv.map(change),
            qk_norm: self.qk_norm.map(|norms| norms.map(&mut *change)),
            output: self.output.map(change),
            mlp_norm: change(self.mlp_norm),
            gate_up: self.gate_up.map(change),
            down: self.down.map(change),
        }
    }
}

impl<T> Network<T> {
    /// Puts something else at every leaf, in the order of the list.
    pub(crate) fn map<U>(self, mut change: impl FnMut(T) -> U) -> Network<U> {
        Network {
            embedding: change(self.embedding),
            blocks: self.blocks.into_iter().map(|block| block.map(&mut change)).collect(),
            norm: change(self.norm),
            head: self.head.map(change),
        }
    }
}

impl Network<usize> {
    /// Puts every parameter's place in the list at its leaf.
    pub(crate) fn of(config: &DecoderConfig) -> Self {
        let mut count = 0;
        parameters(config).map(|_| {
            count += 1;
            count - 1
        })
    }
}

/// Lists the parameters of a decoder: the embedding, those of every block, the last norm, and the output layer where
/// it is not the embedding. Where a config has biases, each follows its weight; norms of queries and keys follow the
/// projection that makes them.
pub fn layout(config: &DecoderConfig) -> Vec<Parameter> {
    let mut list = Vec::new();
    let _ = parameters(config).map(|parameter| list.push(parameter));
    list
}

fn parameters(config: &DecoderConfig) -> Network<Parameter> {
    let (hidden, vocab) = (config.hidden_size, config.vocab_size);
    let table = |name: &str| matrix(Kind::Embedding, hidden, vec![(name.to_owned(), vocab)]);
    Network {
        embedding: table("model.embed_tokens.weight"),
        blocks: (0..config.num_hidden_layers).map(|layer| block(config, layer)).collect(),
        norm: norm("model.norm.weight".to_owned(), hidden),
        head: (!config.tie_word_embeddings).then(|| table("lm_head.weight")),
    }
}

fn block(config: &DecoderConfig, layer: usize) -> Block<Parameter> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let heads = config.heads();
    let (q, kv) = (heads.output_width(), heads.key_value * heads.head_dim);
    let name = |part: &str| format!("model.layers.{layer}.{part}");
    let norm = |part: &str, width: usize| norm(name(&format!("{part}.weight")), width);
    let projection = |kind, inputs, has_bias: bool, parts: &[(&str, usize)]| {
        let named = |ending: &str| {
            parts.iter().map(|(part, rows)| (name(&format!("{part}.{ending}")), *rows)).collect()
        };
        Projection {
            weight: matrix(kind, inputs, named("weight")),
            bias: has_bias.then(|| matrix(Kind::Bias, 1, named("bias"))),
        }
    };
    let qkv = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
    let gate_up = [("mlp.gate_proj", inner), ("mlp.up_proj", inner)];
    Block {
        input_norm: norm("input_layernorm", hidden),
        qkv: projection(Kind::Projection, hidden, config.qkv_bias, &qkv),
        qk_norm: config
            .qk_norm
            .then(|| ["self_attn.q_norm", "self_attn.k_norm"].map(|part| norm(part, heads.head_dim))),
        output: projection(Kind::ResidualProjection, q, config.output_bias, &[("self_attn.o_proj", hidden)]),
        mlp_norm: norm("post_attention_layernorm", hidden),
        gate_up: projection(Kind::Projection, hidden, config.mlp_bias, &gate_up),
        down: projection(Kind::ResidualProjection, inner, config.mlp_bias, &[("mlp.down_proj", hidden)]),
    }
}

fn matrix(kind: Kind, inputs: usize, parts: Vec<(String, usize)>) -> Parameter {
    Parameter { kind, shape: [parts.iter().map(|(_, rows)| rows).sum(), inputs], parts }
}

fn norm(name: String, width: usize) -> Parameter {
    Parameter { kind: Kind::Norm, shape: [1, width], parts: vec![(name, 1)] }
}
