//! `nexa data inspect`: a row as the tokens that a model is trained on.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nexa_core::artifact::Kind;
use nexa_core::table::main_table;
use nexa_core::{ExitCode, config};
use nexa_train::{DataFile, Inspection, Source, Token, inspect, load_tokenizer};

use crate::app::App;
use crate::args::{Global, InspectArgs};
use crate::models;
use crate::render::{self, error::reported, table};

/// Prints a row: on a terminal what carries loss is green, elsewhere it stands in `⟦ ⟧`.
pub(crate) fn run(global: &Global, mut args: InspectArgs) -> Result<ExitCode> {
    // `nexa data inspect train_on_eos=all` names no data set.
    if let Some(first) = args.dataset.take_if(|first| first.contains('=') && !Path::new(first).exists()) {
        args.overrides.insert(0, first);
    }
    let app = App::open(global)?;
    let mut value = match &args.config {
        Some(path) => config::read_yaml(path)?,
        None => serde_json::json!({}),
    };
    config::apply_overrides(&mut value, &args.overrides)?;
    let place =
        args.config.as_ref().map_or_else(|| "command line".to_owned(), |path| path.display().to_string());
    let (config, base) = models::training_config(value, &place)?;

    let folder = match base.filter(|_| args.tokenizer.is_none()) {
        Some(base) => models::checkpoint(&app, &base)?.path(),
        None => tokenizer_folder(&app, args.tokenizer.as_deref())?,
    };
    let tokenizer = load_tokenizer(&config, &folder).map_err(reported)?;
    // Of several data sets, the one that was typed, else the first that the configuration names.
    let first = config.datasets.iter().find_map(|dataset| dataset.path.as_deref()?.to_str());
    let file = data_file(&app, &args, args.dataset.as_deref().or(first))?;
    let options = config.data_options(&file);
    let source = Source { path: &file.path, options: &options, tokenizer: &tokenizer, tables: &app.tables };
    let inspection = inspect(&source, usize::try_from(args.row)?).map_err(reported)?;
    if global.json {
        render::json(&inspection)?;
    } else {
        show(&inspection);
    }
    Ok(ExitCode::Success)
}

fn show(inspection: &Inspection) {
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let marks = if colours { ["\u{1b}[32m", "\u{1b}[0m"] } else { ["⟦", "⟧"] };
    for (position, tokens) in inspection.sequences.iter().enumerate() {
        let trained = tokens.iter().filter(|token| token.trained).count();
        let which = match (inspection.sequences.len(), position) {
            (1, _) => "",
            (_, 0) => ", chosen",
            _ => ", rejected",
        };
        let counts = [tokens.len(), trained].map(|count| table::count(count as u64));
        let id = &inspection.id;
        render::note(&format!("{id}{which}: {} tokens, {} carry loss", counts[0], counts[1]));
        render::out(&marked(tokens, marks));
    }
    for warning in &inspection.warnings {
        render::note(&format!("warning: {warning}"));
    }
}

/// The text, with marks around each run of tokens that carry loss.
fn marked(tokens: &[Token], [open, close]: [&str; 2]) -> String {
    let (mut text, mut inside) = (String::new(), false);
    for token in tokens {
        if token.trained != inside {
            text.push_str(if token.trained { open } else { close });
            inside = token.trained;
        }
        text.push_str(&token.text);
    }
    if inside {
        text.push_str(close);
    }
    text
}

/// The folder of a tokenizer that was named, else of the project's newest.
pub(super) fn tokenizer_folder(app: &App, named: Option<&str>) -> Result<PathBuf> {
    let Some(name) = named else {
        let artifact = app.store().latest(app.project()?.name(), Kind::Tokenizer)?;
        render::note(&format!("using {} as tokenizer", artifact.id()));
        return Ok(artifact.path());
    };
    let folder = Path::new(name);
    if folder.join("tokenizer.json").exists() {
        return Ok(folder.to_owned());
    }
    Ok(app.store().resolve(app.project()?.name(), name)?.path())
}

fn data_file(app: &App, args: &InspectArgs, named: Option<&str>) -> Result<DataFile> {
    let store = app.store();
    let artifact = match named {
        Some(path) if Path::new(path).is_file() => return Ok(PathBuf::from(path).into()),
        Some(name) => store.resolve(app.project()?.name(), name)?,
        None => {
            let artifact = store.latest(app.project()?.name(), Kind::SftDataset)?;
            render::note(&format!("using {} as data", artifact.id()));
            artifact
        }
    };
    let name = artifact.id().to_string();
    let file = match artifact.manifest.kind {
        Kind::Dataset => main_table(&artifact, &app.tables).unwrap_or(&args.file),
        _ => &args.file,
    };
    Ok(DataFile { name, path: artifact.file(file)?, split: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_trained_tokens_are_marked_once() {
        let token = |text: &str, trained| Token { id: 0, text: text.to_owned(), trained };
        let tokens =
            [token("a", false), token("b", true), token("c", true), token("d", false), token("e", true)];
        assert_eq!(marked(&tokens, ["<", ">"]), "a<bc>d<e>");
        assert_eq!(marked(&[], ["<", ">"]), "");
    }
}
