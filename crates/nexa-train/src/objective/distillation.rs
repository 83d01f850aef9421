//! Logit distillation: the student's distribution is to become the teacher's, token by token.

use std::sync::Arc;

use nexa_core::lm::Tokenizer as _;
use nexa_model::{Batch, ChatTokenizer, Decoder, Divergence, DivergenceKind, TeacherRows};

use super::Sources;
use crate::{Config, Error, config};

/// A teacher and how far the student is from it.
#[derive(Debug)]
pub(crate) struct Distillation {
    teacher: Arc<Decoder>,
    divergence: Divergence,
}

impl Distillation {
    /// Takes the teacher.
    pub(super) fn new(config: &Config, sources: &Sources<'_>) -> Result<Self, Error> {
        let teacher = sources.teacher.clone().ok_or_else(|| Error::Config {
            key: "objective",
            problem: "is `distill`, which needs a teacher: give a checkpoint the role `teacher`".to_owned(),
        })?;
        let (theirs, ours) = (teacher.config().vocab_size, sources.initial.config().vocab_size);
        if theirs != ours {
            let problem = format!(
                "is `distill`, but the teacher has a vocabulary of {theirs} tokens and the student one of {ours}"
            );
            return Err(Error::Config { key: "objective", problem });
        }
        let kind = match config.kd_divergence {
            config::Divergence::ForwardKl => DivergenceKind::ForwardKl,
            config::Divergence::ReverseKl => DivergenceKind::ReverseKl,
            config::Divergence::Jsd => DivergenceKind::JensenShannon { beta: config.kd_beta as f32 },
        };
        let divergence = Divergence {
            kind,
            alpha: config.kd_alpha as f32,
            ce_alpha: config.kd_ce_alpha as f32,
            temperature: config.kd_temperature as f32,
        };
        Ok(Self { teacher, divergence })
    }

    /// Asks the teacher about a batch.
    pub(crate) fn teach(&self, batch: &Batch) -> TeacherRows {
        self.teacher.teach(batch)
    }

    /// How the student is compared with the teacher.
    pub(crate) fn divergence(&self) -> &Divergence {
        &self.divergence
    }
}

/// Refuses a teacher whose tokens are not the student's.
///
/// # Errors
/// Names the first token that differs.
pub(crate) fn check_vocabulary(student: &ChatTokenizer, teacher: &ChatTokenizer) -> Result<(), Error> {
    let fail = |problem: String| Err(Error::Config { key: "objective", problem });
    let (ours, theirs) = (student.vocab_size(), teacher.vocab_size());
    if ours != theirs {
        return fail(format!(
            "is `distill`, but the teacher's tokenizer has {theirs} tokens and the student's {ours}"
        ));
    }
    for id in 0..ours as u32 {
        let (ours, theirs) = (student.token_text(id), teacher.token_text(id));
        if ours != theirs {
            let show = |token: Option<String>| {
                token.map_or_else(|| "nothing".to_owned(), |text| format!("{text:?}"))
            };
            return fail(format!(
                "is `distill`, but token {id} is {} for the student and {} for the teacher",
                show(ours),
                show(theirs)
            ));
        }
    }
    Ok(())
}
