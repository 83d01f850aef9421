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

    /// Takes the next piece of text. Only a stop string that ends in it counts.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        let before = self.held.len();
        self.held.push_str(piece);
        let place = |stop: &String| {
            let from = self.held.ceil_char_boundary((before + 1).saturating_sub(stop.len()));
            let start = from + self.held[from..].find(stop)?;
            Some((start + stop.len(), start))
        };
        let first = self.stops.iter().filter_map(place).min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            return Passed { text: std::mem::take(&mut self.held), stopped: true };
        }
        Passed { text: self.settled(), stopped: false }
    }

    /// Takes a piece of text in which no stop string may end, though one may begin.
    pub(super) fn pass(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        self.settled()
    }

    /// Takes from the held text what no stop string begins in.
    fn settled(&mut self) -> String {
        let shown = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(shown);
        std::mem::replace(&mut self.held, rest)
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
    fn a_stop_counts_only_where_it_ends_after_what_is_passed() {
        let check = |stops: &[&str], passed: &str, rest: &str, expected: (&str, bool)| {
            let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
            let mut matcher = StopStrings::new(&stops);
            let mut shown = matcher.pass(passed);
            let last = matcher.push(rest);
            shown.push_str(&last.text);
            shown.push_str(&matcher.finish());
            assert_eq!((shown.as_str(), last.stopped), expected, "{stops:?} {passed:?} {rest:?}");
        };
        check(&["b"], "abc", "d", ("abcd", false));
        check(&["b"], "abc", "db", ("abcd", true));
        check(&["bcd"], "abc", "d", ("a", true));
        // The longer one has begun; the shorter one stands in it and has ended before.
        check(&["abc", "b"], "ab", "x", ("abx", false));
        check(&["abc", "b"], "ab", "c", ("", true));
        check(&["é"], "é", "é", ("é", true));
        check(&["éa"], "xé", "a", ("x", true));
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
