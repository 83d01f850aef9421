//! An answer that is held against rules while it is written.
//!
//! Text is shown once it can no longer become part of a finding. What is longer than the rules hold back ends the answer
//! where it is found, though its beginning has been shown.

use std::sync::Arc;

use nexa_core::guard::{Action, Guard, Place, replacement};

/// What of an answer has been looked at and shown.
#[derive(Debug)]
pub(super) struct Watch {
    guard: Arc<dyn Guard>,
    text: String,
    /// Bytes of it that were shown, or replaced.
    shown: usize,
}

/// What may be shown now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) text: String,
    /// Whether the answer ends here, because of a rule.
    pub(super) is_refused: bool,
}

impl Watch {
    pub(super) fn new(guard: Arc<dyn Guard>) -> Self {
        Self { guard, text: String::new(), shown: 0 }
    }

    /// Takes more of the answer.
    pub(super) fn push(&mut self, text: &str) -> Passed {
        self.text.push_str(text);
        let settled = self.text.len().saturating_sub(self.guard.hold_back());
        self.pass(self.text.floor_char_boundary(settled))
    }

    /// Takes the end of the answer.
    pub(super) fn finish(&mut self) -> Passed {
        self.pass(self.text.len())
    }

    /// Shows what stands before `settled`, but nothing of a finding that reaches beyond it.
    fn pass(&mut self, settled: usize) -> Passed {
        let from = self.looked_at_from();
        let mut passed = String::new();
        let mut settled = settled.max(self.shown);
        for finding in self.guard.find(&self.text[from..], Place::Completion) {
            let (start, end) = (from + finding.range.start, from + finding.range.end);
            if finding.action == Action::Refuse {
                tracing::info!(rule = finding.rule, "an answer was ended by a rule");
                self.show_to(start, &mut passed);
                return Passed { text: passed, is_refused: true };
            }
            if end <= self.shown {
                continue;
            }
            if end > settled {
                settled = settled.min(start.max(self.shown));
                break;
            }
            self.show_to(start, &mut passed);
            passed.push_str(&replacement(&finding.rule));
            self.shown = end;
        }
        self.show_to(settled, &mut passed);
        Passed { text: passed, is_refused: false }
    }

    fn show_to(&mut self, end: usize, passed: &mut String) {
        if end > self.shown {
            passed.push_str(&self.text[self.shown..end]);
            self.shown = end;
        }
    }

    /// Rules see some of what was shown already, from the beginning of a word.
    fn looked_at_from(&self) -> usize {
        let from = self.text.floor_char_boundary(self.shown.saturating_sub(self.guard.hold_back()));
        self.text[..from].rfind(char::is_whitespace).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexa_core::guard::Finding;

    /// Is against `bad`, and replaces runs of digits.
    #[derive(Debug)]
    struct Words;

    impl Guard for Words {
        fn find(&self, text: &str, _: Place) -> Vec<Finding> {
            let finding = |range, rule: &str, action| Finding { range, rule: rule.to_owned(), action };
            let mut found = Vec::new();
            let mut at = 0;
            while at < text.len() {
                if text[at..].starts_with("bad") {
                    found.push(finding(at..at + 3, "words", Action::Refuse));
                    break;
                }
                let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
                if digits > 0 {
                    found.push(finding(at..at + digits, "digits", Action::Redact));
                }
                at += digits.max(text[at..].chars().next().map_or(1, char::len_utf8));
            }
            found
        }

        fn hold_back(&self) -> usize {
            4
        }
    }

    /// What is shown of an answer that comes in pieces of so many characters, and whether it was refused.
    fn shown(answer: &str, characters: usize) -> (String, bool) {
        let mut watch = Watch::new(Arc::new(Words));
        let letters: Vec<char> = answer.chars().collect();
        let mut all = String::new();
        for piece in letters.chunks(characters) {
            let passed = watch.push(&piece.iter().collect::<String>());
            all.push_str(&passed.text);
            if passed.is_refused {
                return (all, true);
            }
        }
        let passed = watch.finish();
        (all + &passed.text, passed.is_refused)
    }

    #[test]
    fn the_pieces_of_an_answer_change_nothing() {
        let check = |answer: &str, expected: &str, is_refused: bool| {
            for characters in [1, 2, 3, 5, 100] {
                assert_eq!(
                    shown(answer, characters),
                    (expected.to_owned(), is_refused),
                    "{answer:?} by {characters}"
                );
            }
        };
        check("", "", false);
        check("nothing ünüsual here", "nothing ünüsual here", false);
        check("call 12 or 345 now", "call [digits] or [digits] now", false);
        check("1234", "[digits]", false);
        check("so bad, and 12 more", "so ", true);
        check("at the end: bad", "at the end: ", true);
        check("x 12 bad 34", "x [digits] ", true);
    }

    #[test]
    fn what_may_still_become_a_finding_is_held_back() {
        let mut watch = Watch::new(Arc::new(Words));
        assert_eq!(watch.push("a long wo").text, "a lon");
        assert_eq!(watch.push("rd ba").text, "g wor");
        assert!(watch.push("d").is_refused);
    }
}
