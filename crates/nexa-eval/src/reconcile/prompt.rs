//! What differs between two prompts.

use std::collections::HashMap;

use super::cause::Cause;

/// Texts with which tokenizers begin, where a template writes them out.
const BEGINNINGS: [&str; 6] =
    ["<|begin_of_text|>", "<|endoftext|>", "<s>", "<bos>", "<|startoftext|>", "[CLS]"];

/// What only chat templates write.
const TEMPLATE_MARKS: [&str; 10] = [
    "<|im_start|>",
    "<|start_header_id|>",
    "[INST]",
    "<start_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|turn>",
    "<user>",
    "<assistant>",
    "\"role\":",
];

/// Between examples, where a task says nothing else.
const BLOCK: &str = "\n\n";

/// How the prompts of each side usually begin: by that a text that was cut at the front is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginnings {
    pub(super) theirs: String,
    pub(super) ours: String,
}

/// The first word of most of some prompts.
pub(super) fn usual_beginning<'a>(prompts: impl Iterator<Item = &'a str>) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    prompts.for_each(|prompt| *counts.entry(first_word(prompt)).or_default() += 1);
    let most = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0)));
    most.map(|(word, _)| word.to_owned()).unwrap_or_default()
}

/// Why two contexts differ; none where they do not.
pub(super) fn context(theirs: &str, ours: &str, usual: &Beginnings) -> Option<Cause> {
    if theirs == ours {
        return None;
    }
    let (bare_theirs, bare_ours) = (without_beginning(theirs), without_beginning(ours));
    if bare_theirs == bare_ours {
        return Some(Cause::BeginningOfText);
    }
    let (theirs, ours) = (bare_theirs, bare_ours);
    if theirs.split_whitespace().eq(ours.split_whitespace()) {
        return Some(if theirs.trim_end() == ours.trim_end() { Cause::Delimiter } else { Cause::WhiteSpace });
    }
    if has_marks(theirs) != has_marks(ours) {
        return Some(Cause::ChatTemplate);
    }
    Some(if is_cut(theirs, ours, &usual.theirs) || is_cut(ours, theirs, &usual.ours) {
        Cause::Truncated
    } else if has_marks(theirs) && shapes(theirs) != shapes(ours) {
        Cause::ChatTemplate
    } else {
        layout(theirs, ours)
    })
}

/// Whether the first text is the other one without its front, and does not begin as texts of its side do.
fn is_cut(short: &str, long: &str, usual: &str) -> bool {
    let is_suffix = short.len() < long.len() && !short.trim().is_empty() && long.ends_with(short);
    is_suffix && first_word(short) != usual
}

/// Which part of two prompts in plain text differs.
fn layout(theirs: &str, ours: &str) -> Cause {
    let (mut their_blocks, mut our_blocks) = (blocks(theirs), blocks(ours));
    let (their_last, our_last) =
        (their_blocks.pop().unwrap_or_default(), our_blocks.pop().unwrap_or_default());
    let is_same_question = their_last == our_last
        || (their_blocks.is_empty() && their_last.ends_with(our_last))
        || (our_blocks.is_empty() && our_last.ends_with(their_last));
    if !is_same_question {
        return Cause::Question;
    }
    // An example begins as the question does; what stands before it in its block, or alone, is no example.
    let question = if their_last.len() < our_last.len() { their_last } else { our_last };
    let mark = first_word(question);
    let examples = |blocks: &[&str]| -> Vec<String> {
        let example = |block: &&str| block.find(mark).map(|at| block[at..].trim().to_owned());
        blocks.iter().filter_map(example).collect()
    };
    let (their_examples, our_examples) = (examples(&their_blocks), examples(&our_blocks));
    if their_examples == our_examples {
        return Cause::Description;
    }
    if their_examples.len() != our_examples.len() {
        return Cause::ExampleCount;
    }
    let sorted = |mut examples: Vec<String>| {
        examples.sort();
        examples
    };
    if sorted(their_examples) == sorted(our_examples) { Cause::ExampleOrder } else { Cause::Examples }
}

fn blocks(text: &str) -> Vec<&str> {
    text.split(BLOCK).map(str::trim_end).filter(|block| !block.is_empty()).collect()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn without_beginning(text: &str) -> &str {
    BEGINNINGS.iter().find_map(|beginning| text.strip_prefix(beginning)).unwrap_or(text)
}

fn has_marks(text: &str) -> bool {
    TEMPLATE_MARKS.iter().any(|mark| text.contains(mark))
}

/// The marks of a template, in their order: two templates write others, or more of them.
fn shapes(text: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &str)> =
        TEMPLATE_MARKS.iter().flat_map(|mark| text.match_indices(mark).map(|(at, _)| (at, *mark))).collect();
    found.sort_unstable();
    found.dedup_by_key(|(_, mark)| *mark);
    found.into_iter().map(|(_, mark)| mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_differs_is_named() {
        let usual = Beginnings { theirs: "Question:".to_owned(), ours: "Question:".to_owned() };
        let check = |theirs: &str, ours: &str, expected: Option<Cause>| {
            assert_eq!(context(theirs, ours, &usual), expected, "{theirs:?} and {ours:?}");
        };
        let shot = |n: usize| format!("Question: {n}?\nAnswer: {n}\n\n");
        let last = "Question: 9?\nAnswer:";
        let prompt = |shots: &[usize]| shots.iter().map(|&n| shot(n)).collect::<String>() + last;
        check(last, last, None);
        check(&format!("<s>{last}"), last, Some(Cause::BeginningOfText));
        check(&format!("{last} "), last, Some(Cause::Delimiter));
        check("Question: 9?  Answer:", last, Some(Cause::WhiteSpace));
        check(&format!("<|im_start|>user\n{last}<|im_end|>"), last, Some(Cause::ChatTemplate));
        check(&format!("[{{\"role\": \"user\", \"content\": \"{last}\"}}]"), last, Some(Cause::ChatTemplate));
        check(&prompt(&[1, 2]), &prompt(&[1]), Some(Cause::ExampleCount));
        check(&prompt(&[1]), last, Some(Cause::ExampleCount));
        check(&prompt(&[1, 2]), &prompt(&[2, 1]), Some(Cause::ExampleOrder));
        check(&prompt(&[1, 2]), &prompt(&[1, 3]), Some(Cause::Examples));
        check(&format!("Be brief.\n\n{}", prompt(&[1, 2])), &prompt(&[1, 2]), Some(Cause::Description));
        check(&format!("Be brief. {}", prompt(&[1, 2])), &prompt(&[1, 2]), Some(Cause::Description));
        check(&format!("Be brief. {last}"), last, Some(Cause::Description));
        check("Question: 9?\nThe answer is", last, Some(Cause::Question));
        check(&prompt(&[1, 2])[4..], &prompt(&[1, 2]), Some(Cause::Truncated));
        check("<|im_start|>user\na", "[INST] a", Some(Cause::ChatTemplate));
    }

    #[test]
    fn most_prompts_say_how_they_begin() {
        assert_eq!(usual_beginning(["Q: a", "tion: b", "Q: c"].into_iter()), "Q:");
        assert_eq!(usual_beginning(std::iter::empty()), "");
    }
}
