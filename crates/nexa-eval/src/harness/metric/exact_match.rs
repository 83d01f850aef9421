//! `exact_match`: whether two texts are the same once what does not count is taken out of both.

use crate::harness::python::PythonRegex;

/// What does not count.
#[derive(Debug, Default)]
pub(crate) struct ExactMatch {
    /// What is deleted first, in this order.
    pub(crate) ignored: Vec<PythonRegex>,
    /// Whether case counts for nothing.
    pub(crate) ignore_case: bool,
    /// Whether the punctuation of ASCII does.
    pub(crate) ignore_punctuation: bool,
    /// Whether the digits of ASCII do.
    pub(crate) ignore_numbers: bool,
}

impl ExactMatch {
    /// Whether two texts match.
    ///
    /// # Errors
    /// Fails where a search takes too many steps.
    pub(crate) fn is_match(&self, prediction: &str, reference: &str) -> Result<bool, String> {
        Ok(self.plain(prediction)? == self.plain(reference)?)
    }

    fn plain(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for regex in &self.ignored {
            text = regex.replace(&text, "", 0)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        let ignored = |c: char| {
            self.ignore_punctuation && c.is_ascii_punctuation() || self.ignore_numbers && c.is_ascii_digit()
        };
        text.retain(|c| !ignored(c));
        // The reference compares arrays of texts of one width, which drop zero characters at the end.
        Ok(text.trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `exact_match_hf_evaluate` of lm-evaluation-harness with the settings of `gsm8k`.
    #[test]
    fn gsm8k_compares_final_numbers() {
        let ignored = [",", r"\$", "(?s).*#### ", r"\.$"].map(|pattern| PythonRegex::new(pattern).unwrap());
        let metric = ExactMatch { ignored: ignored.into(), ignore_case: true, ..ExactMatch::default() };
        let check = |prediction: &str, reference: &str, expected: bool| {
            assert_eq!(metric.is_match(prediction, reference), Ok(expected), "{prediction} for {reference}");
        };
        check("1,234.", "so\n#### 1234", true);
        check("$18", "9 * 2 = 18\n#### 18", true);
        check("[invalid]", "#### 18", false);
        check("18.0", "#### 18", false);
        check("18 ", "#### 18", false);
    }

    #[test]
    fn what_is_ignored_does_not_count() {
        let metric = ExactMatch { ignore_punctuation: true, ignore_numbers: true, ..ExactMatch::default() };
        assert_eq!(metric.is_match("a1-b!", "ab"), Ok(true));
        assert_eq!(metric.is_match("A", "a"), Ok(false));
    }
}
