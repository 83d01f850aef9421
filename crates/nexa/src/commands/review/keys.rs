//! What a reviewer wants, from a key or from a line.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nexa_core::review::Verdict;

/// What a reviewer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// A decision, with a reason or the new text; an edit without one opens an editor.
    Decide(Verdict, Option<String>),
    /// The same decision on every row that fits, if they are so many.
    DecideAll(Verdict, usize),
    Undo,
    Next,
    Previous,
    /// Rows with a text; all where there is none.
    Search(Option<String>),
    /// Rows of a gate; all where there is none.
    Gate(Option<String>),
    /// Rows that are open, or all again.
    OpenOnly,
    Help,
    Quit,
}

/// A key: an order, or one that needs words behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Complete.
    Order(Order),
    /// The rest is asked for: the word that begins the line, and the question.
    Ask(&'static str, &'static str),
}

/// What a key means. Enter accepts and Backspace rejects, as elsewhere.
pub(super) fn of_key(event: &KeyEvent) -> Option<Key> {
    use Verdict::{Accept, Edit, Regenerate, Reject};
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(event.code, KeyCode::Char('c' | 'd')).then_some(Key::Order(Order::Quit));
    }
    let order = match event.code {
        KeyCode::Char('a') | KeyCode::Enter => Order::Decide(Accept, None),
        KeyCode::Char('r') | KeyCode::Backspace => Order::Decide(Reject, None),
        KeyCode::Char('e') => Order::Decide(Edit, None),
        KeyCode::Char('x') => Order::Decide(Regenerate, None),
        KeyCode::Char('u') => Order::Undo,
        KeyCode::Char('j' | '>') | KeyCode::Right | KeyCode::Down => Order::Next,
        KeyCode::Char('k' | '<') | KeyCode::Left | KeyCode::Up => Order::Previous,
        KeyCode::Char('o') => Order::OpenOnly,
        KeyCode::Char('?') => Order::Help,
        KeyCode::Char('q') | KeyCode::Esc => Order::Quit,
        KeyCode::Char('R') => return Some(Key::Ask("r", "rejected, because: ")),
        KeyCode::Char('X') => return Some(Key::Ask("x", "to be asked for again, because: ")),
        KeyCode::Char('/') => return Some(Key::Ask("/", "text in prompt or completion: ")),
        KeyCode::Char('g') => return Some(Key::Ask("g", "gate: ")),
        KeyCode::Char('A') => {
            return Some(Key::Ask("all", "accept, reject or regenerate, and how many fit: "));
        }
        _ => return None,
    };
    Some(Key::Order(order))
}

/// What a line means: a word, and what follows it.
pub(super) fn of_line(line: &str) -> Option<Order> {
    let line = line.trim();
    // A search may stand right behind its slash.
    if let Some(text) = line.strip_prefix('/') {
        return Some(Order::Search(given(text)));
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let decide = |verdict, rest| Some(Order::Decide(verdict, rest));
    match word {
        "a" | "accept" => decide(Verdict::Accept, given(rest)),
        "r" | "reject" => decide(Verdict::Reject, given(rest)),
        "e" | "edit" => decide(Verdict::Edit, given(rest).map(|text| unescape(&text))),
        "x" | "regenerate" => decide(Verdict::Regenerate, given(rest)),
        "all" => {
            let (verdict, count) = rest.trim().split_once(char::is_whitespace)?;
            Some(Order::DecideAll(verdict.parse().ok()?, count.trim().parse().ok()?))
        }
        "u" | "undo" => Some(Order::Undo),
        ">" | "j" | "next" => Some(Order::Next),
        "<" | "k" | "previous" => Some(Order::Previous),
        "g" | "gate" => Some(Order::Gate(given(rest))),
        "o" | "open" => Some(Order::OpenOnly),
        "?" | "help" => Some(Order::Help),
        "q" | "quit" => Some(Order::Quit),
        _ => None,
    }
}

fn given(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Turns `\n` into a new line and `\\` into a backslash.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('\\')) => out.push('\\'),
            _ => {
                out.push(letter);
                continue;
            }
        }
        letters.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_orders() {
        let check = |line: &str, expected: Option<Order>| assert_eq!(of_line(line), expected, "{line:?}");
        let some = |text: &str| Some(text.to_owned());
        check("a", Some(Order::Decide(Verdict::Accept, None)));
        check(" r  wrong sum ", Some(Order::Decide(Verdict::Reject, some("wrong sum"))));
        check(r"e one\ntwo \\n", Some(Order::Decide(Verdict::Edit, some("one\ntwo \\n"))));
        check("e", Some(Order::Decide(Verdict::Edit, None)));
        check("all reject 12", Some(Order::DecideAll(Verdict::Reject, 12)));
        check("all reject", None);
        check("all spoil 3", None);
        check("/marbles", Some(Order::Search(some("marbles"))));
        check("/", Some(Order::Search(None)));
        check("g refusal", Some(Order::Gate(some("refusal"))));
        check("what", None);
        check("", None);
    }

    #[test]
    fn keys_are_those_of_the_page() {
        let key = |code| of_key(&KeyEvent::new(code, KeyModifiers::NONE));
        let order = |order| Some(Key::Order(order));
        assert_eq!(key(KeyCode::Char('a')), order(Order::Decide(Verdict::Accept, None)));
        assert_eq!(key(KeyCode::Backspace), order(Order::Decide(Verdict::Reject, None)));
        assert_eq!(key(KeyCode::Right), order(Order::Next));
        assert_eq!(key(KeyCode::Char('/')), Some(Key::Ask("/", "text in prompt or completion: ")));
        assert_eq!(key(KeyCode::Char('z')), None);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(of_key(&control_c), order(Order::Quit));
    }
}
