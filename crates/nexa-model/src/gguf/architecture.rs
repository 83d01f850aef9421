//! The architectures that both sides know, under both names.

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama, and what is built like it: Mistral, SmolLM, SmolLM2.
    Llama,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms on the heads of queries and keys.
    Qwen3,
    /// Llama without rotary embedding in every fourth layer.
    SmolLm3,
}

/// The layers of SmolLM3 without rotary embedding are those whose number, from 1, is a multiple of this. GGUF has no
/// key for it: llama.cpp has it built in.
pub(super) const NO_ROPE_INTERVAL: usize = 4;

impl Architecture {
    const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::SmolLm3];

    /// `general.architecture`, and the prefix of the keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
        }
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// The one entry of `architectures` in `config.json`.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
        }
    }

    /// The architecture of a `model_type` of `config.json`.
    pub(super) fn from_model_type(model_type: &str) -> Option<Self> {
        if model_type == MISTRAL { Some(Self::Llama) } else { Self::from_name(model_type) }
    }

    /// Whether GGUF holds the two halves of a head's rows interleaved, as the rotary embedding of llama.cpp pairs them.
    pub(super) fn interleaves_heads(self) -> bool {
        matches!(self, Self::Llama | Self::SmolLm3)
    }

    /// Whether queries and keys have norms.
    pub(super) fn normalises_heads(self) -> bool {
        self == Self::Qwen3
    }
}

/// What `config.json` calls a Llama whose attention reaches back over a window only.
pub(super) const MISTRAL: &str = "mistral";
pub(super) const MISTRAL_CLASS: &str = "MistralForCausalLM";
