//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::future;
use nexa_core::lm::Sampling;

use super::deadline::Deadline;
use super::error::ApiError;
use super::fields::Fields;
use super::messages::{Conversation, take_messages};
use super::reply::{Form, Reply};
use super::sampling::{
    Defaults, Delivery, check_logit_bias, take_count, take_delivery, take_logprobs, take_prompt_logprobs,
    take_sampling,
};
use super::state::{Model, Named, Served};
use super::stream;
use super::tools::{Tools, take_tools};
use crate::{Answer, Engine, Prompt};

/// A request, taken apart.
pub(super) struct Request {
    model: Named,
    conversation: Conversation,
    tools: Option<Tools>,
    sampling: Sampling,
    count: usize,
    delivery: Delivery,
}

/// Answers a conversation.
pub(super) async fn create(Model(served): Model, fields: Fields) -> Result<Response, ApiError> {
    let deadline = served.deadline();
    let Request { model, conversation, tools, mut sampling, count, delivery } = take(fields)?;
    let target = served.target(model)?;
    let mut reply = Reply::new(Form::Chat, &target, &served);
    reply.prompt_top = sampling.prompt_logprobs;
    if let Some(tools) = &tools {
        let syntax = served.engine.tokenizer().tool_syntax().ok_or_else(ApiError::no_tools)?;
        // A call that is demanded comes before another form of the answer; where none is, that form leaves no room for one.
        if tools.demand_a_call() || sampling.form.is_none() {
            sampling.form = tools.form(syntax);
            reply.tools = Some(syntax);
        }
    }
    check_logit_bias(&sampling, &served)?;
    reply.per_prompt = count;
    let prompts = vec![conversation.prompt(tools.map(|tools| tools.shown))];
    let engine = target.engine;
    answer(&served, Order { reply, engine, prompts, sampling, count, delivery, deadline }).await
}

/// Takes a request apart.
pub(super) fn take(mut fields: Fields) -> Result<Request, ApiError> {
    let model = Named::take(&mut fields)?;
    let conversation = take_messages(&mut fields)?;
    let tools = take_tools(&mut fields)?;
    let mut sampling = take_sampling(&mut fields, &Defaults::CHAT)?;
    let count = take_count(&mut fields)?;
    sampling.logprobs = take_chat_logprobs(&mut fields)?;
    let delivery = take_delivery(&mut fields)?;
    sampling.prompt_logprobs = take_prompt_logprobs(&mut fields, delivery)?;
    fields.finish()?;
    Ok(Request { model, conversation, tools, sampling, count, delivery })
}

/// What the engine is asked, and how its answers are told.
pub(super) struct Order {
    pub(super) reply: Reply,
    pub(super) engine: Engine,
    pub(super) prompts: Vec<Prompt>,
    pub(super) sampling: Sampling,
    /// Answers that are asked for to each prompt.
    pub(super) count: usize,
    pub(super) delivery: Delivery,
    pub(super) deadline: Deadline,
}

/// Answers prompts in the form of a reply.
pub(super) async fn answer(served: &Arc<Served>, order: Order) -> Result<Response, ApiError> {
    let deadline = order.deadline;
    match order.delivery {
        Delivery::Stream { include_usage } => {
            let answers = deadline.bound(submit(served, &order)).await?;
            Ok(stream::respond(order.reply, answers, include_usage, deadline))
        }
        Delivery::Whole => {
            let completions = deadline.bound(async {
                let answers = submit(served, &order).await?;
                let completions = future::try_join_all(answers.into_iter().map(Answer::complete)).await;
                completions.map_err(|error| ApiError::from_model(error, order.reply.prompt_param()))
            });
            Ok(Json(order.reply.whole(&completions.await?)).into_response())
        }
    }
}

/// Hands all answers of an order to the engine: those to the first prompt, then those to the next.
async fn submit(served: &Arc<Served>, order: &Order) -> Result<Vec<Answer>, ApiError> {
    let Order { reply, engine, prompts, sampling, count, .. } = order;
    let mut answers = Vec::with_capacity(prompts.len() * count);
    let asked = prompts.iter().flat_map(|prompt| (0..*count as u64).map(move |index| (prompt, index)));
    for (prompt, index) in asked {
        // Each answer draws from a generator of its own; the first to a prompt from that of the request.
        let sampling = Sampling { seed: sampling.seed.wrapping_add(index), ..sampling.clone() };
        let answer = served.submit(engine, prompt.clone(), sampling).await;
        // Answers that were accepted before one is refused are cancelled as they are dropped.
        answers.push(answer.map_err(|error| ApiError::from_engine(error, reply.prompt_param()))?);
    }
    Ok(answers)
}

/// Takes `logprobs` and `top_logprobs`, of which the second means nothing without the first.
fn take_chat_logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    let top = take_logprobs(fields, "top_logprobs")?.unwrap_or(0);
    if top > 0 && !wanted {
        let message = "`top_logprobs` is only for `logprobs: true`";
        return Err(ApiError::bad_param("top_logprobs", message));
    }
    Ok(wanted.then_some(top))
}
