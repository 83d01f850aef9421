//! Regular expressions as Python's `re` reads them, run by `fancy-regex`, which knows look-around and back-references.
//!
//! Patterns are rewritten where the two would read them differently: `$` also matches before a final line break, a `[`
//! inside a class is itself, a brace that opens no repetition is itself. Searches go on after an empty match as
//! CPython 3.7 and later do, so that `findall` and `sub` find the same places.

use std::fmt::Write as _;

use fancy_regex::{Captures, Regex, RegexBuilder};

/// The steps after which a search gives up; Python would go on for ever.
const BACKTRACK_LIMIT: usize = 10_000_000;

/// A pattern of Python.
#[derive(Debug, Clone)]
pub(crate) struct PythonRegex(Regex);

impl PythonRegex {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(&rewrite(pattern)).backtrack_limit(BACKTRACK_LIMIT).build();
        regex.map(Self).map_err(|error| format!("pattern `{pattern}`: {error}"))
    }

    /// `re.findall`: of every match its groups, or the whole of it where the pattern has none. A group that took no part
    /// is empty.
    ///
    /// # Errors
    /// Fails where a search takes too many steps.
    pub(crate) fn find_all<'t>(&self, text: &'t str) -> Result<Vec<Vec<&'t str>>, String> {
        let mut found = Vec::new();
        self.each(text, |captures| {
            let group = |at: usize| captures.get(at).map_or("", |group| group.as_str());
            let first = usize::from(captures.len() > 1);
            found.push((first..captures.len()).map(group).collect());
        })?;
        Ok(found)
    }

    /// `re.sub`, at most `count` times where that is not 0. The replacement may hold `\1` and `\g<name>`.
    ///
    /// # Errors
    /// As [`Self::find_all`].
    pub(crate) fn replace(&self, text: &str, replacement: &str, count: usize) -> Result<String, String> {
        let mut out = String::new();
        let (mut copied, mut replaced) = (0, 0);
        self.each(text, |captures| {
            if let Some(whole) = captures.get(0)
                && (count == 0 || replaced < count)
            {
                out.push_str(&text[copied..whole.start()]);
                expand(replacement, captures, &mut out);
                copied = whole.end();
                replaced += 1;
            }
        })?;
        out.push_str(&text[copied..]);
        Ok(out)
    }

    /// Visits every match, from left to right.
    fn each<'t>(&self, text: &'t str, mut visit: impl FnMut(&Captures<'t, str>)) -> Result<(), String> {
        let mut at = 0;
        while at <= text.len() {
            let Some(captures) = self.0.captures_from_pos(text, at).map_err(|error| error.to_string())?
            else {
                return Ok(());
            };
            let Some(whole) = captures.get(0) else { return Ok(()) };
            at = whole.end();
            if whole.start() == whole.end() {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
            visit(&captures);
        }
        Ok(())
    }
}

/// Writes a replacement, with the groups that it names.
fn expand(replacement: &str, captures: &Captures<'_, str>, out: &mut String) {
    let mut rest = replacement;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let named = after.strip_prefix("g<").and_then(|after| after.split_once('>'));
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some((name, tail)) = named {
            let group =
                name.parse().map_or_else(|_| captures.name(name), |number: usize| captures.get(number));
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = tail;
        } else if digits > 0 {
            let digits = digits.min(2);
            let group = after[..digits].parse().ok().and_then(|number: usize| captures.get(number));
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = &after[digits..];
        } else {
            let c = after.chars().next();
            match c {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            }
            rest = &after[c.map_or(0, char::len_utf8)..];
        }
    }
    out.push_str(rest);
}

/// Rewrites a pattern of Python for `fancy-regex`.
fn rewrite(pattern: &str) -> String {
    let characters: Vec<char> = pattern.chars().collect();
    let is_multiline = has_multiline_flag(pattern);
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let next = characters.get(at + 1).copied();
        let rest = || characters[at..].iter().collect::<String>();
        match (c, next) {
            ('\\', Some('Z')) => out.push_str(r"\z"),
            // Elsewhere these two stand for the ends of words.
            ('\\', Some(escaped @ ('<' | '>'))) => out.push(escaped),
            (
                '\\',
                Some(
                    escaped @ (' ' | '"' | '\'' | '/' | ',' | ':' | ';' | '=' | '!' | '@' | '%' | '`' | '_'),
                ),
            ) => {
                out.push(escaped);
            }
            ('\\', Some(escaped)) => out.extend(['\\', escaped]),
            ('[', _) if !in_class => {
                in_class = true;
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    at += 1;
                }
                // A bracket that closes nothing yet is itself.
                if characters.get(at + 1) == Some(&']') {
                    out.push_str(r"\]");
                    at += 1;
                }
                at += 1;
                continue;
            }
            (']', _) if in_class => {
                in_class = false;
                out.push(']');
            }
            ('[' | '&' | '~', _) if in_class => out.extend(['\\', c]),
            ('$', _) if !in_class => {
                out.push_str(if is_multiline { r"(?=\n|\z)" } else { r"(?=\n?\z)" });
            }
            ('{', _) if !in_class && !opens_repetition(&characters[at..]) => out.push_str(r"\{"),
            ('{', Some(',')) if !in_class => out.push_str("{0"),
            ('}', _) if !in_class && !closes_repetition(&characters[..at]) => out.push_str(r"\}"),
            ('(', Some('?')) if !in_class && rest().starts_with("(?P=") => {
                let name: String = characters[at + 4..].iter().take_while(|&&c| c != ')').collect();
                let _ = write!(out, r"\k<{name}>");
                at += 5 + name.chars().count();
                continue;
            }
            _ => out.push(c),
        }
        at += if c == '\\' && next.is_some() { 2 } else { 1 };
    }
    out
}

