//! The words of the Python command line that came before, put into those of today.
//!
//! `python orchestrate.py prepare_data`, `python -m nexa_distill.collect_teacher --src …` and the like: whoever types
//! `nexa` and then the old words gets what the new ones do. Words whose feature is not there yet answer so.

use std::ffi::OsString;

use clap::CommandFactory;

use crate::args::Args;

/// Old module or verb, and the words that replace it.
const WORDS: &[(&str, &[&str])] = &[
    ("prepare_data", &["prepare-data"]),
    ("nexa_data.prepare", &["prepare-data"]),
    ("nexa_distill.collect_teacher", &["distill", "collect"]),
    ("collect_teacher", &["distill", "collect"]),
    ("nexa_distill.filter_pairs", &["distill", "filter"]),
    ("filter_pairs", &["distill", "filter"]),
    ("sample_gate", &["distill", "judge"]),
    ("regenerate_bad", &["distill", "regenerate"]),
    ("nexa_distill.to_sft", &["distill", "package"]),
    ("to_sft", &["distill", "package"]),
    ("nexa_distill.ui_inspect", &["distill", "review"]),
    ("ui_inspect", &["distill", "review"]),
    ("nexa_train.distill", &["train"]),
    ("nexa_train.train", &["train"]),
    ("nexa_eval.analyze", &["evaluate"]),
    ("nexa_inference.server", &["inference"]),
    ("nexa_ui.leaderboard", &["ui"]),
    ("summary", &["doctor"]),
];

/// Words of the design that a later version will hold, and what can be done today instead.
const LATER: &[(&str, &str)] = &[
    (
        "provision",
        "machines of providers are not part of this version; copy the `nexa` binary to the machine and run it there",
    ),
    (
        "sync",
        "machines of providers are not part of this version; a lab is a folder and can be copied with rsync",
    ),
    (
        "teardown",
        "machines of providers are not part of this version; stop the machine with the provider's own tool",
    ),
    ("status", "machines of providers are not part of this version; `nexa runs list` shows what runs here"),
    (
        "logs",
        "machines of providers are not part of this version; `nexa runs show RUN` names the log of a run",
    ),
    (
        "pull",
        "machines of providers are not part of this version; a lab is a folder and can be copied with rsync",
    ),
    ("build-containers", "containers are not part of this version; the binary needs none"),
    ("build_containers", "containers are not part of this version; the binary needs none"),
    (
        "sweep",
        "sweeps are not part of this version; run `nexa train` with `key=value` overrides and compare in `nexa ui`",
    ),
    (
        "tune",
        "sweeps are not part of this version; run `nexa train` with `key=value` overrides and compare in `nexa ui`",
    ),
];

/// Replaces old words at the place of the command.
pub(crate) fn rewrite(arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(first) = arguments.get(1).and_then(|word| word.to_str()) else { return arguments };
    let Some((_, words)) = WORDS.iter().find(|(old, _)| *old == first) else { return arguments };
    let mut rewritten = vec![arguments[0].clone()];
    rewritten.extend(words.iter().map(OsString::from));
    rewritten.extend_from_slice(&arguments[2..]);
    rewritten
}

/// What to answer to a word that is not a command.
pub(crate) fn answer(word: &str) -> anyhow::Error {
    let bare = word.rsplit('.').next().unwrap_or(word);
    match LATER.iter().find(|(later, _)| *later == bare) {
        Some((_, answer)) => anyhow::anyhow!("`nexa {word}`: {answer}"),
        None => {
            let arguments = Args::command();
            let known = arguments
                .get_subcommands()
                .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_all_aliases()));
            let hint = nexa_core::config::nearest(word, known)
                .map(|nearest| format!("; did you mean `nexa {nearest}`?"))
                .unwrap_or_default();
            anyhow::anyhow!("there is no command `{word}`{hint}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_words_become_new_ones_and_keep_their_options() {
        let check = |typed: &[&str], expected: &[&str]| {
            let typed = typed.iter().map(OsString::from).collect();
            assert_eq!(rewrite(typed), expected.iter().map(OsString::from).collect::<Vec<_>>());
        };
        check(
            &["nexa", "nexa_distill.collect_teacher", "--src", "x", "--teacher", "openrouter:openai/gpt-4o"],
            &["nexa", "distill", "collect", "--src", "x", "--teacher", "openrouter:openai/gpt-4o"],
        );
        check(&["nexa", "to_sft"], &["nexa", "distill", "package"]);
        check(&["nexa", "train", "to_sft"], &["nexa", "train", "to_sft"]);
        check(&["nexa"], &["nexa"]);
    }

    #[test]
    fn words_of_a_later_version_say_so() {
        assert!(answer("provision").to_string().contains("not part of this version"));
        assert!(answer("evalute").to_string().contains("did you mean `nexa evaluate`?"));
    }
}
