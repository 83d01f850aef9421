//! `GET /openapi.json`: every route as an OpenAPI document.
//!
//! The document is written by hand, as requests are read by hand; tests hold it against the routes, the parsers and real
//! replies, which would fail on a field that either does not know.

use std::sync::LazyLock;

use axum::Json;
use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value =
        serde_json::from_str(include_str!("openapi.json")).expect("a test reads the document");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
});

/// Gives the document.
pub(super) async fn document() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, json};

    use super::*;
    use crate::api::{parse_body, routes};

    fn object<'a>(value: &'a Value, place: &str) -> &'a Map<String, Value> {
        value.as_object().unwrap_or_else(|| panic!("{place} is no object"))
    }

    #[test]
    fn the_routes_are_those_of_the_document() {
        let mut documented = BTreeSet::new();
        for (path, operations) in object(&DOCUMENT["paths"], "paths") {
            for method in object(operations, path).keys() {
                documented.insert((method.clone(), path.clone()));
            }
        }
        let routed: BTreeSet<_> =
            routes().into_iter().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        let pointer = target.strip_prefix('#').expect("references are within the document");
                        assert!(DOCUMENT.pointer(pointer).is_some(), "{target}");
                    }
                    map.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(&DOCUMENT);
    }

    #[test]
    fn what_requests_may_have_is_read_by_their_routes() {
        let mut checked = 0;
        for (path, operations) in object(&DOCUMENT["paths"], "paths") {
            let body = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
            let Some(target) = body["$ref"].as_str() else { continue };
            let schema = DOCUMENT.pointer(&target[1..]).expect("references lead somewhere");
            let properties = object(&schema["properties"], target);
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut least: Map<String, Value> =
                required.iter().map(|&name| (name.to_owned(), properties[name]["example"].clone())).collect();
            if path == "/tokenize" {
                least.insert("prompt".to_owned(), json!("x"));
            }
            for (name, property) in properties {
                let Some(example) = property.get("example") else { continue };
                let mut request = least.clone();
                request.insert(name.clone(), example.clone());
                let request = Value::Object(request).to_string();
                assert_eq!(parse_body(path, request.as_bytes()), Ok(()), "{path}: {request}");
                checked += 1;
            }
            let unknown = json!({"no_such_parameter": 1}).to_string();
            assert_eq!(parse_body(path, unknown.as_bytes()), Err(400), "{path}");
        }
        assert!(checked > 50, "{checked}");
    }
}
