//! Whose a model of OpenRouter is, where its name alone is given.
//!
//! OpenRouter names models `vendor/model`. Families that one vendor makes are told by how their names begin; the table is
//! OpenRouter's list of models as of November 2026. What is made of such a name is what stands in records and keys.

/// How the names of a vendor's models begin, and how OpenRouter calls it; the first that fits counts.
const VENDORS: [(&str, &str); 19] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "google"),
    ("gemma-", "google"),
    // Another vendor's, although it begins like those of the next.
    ("llama-3.1-nemotron", "nvidia"),
    ("llama-3.3-nemotron", "nvidia"),
    ("llama-", "meta-llama"),
    ("mistral-", "mistralai"),
    ("mixtral-", "mistralai"),
    ("ministral-", "mistralai"),
    ("codestral-", "mistralai"),
    ("deepseek-", "deepseek"),
    ("qwen", "qwen"),
    ("qwq-", "qwen"),
    ("grok-", "x-ai"),
];

/// The vendor of a model that is named without one, where its name tells.
pub(super) fn of(model: &str) -> Option<&'static str> {
    let model = model.to_ascii_lowercase();
    let fits = |beginning: &str| {
        let Some(rest) = model.strip_prefix(beginning) else { return false };
        // `o1` and `o1-mini`, but not `o10k`.
        !beginning.ends_with(char::is_numeric) || !rest.starts_with(char::is_alphanumeric)
    };
    VENDORS.iter().find(|(beginning, _)| fits(beginning)).map(|(_, vendor)| *vendor)
}

/// The vendor's own API, as teachers name it, where it has one.
pub(super) fn provider(vendor: &str) -> Option<&'static str> {
    match vendor {
        "openai" => Some("openai"),
        "anthropic" => Some("anthropic"),
        "google" => Some("gemini"),
        "mistralai" => Some("mistral"),
        "deepseek" => Some("deepseek"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_vendors_or_nothing() {
        let check = |model: &str, expected: Option<&str>| assert_eq!(of(model), expected, "{model}");
        check("gpt-4o", Some("openai"));
        check("o1", Some("openai"));
        check("o3-mini:free", Some("openai"));
        check("o10k", None);
        check("claude-sonnet-4.5", Some("anthropic"));
        check("llama-3.1-8b-instruct:free", Some("meta-llama"));
        check("llama-3.1-nemotron-70b-instruct", Some("nvidia"));
        check("Mixtral-8x7b-instruct", Some("mistralai"));
        check("deepseek-r1-distill-llama-70b", Some("deepseek"));
        check("qwen3-32b", Some("qwen"));
        check("hermes-3-405b", None);
    }
}
