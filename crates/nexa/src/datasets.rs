//! The data sets that a training configuration names.

use anyhow::Result;
use nexa_core::Error;
use nexa_core::artifact::Kind;
use serde_json::Value;

use crate::app::App;
use crate::args::StageArgs;
use crate::render;

/// The role of data sets.
const ROLE: &str = "sft_dataset";
/// The keys of an entry that name a data set.
const NAMES: [&str; 2] = ["path", "name"];

/// Makes inputs of the data sets that `datasets` names. What is typed with `--in` stands over the configuration, and a
/// name that the lab does not know is left to the stage: it may be that of a file.
pub(crate) fn with_named(app: &App, value: &Value, args: &mut StageArgs) -> Result<()> {
    let is_data = |input: &String| input.split_once('=').is_some_and(|(role, _)| role.starts_with(ROLE));
    if args.inputs.iter().any(is_data) {
        return Ok(());
    }
    for name in named(value) {
        let artifact = match app.store().resolve(app.project()?.name(), name) {
            Err(Error::NotFound { .. }) => continue,
            found => found?,
        };
        artifact.expect_kind(Kind::SftDataset)?;
        render::note(&format!("using {} as {ROLE}", artifact.id()));
        args.inputs.push(format!("{ROLE}={}", artifact.id()));
    }
    Ok(())
}

/// The names in `datasets`, in their order.
fn named(value: &Value) -> impl Iterator<Item = &str> {
    let entries = value.get("datasets").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| NAMES.iter().find_map(|key| entry.get(key)?.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_their_order_in_either_spelling() {
        let check = |value: Value, expected: &[&str]| {
            assert_eq!(named(&value).collect::<Vec<_>>(), expected);
        };
        check(serde_json::json!({}), &[]);
        check(serde_json::json!({"datasets": 3}), &[]);
        check(
            serde_json::json!({"datasets": [{"name": "b", "weight": 1}, {"type": "text"}, {"path": "a_v1"}]}),
            &["b", "a_v1"],
        );
    }
}
