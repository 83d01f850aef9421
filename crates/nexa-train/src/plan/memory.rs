//! Main memory at the fullest moment of a run.
//!
//! What the decoder keeps between the passes is the input of every fused operation (`nexa-model`, `ops`), in `f32`. For
//! a block, with `h` the hidden size, `a` the width of the mixed heads, `k` that of keys and values together, and `f`
//! the feed-forward width, these are, for each token:
//!
//! | operation | keeps |
//! |---|---|
//! | first norm | `h`: the input of the block |
//! | queries, keys, values | `h` where they are trained or corrected |
//! | norm of queries and keys, where there is one | `a + k` |
//! | attention | `a + k` |
//! | output of the attention | `a` where it is trained or corrected |
//! | second norm | `h` |
//! | gate and up | `h` where they are trained or corrected |
//! | gate | `2 f` |
//! | down | `f` where it is trained or corrected |
//!
//! The last block does this for all tokens up to its attention, and behind it for those that carry loss.
//!
//! On another device than the CPU, the blocks keep this and more in that device's memory, of which nothing is said.

use nexa_model::DecoderConfig;
use serde::Serialize;

use super::counts::Work;
use crate::state::State;
use crate::{Config, Error, Inputs};

/// Bytes of a number.
const NUMBER: u64 = size_of::<f32>() as u64;
/// Main memory at a run's fullest moment, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The program with tokenizer and threads, as measured before the first step; absent where the system does not
    /// tell.
    pub program: Option<u64>,
    /// The weights of the model, adapters among them, and of a teacher.
    pub weights: u64,
    /// The running state of the optimizer.
    pub optimizer: u64,
    /// Gradients: one set for every micro-batch that is computed at the same time, and their sum.
    pub gradients: u64,
    /// What the blocks keep for the backward pass, and what passes through them.
    pub activations: u64,
    /// Logits of the rows that are computed at a time.
    pub logits: u64,
    /// Tokenised data, which is mapped from its file.
    pub data: u64,
    /// What exists twice when the model is written: merged weights, and a tensor as bytes.
    pub saving: u64,
    /// What the process held at the fullest moment of the steps that were measured, where the system tells.
    pub measured: Option<u64>,
    /// All of it: the sum, or what was measured and what saving takes, where that is more.
    pub peak: u64,
    /// The device whose memory holds activations, logits and a copy of the weights, where it is not the CPU; how much
    /// that takes is unknown.
    pub device: Option<String>,
}

/// What a micro-batch holds at its fullest moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fullest {
    gradients: u64,
    activations: u64,
    logits: u64,
}

impl Fullest {
    fn sum(self) -> u64 {
        self.gradients + self.activations + self.logits
    }
}

impl Memory {
    /// Models the memory of a run, the program itself left out.
    pub(super) fn of(
        config: &Config,
        inputs: &Inputs,
        state: &State,
        work: &Work,
        at_once: usize,
    ) -> Result<Self, Error> {
        let model = state.model.weights();
        let trained = state.model.trained_count() as u64 * NUMBER;
        let own = model.count() as u64 * NUMBER;
        let adapters = if config.adapter.is_some() { trained } else { 0 };
        // One that is asked once is gone before the first step.
        let teacher = match &inputs.teacher {
            Some(folder) if config.kd_top_k.is_none() => {
                bytes_of(&DecoderConfig::load(&folder.join("config.json"))?)
            }
            _ => 0,
        };
        let weights = own + adapters + teacher;
        let optimizer: u64 = state.optimizer.state().map(|(_, values)| values.len() as u64 * NUMBER).sum();
        let data = work.data_tokens * (NUMBER + 1) + work.data_tokens / 8;

        let at_once = at_once as u64;
        let is_cpu = state.model.placement().is_cpu();
        let fullest = if is_cpu {
            Blocks::of(config, model.config(), work, inputs.teacher.is_some()).fullest(trained)
        } else {
            Fullest { gradients: trained, activations: 0, logits: 0 }
        };
        let is_summed = config.gradient_accumulation_steps > 1;
        let sums = if is_summed { trained } else { 0 };
        let training = sums + at_once * fullest.sum();
        // What the passes have freed does not make room for this: the allocator keeps it for the threads that had it.
        let copy = if config.adapter.is_some() { own } else { 0 };
        let largest = model.layout().iter().map(|parameter| parameter.shape[0] * parameter.shape[1]).max();
        let saving = copy + largest.unwrap_or(0) as u64 * NUMBER;
        Ok(Self {
            program: None,
            weights,
            optimizer,
            gradients: sums + at_once * fullest.gradients,
            activations: at_once * fullest.activations,
            logits: at_once * fullest.logits,
            data,
            saving,
            measured: None,
            peak: weights + optimizer + data + training + saving,
            device: (!is_cpu).then(|| config.device.to_string()),
        })
    }

