//! The filters `regex_pos` and `format_span`, for tasks that tag words and name entities.

use serde_json::Value;

use crate::harness::python::{self, PythonRegex};

/// The tags of pairs such as `('word', 'NOUN')`, if there are any.
pub(super) fn parts_of_speech(text: &str) -> Option<Value> {
    let regex = PythonRegex::new(r"\('([^']*)', '([^']*)'\)").ok()?;
    let pairs = regex.find_all(text).ok()?;
    let tags: Vec<&str> = pairs.iter().filter_map(|groups| groups.get(1).copied()).collect();
    (!tags.is_empty()).then(|| Value::from(tags))
}

/// What models call the kinds of entities, and the kind that is meant.
const LABELS: [(&str, &str); 15] = [
    ("person", "PER"),
    ("location", "LOC"),
    ("organization", "ORG"),
    ("counties", "LOC"),
    ("places", "LOC"),
    ("people", "PER"),
    ("persons", "PER"),
    ("company", "ORG"),
    ("country", "LOC"),
    ("continent", "LOC"),
    ("time", "DATE"),
    ("date", "DATE"),
    ("per", "PER"),
    ("loc", "LOC"),
    ("org", "ORG"),
];

/// Brings entities into the form `label: entity $ label: entity`; those that are `none` are left out.
pub(super) fn format(text: &str) -> Result<String, String> {
    let mut text = text.to_lowercase();
    for (word, label) in LABELS {
        text = PythonRegex::new(&format!(r"\b{word}\s*:"))?.replace(&text, &format!("{label}:"), 0)?;
    }
    let text = text.replace("$$", "$");
    let text = text.trim_end_matches('$').replace('\n', "$");
    let found = PythonRegex::new(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")?;
    let mut entities = Vec::new();
    for groups in found.find_all(python::strip(&text))? {
        let [label, values] = groups.as_slice() else { continue };
        let values = values.split(',').map(python::strip).filter(|value| value.to_lowercase() != "none");
        entities.extend(values.map(|value| format!("{}: {value}", label.to_lowercase())));
    }
    Ok(entities.join(" $ "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: the two filters of lm-evaluation-harness, run on these texts.
    #[test]
    fn entities_and_tags_are_found() {
        assert_eq!(parts_of_speech("[('a', 'DET'), ('cat', 'NOUN')]"), Some(json!(["DET", "NOUN"])));
        assert_eq!(parts_of_speech("nothing"), None);
        let check = |text: &str, expected: &str| assert_eq!(format(text).as_deref(), Ok(expected), "{text}");
        check("Person: Ann, Bob $$ Location: none", "per: ann $ per: bob");
        check("LOC: Kenya, Uganda\nORG: UN$$", "loc: kenya $ loc: uganda $ org: un");
        check("nothing", "");
    }
}
