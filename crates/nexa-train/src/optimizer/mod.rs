//! Update rules on host slices.
//!
//! An [`Optimizer`] is a list of slots, one for each parameter: a rule with its running state, and the learning rate
//! and decay of the parameter's group. A rule sees one parameter at a time, so gradients can be dropped as soon as
//! they are used, and it knows nothing of models: adapters are parameters like any other.
//!
//! Work is cut into chunks whose size depends on shapes alone, and partial sums are added in their order: the number
//! of threads changes no bit.

mod adafactor;
mod adamw;
mod groups;
mod muon;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use nexa_model::{Buffer, Parameter};
use rayon::prelude::*;

use self::adafactor::Adafactor;
use self::adamw::AdamW;
use self::groups::Group;
use self::muon::Muon;
use crate::{Config, Error, config};

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// What is common to all parameters in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The step, from 1.
    pub number: u64,
    /// The learning rate of parameters that are in no group of their own.
    pub learning_rate: f64,
    /// What gradients are multiplied by before they are used: one over the trained tokens, and the clipping.
    pub scale: f64,
}

/// Moves parameters against their gradients.
#[derive(Debug)]
pub struct Optimizer {
    slots: Vec<Slot>,
}

/// One parameter's share of an optimizer.
#[derive(Debug)]
struct Slot {
    name: String,
    group: Group,
    rule: Box<dyn Rule>,
}

/// An update rule with the running state of one parameter.
trait Rule: Debug + Send + Sync {
    /// Multiplies the values by `keep`, which is the weight decay, and moves them by the rule.
    fn update(&mut self, values: &mut [f32], gradient: &[f32], keep: f32, step: &Step);

    /// The state, by name.
    fn state(&self) -> Vec<(String, &[f32])>;

    /// The state, to be restored.
    fn state_mut(&mut self) -> Vec<(String, &mut [f32])>;
}

impl Optimizer {
    /// Starts the rule of a configuration for some parameters, in their order.
    ///
    /// # Errors
    /// Fails when a group of the configuration names a part of a matrix but not all of it.
    pub fn new(config: &Config, parameters: &[Parameter]) -> Result<Self, Error> {
        let slots = parameters
            .iter()
            .map(|parameter| {
                let rule: Box<dyn Rule> = match config.optimizer {
                    config::Optimizer::Adafactor => Box::new(Adafactor::new(parameter)),
                    config::Optimizer::Muon if groups::is_projection(parameter) => {
                        Box::new(Muon::new(config, parameter))
                    }
                    config::Optimizer::Muon | config::Optimizer::AdamW => {
                        Box::new(AdamW::new(config, parameter))
                    }
                };
                Ok(Slot { name: name(parameter), group: Group::of(config, parameter)?, rule })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { slots })
    }

    /// Moves one parameter, by its position in the list that the optimizer was made for.
    pub fn update(&mut self, index: usize, values: &mut [f32], gradient: &[f32], step: &Step) {
        let slot = &mut self.slots[index];
        let step = Step { learning_rate: step.learning_rate * slot.group.rate, ..*step };
        // Decoupled decay, multiplied by the learning rate as in PyTorch.
        let keep = (1.0 - step.learning_rate * slot.group.weight_decay) as f32;
        slot.rule.update(values, gradient, keep, &step);
    }

    /// Moves all parameters, in the order of the list that the optimizer was made for, and drops each gradient once it
    /// is used.
    pub(crate) fn update_all(&mut self, values: &mut [Buffer], gradients: Vec<Buffer>, step: &Step) {
        for (index, (values, gradient)) in values.iter_mut().zip(gradients).enumerate() {
            self.update(index, values, &gradient, step);
        }
    }

    /// The running state as tensors: `<what>.<parameter>`.
    pub fn state(&self) -> impl Iterator<Item = (String, &[f32])> {
        self.slots.iter().flat_map(|slot| {
            slot.rule.state().into_iter().map(|(what, values)| (format!("{what}.{}", slot.name), values))
        })
    }

    /// The running state, to be restored.
    pub fn state_mut(&mut self) -> impl Iterator<Item = (String, &mut [f32])> {
        self.slots.iter_mut().flat_map(|slot| {
            let Slot { name, rule, .. } = slot;
            rule.state_mut().into_iter().map(move |(what, values)| (format!("{what}.{name}"), values))
        })
    }
}

/// Names a parameter by the tensors that it consists of: `model.layers.0.self_attn.q_proj+k_proj+v_proj`.
pub(crate) fn name(parameter: &Parameter) -> String {
    let mut name = String::new();
    for (part, _) in &parameter.parts {
        let part = part.strip_suffix(".weight").unwrap_or(part);
        if name.is_empty() {
            name.push_str(part);
        } else {
            name.push('+');
            name.push_str(part.rsplit('.').next().unwrap_or(part));
        }
    }
    name
}

/// What gradients of a norm are multiplied with so that it stays within a limit; a limit of 0 is none.
pub(crate) fn clip(limit: f64, norm: f64) -> f64 {
    if limit > 0.0 && norm > limit { limit / norm } else { 1.0 }
}

/// Computes the Euclidean norm over all gradients together.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    gradients.into_iter().map(sum_of_squares).sum::<f64>().sqrt()
}

/// Sums squares in an order that depends on the length alone.
fn sum_of_squares(values: &[f32]) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
    let partial: Vec<f64> = values.par_chunks(CHUNK).map(square).collect();
    partial.iter().sum()
}