/// Whether the pattern begins with flags that hold `m`.
fn has_multiline_flag(pattern: &str) -> bool {
    let flags = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map(|(flags, _)| flags);
    flags.is_some_and(|flags| flags.chars().all(|c| c.is_ascii_alphabetic()) && flags.contains('m'))
}

/// Whether a brace is followed by numbers as repetitions are: `{2}`, `{2,}`, `{,3}`, `{2,3}`.
fn opens_repetition(from: &[char]) -> bool {
    let inner: String = from[1..].iter().take_while(|&&c| c != '}').collect();
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    from.len() > inner.chars().count() + 1
        && match inner.split_once(',') {
            Some((low, high)) => is_number(low) && is_number(high),
            None => !inner.is_empty() && is_number(&inner),
        }
}

/// Whether the closing brace after some text ends a repetition or an escape such as `\p{L}`.
fn closes_repetition(before: &[char]) -> bool {
    let Some(open) = before.iter().rposition(|&c| c == '{') else { return false };
    let mut with_close = before[open..].to_vec();
    with_close.push('}');
    let escaped = open >= 1 && before[open - 1] == '\\';
    !escaped && opens_repetition(&with_close)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, text: &str) -> Vec<Vec<String>> {
        let found = PythonRegex::new(pattern).unwrap();
        let found = found.find_all(text).unwrap();
        found.iter().map(|groups| groups.iter().map(|&group| group.to_owned()).collect()).collect()
    }

    /// Expected: `re.findall` of CPython 3.11.
    #[test]
    fn matches_are_those_of_python() {
        let check = |pattern: &str, text: &str, expected: &[&[&str]]| {
            assert_eq!(find(pattern, text), expected, "{pattern} in {text:?}");
        };
        check(r"#### (\-?[0-9\.\,]+)", "a #### 1,234. #### -7", &[&["1,234."], &["-7"]]);
        check(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "5 apples, ok... 12", &[&["", "5"], &["...", ""], &["12", ""]]);
        check("x*", "axb", &[&[""], &["x"], &[""], &[""]]);
        check(r"\.$", "end.\n", &[&["."]]);
        check("(?m)^a$", "a\nb\na", &[&["a"], &["a"]]);
        check(r"[[(]\d+[])]", "[1] (2)", &[&["[1]"], &["(2)"]]);
        check(r"\boxed{(\d+)}", "an oxed{3}", &[&["3"]]);
        check(r"\\boxed{(\d+)}", r"\boxed{3}", &[&["3"]]);
        check(r"(?P<q>['\x22]).*?(?P=q)", "'a\"b'", &[&["'"]]);
        check(r"(?<=is )(\w+)(?!\.)", "this is so. is no", &[&["is"], &["s"], &["no"]]);
        check(r"a{,2}b", "aaab", &[&["aab"]]);
        check(r"\<\w+\>", "<tag>", &[&["<tag>"]]);
        check(r"((?<=The answer is )(.*)(?=.))", "The answer is B.", &[&["B", "B"]]);
    }

    /// Expected: `re.sub` of CPython 3.11.
    #[test]
    fn replacements_are_those_of_python() {
        let check = |pattern: &str, by: &str, text: &str, expected: &str| {
            assert_eq!(
                PythonRegex::new(pattern).unwrap().replace(text, by, 0).unwrap(),
                expected,
                "{pattern}"
            );
        };
        check("(?s).*#### ", "", "a\n#### 1\n#### 2", "2");
        check(r"\$", "", "$1,250$", "1,250");
        check(r"(\w+) (\w+)", r"\2 \1", "a b, c d", "b a, d c");
        check(r"(?P<x>a)", r"[\g<x>]", "aba", "[a]b[a]");
        check("x*", "-", "abxd", "-a-b--d-");
        assert_eq!(PythonRegex::new("a").unwrap().replace("aaa", "b", 2).unwrap(), "bba");
    }

    #[test]
    fn a_bad_pattern_is_named() {
        assert!(PythonRegex::new("(a").unwrap_err().starts_with("pattern `(a`: "));
    }
}
