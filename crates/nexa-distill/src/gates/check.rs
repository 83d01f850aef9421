//! Checks of one's own: a pattern, a number, a schema or a command, each of them a gate.

mod command;
mod numeric_answer;
mod pattern;
mod schema;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Gate, Given};
use crate::{Error, Result};

pub use numeric_answer::NumericAnswer;

pub(super) const VERSION: u32 = 1;

/// A check. Exactly one of `regex`, `not_regex`, `numeric_answer`, `json_schema` and `command` says what is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    /// The name of the gate. Default: the word for what is checked.
    pub name: Option<String>,
    /// A pattern that answers must hold.
    pub regex: Option<String>,
    /// A pattern that answers must not hold.
    pub not_regex: Option<String>,
    /// A column with the number that answers must come to.
    pub numeric_answer: Option<NumericAnswer>,
    /// A file with the JSON schema of answers, as JSON or YAML.
    pub json_schema: Option<PathBuf>,
    /// A program with its arguments. It gets the row as JSON on its standard input; an answer passes where it ends with
    /// status 0, else the last line that it prints is the reason. Files among the arguments belong to the key.
    pub command: Option<Vec<String>>,
    /// Seconds after which a command counts as failed. Default 10.
    pub timeout_s: u32,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            name: None,
            regex: None,
            not_regex: None,
            numeric_answer: None,
            json_schema: None,
            command: None,
            timeout_s: 10,
        }
    }
}

impl Check {
    /// Files that it reads.
    pub(crate) fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let arguments = self.command.iter().flatten().map(|argument| folder.join(argument));
        let schema = self.json_schema.iter().map(|file| folder.join(file));
        schema.chain(arguments.filter(|path| path.is_file())).collect()
    }
}

/// Makes the gate of a check, which is named in errors by its position.
pub(super) fn gate(check: &Check, position: usize, given: &Given) -> Result<Gate> {
    let folder = &given.folder;
    let bad = |message: String| Error::BadCheck { position, message };
    let Check { name, regex, not_regex, numeric_answer, json_schema, command, timeout_s } = check;
    let named = |default: &str| name.clone().unwrap_or_else(|| default.to_owned());
    match (regex, not_regex, numeric_answer, json_schema, command) {
        (Some(regex), None, None, None, None) => pattern::must(named("regex"), regex).map_err(bad),
        (None, Some(regex), None, None, None) => pattern::must_not(named("not_regex"), regex).map_err(bad),
        (None, None, Some(answer), None, None) => {
            numeric_answer::gate(named("numeric_answer"), answer).map_err(bad)
        }
        (None, None, None, Some(file), None) => schema::gate(named("json_schema"), &folder.join(file)),
        (None, None, None, None, Some(words)) => {
            let [program, arguments @ ..] = words.as_slice() else {
                return Err(bad("`command` is empty".to_owned()));
            };
            let command = command::Command {
                program: program.clone(),
                arguments: arguments.to_vec(),
                folder: folder.to_owned(),
                timeout_s: *timeout_s,
                cancel: given.cancel.clone(),
            };
            Ok(command::gate(named("command"), command))
        }
        _ => Err(bad(
            "it has not exactly one of `regex`, `not_regex`, `numeric_answer`, `json_schema`, `command`"
                .to_owned(),
        )),
    }
}
