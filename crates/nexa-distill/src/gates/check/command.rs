//! Checks answers by a command.
//!
//! Each row goes to a process of its own, as one line of JSON. The process sees none of the lab's variables: keys are in
//! the environment of the lab, and a check is foreign code. Rows are checked at once on all cores, and their verdicts
//! keep the order of the rows.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nexa_core::event::Cancel;

use super::super::{Answer, Bounds, Gate, Measure};
use super::VERSION;
use crate::{Error, Result};

/// The variables that programs need to be found and to write text.
const VARIABLES: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SystemRoot"];
/// How much of what a command prints is kept to find the reason in.
const KEPT_BYTES: u64 = 1 << 20;
/// How much of a line is a reason.
const REASON_CHARACTERS: usize = 200;

/// Why an answer does not pass, if it does not.
type Verdict = Option<String>;

/// A program, and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    /// Where it runs.
    pub(super) folder: PathBuf,
    pub(super) timeout_s: u32,
    /// Asks for no further rows.
    pub(super) cancel: Cancel,
}

pub(super) fn gate(name: String, command: Command) -> Gate {
    Gate::of_all(name, VERSION, Bounds::at_most(0.0), move |answers| {
        let verdicts = command.check_all(answers)?;
        Ok(verdicts.into_iter().map(|verdict| Some(Measure::fault(verdict))).collect())
    })
}

impl Command {
    /// Why each answer does not pass, if it does not.
    fn check_all(&self, answers: &[Answer<'_>]) -> Result<Vec<Verdict>> {
        let next = AtomicUsize::new(0);
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(answers.len().max(1));
        let work = || -> Result<Vec<(usize, Verdict)>> {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(answer) = answers.get(at) else { return Ok(done) };
                if self.cancel.is_cancelled() {
                    return Err(nexa_core::Error::Interrupted.into());
                }
                done.push((at, self.check(answer)?));
            }
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut verdicts = vec![None; answers.len()];
        for (at, verdict) in done.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            verdicts[at] = verdict;
        }
        Ok(verdicts)
    }

    fn check(&self, answer: &Answer<'_>) -> Result<Verdict> {
        let failed = |e: std::io::Error| Error::CommandFailed {
            program: self.program.clone(),
            message: e.to_string(),
        };
        let (printed, writer) = std::io::pipe().map_err(failed)?;
        let mut child = self.start(writer).map_err(failed)?;
        let mut line = serde_json::Value::Object(answer.row.clone()).to_string();
        line.push('\n');
        if let Some(mut stdin) = child.stdin.take() {
            // A process that does not read must not hold this one up; one that ends early breaks the pipe.
            std::thread::spawn(move || stdin.write_all(line.as_bytes()));
        }
        let Some(printed) = self.printed(printed) else {
            end(&mut child).map_err(failed)?;
            return Ok(Some(format!("`{}` took longer than {} s", self.program, self.timeout_s)));
        };
        let status = child.wait().map_err(failed)?;
        Ok((!status.success())
            .then(|| reason(&printed).unwrap_or_else(|| format!("`{}`: {status}", self.program))))
    }

    fn start(&self, writer: std::io::PipeWriter) -> std::io::Result<Child> {
        let variables = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        // The command and its copies of the pipe are gone with this function, so that the pipe ends with the process.
        std::process::Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
    }

    /// What a process prints until it ends, if that is in time.
    fn printed(&self, mut pipe: std::io::PipeReader) -> Option<String> {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            let read = pipe.by_ref().take(KEPT_BYTES).read_to_end(&mut kept);
            // The rest is read all the same, so that the process can end.
            let drained = read.and_then(|_| std::io::copy(&mut pipe, &mut std::io::sink()));
            // Where reading fails, what was read is all that can be said; where nobody listens, the time is up.
            drop(drained);
            let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
        });
        receiver.recv_timeout(Duration::from_secs(self.timeout_s.into())).ok()
    }
}

