//! Distillation as a person types it: without arguments, asked again in rounds, and with what they get wrong.

use crate::support::{Ran, Shell, small_pipeline};

/// A lab in which answers of the embedded teacher, some of them wrong, went through the gates.
fn lab() -> Shell {
    let shell = Shell::in_lab();
    shell.write("small.yaml", &small_pipeline(""));
    done(&shell, &["run", "small.yaml"]);
    shell
}

fn done(shell: &Shell, arguments: &[&str]) -> Ran {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran
}

#[test]
fn rejected_answers_are_asked_for_again_in_rounds_and_packaged_with_the_first() {
    let shell = lab();
    let rounds = ["distill", "regenerate", "--rounds", "3"];
    let first = done(&shell, &rounds);
    assert!(first.stderr.contains("round 1 of 3: "), "{}", first.stderr);
    assert!(first.stdout.starts_with("tutor/regenerated_v1\n"), "{}", first.stdout);
    let again = done(&shell, &rounds);
    assert_eq!(again.stdout, first.stdout, "what was asked is not asked once more");

    let rows = |ran: &Ran| {
        let manifest: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let rows = manifest["summary"]["rows"].as_object().unwrap();
        rows.values().map(|rows| rows.as_u64().unwrap()).sum::<u64>()
    };
    let alone = rows(&done(&shell, &["distill", "package", "--in", "filtered=filtered", "--json"]));
    let packaged = done(&shell, &["distill", "package", "--json"]);
    assert!(packaged.stderr.contains("using tutor/filtered_v1 as filtered"), "{}", packaged.stderr);
    assert!(packaged.stderr.contains("using tutor/regenerated_v1 as regenerated"), "{}", packaged.stderr);
    assert!(rows(&packaged) > alone, "{} {alone}", rows(&packaged));

    let ends = shell.run(&["distill", "regenerate", "--teacher", "embedded"]);
    assert_eq!(ends.code, 2, "another teacher is for rounds: {}", ends.stderr);
}

#[test]
fn every_stage_of_distillation_runs_without_arguments() {
    let shell = lab();
    for command in ["inputs", "collect", "judge", "filter", "regenerate", "apply-review", "package", "card"] {
        let ran = shell.run(&["distill", command]);
        match command {
            "judge" => assert_eq!(ran.code, 3, "it names what it needs: {}", ran.stderr),
            "card" => assert!(ran.code == 0 && ran.stdout.contains("# Data card"), "{}", ran.stderr),
            _ => {
                assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
                assert!(ran.stderr.contains("using tutor/"), "{command}: {}", ran.stderr);
            }
        }
    }
}

#[test]
fn the_line_of_the_original_reaches_the_provider_with_the_vendor_filled_in() {
    let shell = lab();
    let line = [
        "collect_teacher",
        "--src",
        "teacher_inputs",
        "--teacher",
        "openrouter:gpt-4o",
        "--max-samples",
        "5",
    ];
    let ran = shell.run(&line);
    assert_eq!(ran.code, 4, "no such prompts: {}", ran.stderr);
    let ran = shell.run(&line.map(|word| if word == "teacher_inputs" { "inputs" } else { word }));
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("`openrouter:gpt-4o` is `openrouter:openai/gpt-4o`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`OPENROUTER_API_KEY` is not set"), "{}", ran.stderr);
    let ran = shell.run(&["distill", "collect", "--teacher", "openrouter:hermes-3"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("write `openrouter:vendor/hermes-3`"), "{}", ran.stderr);
}
