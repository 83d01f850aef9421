//! `nexa data gc`: removes old versions that nothing needs.

use anyhow::Result;
use nexa_core::ExitCode;
use nexa_core::artifact::{ArtifactId, Collected, Collection, Retention};
use nexa_core::index::Index;
use serde_json::json;

use crate::app::{self, App};
use crate::args::{GcArgs, Global};
use crate::render::{self, table};

/// Says what would go and why the rest stays, or removes it.
pub(crate) fn run(global: &Global, args: &GcArgs) -> Result<ExitCode> {
    let app = App::open(global)?;
    let defaults = app.lab.settings().retention;
    let keep_last = args.keep_last.map(usize::try_from).transpose()?;
    let retention = Retention {
        keep_last: keep_last.unwrap_or(defaults.keep_last),
        older_than: args.older_than.or(defaults.older_than),
    };
    let collection = Collection { lab: &app.lab, project: app.project()?, retention };
    let collected = if args.yes {
        let by = app::user().unwrap_or_else(|| "unknown".to_owned());
        let collected = collection.remove(&by)?;
        forget(&app, &collected);
        collected
    } else {
        collection.plan()?
    };
    if global.json {
        let mut value = json!(collected);
        value["done"] = json!(args.yes);
        value["retention"] = json!(retention);
        render::json(&value)?;
    } else {
        show(&app, &collected, args.yes);
    }
    Ok(ExitCode::Success)
}

/// Takes what was removed out of the index, which can be rebuilt, and so stops nothing.
fn forget(app: &App, collected: &Collected) {
    let ids: Vec<ArtifactId> = collected.removed.iter().map(|gone| gone.id.clone()).collect();
    if let Err(error) = Index::open(&app.lab).and_then(|mut index| index.forget(&ids)) {
        render::note(&format!("warning: {error}; `nexa doctor --reindex` builds the index again"));
    }
}

fn show(app: &App, collected: &Collected, is_done: bool) {
    let Collected { removed, kept, swept } = collected;
    let goes = if is_done { "removed" } else { "would go" };
    let cells = |name: String, what: String, bytes: u64| vec![name, what, table::size(bytes)];
    let mut gone: Vec<Vec<String>> =
        removed.iter().map(|one| cells(one.id.to_string(), one.kind.to_string(), one.bytes)).collect();
    gone.extend(swept.iter().map(|one| cells(app.show(&one.path), one.what.as_str().to_owned(), one.bytes)));
    if !gone.is_empty() {
        render::out(&table::table(&[goes, "what", "size"], &gone));
        render::out("");
    }
    let why: Vec<Vec<String>> = kept
        .iter()
        .map(|one| {
            let reasons: Vec<String> = one.reasons.iter().map(ToString::to_string).collect();
            vec![one.id.to_string(), reasons.join("; ")]
        })
        .collect();
    if !why.is_empty() {
        render::out(&table::table(&["kept", "because"], &why));
    }
    let bytes: u64 = removed.iter().map(|one| one.bytes).chain(swept.iter().map(|one| one.bytes)).sum();
    let told = format!(
        "{} artifacts and {} leftovers, {}",
        table::count(removed.len() as u64),
        table::count(swept.len() as u64),
        table::size(bytes)
    );
    render::note(&match (is_done, gone.is_empty()) {
        (_, true) => "nothing to remove".to_owned(),
        (true, false) => format!("removed: {told}; their manifests are kept"),
        (false, false) => format!("would remove: {told}; `--yes` removes them"),
    });
}
