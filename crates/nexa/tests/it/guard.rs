//! Guard rules held against labelled texts, and with which exit code.

use crate::support::Shell;

const RULES: &str = "rules:\n  - {name: knives, phrases: [knife]}\n";
const UNSAFE: &str = "{\"text\": \"stab with a knife\", \"label\": \"unsafe\"}\n";
const MISSED: &str = "{\"text\": \"hurt someone\", \"label\": \"unsafe\"}\n";
const SAFE: &str = "{\"text\": \"bake bread\", \"label\": \"safe\"}\n";
const ALARM: &str = "{\"text\": \"a knife for bread\", \"label\": \"safe\"}\n";

#[test]
fn a_bound_holds_or_does_not_and_is_an_error_without_rows_for_it() {
    let shell = Shell::new();
    shell.write("rules.yaml", RULES);
    let check = |rows: &[&str], bounds: &[&str], code: i32, message: &str| {
        shell.write("rows.jsonl", &rows.concat());
        let ran = shell.run(&[&["guard", "rules.yaml", "rows.jsonl"][..], bounds].concat());
        assert_eq!(ran.code, code, "{rows:?} {bounds:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{rows:?} {bounds:?}: {}", ran.stderr);
    };
    let all = [UNSAFE, MISSED, SAFE, ALARM];
    check(&all, &[], 0, "");
    check(&all, &["--min-recall", "0.5", "--max-false-positives", "0.5"], 0, "");
    check(&all, &["--min-recall", "0.6"], 1, "too little of what should be blocked is caught");
    check(&all, &["--max-false-positives", "0.4"], 1, "too much is blocked that should not be");
    let without = "rows.jsonl: no row is labelled";
    let no_safe = format!("{without} `safe`, so `--max-false-positives` cannot be checked");
    check(&[UNSAFE], &["--max-false-positives", "0.1"], 4, &no_safe);
    check(&[UNSAFE], &["--min-recall", "0.9"], 0, "");
    let no_unsafe = format!("{without} `unsafe`, so `--min-recall` cannot be checked");
    check(&[SAFE], &["--min-recall", "0.9"], 4, &no_unsafe);
    check(&[SAFE], &["--max-false-positives", "0.1"], 0, "");
    check(&all, &["--min-recall", "nan"], 3, "`--min-recall` is NaN, and a share lies between 0 and 1");
}
