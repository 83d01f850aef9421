//! What listings say of runs that were killed, and of what may be seen from outside.

use serde_json::Value;

use crate::support::Shell;

/// A lab with one run whose process is gone, and 0.5 US dollars in its ledger.
fn lab_with_a_killed_run() -> Shell {
    let shell = Shell::in_lab();
    shell.write("rows.jsonl", "{\"question\": \"a\"}\n");
    assert_eq!(shell.run(&["data", "ingest", "paths=[rows.jsonl]"]).code, 0);
    let runs = shell.path("runs");
    let folder = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let record = folder.join("run.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["status"] = "running".into();
    value["spend"] = serde_json::json!({"unknown": ["time of the unfinished attempt"]});
    std::fs::write(&record, value.to_string()).unwrap();
    let entry = serde_json::json!({
        "what": "tokens", "model": "m", "requests": 1, "prompt_tokens": 10, "completion_tokens": 5, "usd": 0.5,
    });
    std::fs::write(folder.join("ledger.jsonl"), format!("{entry}\n")).unwrap();
    shell
}

#[test]
fn a_killed_run_is_called_killed_and_what_it_spent_counts_everywhere() {
    let shell = lab_with_a_killed_run();
    let listed: Value = serde_json::from_str(&shell.run(&["runs", "list", "--json"]).stdout).unwrap();
    let run = &listed[0];
    assert_eq!((&run["state"], &run["spend"]["usd"]), (&"killed".into(), &0.5.into()), "{run}");
    let spend = "$0.5000 + unknown (time of the unfinished attempt)";
    for command in [&["runs", "list"][..], &["runs", "show", run["id"].as_str().unwrap()], &["cost"]] {
        let ran = shell.run(command);
        assert!(ran.stdout.contains(spend), "{command:?}: {}", ran.stdout);
        assert_eq!(ran.stdout.contains("killed"), command[0] == "runs", "{command:?}: {}", ran.stdout);
    }
}

#[test]
fn the_dashboards_are_not_opened_to_the_network_by_an_address_alone() {
    let ran = Shell::in_lab().run(&["ui", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("--open-to-network"), "{}", ran.stderr);
}
