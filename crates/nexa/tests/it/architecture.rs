//! The edges and owners that ARCHITECTURE.md draws are those of the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate may use, besides itself. The binary may use all.
const EDGES: &[(&str, &[&str])] = &[
    ("nexa-core", &[]),
    ("nexa-data", &["nexa-core"]),
    ("nexa-distill", &["nexa-core"]),
    ("nexa-model", &["nexa-core"]),
    ("nexa-train", &["nexa-core", "nexa-model"]),
    ("nexa-eval", &["nexa-core"]),
    ("nexa-serve", &["nexa-core"]),
    ("nexa-ui", &["nexa-core"]),
];

/// Who may name a heavy dependency. A trailing `*` stands for any ending.
const OWNERS: &[(&str, &[&str])] = &[
    ("arrow*", &["nexa-data"]),
    ("parquet", &["nexa-data"]),
    ("datafusion*", &["nexa-data"]),
    ("object_store", &["nexa-data"]),
    ("burn*", &["nexa-model", "nexa-train"]),
    ("tokenizers", &["nexa-model"]),
    ("minijinja*", &["nexa-eval", "nexa-model"]),
    ("fancy-regex", &["nexa-eval"]),
    ("hf-hub", &["nexa-model"]),
    ("safetensors", &["nexa-model", "nexa-train"]),
    ("reqwest", &["nexa-distill"]),
    ("ureq", &["nexa-train"]),
    ("rustls", &["nexa-distill"]),
    ("hyper*", &["nexa-serve", "nexa-ui"]),
    ("llguidance", &["nexa-serve"]),
    ("subtle", &["nexa-serve"]),
    ("whatlang", &["nexa-data", "nexa-distill", "nexa-eval"]),
    ("phonenumber", &["nexa-data"]),
    ("iban_validate", &["nexa-data"]),
    ("card-validate", &["nexa-data"]),
    ("jsonschema", &["nexa-distill"]),
    ("rusqlite", &["nexa-core"]),
    ("maud", &["nexa-ui"]),
    ("plotly", &["nexa-ui"]),
    ("axum", &["nexa-distill", "nexa-serve", "nexa-ui"]),
    ("clap", &["nexa"]),
    ("crossterm", &["nexa"]),
    ("indicatif", &["nexa"]),
    ("anyhow", &["nexa"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names in `[dependencies]` of every crate's manifest.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let mut names = BTreeSet::new();
        let mut inside = false;
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[dependencies]"
                    || line.starts_with("[target.") && line.ends_with(".dependencies]");
            } else if inside && !line.is_empty() && !line.starts_with('#') {
                let name = line.split(['.', '=', ' ']).next().unwrap();
                names.insert(name.to_owned());
            }
        }
        found.insert(folder.file_name().unwrap().to_str().unwrap().to_owned(), names);
    }
    found
}

#[test]
fn crates_use_only_what_the_design_draws() {
    let dependencies = dependencies();
    for (name, used) in &dependencies {
        if name == "nexa" {
            continue;
        }
        let (_, allowed) =
            EDGES.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} is not drawn"));
        for other in used.iter().filter(|other| other.starts_with("nexa")) {
            assert!(allowed.contains(&other.as_str()), "{name} must not use {other}: see ARCHITECTURE.md");
        }
    }
    assert_eq!(dependencies.len(), EDGES.len() + 1, "every drawn crate exists");
}

#[test]
fn heavy_dependencies_stay_with_their_owners() {
    for (name, used) in dependencies() {
        for (heavy, owners) in OWNERS {
            let named = used.iter().any(|other| match heavy.strip_suffix('*') {
                Some(start) => other.starts_with(start),
                None => other == heavy,
            });
            assert!(
                !named || owners.contains(&name.as_str()),
                "{name} must not use {heavy}: it belongs to {owners:?}"
            );
        }
    }
}

#[test]
fn the_map_names_every_crate() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in dependencies().keys() {
        assert!(map.contains(&format!("| `{name}` |")), "ARCHITECTURE.md does not tell what {name} is for");
    }
}
