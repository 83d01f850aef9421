//! WinoGrande: each option goes into the gap of a sentence, and what follows the gap is scored.

use nexa_core::table::Row;
use serde_json::Value;

use crate::harness::native::text;
use crate::harness::python;

/// Adds `answer_index`, `contexts` and `rest`.
pub(super) fn prepare(document: &mut Row) -> Result<(), String> {
    let (before, after) = text(document, "sentence")?
        .split_once('_')
        .ok_or_else(|| "the field `sentence` has no gap, which is written `_`".to_owned())?;
    let options = [text(document, "option1")?, text(document, "option2")?];
    let contexts: Vec<Value> = options.iter().map(|option| format!("{before}{option}").into()).collect();
    let rest = python::strip(after).to_owned();
    let index = match document.get("answer").map(python::text).as_deref() {
        Some("1") => 0,
        Some("2") => 1,
        other => {
            return Err(format!("the field `answer` is {}, neither 1 nor 2", other.unwrap_or("missing")));
        }
    };
    document.insert("answer_index".to_owned(), index.into());
    document.insert("contexts".to_owned(), Value::Array(contexts));
    document.insert("rest".to_owned(), rest.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sentence_is_cut_at_its_gap() {
        let mut document = json!({"sentence": "Ann thanked Bob because _ helped.", "option1": "Ann", "option2": "Bob", "answer": "2"});
        let document = document.as_object_mut().unwrap();
        prepare(document).unwrap();
        let contexts = json!(["Ann thanked Bob because Ann", "Ann thanked Bob because Bob"]);
        assert_eq!(
            (&document["contexts"], &document["rest"], &document["answer_index"]),
            (&contexts, &json!("helped."), &json!(1))
        );
        document["answer"] = json!("3");
        assert!(prepare(document).unwrap_err().contains("neither 1 nor 2"));
    }
}
