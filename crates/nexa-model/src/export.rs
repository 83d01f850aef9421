//! A checkpoint's folder for other programs, with the weights in files of a size of one's choice.

use std::path::Path;

use nexa_core::Error as CoreError;
use nexa_core::files::{create_folder, remove, sync_folder, walk};

use crate::Error;
use crate::files::WEIGHTS_INDEX;
use crate::weights::{self, Source, weight_files};

/// Copies the files of a model to a folder that is new or empty, the weights in files of at most `shard_bytes`.
///
/// # Errors
/// Fails on a folder that holds something, and names the file that cannot be read or written; the folder is then left as
/// it was.
pub fn export(model: &Path, output: &Path, shard_bytes: u64) -> Result<(), Error> {
    let was_there = output.exists();
    create_folder(output)?;
    if !walk(output)?.is_empty() {
        return Err(Error::NotEmpty(output.to_owned()));
    }
    let result = write(model, output, shard_bytes);
    if result.is_err() {
        remove(output)?;
        if was_there {
            create_folder(output)?;
        }
    }
    result
}

fn write(model: &Path, output: &Path, shard_bytes: u64) -> Result<(), Error> {
    let source = Source::open(model)?;
    let mut weights = weight_files(model)?;
    weights.push(model.join(WEIGHTS_INDEX));
    for name in walk(model)? {
        let (from, to) = (model.join(&name), output.join(&name));
        if weights.contains(&from) {
            continue;
        }
        create_folder(to.parent().unwrap_or(output))?;
        std::fs::copy(&from, &to).map_err(|error| CoreError::io("copy", &from, error))?;
    }
    weights::copy(&source, output, shard_bytes)?;
    Ok(sync_folder(output)?)
}

#[cfg(test)]
mod tests {
    use nexa_core::lm::Tokenizer as _;
    use nexa_core::{Diagnose as _, ExitCode};

    use super::*;
    use crate::config::tests::small;
    use crate::files::WEIGHTS;
    use crate::tokenizer::tests::sample;
    use crate::weights::tests::scattered;
    use crate::{Checkpoint, DecoderConfig};

    #[test]
    fn a_model_is_the_same_in_files_of_any_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let [model, split, whole] = ["model", "split", "whole"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(model.join("adapter")).expect("a folder");
        std::fs::write(model.join("adapter/adapter_config.json"), "{}").expect("writes");
        let tokenizer = sample();
        let weights = scattered(&DecoderConfig { vocab_size: tokenizer.vocab_size(), ..small() });
        Checkpoint::save(&model, &weights, &tokenizer).expect("saves");
        for (from, to, shard_bytes, is_split) in
            [(&model, &split, 8000, true), (&split, &whole, 1 << 30, false)]
        {
            export(from, to, shard_bytes).expect("exports");
            assert_eq!(to.join(WEIGHTS).exists(), !is_split);
            assert_eq!(to.join(WEIGHTS_INDEX).exists(), is_split);
            assert!(to.join("adapter/adapter_config.json").exists());
            assert_eq!(Checkpoint::load(to).expect("loads").weights.values(), weights.values());
        }
        assert_eq!(walk(&model).expect("lists"), walk(&whole).expect("lists"));
    }

    #[test]
    fn what_a_folder_holds_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("output");
        std::fs::create_dir(&output).expect("a folder");
        std::fs::write(output.join("mine"), "x").expect("writes");
        let error = export(folder.path(), &output, 1).expect_err("is not empty");
        assert!(error.to_string().ends_with("the folder is not empty"), "{error}");
        assert_eq!((error.exit_code(), error.hint().is_some()), (ExitCode::Usage, true));
        assert_eq!(walk(&output).expect("lists"), [Path::new("mine")]);
    }

    #[test]
    fn a_model_that_cannot_be_read_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [model, new, empty] = ["model", "new", "empty"].map(|name| folder.path().join(name));
        for folder in [&model, &empty] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let tokenizer = sample();
        let weights = scattered(&DecoderConfig { vocab_size: tokenizer.vocab_size(), ..small() });
        Checkpoint::save(&model, &weights, &tokenizer).expect("saves");
        std::fs::create_dir(model.join("z")).expect("a folder");
        std::os::unix::fs::symlink("nowhere", model.join("z/broken")).expect("links");
        for output in [&new, &empty] {
            let error = export(&model, output, 1 << 30).expect_err("a file cannot be read").to_string();
            assert!(error.contains("z/broken"), "{error}");
        }
        assert!(!new.exists() && empty.exists() && walk(&empty).expect("lists").is_empty());
    }
}
