//! Personal data and secrets: found by their form, validated, and replaced by placeholders. What was found is kept
//! nowhere: not in tables, reports or messages, only counts by kind are.
//!
//! Within a row equal values get equal placeholders (`<EMAIL_1>`), so that a text still says who is who.

mod patterns;
mod validate;

use std::collections::BTreeMap;
use std::ops::Range;

use regex::{Regex, RegexSet};
use serde::{Deserialize, Serialize};

use patterns::Pattern;

/// What is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitive {
    /// Keys of services, tokens, private keys.
    Secret,
    /// An e-mail address.
    Email,
    /// A public address of the internet, version 4 or 6.
    IpAddress,
    /// An international bank account number, its check digits and form right.
    Iban,
    /// A number of a payment card: issuer, length and check digit right.
    CreditCard,
    /// A social security number of the United States that may have been given out.
    UsSsn,
    /// A telephone number that a numbering plan knows.
    Phone,
}

impl Sensitive {
    /// Every kind. Where two would replace the same place, the earlier one does.
    pub const ALL: [Self; 7] =
        [Self::Secret, Self::Email, Self::IpAddress, Self::Iban, Self::CreditCard, Self::UsSsn, Self::Phone];

    /// The word in placeholders.
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::Email => "EMAIL",
            Self::IpAddress => "IP_ADDRESS",
            Self::Iban => "IBAN",
            Self::CreditCard => "CREDIT_CARD",
            Self::UsSsn => "US_SSN",
            Self::Phone => "PHONE",
        }
    }
}

/// How often each kind was replaced.
pub type Counts = BTreeMap<Sensitive, u64>;

/// Finds and replaces some kinds of sensitive values.
#[derive(Debug)]
pub struct Redactor {
    /// All patterns at once: most texts hold nothing and are done after one look.
    any: RegexSet,
    patterns: Vec<(&'static Pattern, Regex)>,
}

/// A value that was found at a place of a text.
struct Found {
    start: usize,
    end: usize,
    kind: Sensitive,
}

impl Redactor {
    /// Prepares to replace some kinds.
    pub fn new(kinds: &[Sensitive]) -> Self {
        let wanted = || patterns::ALL.iter().filter(|pattern| kinds.contains(&pattern.kind));
        let compile = |pattern: &'static Pattern| {
            (pattern, Regex::new(pattern.regex).expect("the pattern is a constant that the tests compile"))
        };
        let any = RegexSet::new(wanted().map(|pattern| pattern.regex))
            .expect("the patterns are constants that the tests compile");
        Self { any, patterns: wanted().map(compile).collect() }
    }

    /// Begins a row: placeholders count from 1 again.
    pub fn row(&self) -> RowRedactor<'_> {
        RowRedactor { redactor: self, placeholders: Vec::new(), counts: Counts::new() }
    }

    /// Where valid values stand in a text, in bytes and in order, none over another.
    pub fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.find(text).into_iter().map(|found| found.start..found.end).collect()
    }

    /// The valid values in a text, in order, none over another.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for index in self.any.matches(text) {
            let (pattern, regex) = &self.patterns[index];
            for captures in regex.captures_iter(text) {
                // A group named `value` marks the part that counts, where the pattern needs its surroundings.
                let Some(value) = captures.name("value").or_else(|| captures.get(0)) else { continue };
                let (start, end) = (value.start(), value.end());
                let is_free = found.iter().all(|other| end <= other.start || other.end <= start);
                if is_free && stands_alone(text, start, end) && (pattern.is_valid)(value.as_str()) {
                    found.push(Found { start, end, kind: pattern.kind });
                }
            }
        }
        found.sort_by_key(|found| found.start);
        found
    }
}

/// Whether neither end of a value lies inside a longer word or number.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (value, before, behind) = (&text[start..end], &text[..start], &text[end..]);
    let goes_on = value.ends_with(is_word)
        && (behind.starts_with(is_word)
            || behind.strip_prefix('.').is_some_and(|more| more.starts_with(is_digit)));
    let began = value.starts_with(is_word)
        && (before.ends_with(is_word)
            || before.strip_suffix('.').is_some_and(|more| more.ends_with(is_digit)));
    !goes_on && !began
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Replaces the values of one row, which may have several texts. It holds the values, so it is never printed.
pub struct RowRedactor<'a> {
    redactor: &'a Redactor,
    /// The values of this row, each by its kind; the placeholder's number is the place among those of its kind.
    placeholders: Vec<(Sensitive, String)>,
    counts: Counts,
}

impl RowRedactor<'_> {
    /// Replaces what is sensitive in a text; nothing where nothing is.
    pub fn redact(&mut self, text: &str) -> Option<String> {
        let found = self.redactor.find(text);
        if found.is_empty() {
            return None;
        }
        let mut redacted = String::with_capacity(text.len());
        let mut from = 0;
        for Found { start, end, kind } in found {
            redacted.push_str(&text[from..start]);
            let number = self.number(kind, &text[start..end]);
            redacted.push_str(&format!("<{}_{number}>", kind.word()));
            *self.counts.entry(kind).or_default() += 1;
            from = end;
        }
        redacted.push_str(&text[from..]);
        Some(redacted)
    }

    /// How often each kind was replaced in this row.
    pub fn finish(self) -> Counts {
        self.counts
    }

    fn number(&mut self, kind: Sensitive, value: &str) -> usize {
        let of_kind = |known: &&(Sensitive, String)| known.0 == kind;
        let known = self.placeholders.iter().filter(of_kind).position(|(_, known)| known == value);
        known.map_or_else(
            || {
                self.placeholders.push((kind, value.to_owned()));
                self.placeholders.iter().filter(of_kind).count()
            },
            |position| position + 1,
        )
    }
}

#[cfg(test)]
mod tests;
