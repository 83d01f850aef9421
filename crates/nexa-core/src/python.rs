//! How Python prints, for what has to be equal to it to the letter: prompts of chat templates, and targets and samples of
//! the reference harness.

/// A float as `repr` writes it: the shortest digits that mean it, with an exponent below 1e-4 and from 1e16.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Adds a text as `repr` writes it: in single quotes, or in double ones where it holds single ones alone.
pub fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() && u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn values_print_as_in_python() {
        let quoted = |text: &str| {
            let mut out = String::new();
            quote(text, &mut out);
            out
        };
        assert_eq!(quoted("it's"), r#""it's""#);
        assert_eq!(quoted("say \"so\""), r#"'say "so"'"#);
        assert_eq!(quoted("a'b\"c"), r#"'a\'b"c'"#);
        assert_eq!(quoted("tab\tnew\nslash\\bell\u{7}next\u{85}"), r"'tab\tnew\nslash\\bell\x07next\x85'");
        let floats = [1.0, 1e-7, 1e16, 123_456_789.5, -0.0001, -0.0, f64::NAN, f64::NEG_INFINITY];
        let expected = ["1.0", "1e-07", "1e+16", "123456789.5", "-0.0001", "-0.0", "nan", "-inf"];
        assert_eq!(floats.map(float), expected);
    }
}
