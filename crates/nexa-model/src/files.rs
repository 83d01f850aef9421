//! The files that a model consists of, by the names that Hugging Face gives them.

/// The shape of the model.
pub(crate) const CONFIG: &str = "config.json";
/// How its answers are sampled, and the tokens that end them.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
/// The numbers of a model that is not split.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Which file of a split model holds a tensor.
pub(crate) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// The vocabulary, the merges and the splitting rules.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The chat template, and what the special tokens are for.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Where newer versions of `transformers` keep the chat template.
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Where older versions keep what the special tokens are for.
pub(crate) const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// What a model must have besides its weights.
pub(crate) const REQUIRED: [&str; 3] = [CONFIG, TOKENIZER, TOKENIZER_CONFIG];
/// What some models have besides.
pub(crate) const OPTIONAL: [&str; 3] = [GENERATION_CONFIG, CHAT_TEMPLATE, SPECIAL_TOKENS];

/// The folder of the adapters in that of the model that they were merged into.
pub const ADAPTER_FOLDER: &str = "adapter";
/// The settings of adapters, in the form of PEFT.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The numbers of adapters.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The model that adapters were trained over; `nexa` alone knows it.
pub(crate) const ADAPTER_BASE: &str = "nexa.json";