    /// Adds what the process held when model and data were read and nothing was computed yet.
    pub(super) fn add_program(&mut self, resident: Option<u64>) {
        // Of the optimizer's state and of the data, nothing had been touched then.
        self.program = resident.map(|resident| resident.saturating_sub(self.weights));
        self.peak += self.program.unwrap_or(0);
    }

    /// Corrects the sum by what the process held at most in steps of the run. That is more where samples of many lengths
    /// leave gaps behind that the allocator keeps, and the next sample does not fit into.
    pub(super) fn correct(&mut self, measured: Option<u64>) {
        self.measured = measured;
        self.peak = self.peak.max(measured.unwrap_or(0) + self.saving);
    }
}

/// The bytes of a model's weights.
fn bytes_of(config: &DecoderConfig) -> u64 {
    let count = |shape: [usize; 2]| (shape[0] * shape[1]) as u64;
    nexa_model::layout(config).iter().map(|parameter| count(parameter.shape) * NUMBER).sum()
}

/// Sizes of what passes through the blocks, in numbers.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    tokens: u64,
    /// Tokens that carry loss.
    rows: u64,
    layers: u64,
    hidden: u64,
    mixed: u64,
    qkv: u64,
    feed_forward: u64,
    vocab: u64,
    qk_norm: bool,
    /// Whether the inputs of products are kept: queries to values, output, gate and up, down.
    kept: [bool; 4],
    /// Whether a block keeps its input alone.
    recompute: bool,
    trains_weights: bool,
    /// Logits beside each other: the student's, and those of a teacher.
    models: u64,
}

impl Blocks {
    fn of(config: &Config, decoder: &DecoderConfig, work: &Work, has_teacher: bool) -> Self {
        let asks_every_batch = has_teacher && config.kd_top_k.is_none();
        let mixed = (decoder.num_attention_heads * decoder.head_dim) as u64;
        let keys_and_values = (2 * decoder.num_key_value_heads * decoder.head_dim) as u64;
        let lora = config.lora();
        let kept =
            [&["q_proj", "k_proj", "v_proj"][..], &["o_proj"], &["gate_proj", "up_proj"], &["down_proj"]];
        let is_kept = |names: &[&str]| {
            lora.as_ref().is_none_or(|lora| {
                let targets = &lora.target_modules;
                targets.iter().any(|target| target == "all-linear" || names.contains(&target.as_str()))
            })
        };
        Self {
            tokens: work.longest.tokens,
            rows: work.longest.trained_tokens,
            layers: decoder.num_hidden_layers as u64,
            hidden: decoder.hidden_size as u64,
            mixed,
            qkv: mixed + keys_and_values,
            feed_forward: decoder.intermediate_size as u64,
            vocab: decoder.vocab_size as u64,
            qk_norm: decoder.qk_norm,
            kept: kept.map(is_kept),
            recompute: config.gradient_checkpointing,
            trains_weights: lora.is_none(),
            models: if asks_every_batch { 2 } else { 1 },
        }
    }

    /// What a block keeps of `tokens` up to its attention, and of `rows` behind it, beside its input.
    fn graph(&self, rows: u64) -> u64 {
        let [qkv, output, gate_up, down] = self.kept.map(u64::from);
        let attention = qkv * self.hidden + self.qkv * (1 + u64::from(self.qk_norm));
        let behind = output * self.mixed
            + self.hidden
            + gate_up * self.hidden
            + 2 * self.feed_forward
            + down * self.feed_forward;
        self.tokens * attention + rows * behind
    }

    /// What passes through a block on the way back: the gradient of its output, with those of gate and down or of
    /// attention and queries to values beside it.
    fn passing(&self, rows: u64) -> u64 {
        (rows * (self.hidden + 3 * self.feed_forward))
            .max(self.tokens * (self.hidden + self.mixed + self.qkv))
    }

