//! HellaSwag: the activity before the context, and no leftovers of the WikiHow pages that texts were taken from.

use std::sync::LazyLock;

use nexa_core::table::Row;
use regex::Regex;
use serde_json::Value;

use crate::harness::native::text;
use crate::harness::python;

/// Adds `query` and `choices`.
pub(super) fn prepare(document: &mut Row) -> Result<(), String> {
    let (first, second) = (text(document, "ctx_a")?, text(document, "ctx_b")?);
    let context = format!("{first} {}", python::capitalize(second));
    let query = clean(&format!("{}: {context}", text(document, "activity_label")?));
    let Some(Value::Array(endings)) = document.get("endings") else {
        return Err("there is no list in the field `endings`".to_owned());
    };
    let choices: Vec<Value> = endings.iter().map(|ending| clean(&python::text(ending)).into()).collect();
    document.insert("query".to_owned(), query.into());
    document.insert("choices".to_owned(), Value::Array(choices));
    Ok(())
}

fn clean(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[.*?\]").expect("the pattern is valid"));
    let text = python::strip(text).replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: by hand from the three steps.
    #[test]
    fn leftovers_are_cleaned() {
        let mut document = json!({
            "activity_label": "Baking", "ctx_a": "[header] How to bake [title] Mix. ", "ctx_b": "THEN you",
            "endings": [" stir [substeps] well.", "go  home."],
        });
        let document = document.as_object_mut().unwrap();
        prepare(document).unwrap();
        assert_eq!(document["query"], json!("Baking: How to bake. Mix. Then you"));
        assert_eq!(document["choices"], json!(["stir well.", "go home."]));
        document.remove("endings");
        assert!(prepare(document).unwrap_err().contains("`endings`"));
    }
}
