//! Which items of two files are the same document.

use std::collections::HashMap;

use nexa_core::table::Row;
use serde_json::Value;

use super::samples::{Item, Samples};

/// Finds the items of the same document: by content, and where one side adds or lacks fields by the number of the document
/// and all fields that both have. Theirs come first.
pub(super) fn pairs<'a>(theirs: &'a Samples, ours: &'a Samples) -> Vec<(&'a Item, &'a Item)> {
    let mut by_content: HashMap<String, Vec<usize>> = HashMap::new();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (at, item) in ours.items.iter().enumerate().rev() {
        by_content.entry(canonical(&item.document)).or_default().push(at);
        by_id.insert(&item.id, at);
    }
    let mut is_taken = vec![false; ours.items.len()];
    let mut found: Vec<Option<usize>> = vec![None; theirs.items.len()];
    for (at, item) in theirs.items.iter().enumerate() {
        // The first of equal documents is at the end, and each is taken once.
        let same = by_content.get_mut(&canonical(&item.document)).and_then(Vec::pop);
        found[at] = same;
        same.into_iter().for_each(|own| is_taken[own] = true);
    }
    for (at, item) in theirs.items.iter().enumerate() {
        let own = by_id.get(item.id.as_str()).copied().filter(|own| found[at].is_none() && !is_taken[*own]);
        if let Some(own) = own.filter(|own| agree(&item.document, &ours.items[*own].document)) {
            found[at] = Some(own);
            is_taken[own] = true;
        }
    }
    let pair = |(item, own): (&'a Item, Option<usize>)| Some((item, &ours.items[own?]));
    theirs.items.iter().zip(found).filter_map(pair).collect()
}

/// A document as one text, whatever the order of its fields.
fn canonical(document: &Row) -> String {
    let mut fields: Vec<(&String, &Value)> = document.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    fields.iter().map(|(name, value)| format!("{name}\u{0}{value}\u{0}")).collect()
}

/// Whether two documents have a text in common, and differ in no field that both have.
fn agree(theirs: &Row, ours: &Row) -> bool {
    let mut shared = theirs.iter().filter_map(|(name, value)| Some((value, ours.get(name)?))).peekable();
    let mut has_text = false;
    shared.all(|(one, other)| {
        has_text |= one.is_string();
        one == other
    }) && has_text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn samples(documents: &[(&str, Value)]) -> Samples {
        let item = |(id, document): &(&str, Value)| Item {
            id: (*id).to_owned(),
            document: document.as_object().unwrap().clone(),
            target: String::new(),
            asked: Vec::new(),
            said: Value::Null,
            filtered: Default::default(),
        };
        Samples { items: documents.iter().map(item).collect() }
    }

    #[test]
    fn content_comes_before_numbers() {
        let theirs = samples(&[
            ("0", json!({"q": "b"})),
            ("1", json!({"q": "c", "id": 1, "extra": [2]})),
            ("2", json!({"q": "gone"})),
            ("3", json!({"q": "twice"})),
            ("4", json!({"q": "twice"})),
        ]);
        let ours = samples(&[
            ("0", json!({"q": "a"})),
            ("1", json!({"id": 1, "q": "c"})),
            ("5", json!({"q": "b"})),
            ("7", json!({"q": "twice"})),
            ("8", json!({"q": "twice"})),
            ("2", json!({"q": "other"})),
        ]);
        let found = pairs(&theirs, &ours);
        let ids: Vec<_> = found.iter().map(|(a, b)| (a.id.as_str(), b.id.as_str())).collect();
        assert_eq!(ids, [("0", "5"), ("1", "1"), ("3", "7"), ("4", "8")]);
    }
}
