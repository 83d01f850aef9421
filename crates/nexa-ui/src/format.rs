//! Numbers, times and costs as people read them, beyond what the terminal shows in the same form.

use chrono::{DateTime, Utc};
use nexa_core::cost::Spend;
pub(crate) use nexa_core::format::{count, duration, size};
use serde::Serialize;
use serde_json::Value;

/// What stands where something is not known.
pub(crate) const UNKNOWN: &str = "—";

/// A cost in which unknown is never 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// In full: what is unknown is named.
    pub(crate) text: String,
    /// For tables.
    #[serde(skip)]
    pub(crate) short: String,
    /// US dollars; absent when no part of the price is known.
    usd: Option<f64>,
    /// What was used without a known price; not empty means that `usd` is a lower bound.
    unknown: Vec<String>,
    pub(crate) machine_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Cost {
    /// The cost of finished work.
    pub(crate) fn new(spend: &Spend) -> Self {
        Self::of_run(spend, false)
    }

    /// The cost of a run, which may still grow.
    pub(crate) fn of_run(spend: &Spend, is_open: bool) -> Self {
        let used =
            spend.machine_seconds > 0.0 || spend.requests > 0 || spend.usd > 0.0 || !spend.unknown.is_empty();
        let known = used && (spend.usd > 0.0 || spend.unknown.is_empty());
        let short = match (known, spend.unknown.is_empty()) {
            (true, true) => format!("${:.4}", spend.usd),
            (true, false) => format!("${:.4} + unknown", spend.usd),
            (false, _) => "unknown".to_owned(),
        };
        let so_far = |text: String| match (used, is_open) {
            (false, _) => UNKNOWN.to_owned(),
            (true, false) => text,
            (true, true) => format!("{text} so far"),
        };
        Self {
            text: so_far(spend.to_string()),
            short: so_far(short),
            usd: known.then_some(spend.usd),
            unknown: spend.unknown.clone(),
            machine_seconds: spend.machine_seconds,
            requests: spend.requests,
            prompt_tokens: spend.prompt_tokens,
            completion_tokens: spend.completion_tokens,
        }
    }
}

/// A duration that may not be known.
pub(crate) fn maybe_duration(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| UNKNOWN.to_owned(), duration)
}

/// A count of things, in the right number.
pub(crate) fn things(number: usize, one: &str) -> String {
    format!("{} {one}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

/// A count that may not be known.
pub(crate) fn maybe_count(value: Option<u64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), count)
}

/// A measured number with four significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (value.fract() == 0.0 && size < 1e15) {
        return format!("{value:.0}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6);
    format!("{value:.*}", decimals.unsigned_abs() as usize)
}

/// A moment, in UTC.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A JSON value as one text: strings bare, everything else as JSON.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first characters of a text, marked where some are missing.
pub(crate) fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use nexa_core::cost::Entry;

    use super::*;

    #[test]
    fn numbers() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(12.0, "12");
        check(0.123_456, "0.1235");
        check(-2.5, "-2.500");
        check(1234.5, "1234");
        check(0.000_3, "3.000e-4");
        check(f64::MAX, "1.798e308");
        assert_eq!((things(1, "run"), things(2000, "run")), ("1 run".to_owned(), "2,000 runs".to_owned()));
        assert_eq!(shorten("äöü", 2), "äö…");
    }

    #[test]
    fn an_unknown_cost_is_never_zero() {
        let check = |entries: &[Entry], is_open: bool, text: &str, short: &str, usd: Option<f64>| {
            let mut spend = Spend::default();
            entries.iter().for_each(|entry| spend.add(entry));
            let cost = Cost::of_run(&spend, is_open);
            assert_eq!((cost.text.as_str(), cost.short.as_str(), cost.usd), (text, short, usd));
        };
        let machine = |usd| Entry::Machine { seconds: 5.0, usd };
        check(&[], false, UNKNOWN, UNKNOWN, None);
        check(&[], true, UNKNOWN, UNKNOWN, None);
        check(&[machine(None)], false, "unknown (machine time)", "unknown", None);
        check(&[machine(Some(0.0))], false, "$0.0000", "$0.0000", Some(0.0));
        check(&[machine(Some(0.5))], true, "$0.5000 so far", "$0.5000 so far", Some(0.5));
        let both = [machine(Some(0.5)), machine(None)];
        check(&both, false, "$0.5000 + unknown (machine time)", "$0.5000 + unknown", Some(0.5));
    }
}