    /// The fullest of the moments of a pass: at the head, and in each block on the way back, when the graphs of the
    /// blocks above are gone and their gradients are there.
    fn fullest(&self, trained_bytes: u64) -> Fullest {
        let rows_of = |layer: u64| if layer + 1 == self.layers { self.rows } else { self.tokens };
        let graph = |layer: u64| if self.recompute { 0 } else { self.graph(rows_of(layer)) };
        let inputs = self.layers * self.tokens * self.hidden;
        let whole = inputs + (0..self.layers).map(graph).sum::<u64>() + 3 * self.rows * self.hidden;
        let head = if self.trains_weights { self.vocab * self.hidden * NUMBER } else { 0 };
        let rows_at_once = self.rows.min(nexa_model::rows_at_once(self.vocab as usize) as u64);
        let mut fullest = Fullest {
            gradients: head,
            activations: whole * NUMBER,
            logits: self.models * rows_at_once * self.vocab * NUMBER,
        };
        let of_block = trained_bytes.saturating_sub(head) / self.layers.max(1);
        for done in 1..=self.layers {
            let layer = self.layers - done;
            let recomputed = if self.recompute { self.graph(rows_of(layer)) } else { 0 };
            let below = (layer + 1) * self.tokens * self.hidden + (0..=layer).map(graph).sum::<u64>();
            let moment = Fullest {
                gradients: head + done * of_block,
                activations: (below + recomputed + self.passing(rows_of(layer))) * NUMBER,
                logits: 0,
            };
            if moment.sum() > fullest.sum() {
                fullest = moment;
            }
        }
        fullest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Blocks {
        Blocks {
            tokens: 100,
            rows: 10,
            layers: 2,
            hidden: 8,
            mixed: 8,
            qkv: 16,
            feed_forward: 12,
            vocab: 20,
            qk_norm: false,
            kept: [true; 4],
            recompute: false,
            trains_weights: true,
            models: 1,
        }
    }

    #[test]
    fn a_block_keeps_the_inputs_of_its_operations() {
        let check = |change: fn(&mut Blocks), rows, expected| {
            let mut blocks = blocks();
            change(&mut blocks);
            assert_eq!(blocks.graph(rows), expected);
        };
        check(|_| {}, 100, 100 * (8 + 16) + 100 * (8 + 8 + 8 + 24 + 12));
        check(|_| {}, 10, 100 * (8 + 16) + 10 * (8 + 8 + 8 + 24 + 12));
        check(|blocks| blocks.qk_norm = true, 10, 100 * (8 + 32) + 10 * 60);
        check(|blocks| blocks.kept = [true, false, false, false], 10, 100 * 24 + 10 * (8 + 24));
    }

    #[test]
    fn steps_that_held_more_than_the_sum_correct_it() {
        let check = |measured, expected| {
            let mut memory = Memory {
                program: None,
                weights: 100,
                optimizer: 0,
                gradients: 0,
                activations: 50,
                logits: 0,
                data: 0,
                saving: 20,
                measured: None,
                peak: 170,
                device: None,
            };
            memory.correct(measured);
            assert_eq!((memory.measured, memory.peak), (measured, expected));
        };
        check(None, 170);
        check(Some(140), 170);
        check(Some(200), 220);
    }

    #[test]
    fn the_fullest_moment_lies_where_graphs_or_gradients_are_many() {
        // A large vocabulary and small blocks: all graphs are there at the head, and the logits.
        let at_head = Blocks { vocab: 4000, ..blocks() }.fullest(4000 * 8 * 4);
        assert_eq!((at_head.gradients, at_head.logits), (4000 * 8 * 4, 10 * 4000 * 4));
        // Many trained numbers: all gradients are there in the first block.
        let at_bottom = blocks().fullest(1 << 30);
        assert_eq!((at_bottom.gradients, at_bottom.logits), (1 << 30, 0));
        // Recomputed blocks keep less, frozen ones have no gradient of the head.
        let recomputed = Blocks { recompute: true, ..blocks() }.fullest(640);
        assert!(recomputed.activations < blocks().fullest(640).activations, "{recomputed:?}");
        let frozen = Blocks { trains_weights: false, ..blocks() }.fullest(0);
        assert_eq!(frozen.gradients, 0);
    }
}
