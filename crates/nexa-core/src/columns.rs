//! The columns by which stages understand each other's tables.
//!
//! | table | columns |
//! |---|---|
//! | dataset | the source's own, and `id`, `source_file` |
//! | scores | `id`, where asked for `language`, `language_confidence`, and each number of each gate: `gopher_words` |
//! | cleaned dataset | those of the dataset and its `language`; the rejected ones also `rejection_gate`, `rejection_reason`, `rejection_value` |
//! | teacher inputs | `id`, `group`, `domain`, `template_name`, `system_prompt`, `user_prompt`, `template_prompt`, `reference`, `source_file`, `generated_at`, where conversations are asked `messages`, where they are aimed at failures `gap`, `gap_similarity` |
//! | teacher outputs | those of the inputs, and `sample_index`, `teacher_output`, `model_id`, `finish_reason`, `prompt_tokens`, `completion_tokens`, and where there are any `teacher_reasoning`, `logprobs` |
//! | verdicts | `id`, `score`, `verdicts`, `unreadable`; and in `verdicts.parquet` the fields of [`Verdict`](crate::judging::Verdict) |
//! | filtered | those of the outputs; the rejected ones also `rejection_gate`, `rejection_reason` |
//! | reviewed | those of the filtered, and `review`, `reviewed_by`, `edited_by`, `original_output` |
//! | regenerated inputs | those of the inputs, and `attempt`, `first_id`, `first_prompt`, `rejection_reason` |
//! | SFT data | `id`, `group`, `domain`, `messages`, `reference`, and in Parquet `split` |
//! | predictions | `task`, `id`, `domain`, `group`, `prompt`, `reference`, `output`, `prediction`, `correct`, `finish_reason`, `logprob_nats`, `tokens`, `bytes`, as JSON `metrics`, `answers`, `choices`, `messages`, and `overlap_8`, `overlap_13` |

/// Names a row; unique in a table, and stable from the data set to the predictions.
pub const ID: &str = "id";
/// Rows of one group are the same problem in other words; a group never stands on both sides of a split.
pub const GROUP: &str = "group";
/// The subject or family, for results by slice.
pub const DOMAIN: &str = "domain";
/// The file that a row came from.
pub const SOURCE_FILE: &str = "source_file";
/// The template that made the prompt.
pub const TEMPLATE_NAME: &str = "template_name";
/// What stands before the conversation; null where nothing does.
pub const SYSTEM_PROMPT: &str = "system_prompt";
/// The template's own text.
pub const TEMPLATE_PROMPT: &str = "template_prompt";
/// When the text that a prompt is made of was generated, as its file says; null where it does not.
pub const GENERATED_AT: &str = "generated_at";
/// What is asked.
pub const USER_PROMPT: &str = "user_prompt";
/// The right final answer, normalised; null where none is known.
pub const REFERENCE: &str = "reference";
/// Which of several samples for one prompt a row is, from 0.
pub const SAMPLE_INDEX: &str = "sample_index";
/// What the teacher answered.
pub const TEACHER_OUTPUT: &str = "teacher_output";
/// What the teacher thought before it answered, where any answer of the table comes with it.
pub const TEACHER_REASONING: &str = "teacher_reasoning";
/// The log-probabilities of the answer's tokens as JSON in the form of the OpenAI API, where they were asked for.
pub const LOGPROBS: &str = "logprobs";
/// The model that answered, as the provider named it.
pub const MODEL_ID: &str = "model_id";
/// Why the answer ended: `stop`, `length`, `content_filter`.
pub const FINISH_REASON: &str = "finish_reason";
/// Tokens of the prompt, as the provider counted them.
pub const PROMPT_TOKENS: &str = "prompt_tokens";
/// Tokens of the answer, as the provider counted them.
pub const COMPLETION_TOKENS: &str = "completion_tokens";
/// The gate that rejected a row.
pub const REJECTION_GATE: &str = "rejection_gate";
/// Why it did.
pub const REJECTION_REASON: &str = "rejection_reason";
/// The number that decided against it.
pub const REJECTION_VALUE: &str = "rejection_value";
/// The language of a text, by its code of two letters.
pub const LANGUAGE: &str = "language";
/// How sure the language is, from 0 to 1.
pub const LANGUAGE_CONFIDENCE: &str = "language_confidence";
/// What reviewers decided on a row: `accept`, `reject`, `edit`, `regenerate`, or `disagree`; null where nobody has.
pub const REVIEW: &str = "review";
/// Who did.
pub const REVIEWED_BY: &str = "reviewed_by";
/// Who wrote the text that stands in the place of the teacher's; null where nobody has.
pub const EDITED_BY: &str = "edited_by";
/// What the teacher answered, where the text was edited.
pub const ORIGINAL_OUTPUT: &str = "original_output";
/// A conversation, as a list of `role` and `content`.
pub const MESSAGES: &str = "messages";
/// `train`, `validation` or `test`.
pub const SPLIT: &str = "split";
/// How good a judge found an answer, from 1 to 5.
pub const SCORE: &str = "score";
/// Which try a prompt is, where a row was asked again: 1 is the first time again.
pub const ATTEMPT: &str = "attempt";
/// The row of the first try, where a row was asked again.
pub const FIRST_ID: &str = "first_id";
/// The prompt of the first try, where a row was asked again in other words: what a student learns to answer.
pub const FIRST_PROMPT: &str = "first_prompt";
