//! Runs the binary in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A pipeline of the project `tutor`, from problems to answers that passed the gates, and further stages.
pub(crate) fn small_pipeline(more: &str) -> String {
    format!(
        "
pipeline: small
project: tutor
seed: 1
stages:
  problems: {{uses: distill.problems, with: {{problems: 60}}}}
  rows: {{uses: data.ingest, in: {{raw: problems}}}}
  inputs: {{uses: distill.inputs, in: {{dataset: rows}}}}
  outputs: {{uses: distill.collect, in: {{inputs: inputs}}, with: {{teacher: embedded}}}}
  filtered: {{uses: distill.filter, in: {{outputs: outputs}}}}
{more}"
    )
}

/// The stage of [`small_pipeline`] that packages the answers.
pub(crate) const PACKAGED: &str =
    "  sft: {uses: distill.package, in: {filtered: filtered}, with: {test_share: 0.2, validation_share: 0.1}}
";

pub(crate) struct Shell {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A shell in a lab with the project `tutor`.
    pub(crate) fn in_lab() -> Self {
        let shell = Self::new();
        assert_eq!(shell.run(&["init", "--project", "tutor"]).code, 0);
        shell
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command with an environment that holds no lab and no keys.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexa"));
        command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1");
        for name in ["NEXA_LAB", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "NEXA_API_KEY", "AWS_ACCESS_KEY_ID"]
        {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap(), self.folder.path())
    }
}

/// Replaces the temporary folder, so that output can be compared.
fn ran(output: Output, folder: &Path) -> Ran {
    let clean = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let canonical = folder.canonicalize().unwrap();
        text.replace(canonical.to_str().unwrap(), "LAB").replace(folder.to_str().unwrap(), "LAB")
    };
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: clean(&output.stdout),
        stderr: clean(&output.stderr),
    }
}
