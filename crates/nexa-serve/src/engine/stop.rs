//! Stop strings, found also where they cross the borders of tokens.

/// Passes text through until a stop string is complete, and holds back what could be the beginning of one.
///
/// The result does not depend on how the text is cut into pieces: of several stop strings, the one that is complete
/// first counts.
#[derive(Debug)]
pub(super) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What one piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Text that may be shown.
    pub(super) text: String,
    /// Whether a stop string was found; nothing after it is ever shown.
    pub(super) stopped: bool,
}

impl StopStrings {
    pub(super) fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes the next piece of text.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop).map(|start| (start + stop.len(), start)))
            .min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            return Passed { text: std::mem::take(&mut self.held), stopped: true };
        }
        let shown = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(shown);
        Passed { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Gives what was held back, at the end of the text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that a stop string begins with.
    fn longest_beginning(&self) -> usize {
        let beginning = |stop: &String| {
            stop.char_indices()
                .map(|(at, _)| at)
                .rev()
                .find(|&at| self.held.ends_with(&stop[..at]))
                .unwrap_or(0)
        };
        self.stops.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_the_first_complete_stop_however_it_is_cut_into_pieces() {
        let check = |stops: &[&str], text: &str, expected: &str, expected_stop: bool| {
            let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
            let characters: Vec<String> = text.chars().map(String::from).collect();
            for size in 1..=characters.len().max(1) {
                let mut matcher = StopStrings::new(&stops);
                let mut shown = String::new();
                let mut stopped = false;
                for piece in characters.chunks(size) {
                    let passed = matcher.push(&piece.concat());
                    shown.push_str(&passed.text);
                    stopped = passed.stopped;
                    if stopped {
                        break;
                    }
                }
                shown.push_str(&matcher.finish());
                assert_eq!((shown.as_str(), stopped), (expected, expected_stop), "{text:?} by {size}");
            }
        };
        check(&["\n\n"], "one\ntwo\n\nthree", "one\ntwo", true);
        check(&["END"], "the EN and the E", "the EN and the E", false);
        check(&["aab"], "aaab", "a", true);
        check(&["abc", "b"], "abc", "a", true);
        check(&["bc", "abc"], "xabc", "x", true);
        check(&["é!"], "café!", "caf", true);
        check(&["日本"], "日日本", "日", true);
        check(&[], "anything", "anything", false);
        check(&["x"], "", "", false);
    }

    #[test]
    fn only_what_could_begin_a_stop_is_held_back() {
        let mut matcher = StopStrings::new(&["</s>".to_owned()]);
        assert_eq!(matcher.push("ab</"), Passed { text: "ab".to_owned(), stopped: false });
        assert_eq!(matcher.push("b>"), Passed { text: "</b>".to_owned(), stopped: false });
        assert_eq!(matcher.push("<"), Passed { text: String::new(), stopped: false });
        assert_eq!(matcher.finish(), "<");
    }
}
