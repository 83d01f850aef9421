//! The weights of a decoder in the form that the host multiplies with: in single precision, or in few bits.

use std::sync::Arc;

use crate::gguf::{self, TensorType, encode};
use crate::kernels::log_softmax::{self, RatedRow};
use crate::kernels::panel::PackedLinear;
use crate::kernels::quant::QuantLinear;
use crate::kernels::quant::activations::Activations;
use crate::kernels::{bias, gather};
use crate::weights::{Block, Network, Parameter, Projection};
use crate::{Buffer, DecoderConfig, Error, Weights, layout};

/// Few bits into which the weights of a checkpoint are rounded as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// 8 bits, and a scale for 32 weights.
    Q8_0,
    /// 4 bits, and a scale for 32 weights; embedding and output layer in 8 bits.
    Q4_0,
}

impl Quantisation {
    /// Every one, by its name on the command line.
    pub const NAMES: [(&'static str, Self); 2] = [("q8_0", Self::Q8_0), ("q4_0", Self::Q4_0)];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

/// A matrix, as it is read.
pub(super) enum Matrix {
    /// In single precision.
    Full(Buffer),
    /// In blocks of few bits: the rows of its parts, one below the other.
    Blocks(Vec<(TensorType, Vec<u8>)>),
}

/// Where the numbers of a decoder come from.
pub(super) trait Numbers {
    /// The numbers of a norm or a bias.
    fn vector(&self, parameter: &Parameter, place: usize) -> Result<Buffer, Error>;

    /// The numbers of a matrix.
    fn matrix(&self, parameter: &Parameter, place: usize) -> Result<Matrix, Error>;
}

impl Numbers for Weights {
    fn vector(&self, _: &Parameter, place: usize) -> Result<Buffer, Error> {
        Ok(self.values()[place].clone())
    }

    fn matrix(&self, _: &Parameter, place: usize) -> Result<Matrix, Error> {
        Ok(Matrix::Full(self.values()[place].clone()))
    }
}

/// Weights that are rounded on the way.
pub(super) struct Rounded<'a> {
    pub(super) weights: &'a Weights,
    pub(super) to: Quantisation,
}

impl Numbers for Rounded<'_> {
    fn vector(&self, parameter: &Parameter, place: usize) -> Result<Buffer, Error> {
        self.weights.vector(parameter, place)
    }

    /// Matrices whose rows are not whole blocks stay what they are.
    fn matrix(&self, parameter: &Parameter, place: usize) -> Result<Matrix, Error> {
        let values = &self.weights.values()[place];
        let is_table = parameter.kind == crate::Kind::Embedding;
        // Both formats have blocks of one length.
        if !QuantLinear::supports(TensorType::Q8_0, parameter.shape[1]) {
            return Ok(Matrix::Full(values.clone()));
        }
        Ok(Matrix::Blocks(vec![match self.to {
            Quantisation::Q4_0 if !is_table => (TensorType::Q4_0, encode::q4_0(values)),
            Quantisation::Q4_0 | Quantisation::Q8_0 => (TensorType::Q8_0, encode::q8_0(values)),
        }]))
    }
}

impl Numbers for gguf::Model {
    fn vector(&self, parameter: &Parameter, _: usize) -> Result<Buffer, Error> {
        full(self, parameter)
    }

    fn matrix(&self, parameter: &Parameter, _: usize) -> Result<Matrix, Error> {
        let parts =
            parameter.parts.iter().map(|(name, _)| self.tensor(name)).collect::<Result<Vec<_>, _>>()?;
        let are_blocks = parts.iter().all(|(format, _)| QuantLinear::supports(*format, parameter.shape[1]));
        if are_blocks { Ok(Matrix::Blocks(parts)) } else { Ok(Matrix::Full(full(self, parameter)?)) }
    }
}

/// Widens the numbers of a parameter.
fn full(model: &gguf::Model, parameter: &Parameter) -> Result<Buffer, Error> {
    let mut values = Vec::with_capacity(parameter.shape[0] * parameter.shape[1]);
    for (name, _) in &parameter.parts {
        let (format, bytes) = model.tensor(name)?;
        values.extend(format.decode(&bytes));
    }
    Ok(Buffer::new(values, parameter.shape))
}

/// A weight that rows are multiplied with.
#[derive(Debug)]
pub(super) enum HostLinear {
    Full(PackedLinear),
    /// Parts that make the columns of the result, from left to right.
    Quantised {
        parts: Vec<Arc<QuantLinear>>,
        inputs: usize,
    },
}

impl HostLinear {
    fn new(matrix: Matrix, [outputs, inputs]: [usize; 2]) -> Self {
        match matrix {
            Matrix::Full(values) => Self::Full(PackedLinear::new(&values, outputs, inputs)),
            Matrix::Blocks(parts) => {
                let part = |(format, bytes): (TensorType, Vec<u8>)| QuantLinear::new(format, &bytes, inputs);
                Self::Quantised { parts: parts.into_iter().map(part).map(Arc::new).collect(), inputs }
            }
        }
    }

    /// Computes `rows x weight^T`. A row of the result depends on its own input row alone, bit for bit.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`; returns `[n, outputs]`.
    pub(super) fn forward(&self, rows: &[f32]) -> Vec<f32> {
        match self {
            Self::Full(linear) => linear.forward(rows),
            Self::Quantised { parts, inputs } => {
                let width = parts.iter().map(|part| part.outputs()).sum();
                let mut output = vec![0.0; rows.len() / inputs * width];
                let activations = Activations::new(rows, *inputs);
                let mut column = 0;
                for part in parts {
                    part.forward(&activations, &mut output, width, column);
                    column += part.outputs();
                }
                output
            }
        }
    }

