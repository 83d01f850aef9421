//! The rules by which byte-level tokenizers split a text before they merge.
//!
//! `tokenizer.json` spells them out, GGUF names them, and llama.cpp has them built in. Every rule here is a list of
//! patterns, each of which splits what the ones before it left.

use serde_json::{Value as Json, json};

/// The pattern of GPT-2, which `ByteLevel` of `tokenizers` applies where it is told to.
///
/// # Source
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, the published code.
const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Every digit for itself: what `Digits` of `tokenizers` does.
const DIGITS_PATTERN: &str = r"\p{N}";

/// The rules that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gguf) enum PreTokenizer {
    /// What llama.cpp does for files that name no rule.
    Default,
    /// GPT-2.
    Gpt2,
    /// Single digits, then GPT-2: SmolLM, and the tokenizers that are trained here.
    SmolLm,
    /// Llama 3 and SmolLM3.
    Llama3,
    /// Qwen 2, 2.5 and 3.
    Qwen2,
    /// Mistral Nemo and later.
    Tekken,
}

impl PreTokenizer {
    const ALL: [Self; 6] = [Self::SmolLm, Self::Gpt2, Self::Llama3, Self::Qwen2, Self::Tekken, Self::Default];

    /// The names in GGUF, the one that is written first.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Default => &["default"],
            Self::Gpt2 => &["gpt-2", "gpt2", "olmo", "phi-2"],
            Self::SmolLm => &["smollm", "starcoder", "refact", "command-r"],
            Self::Llama3 => &["llama-bpe", "llama3", "llama-v3", "smaug-bpe"],
            Self::Qwen2 => &["qwen2", "deepseek-r1-qwen"],
            Self::Tekken => &["tekken"],
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.aliases()[0]
    }

    /// All names that are written, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.aliases().contains(&name))
    }

    /// The patterns, in the order in which they split.
    fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[r"[\p{P}\$\+<=>\^~\|]+", GPT2_PATTERN, r"\p{N}+", "[0-9][0-9][0-9]"],
            Self::Gpt2 => &[GPT2_PATTERN],
            Self::SmolLm => &[DIGITS_PATTERN, GPT2_PATTERN],
            Self::Llama3 => &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
                r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            Self::Qwen2 => &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
                r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            Self::Tekken => &[concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
                r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
        }
    }

    /// Whether a word that is a token is taken whole, without asking the merges.
    pub(super) fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// How text is normalised first.
    pub(super) fn normalizer(self) -> Json {
        if self == Self::Qwen2 { json!({ "type": "NFC" }) } else { Json::Null }
    }

    /// The `pre_tokenizer` of `tokenizer.json`.
    pub(super) fn to_json(self) -> Json {
        let patterns = self.patterns();
        let uses_gpt2_last = patterns.last() == Some(&GPT2_PATTERN);
        let split = &patterns[..patterns.len() - usize::from(uses_gpt2_last)];
        let mut steps: Vec<Json> = split
            .iter()
            .map(|&pattern| match pattern {
                DIGITS_PATTERN => json!({ "type": "Digits", "individual_digits": true }),
                _ => json!({
                    "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false
                }),
            })
            .collect();
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": uses_gpt2_last
        }));
        json!({ "type": "Sequence", "pretokenizers": steps })
    }

    /// Finds the rule that a `pre_tokenizer` of `tokenizer.json` follows.
    pub(super) fn from_json(json: &Json) -> Option<Self> {
        let mut patterns = Vec::new();
        collect_patterns(json, &mut patterns)?;
        Self::ALL.into_iter().find(|rule| rule.patterns() == patterns)
    }
}

/// Lists the patterns of a pre-tokenizer; `None` where it does something else.
fn collect_patterns<'a>(json: &'a Json, patterns: &mut Vec<&'a str>) -> Option<()> {
    let flag = |name: &str| json.get(name).and_then(Json::as_bool);
    match json.get("type")?.as_str()? {
        "Sequence" => json
            .get("pretokenizers")?
            .as_array()?
            .iter()
            .try_for_each(|step| collect_patterns(step, patterns)),
        "Digits" if flag("individual_digits") == Some(true) => {
            patterns.push(DIGITS_PATTERN);
            Some(())
        }
        "Split" if json.get("behavior")? == "Isolated" && flag("invert") != Some(true) => {
            patterns.push(json.get("pattern")?.get("Regex")?.as_str()?);
            Some(())
        }
        "ByteLevel" if flag("add_prefix_space") != Some(true) => {
            if flag("use_regex") != Some(false) {
                patterns.push(GPT2_PATTERN);
            }
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_recognised_by_name_and_by_what_it_does() {
        for rule in PreTokenizer::ALL {
            assert_eq!(PreTokenizer::from_json(&rule.to_json()), Some(rule));
            for name in rule.aliases() {
                assert_eq!(PreTokenizer::from_name(name), Some(rule), "{name}");
            }
        }
        assert_eq!(PreTokenizer::from_name("deepseek-v9"), None);
        let plain = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": true });
        assert_eq!(PreTokenizer::from_json(&plain), Some(PreTokenizer::Gpt2));
        for other in [
            json!({ "type": "Whitespace" }),
            json!({ "type": "Digits", "individual_digits": false }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "use_regex": true }),
        ] {
            assert_eq!(PreTokenizer::from_json(&other), None, "{other}");
        }
    }

    /// What the patterns do, on a text that tells them apart.
    #[test]
    fn rules_split_as_their_families_do() {
        use tokenizers::{
            OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
        };
        let check = |rule: PreTokenizer, expected: &[&str]| {
            let splitter: PreTokenizerWrapper = serde_json::from_value(rule.to_json()).unwrap();
            let text = "It's 12345 km,OK\n\n  a";
            let mut split = PreTokenizedString::from(text);
            splitter.pre_tokenize(&mut split).unwrap();
            let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let parts: Vec<&str> = parts.iter().map(|(_, (start, end), _)| &text[*start..*end]).collect();
            assert_eq!(parts, expected, "{rule:?}");
        };
        check(PreTokenizer::Gpt2, &["It", "'s", " 12345", " km", ",", "OK", "\n\n ", " a"]);
        check(
            PreTokenizer::SmolLm,
            &["It", "'s", " ", "1", "2", "3", "4", "5", " km", ",", "OK", "\n\n ", " a"],
        );
        check(PreTokenizer::Llama3, &["It", "'s", " ", "123", "45", " km", ",OK", "\n\n", " ", " a"]);
        check(
            PreTokenizer::Qwen2,
            &["It", "'s", " ", "1", "2", "3", "4", "5", " km", ",OK", "\n\n", " ", " a"],
        );
        check(
            PreTokenizer::Tekken,
            &["It", "'s", " ", "1", "2", "3", "4", "5", " km", ",OK", "\n\n", " ", " a"],
        );
        check(PreTokenizer::Default, &["It", "'", "s", " ", "123", "45", " km", ",", "OK", "\n\n ", " a"]);
    }
}
