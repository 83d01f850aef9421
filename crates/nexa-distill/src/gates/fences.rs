//! Finds blocks of code that are opened and not closed.
//!
//! # Source
//! CommonMark 0.31, section 4.5: at least three backticks or tildes after at most three spaces open a block; as many of
//! the same, alone on their line, close it.

use super::{Answer, Measure};

pub(super) const VERSION: u32 = 1;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let open = blocks(answer.output).into_iter().find(|block| !block.is_closed);
    Some(Measure::fault(
        open.map(|block| format!("the block of code that begins in line {} is not closed", block.line)),
    ))
}

/// A block of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// The line of its first fence, from 1.
    pub(super) line: usize,
    /// Where it begins and ends in the text, fences included.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What stands between the fences.
    pub(super) code: &'a str,
    /// Whether there is a second fence.
    pub(super) is_closed: bool,
}

/// The blocks of code of a text; one that is not closed goes to the end.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    // Mark and width of the fence that is open, its line, and where it and its code begin.
    let mut open: Option<(char, usize, usize, usize, usize)> = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let (start, end) = (at, at + line.len());
        at = end;
        let Some((mark, width, info)) = fence(line) else { continue };
        match open {
            None if mark == '`' && info.contains('`') => {}
            None => open = Some((mark, width, number + 1, start, end)),
            Some((opened, least, line, from, code))
                if opened == mark && width >= least && info.is_empty() =>
            {
                blocks.push(Block { line, start: from, end, code: &text[code..start], is_closed: true });
                open = None;
            }
            Some(_) => {}
        }
    }
    if let Some((_, _, line, start, code)) = open {
        blocks.push(Block { line, start, end: text.len(), code: &text[code..], is_closed: false });
    }
    blocks
}

/// A text without code: neither that of blocks nor that between backticks.
pub(super) fn prose(text: &str) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut from = 0;
    for block in blocks(text) {
        outside.push_str(&text[from..block.start]);
        outside.push('\n');
        from = block.end;
    }
    outside.push_str(&text[from..]);
    // Every second piece stands between backticks, unless the last one was never closed.
    let pieces: Vec<&str> = outside.split('`').collect();
    let last = pieces.len() - 1;
    pieces
        .iter()
        .enumerate()
        .filter(|(position, _)| position % 2 == 0 || *position == last)
        .map(|(_, piece)| *piece)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Mark, width and what follows of a line that is a fence.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let text = line.trim_start_matches(' ');
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let info = text.trim_start_matches(mark);
    let width = text.len() - info.len();
    (line.len() - text.len() <= 3 && width >= 3).then(|| (mark, width, info.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::test::measured;
    use super::*;

    #[test]
    fn what_is_opened_is_closed() {
        let check = |output: &str, line: Option<usize>| {
            let found = measured(measure, "", output).unwrap().found;
            let expected = line.map(|line| format!("line {line} is not closed"));
            assert!(
                expected.map_or(found.is_empty(), |expected| found.ends_with(&expected)),
                "{output:?}: {found}"
            );
        };
        check("no code", None);
        check("```rust\nfn main() {}\n```", None);
        check("```rust\nfn main() {}\n", Some(1));
        check("a\n```\nb\n```\nc\n~~~\nd", Some(6));
        check("````\n```\n````", None);
        check("````\n```", Some(1));
        check("```\na\n```python", Some(1));
        check("inline ``` and ``` fences", None);
        check("    ```\nan indented line", None);
        check("```one line```", None);
    }

    #[test]
    fn prose_is_what_is_no_code() {
        let check = |text: &str, expected: &str| {
            assert_eq!(prose(text).split_whitespace().collect::<Vec<_>>().join(" "), expected);
        };
        check("say `</s>` or\n```\n[INST]\n```\nend", "say or end");
        check("a ` alone", "a alone");
        check("```\nopen", "");
    }
}