    /// Computes the softmax of every row of `rows x weight^T`, and the logits of the columns that are asked for in each. It is
    /// that of what [`Self::forward`] returns, bit for bit.
    ///
    /// # Shapes
    /// `rows` is `[n, inputs]`, `asked` has `n` lists of columns.
    pub(super) fn rate(&self, rows: &[f32], asked: &[Vec<u32>]) -> Vec<RatedRow> {
        match self {
            Self::Full(weight) => log_softmax::rate(weight, rows, asked),
            Self::Quantised { .. } => log_softmax::rate_logits(&self.forward(rows), asked),
        }
    }

    /// Bytes that a product reads of the weight.
    fn bytes(&self) -> usize {
        match self {
            Self::Full(linear) => linear.bytes(),
            Self::Quantised { parts, .. } => parts.iter().map(|part| part.bytes()).sum(),
        }
    }
}

/// A weight with its bias.
#[derive(Debug)]
pub(super) struct HostProjection {
    weight: HostLinear,
    bias: Option<Buffer>,
}

impl HostProjection {
    pub(super) fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let mut output = self.weight.forward(rows);
        if let Some(bias) = &self.bias {
            bias::add(&mut output, bias);
        }
        output
    }
}

/// The vectors of all tokens.
#[derive(Debug)]
enum Embedding {
    Full(Buffer),
    Quantised(Arc<QuantLinear>),
}

/// One block of the decoder.
#[derive(Debug)]
pub(super) struct HostBlock {
    pub(super) input_norm: Buffer,
    pub(super) qkv: HostProjection,
    pub(super) qk_norm: Option<[Buffer; 2]>,
    pub(super) output: HostProjection,
    pub(super) mlp_norm: Buffer,
    pub(super) gate_up: HostProjection,
    pub(super) down: HostProjection,
}

/// All weights of a decoder.
#[derive(Debug)]
pub(super) struct HostWeights {
    embedding: Embedding,
    pub(super) blocks: Vec<HostBlock>,
    pub(super) norm: Buffer,
    pub(super) head: HostLinear,
}

impl HostWeights {
    /// Arranges weights.
    ///
    /// # Errors
    /// Fails when they cannot be read.
    pub(super) fn new(config: &DecoderConfig, numbers: &dyn Numbers) -> Result<Self, Error> {
        let layout = layout(config);
        let vector = |place: usize| numbers.vector(&layout[place], place);
        let linear = |place: usize| {
            Ok::<_, Error>(HostLinear::new(numbers.matrix(&layout[place], place)?, layout[place].shape))
        };
        let projection = |places: Projection<usize>| {
            let bias = places.bias.map(vector).transpose()?;
            Ok::<_, Error>(HostProjection { weight: linear(places.weight)?, bias })
        };
        let block = |places: Block<usize>| {
            let qk_norm = match places.qk_norm {
                Some([query, key]) => Some([vector(query)?, vector(key)?]),
                None => None,
            };
            Ok(HostBlock {
                input_norm: vector(places.input_norm)?,
                qkv: projection(places.qkv)?,
                qk_norm,
                output: projection(places.output)?,
                mlp_norm: vector(places.mlp_norm)?,
                gate_up: projection(places.gate_up)?,
                down: projection(places.down)?,
            })
        };
        let network = Network::of(config);
        let table = numbers.matrix(&layout[network.embedding], network.embedding)?;
        let rows = |table| HostLinear::new(table, layout[network.embedding].shape);
        let (embedding, tied) = match table {
            Matrix::Full(values) => {
                let tied = network.head.is_none().then(|| rows(Matrix::Full(values.clone())));
                (Embedding::Full(values), tied)
            }
            Matrix::Blocks(parts) => {
                let tied = rows(Matrix::Blocks(parts));
                let HostLinear::Quantised { parts, .. } = &tied else { unreachable!("blocks are quantised") };
                (Embedding::Quantised(Arc::clone(&parts[0])), Some(tied))
            }
        };
        let head = match (network.head, tied) {
            (Some(place), _) => linear(place)?,
            (None, Some(tied)) => tied,
            (None, None) => unreachable!("the embedding was arranged for it"),
        };
        Ok(Self {
            embedding,
            blocks: network.blocks.into_iter().map(block).collect::<Result<_, Error>>()?,
            norm: vector(network.norm)?,
            head,
        })
    }

    /// Looks up the vectors of tokens.
    ///
    /// # Shapes
    /// Returns `[tokens, hidden]`.
    pub(super) fn embed(&self, hidden: usize, token_ids: &[u32]) -> Vec<f32> {
        match &self.embedding {
            Embedding::Full(table) => gather::forward(table, hidden, token_ids),
            Embedding::Quantised(table) => token_ids.iter().flat_map(|&id| table.row(id as usize)).collect(),
        }
    }

    /// Bytes of weights that one step reads, however many rows it has.
    pub(super) fn bytes(&self) -> usize {
        let of = |block: &HostBlock| {
            let projections = [&block.qkv, &block.output, &block.gate_up, &block.down];
            projections.iter().map(|projection| projection.weight.bytes()).sum::<usize>()
        };
        self.blocks.iter().map(of).sum::<usize>() + self.head.bytes()
    }
}
