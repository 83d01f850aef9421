//! Asks a checkpoint on this machine: no network, no key, no price but the machine's time.

use std::collections::VecDeque;

use nexa_core::lm::{self, ChatModel, ChatRequest};

use super::collection::{Collection, Ended};
use crate::client::{Answer, Request, Usage};
use crate::{Error, Result};

/// Asks a model for every job that has not ended, a batch at a time; `name` stands in the rows.
///
/// # Errors
/// Fails when the user stops it or the model fails; every finished batch is kept.
pub(super) fn run(collection: &mut Collection<'_>, model: &dyn ChatModel, name: &str) -> Result<()> {
    let mut open: VecDeque<usize> = collection.open().into();
    collection.tell();
    while !open.is_empty() {
        collection.work.context.check_cancel()?;
        let size = collection.work.config.max_concurrent_requests.min(open.len());
        let batch: Vec<usize> = open.drain(..size).collect();
        let requests: Vec<ChatRequest> =
            batch.iter().map(|&job| chat_request(&collection.jobs[job].request)).collect();
        let failed = |source: lm::Error| Error::Local { teacher: name.to_owned(), source };
        let replies = model.chat(&requests, &mut |_| ()).map_err(failed)?;
        let mut ended = Vec::with_capacity(batch.len());
        for (job, reply) in batch.into_iter().zip(replies) {
            let worst_case = collection.purse.worst_case(&collection.jobs[job].request);
            if !collection.purse.allows(worst_case) {
                let (done, total) = (collection.done(), collection.jobs.len());
                return Err(collection.purse.exceeded(worst_case, done, total));
            }
            let answer = Answer {
                text: reply.text,
                finish_reason: reply.finish_reason,
                model_id: name.to_owned(),
                usage: Usage {
                    prompt_tokens: Some(reply.prompt_tokens as u64),
                    completion_tokens: Some(reply.completion_tokens as u64),
                    reported_usd: None,
                },
                reasoning: None,
                logprobs: None,
                is_refusal: false,
            };
            ended.push(Ended { job, call: collection.purse.promise(worst_case)?, result: Ok(answer) });
        }
        open.extend(collection.settle(ended)?.into_iter().map(|(job, _)| job));
    }
    Ok(())
}

fn chat_request(request: &Request) -> ChatRequest {
    let sampling = &request.sampling;
    ChatRequest {
        messages: request.messages.clone(),
        sampling: lm::Sampling {
            temperature: sampling.temperature as f32,
            top_p: sampling.top_p.unwrap_or(1.0) as f32,
            top_k: sampling.top_k.unwrap_or(0) as usize,
            seed: request.sent_seed(),
            max_tokens: usize::try_from(request.max_tokens).unwrap_or(usize::MAX),
            stop: sampling.stop.clone(),
            ..lm::Sampling::default()
        },
    }
}
