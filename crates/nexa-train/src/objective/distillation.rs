//! Logit distillation: the student's distribution is to become the teacher's, token by token.
//!
//! The teacher is asked about every batch, or once about every sample, of which its likeliest tokens are kept
//! (`kd_top_k`), or it was asked long ago and the data set holds what it thought.

use std::sync::Arc;

use nexa_core::event::{Event, EventSink};
use nexa_core::hash::ContentHash;
use nexa_core::{files, lm::Tokenizer as _};
use nexa_model::{ChatTokenizer, Decoder, Divergence, DivergenceKind, TeacherRows};

use super::Sources;
use crate::data::{Set, TopRef, TopRows, TopWriter};
use crate::run::MicroBatch;
use crate::{Config, Error, config};

/// Goes up when the same teacher and samples give other rows.
const CODE_VERSION: u32 = 1;
/// Samples that the teacher is asked about at once.
const AT_ONCE: usize = 8;

/// A teacher and how far the student is from it.
#[derive(Debug)]
pub(crate) struct Distillation {
    teacher: Teacher,
    divergence: Divergence,
}

/// Where the teacher's distributions come from.
#[derive(Debug)]
enum Teacher {
    /// The model, which is asked about every batch.
    Live(Arc<Decoder>),
    /// What it thought of every sample of a set.
    Asked(TopRows),
    /// The data set.
    Told(Set),
}

impl Distillation {
    /// Finds the teacher.
    pub(super) fn new(config: &Config, set: &Set, sources: &Sources<'_>) -> Result<Self, Error> {
        let divergence = divergence(config);
        let vocab_size = sources.initial.config().vocab_size;
        let (teacher, told) = match &sources.teacher {
            None => told(config, set)?,
            Some(teacher) => {
                check_model(config, set, [teacher.config().vocab_size, vocab_size])?;
                match config.kd_top_k {
                    None => (Teacher::Live(teacher.clone()), None),
                    Some(k) => {
                        let rows = Questions { teacher, set, k }.answers(sources)?;
                        (Teacher::Asked(rows), Some(k))
                    }
                }
            }
        };
        match told.filter(|&told| divergence.kind == DivergenceKind::ReverseKl && told < vocab_size) {
            None => Ok(Self { teacher, divergence }),
            Some(told) => {
                let problem = format!(
                    "is `reverse_kl`, which asks the teacher about every token, but of {vocab_size} only the likeliest are \
                     kept (of one, there are {told}); take `forward_kl` or `jsd`"
                );
                Err(Error::Config { key: "kd_divergence", problem })
            }
        }
    }

    /// What the teacher thinks of a batch.
    pub(crate) fn teach(&self, micro_batch: &MicroBatch) -> TeacherRows {
        let samples = micro_batch.samples.iter();
        match &self.teacher {
            Teacher::Live(teacher) => teacher.teach(&micro_batch.batch),
            Teacher::Asked(rows) => TopRef::lay(samples.map(|&sample| rows.sequence(sample))),
            Teacher::Told(set) => TopRef::lay(samples.filter_map(|&sample| set.teacher(sample))),
        }
    }

    /// How the student is compared with the teacher.
    pub(crate) fn divergence(&self) -> &Divergence {
        &self.divergence
    }
}

fn divergence(config: &Config) -> Divergence {
    Divergence {
        kind: match config.kd_divergence {
            config::Divergence::ForwardKl => DivergenceKind::ForwardKl,
            config::Divergence::ReverseKl => DivergenceKind::ReverseKl,
            config::Divergence::Jsd => DivergenceKind::JensenShannon { beta: config.kd_beta as f32 },
        },
        alpha: config.kd_alpha as f32,
        ce_alpha: config.kd_ce_alpha as f32,
        temperature: config.kd_temperature as f32,
    }
}

/// Takes what the data holds as the teacher, and counts the fewest alternatives that it tells of a token.
fn told(config: &Config, set: &Set) -> Result<(Teacher, Option<usize>), Error> {
    if config.kd_top_k.is_some() {
        let problem = "asks a teacher, but no checkpoint has the role `teacher`".to_owned();
        return Err(Error::Config { key: "kd_top_k", problem });
    }
    if !set.is_empty() && !set.is_taught() {
        let problem = "is `distill`, which needs a teacher: give a checkpoint the role `teacher`, or data with what one \
                       thought (`logprobs`, or `teacher_token_ids` and `teacher_log_probs`)";
        return Err(Error::Config { key: "objective", problem: problem.to_owned() });
    }
    Ok((Teacher::Told(set.clone()), set.fewest_told()))
}

