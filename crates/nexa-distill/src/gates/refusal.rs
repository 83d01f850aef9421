//! Rejects answers that begin by declining to answer.
//!
//! Only the beginning counts: a solution may well say "he cannot help" further on. The phrases are our own list of how
//! chat models decline in English; each must end at a word's end, and an apology alone is no refusal.

use std::sync::OnceLock;

use regex::Regex;

use super::{Answer, Gate};

/// What may stand before a phrase: an apology, a regret, a preamble about what the speaker is.
const BEFORE: &str = r"(?:(?:(?:i'm|i am|we're|we are) )?(?:really |very |so |truly )?sorry|unfortunately|i apologi[sz]e|my apologies|regrettably|apologies)?[,.;:!]? ?(?:(?:but|however),? )?(?:as an? (?:ai|artificial intelligence|language model|large language model|assistant)[^,.]*, )?";

/// How an answer is declined, after [`BEFORE`].
const PHRASES: [&str; 10] = [
    // The speaker cannot or will not do what answering is; "we cannot share 7 equally" is no refusal.
    r"(?:i|we) (?:can't|cannot|can not|won't|will not|am unable to|am not able to|are unable to|refuse to) (?:(?:really|currently|directly|actually|safely|ethically|legally) )?(?:help|assist|provide|answer|comply|fulfill?|solve|complete|discuss|engage|support|generate|respond|participate|continue|proceed|do (?:this|that|so))",
    r"i'm (?:unable|not able) to",
    r"i am (?:unable|not able) to",
    r"i must (?:respectfully )?decline",
    r"i (?:have|need) to decline",
    r"i (?:respectfully )?decline",
    r"i'm not (?:comfortable|going to|allowed to|permitted to)",
    r"i do not feel comfortable",
    r"i don't feel comfortable",
    r"(?:this|that|your) (?:request|question|content) (?:violates|goes against|is against)",
];

/// Says what a speaker is instead of what was asked.
const SELF: &str = r"as an? (?:ai|artificial intelligence|language model|large language model)(?: \w+)*, i (?:can't|cannot|do not|don't|am not|am unable)";

/// The gate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal;

impl Gate for Refusal {
    fn name(&self) -> &'static str {
        "refusal"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        let text = crate::text::normalise(answer.output).replace('’', "'");
        let found = pattern().find(text.trim_start_matches(|c: char| !c.is_alphanumeric()))?;
        Some(format!("begins with \"{}\"", found.as_str()))
    }
}

fn pattern() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let text = format!(r"^(?:{BEFORE}(?:{})|{SELF})\b", PHRASES.join("|"));
        Regex::new(&text).expect("the phrases are a pattern")
    })
}

#[cfg(test)]
mod tests {
    use super::super::verdict;
    use super::*;

    #[test]
    fn refusals_are_told_from_answers() {
        let check = |text: &str, refuses: bool| {
            assert_eq!(verdict(&mut Refusal, text).is_some(), refuses, "{text:?}");
        };
        check("I'm sorry, but I can't help with that.", true);
        check("I’m really sorry, but I cannot assist with this request.", true);
        check("Sorry, I won't answer that.", true);
        check("Unfortunately, I am unable to solve this.", true);
        check("As an AI language model, I cannot do arithmetic.", true);
        check("I cannot, in good conscience, say.", false);
        check("\"I must decline.\"", true);
        check("This request violates the policy.", true);
        check("I apologize, but I can't provide that information.", true);

        check("12 + 7 = 19 apples.\n#### 19", false);
        check("I'm sorry to hear that Ava lost 5. 12 - 5 = 7", false);
        check("Sorry, a correction: 12 + 7 = 19", false);
        check("I can't see how many, so let x be the number.", false);
        check("Ben says: I can't help with that.", false);
        check("We cannot share 7 shells equally, so one is left.", false);
        check("We can't assist with this.", true);
        check("I canthelp", false);
        check("I cannot helpfully do less than 12 + 7 = 19", false);
        check("", false);
    }
}
