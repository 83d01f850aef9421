//! `ast.literal_eval`: the values that Python source spells, for templates that print lists.

use serde_json::{Map, Number, Value};

/// Reads a literal; a tuple or set becomes a list.
///
/// # Errors
/// Says at which character the text is no literal.
pub(crate) fn literal(text: &str) -> Result<Value, String> {
    // Blanks before the value are an indented line to Python, but its own function strips them.
    let mut reader = Reader { text: text.trim_start_matches([' ', '\t']), at: 0 };
    let value = reader.value()?;
    reader.blank();
    if reader.at < reader.text.len() { Err(reader.unexpected()) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, String> {
        self.blank();
        match self.peek() {
            Some('[') => self.list(']').map(|(items, _)| Value::Array(items)),
            Some('(') => {
                let (mut items, has_comma) = self.list(')')?;
                // One value in parentheses is that value.
                Ok(if items.len() == 1 && !has_comma { items.remove(0) } else { Value::Array(items) })
            }
            Some('{') => self.map(),
            Some('\'' | '"') => self.strings(),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            Some(c) if c.is_alphabetic() => self.word(),
            _ => Err(self.unexpected()),
        }
    }

    fn list(&mut self, close: char) -> Result<(Vec<Value>, bool), String> {
        self.next();
        let (mut items, mut has_comma) = (Vec::new(), false);
        loop {
            self.blank();
            if self.take(close) {
                return Ok((items, has_comma));
            }
            if !items.is_empty() && !std::mem::take(&mut has_comma) {
                return Err(self.unexpected());
            }
            items.push(self.value()?);
            self.blank();
            has_comma = self.take(',');
        }
    }

    fn map(&mut self) -> Result<Value, String> {
        self.next();
        let mut map = Map::new();
        let mut items = Vec::new();
        loop {
            self.blank();
            if self.take('}') {
                return Ok(if items.is_empty() { Value::Object(map) } else { Value::Array(items) });
            }
            let key = self.value()?;
            self.blank();
            if self.take(':') {
                let value = self.value()?;
                map.insert(super::text(&key), value);
            } else {
                items.push(key);
            }
            self.blank();
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.unexpected());
            }
        }
    }

    /// Texts that stand side by side are one.
    fn strings(&mut self) -> Result<Value, String> {
        let mut out = String::new();
        while let Some(quote @ ('\'' | '"')) = self.peek() {
            let triple = quote.to_string().repeat(3);
            let end = if self.text[self.at..].starts_with(&triple) { triple } else { quote.to_string() };
            self.at += end.len();
            while !self.text[self.at..].starts_with(&end) {
                match self.next() {
                    Some('\\') => self.escape(&mut out)?,
                    Some('\n') if end.len() == 1 => return Err(self.unexpected()),
                    Some(c) => out.push(c),
                    None => return Err("the text ends inside a string".to_owned()),
                }
            }
            self.at += end.len();
            self.blank();
        }
        Ok(Value::String(out))
    }

    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let hex = |reader: &mut Self, digits: usize| {
            let code = reader.text.get(reader.at..reader.at + digits);
            let code = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
            reader.at += digits;
            code.ok_or_else(|| reader.unexpected())
        };
        let c = match self.next() {
            Some('\n') => return Ok(()),
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('v') => '\u{b}',
            Some('0') => '\0',
            Some('x') => hex(self, 2)?,
            Some('u') => hex(self, 4)?,
            Some('U') => hex(self, 8)?,
            Some(c @ ('\\' | '\'' | '"')) => c,
            Some(c) => {
                // What is no escape stands for itself, backslash and all.
                out.push('\\');
                c
            }
            None => return Err("the text ends inside a string".to_owned()),
        };
        out.push(c);
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let sign = rest.len() - rest.trim_start_matches(['+', '-']).len();
        let mut end = sign;
        for c in rest[sign..].chars() {
            let after_exponent = matches!(c, '+' | '-') && rest[..end].ends_with(['e', 'E']);
            if !is_part(c) && !after_exponent {
                break;
            }
            end += c.len_utf8();
        }
        let text = rest[..end].replace(['_', '+'], "");
        let number = match text.parse::<i64>() {
            Ok(whole) => Some(Number::from(whole)),
            Err(_) => text.parse().ok().and_then(Number::from_f64),
        };
        let number = number.ok_or_else(|| self.unexpected())?;
        self.at += end;
        Ok(Value::Number(number))
    }

    fn word(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        for (word, value) in [("None", Value::Null), ("True", true.into()), ("False", false.into())] {
            if rest.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected())
    }

    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn unexpected(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("unexpected `{c}` at character {}", self.text[..self.at].chars().count() + 1),
            None => "the text ends too early".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: CPython 3.11, with tuples and sets as lists.
    #[test]
    fn literals_are_read_as_by_python() {
        let check = |text: &str, expected: Value| assert_eq!(literal(text), Ok(expected), "{text}");
        check(r#"['it\'s', "say \"so\"", 'a' 'b']"#, json!(["it's", "say \"so\"", "ab"]));
        check("[1, -2, 3.5, 1e3, True, None,]", json!([1, -2, 3.5, 1000.0, true, null]));
        check("('a',)", json!(["a"]));
        check("('a')", json!("a"));
        check("{'a': [1], 'b': ()}", json!({"a": [1], "b": []}));
        check(r"'\x41\u00e9\n\q'", json!("Aé\n\\q"));
        check("  7 ", json!(7));
        check("{1, 2}", json!([1, 2]));
    }

    #[test]
    fn what_is_no_literal_is_refused() {
        let check = |text: &str, expected: &str| assert_eq!(literal(text), Err(expected.to_owned()));
        check("[1, 2", "the text ends too early");
        check("[1 2]", "unexpected `2` at character 4");
        check("a + b", "unexpected `a` at character 1");
        check("['x]", "the text ends inside a string");
        check("", "the text ends too early");
    }
}