/// Refuses a second teacher, and one whose distributions are not of the student's size.
fn check_model(config: &Config, set: &Set, [theirs, ours]: [usize; 2]) -> Result<(), Error> {
    let fail = |key, problem: String| Err(Error::Config { key, problem });
    if set.is_taught() {
        let problem = "is `distill`, and there are two teachers: a checkpoint with the role `teacher`, and what the data \
                       holds; take away one of them";
        return fail("objective", problem.to_owned());
    }
    if theirs != ours {
        return fail(
            "objective",
            format!(
                "is `distill`, but the teacher has a vocabulary of {theirs} tokens and the student one of {ours}"
            ),
        );
    }
    match config.kd_top_k.filter(|&k| k > ours) {
        Some(k) => fail("kd_top_k", format!("is {k}, more than the {ours} tokens of the vocabulary")),
        None => Ok(()),
    }
}

/// A teacher that is asked about every sample of a set.
struct Questions<'a> {
    teacher: &'a Decoder,
    set: &'a Set,
    k: usize,
}

impl Questions<'_> {
    /// The answers; what was said before of the same samples is taken from the cache.
    fn answers(&self, sources: &Sources<'_>) -> Result<TopRows, Error> {
        let key = serde_json::json!([CODE_VERSION, sources.teacher_hash, self.set.fingerprint(), self.k]);
        let name = ContentHash::of_json(&key).to_string().replace(':', "-");
        let path = sources.cache.join(format!("teacher-{name}.top"));
        if path.is_file() {
            if let Some(rows) = TopRows::open(&path)? {
                return Ok(rows);
            }
            let text = format!("{} is damaged; the teacher is asked again", path.display());
            sources.events.emit(Event::warning(text));
        }
        files::create_folder(sources.cache)?;
        self.ask(TopWriter::new(sources.cache)?, sources.events)?.finish(&path)?;
        files::sync_folder(sources.cache)?;
        TopRows::open(&path)?.ok_or_else(|| {
            std::io::Error::other(format!("{}: what was written cannot be read back", path.display())).into()
        })
    }

    fn ask(&self, mut writer: TopWriter, events: &dyn EventSink) -> Result<TopWriter, Error> {
        let all: Vec<usize> = (0..self.set.len()).collect();
        for samples in all.chunks(AT_ONCE) {
            let micro_batch = MicroBatch::new(self.set, samples.to_vec());
            let (ids, log_probs) = self.teacher.top(&micro_batch.batch, self.k);
            let mut rows = ids.chunks_exact(self.k).zip(log_probs.chunks_exact(self.k));
            for sequence in &micro_batch.sequences {
                for (ids, log_probs) in rows.by_ref().take(sequence.len()) {
                    writer.row(ids.iter().copied().zip(log_probs.iter().copied()))?;
                }
                writer.end_sequence()?;
            }
            let done = samples.last().map_or(0, |last| last + 1) as u64;
            events.emit(Event::progress(done, Some(all.len() as u64), "samples", "seen by the teacher"));
        }
        Ok(writer)
    }
}

/// Refuses another model, which plays a role in the training, whose tokens are not those of the model's tokenizer.
///
/// # Errors
/// Names the first token that differs.
pub(crate) fn check_vocabulary(
    student: &ChatTokenizer,
    other: &ChatTokenizer,
    role: &'static str,
) -> Result<(), Error> {
    let fail = |problem: String| Err(Error::Config { key: role, problem });
    let (ours, theirs) = (student.vocab_size(), other.vocab_size());
    if ours != theirs {
        return fail(format!(
            "has a tokenizer of {theirs} tokens, and the one that is trained with has {ours}"
        ));
    }
    for id in 0..ours as u32 {
        let (ours, theirs) = (student.token_text(id), other.token_text(id));
        if ours != theirs {
            let show = |token: Option<String>| {
                token.map_or_else(|| "nothing".to_owned(), |text| format!("{text:?}"))
            };
            return fail(format!(
                "has another tokenizer: its token {id} is {}, and {} in the one that is trained with",
                show(theirs),
                show(ours)
            ));
        }
    }
    Ok(())
}
