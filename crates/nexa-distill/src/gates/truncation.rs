//! Rejects answers that were cut off or withheld.

use serde::{Deserialize, Serialize};

use super::{Answer, Gate};

/// How a whole answer is told from a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Truncation {
    /// Whether the gate is asked. Default true.
    pub enabled: bool,
    /// Text that every whole answer holds, such as `####`. Default: none, the provider's word is enough.
    pub end_marker: Option<String>,
}

impl Default for Truncation {
    fn default() -> Self {
        Self { enabled: true, end_marker: None }
    }
}

impl Gate for Truncation {
    fn name(&self) -> &'static str {
        "truncation"
    }

    fn version(&self) -> u32 {
        1
    }

    fn reject(&mut self, answer: &Answer<'_>) -> Option<String> {
        match (answer.finish_reason, &self.end_marker) {
            (Some(reason @ ("length" | "content_filter")), _) => Some(format!("finish reason `{reason}`")),
            (_, Some(marker)) if !answer.output.contains(marker.as_str()) => Some(format!("no `{marker}`")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finish_reason_or_a_marker_tells() {
        let check = |finish_reason: Option<&str>, marker: Option<&str>, expected: Option<&str>| {
            let mut gate = Truncation { end_marker: marker.map(str::to_owned), ..Truncation::default() };
            let answer = Answer { prompt: "", output: "1 + 1 = 2\n#### 2", finish_reason, reference: None };
            assert_eq!(gate.reject(&answer).as_deref(), expected);
        };
        check(Some("stop"), None, None);
        check(None, Some("####"), None);
        check(Some("length"), Some("####"), Some("finish reason `length`"));
        check(Some("content_filter"), None, Some("finish reason `content_filter`"));
        check(Some("stop"), Some("</answer>"), Some("no `</answer>`"));
    }
}