/// Ends a process whose time is up.
fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The last line with something in it.
fn reason(printed: &str) -> Option<String> {
    let line = printed.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(REASON_CHARACTERS).collect())
}

#[cfg(all(test, unix))]
mod tests {
    use nexa_core::table::Row;

    use super::super::super::test::row;
    use super::*;

    fn check(script: &str, rows: &[Row]) -> Result<Vec<Verdict>> {
        let command = Command {
            program: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            folder: PathBuf::from("."),
            timeout_s: 5,
            cancel: Cancel::default(),
        };
        command.check_all(&rows.iter().map(Answer::of).collect::<Vec<_>>())
    }

    #[test]
    fn no_row_is_checked_once_the_work_is_to_stop() {
        let cancel = Cancel::default();
        cancel.cancel();
        let (program, arguments) = ("no-such-program".to_owned(), Vec::new());
        let command = Command { program, arguments, folder: PathBuf::from("."), timeout_s: 1, cancel };
        let row = row("", "");
        let error = command.check_all(&[Answer::of(&row)]).unwrap_err();
        assert!(matches!(error, Error::Core(nexa_core::Error::Interrupted)), "{error}");
    }

    #[test]
    fn the_status_decides_and_the_last_line_is_the_reason() {
        let one = |script: &str| check(script, &[row("How many?", "Four.")]).unwrap().remove(0);
        assert_eq!(one("exit 0"), None);
        assert_eq!(
            one("read row; echo \"$row\"; exit 1").unwrap(),
            serde_json::Value::Object(row("How many?", "Four.")).to_string()
        );
        assert_eq!(one("echo first; echo second >&2; exit 3").as_deref(), Some("second"));
        assert_eq!(one("exit 3").as_deref(), Some("`sh`: exit status: 3"));
    }

    #[test]
    fn verdicts_keep_the_order_of_the_rows() {
        let rows: Vec<Row> = (0..40).map(|n| row("", &format!("answer {n}"))).collect();
        let verdicts =
            check("read row; case \"$row\" in *[02468]\\\"*) echo \"$row\"; exit 1;; esac", &rows).unwrap();
        for (n, verdict) in verdicts.iter().enumerate() {
            let expected = (n % 2 == 0).then(|| format!("answer {n}\""));
            assert_eq!(
                verdict.as_ref().map(|text| text.contains(&expected.clone().unwrap())),
                expected.as_ref().map(|_| true)
            );
        }
    }

    #[test]
    fn a_command_sees_only_the_variables_that_programs_need() {
        let seen = check("env | cut -d= -f1 | sort | tr '\\n' ' '; exit 1", &[row("", "")])
            .unwrap()
            .remove(0)
            .unwrap();
        // The shell adds some of its own.
        let own = ["PWD", "OLDPWD", "SHLVL", "_"];
        assert!(seen.split(' ').all(|name| VARIABLES.contains(&name) || own.contains(&name)), "{seen}");
        assert!(
            std::env::vars().any(|(name, _)| !VARIABLES.contains(&name.as_str())),
            "there is something to hide"
        );
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let command = Command {
            program: "tail".to_owned(),
            arguments: vec!["-f".to_owned(), "/dev/null".to_owned()],
            folder: PathBuf::from("."),
            timeout_s: 1,
            cancel: Cancel::default(),
        };
        let row = row("", &"x".repeat(1 << 20));
        assert_eq!(command.check(&Answer::of(&row)).unwrap().as_deref(), Some("`tail` took longer than 1 s"));
    }

    #[test]
    fn a_command_that_does_not_start_is_an_error() {
        let command = Command {
            program: "no-such-program".to_owned(),
            arguments: Vec::new(),
            folder: PathBuf::from("."),
            timeout_s: 1,
            cancel: Cancel::default(),
        };
        let error = command.check(&Answer::of(&row("", ""))).unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }
}
