//! `nexa run`: what is skipped, what is made again, and what a failure stops.

use crate::support::{PACKAGED, Shell, small_pipeline};

/// A branch of its own, which does not pass.
const OTHER: &str = "  other: {uses: data.ingest, with: {paths: [other.jsonl]}}
  other_inputs: {uses: distill.inputs, in: {dataset: other}}
";

fn pipeline() -> String {
    small_pipeline(&format!("{PACKAGED}{OTHER}"))
}

fn lab() -> Shell {
    let shell = Shell::in_lab();
    shell.write("other.jsonl", "{\"question\": \"a\"}\n");
    shell.write("projects/tutor/pipelines/small.yaml", &pipeline());
    shell
}

fn run(shell: &Shell, extra: &[&str]) -> crate::support::Ran {
    let mut arguments = vec!["run", "projects/tutor/pipelines/small.yaml"];
    arguments.extend_from_slice(extra);
    shell.run(&arguments)
}

/// The state of a stage, as the report names it.
fn state<'a>(stderr: &'a str, stage: &str) -> &'a str {
    let line = stderr
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{stage} ")))
        .unwrap_or_else(|| {
            panic!("no line for {stage} in:\n{stderr}");
        });
    let rest = line.trim_start()[stage.len()..].trim_start();
    ["up to date", "made", "would run", "failed", "not run"]
        .into_iter()
        .find(|state| rest.starts_with(state))
        .unwrap_or(rest)
}

#[test]
fn a_second_run_finds_everything_up_to_date() {
    let shell = lab();
    let first = run(&shell, &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(state(&first.stderr, "sft"), "made");
    let second = run(&shell, &[]);
    assert_eq!(second.code, 0);
    assert!(second.stderr.contains("everything is up to date (8 stages"), "{}", second.stderr);
}

#[test]
fn only_what_a_change_reaches_is_made_again() {
    let shell = lab();
    assert_eq!(run(&shell, &[]).code, 0);
    let planned = run(&shell, &["--dry-run", "stages.filtered.with.wrong_answer={enabled: false}"]);
    assert_eq!(state(&planned.stderr, "outputs"), "up to date", "{}", planned.stderr);
    assert_eq!(state(&planned.stderr, "filtered"), "would run");
    assert_eq!(state(&planned.stderr, "sft"), "would run");
    let changed = run(&shell, &["stages.sft.with.test_share=0.3"]);
    assert_eq!(state(&changed.stderr, "filtered"), "up to date");
    assert_eq!(state(&changed.stderr, "sft"), "made");
    let forced = run(&shell, &["--force", "rows"]);
    assert_eq!(state(&forced.stderr, "rows"), "made");
    assert_eq!(
        state(&forced.stderr, "inputs"),
        "up to date",
        "the same content again changes nothing downstream"
    );
    assert_eq!(run(&shell, &["--force", "row"]).code, 4, "a stage that is not there");
}

#[test]
fn a_dry_run_makes_nothing() {
    let shell = lab();
    let planned = run(&shell, &["--dry-run"]);
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    assert_eq!(state(&planned.stderr, "problems"), "would run");
    assert_eq!(state(&planned.stderr, "sft"), "would run");
    assert!(shell.run(&["runs", "list", "--json"]).stdout.trim() == "[]");
}

#[test]
fn what_cannot_start_is_found_before_anything_runs() {
    let check = |stage: &str, expected: &str| {
        let shell = lab();
        shell.write("projects/tutor/pipelines/small.yaml", &format!("{}  last: {stage}\n", pipeline()));
        for extra in [&[][..], &["--dry-run"]] {
            let ran = run(&shell, extra);
            assert_ne!(ran.code, 0);
            assert!(ran.stderr.contains(expected), "{}", ran.stderr);
            assert_eq!(shell.path("runs").read_dir().map_or(0, Iterator::count), 0, "{}", ran.stderr);
        }
    };
    check("{uses: distill.collect, in: {inputs: inputs}, with: {teacher: nobody}}", "nobody");
    check(
        "{uses: distill.collect, in: {inputs: inputs}, with: {max_token: 3}}",
        "stages.last.with: unknown key `max_token`",
    );
    check("{uses: distill.inputs, in: {dataset: absent}}", "absent");
    check("{uses: data.ingest, with: {paths: [absent.jsonl]}}", "absent.jsonl");
}

#[test]
fn an_artifact_of_another_kind_is_refused_before_anything_runs() {
    let shell = lab();
    assert_eq!(run(&shell, &[]).code, 0);
    let pipeline = "{pipeline: p, project: tutor, stages: {a: {uses: distill.inputs, in: {dataset: sft}}}}";
    let path = shell.write("projects/tutor/pipelines/other.yaml", pipeline);
    let ran = shell.run(&["run", path.to_str().unwrap()]);
    assert!(ran.stderr.contains("it is a sft_dataset, but a dataset is wanted"), "{}", ran.stderr);
}

#[test]
fn a_failed_stage_stops_what_depends_on_it_and_nothing_else() {
    let shell = lab();
    shell.write("other.jsonl", "broken\n");
    let ran = run(&shell, &["--jobs", "1"]);
    assert_eq!(ran.code, 11, "{}", ran.stderr);
    assert_eq!(state(&ran.stderr, "other"), "failed");
    assert_eq!(state(&ran.stderr, "other_inputs"), "not run");
    assert_eq!(state(&ran.stderr, "sft"), "made");
    let log = ran.stderr.lines().find(|line| line.contains("events.jsonl")).expect("the log is named");
    let path = log.split_whitespace().last().unwrap();
    assert!(std::fs::read_to_string(shell.path(path)).unwrap().contains("other.jsonl"), "{path}");

    shell.write("other.jsonl", "{\"question\": \"a\"}\n");
    let again = run(&shell, &[]);
    assert_eq!(
        (again.code, state(&again.stderr, "sft"), state(&again.stderr, "other")),
        (0, "up to date", "made")
    );
}

#[test]
fn a_killed_pipeline_goes_on_and_ends_with_the_same_content() {
    let straight = lab();
    assert_eq!(run(&straight, &[]).code, 0);
    let killed = lab();
    for begun in [1, 3, 5] {
        let mut child = killed.command(&["run", "projects/tutor/pipelines/small.yaml"]).spawn().unwrap();
        // Killed once it has begun so many stages, wherever it then is in the last of them.
        let runs = killed.path("runs");
        while runs.read_dir().unwrap().count() < begun {
            assert!(child.try_wait().unwrap().is_none(), "it ended before {begun} stages had begun");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(run(&killed, &[]).code, 0);
    let hash = |shell: &Shell| {
        let manifest = shell.path("data/processed/tutor/distillation/sft_datasets/sft_v1.manifest.json");
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        value["content_hash"].clone()
    };
    assert_eq!(hash(&straight), hash(&killed));
}
