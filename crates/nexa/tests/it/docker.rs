//! `docker-compose.yaml` names profiles and commands that there are, and exposes nothing. The image itself is checked by
//! `scripts/check_docker.py`, which needs more than a Rust toolchain.

use std::path::Path;

use serde_norway::Value;

use crate::support::Shell;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The services of the file by name.
fn services() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(root().join("docker-compose.yaml")).unwrap();
    let mut file: Value = serde_norway::from_str(&text).unwrap();
    file.apply_merge().unwrap();
    let services = file["services"].as_mapping().unwrap().clone();
    services.into_iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), service)).collect()
}

/// What a text becomes where no variable is set: `${NAME:-default}` is its default.
fn interpolated(text: &str) -> String {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        let (_, default) = variable.split_once(":-").expect("every variable has a default");
        out.push_str(default);
        out.push_str(rest);
    }
    out
}

/// The words of a service's command.
fn command(service: &Value) -> Vec<String> {
    let text = service["command"].as_str().unwrap();
    interpolated(text).split_whitespace().map(str::to_owned).collect()
}

/// Whether the binary takes these words: help is the last thing that it looks at.
fn is_taken(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    Shell::new().run(&words).code == 0
}

#[test]
fn each_profile_runs_a_command_that_there_is() {
    let services = services();
    let mut profiles: Vec<_> =
        services.iter().map(|(_, service)| service["profiles"][0].as_str().unwrap()).collect();
    profiles.sort_unstable();
    assert_eq!(profiles, ["inference", "training", "ui"]);
    for (name, service) in &services {
        let words = command(service);
        assert!(is_taken(&words), "{name}: nexa does not take {words:?}");
        let misspelt = [words, vec!["--no-such-option".to_owned()]].concat();
        assert!(!is_taken(&misspelt), "the check of {name} takes anything");
    }
}

#[test]
fn containers_expose_nothing_and_change_nothing_but_the_lab() {
    for (name, service) in services() {
        let ports = service["ports"].as_sequence().cloned().unwrap_or_default();
        for port in &ports {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} publishes {port:?}");
        }
        assert_eq!(service["read_only"], Value::Bool(true), "{name}");
        assert_eq!(service["cap_drop"][0].as_str(), Some("ALL"), "{name}");
        assert_eq!(service["env_file"].as_str(), Some("docker/.env"), "{name}");
        let user = interpolated(service["user"].as_str().unwrap());
        assert!(!user.starts_with('0') && user.contains(':'), "{name} runs as {user}");
        for volume in service["volumes"].as_sequence().unwrap() {
            let volume = interpolated(volume.as_str().unwrap());
            assert_eq!(volume.split(':').nth(1), Some("/lab"), "{name} mounts {volume}");
        }
        // What listens on every address of a container asks whether it still does.
        let listens = command(&service).iter().any(|word| word == "0.0.0.0");
        assert_eq!(listens, !ports.is_empty(), "{name}");
        assert_eq!(listens, service["healthcheck"]["test"].is_sequence(), "{name}");
    }
}

#[test]
fn no_key_is_in_what_is_shipped() {
    let example = std::fs::read_to_string(root().join("docker/env.example")).unwrap();
    for line in example.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.split_once('=').unwrap();
        let known = nexa_core::env::VARIABLES.iter().any(|(known, _)| *known == name);
        assert!(known && value.is_empty(), "docker/env.example: {name}");
    }
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let lines: Vec<_> = ignored.lines().collect();
    assert!(lines.contains(&"*") && lines.contains(&"**/.env"), "{ignored}");
}
