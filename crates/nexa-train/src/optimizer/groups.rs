//! Which learning rate and decay a parameter has.

use nexa_model::{Kind, Parameter};

use crate::{Config, Error};

/// What sets a parameter apart from the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Group {
    /// Its learning rate as a multiple of the common one, so that both follow the same schedule.
    pub(super) rate: f64,
    /// Its decoupled decay.
    pub(super) weight_decay: f64,
}

impl Group {
    /// Finds the group of a parameter: what its kind says, and over that the first `lr_groups` that names it.
    pub(super) fn of(config: &Config, parameter: &Parameter) -> Result<Self, Error> {
        let mut group = Self {
            rate: 1.0,
            weight_decay: if is_projection(parameter) { config.weight_decay } else { 0.0 },
        };
        if parameter.kind == Kind::Embedding
            && let Some(rate) = config.embedding_lr
        {
            group.rate = rate / config.learning_rate();
        }
        for named in &config.lr_groups {
            let is_named = |(part, _): &&(String, usize)| named.modules.iter().any(|m| part.contains(m));
            let count = parameter.parts.iter().filter(is_named).count();
            if count == 0 {
                continue;
            }
            if count < parameter.parts.len() {
                let parts: Vec<&str> = parameter.parts.iter().map(|(part, _)| part.as_str()).collect();
                let problem = format!(
                    "of group `{}` names some of {}, which are one matrix; name all of them",
                    named.name,
                    parts.join(", ")
                );
                return Err(Error::Config { key: "lr_groups.modules", problem });
            }
            group.rate = named.lr.map_or(group.rate, |rate| rate / config.learning_rate());
            group.weight_decay = named.weight_decay.unwrap_or(group.weight_decay);
            break;
        }
        Ok(group)
    }
}

/// Whether a parameter is a matrix inside a block.
pub(super) fn is_projection(parameter: &Parameter) -> bool {
    matches!(parameter.kind, Kind::Projection | Kind::ResidualProjection)
}
