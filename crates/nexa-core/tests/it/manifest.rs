//! Stored formats: every version that was ever written can be read, a newer one is refused.

use std::path::{Path, PathBuf};

use nexa_core::artifact::{MANIFEST_VERSION, Manifest};
use nexa_core::run::{RUN_VERSION, RunRecord};
use nexa_core::{Diagnose, Error, ExitCode};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data").join(path)
}

#[test]
fn manifests_of_every_version_are_read() {
    for version in 1..=MANIFEST_VERSION {
        let manifest = Manifest::read(&golden(&format!("manifest/v{version}.json"))).unwrap();
        assert_eq!(manifest.id.to_string(), "arithmetic_tutor/teacher_outputs_v3");
        assert_eq!(manifest.files[0].name, "parquet");
        assert_eq!(manifest.parents[0].id, "arithmetic_tutor/teacher_inputs_v1");
        assert_eq!(manifest.counts.rows, Some(2980));
        assert_eq!(manifest.content_hash, Manifest::hash_files(&manifest.files));
        assert_eq!(manifest.spend.usd, 0.0123);
    }
}

#[test]
fn the_newest_manifest_is_written_as_its_golden_file() {
    let path = golden(&format!("manifest/v{MANIFEST_VERSION}.json"));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.manifest.json");
    Manifest::read(&path).unwrap().write(&copy).unwrap();
    assert_eq!(std::fs::read_to_string(copy).unwrap(), std::fs::read_to_string(path).unwrap());
}

#[test]
fn runs_of_every_version_are_read() {
    for version in 1..=RUN_VERSION {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden(&format!("run/v{version}.json")), folder.path().join("run.json")).unwrap();
        let record = RunRecord::read(folder.path()).unwrap();
        assert_eq!(record.id.as_str(), "20261124-153012-train-k3f9");
        assert_eq!(record.attempts.len(), 2);
    }
}

#[test]
fn a_newer_or_broken_manifest_is_an_error_with_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x_v1.manifest.json");
    let check = |text: &str, code: ExitCode, message: &str| {
        std::fs::write(&path, text).unwrap();
        let error = Manifest::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(
            error.to_string().contains(message) && error.to_string().contains("x_v1.manifest.json"),
            "{error}"
        );
    };
    check(r#"{"manifest_version": "99", "id": 1}"#, ExitCode::TooNew, "version 99 is newer than");
    check("{\"manifest_version\": \"1\",\n \"id\": 7}", ExitCode::Input, "id");
    check("{", ExitCode::Input, "line 1");
    assert!(matches!(Manifest::read(Path::new("/nowhere/x.manifest.json")), Err(Error::Io { .. })));
}
