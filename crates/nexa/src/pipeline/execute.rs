//! Runs a pipeline: each stage as soon as its inputs are there, several side by side, until all have ended.

use std::path::PathBuf;
use std::sync::mpsc;

use nexa_core::ExitCode;
use nexa_core::artifact::{Artifact, Store};
use nexa_core::event::EventSink;
use nexa_core::stage::{self, Inputs, Outcome, Request, Services, Stage, StageError};

use crate::pipeline::spec::{Node, Pipeline, Source};

/// How a pipeline is run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Only finds out what would be done.
    pub(crate) dry_run: bool,
    /// Stages that are made again even where they are up to date.
    pub(crate) force: Vec<String>,
    /// Stages that may run at the same time; 0 counts as 1.
    pub(crate) jobs: usize,
}

/// How a stage of a pipeline ended.
#[derive(Debug)]
pub(crate) struct StageReport {
    /// Its name in the pipeline.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) state: StageState,
}

/// What became of a stage.
#[derive(Debug)]
pub(crate) enum StageState {
    /// It had been made before; nothing was done.
    UpToDate(Artifact),
    /// It was made.
    Made(Artifact),
    /// It would be made, in a dry run.
    WouldRun,
    /// It failed.
    Failed {
        /// Why.
        error: StageError,
        /// Where its events are, if it got that far.
        log: Option<PathBuf>,
    },
    /// Something that it depends on failed or was stopped.
    Blocked {
        /// The stages that it waited for in vain.
        by: Vec<String>,
    },
}

impl StageState {
    /// The artifact, if there is one.
    pub(crate) fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::UpToDate(artifact) | Self::Made(artifact) => Some(artifact),
            Self::WouldRun | Self::Failed { .. } | Self::Blocked { .. } => None,
        }
    }
}

/// A stage of a pipeline that is known to be able to start: its configuration makes sense, and what it reads from
/// outside the pipeline is there.
struct Checked {
    stage: Box<dyn Stage>,
    /// The inputs that no stage of the pipeline makes.
    given: Inputs,
}

/// Checks every stage before the first one runs: nobody should learn after an hour that the last one was misspelt.
fn check(pipeline: &Pipeline, services: &Services<'_>) -> Result<Vec<Checked>, StageError> {
    let check = |node: &Node| {
        let place = format!("stages.{}.with", node.name);
        let stage = (node.kind.build)(node.with.clone(), &place, services.lab)?;
        for path in stage.outside_files() {
            if !path.is_file() {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(nexa_core::Error::io("read", &path, missing).into());
            }
        }
        let mut given = Inputs::none();
        for (role, source) in &node.inputs {
            if let Source::Artifact(name) = source {
                let artifact = Store::new(services.lab).resolve(&pipeline.project, name)?;
                let wanted = node.kind.role(role);
                wanted.map_or(Ok(()), |wanted| wanted.check(&artifact))?;
                given = given.with(role, artifact);
            }
        }
        Ok(Checked { stage, given })
    };
    pipeline.nodes.iter().map(check).collect()
}

/// Runs the stages and calls `ended` for each as it ends. A stage's failure is part of the reports, which come in the
/// order of the pipeline.
///
/// # Errors
/// Fails, before anything runs, when a stage cannot be made from its configuration, an artifact or file that one reads
/// is not there, a forced stage is not in the pipeline, or the project's name is bad.
pub(crate) fn execute(
    pipeline: &Pipeline,
    services: &Services<'_>,
    options: &Options,
    sink_for: &(dyn Fn(&str) -> Box<dyn EventSink> + Sync),
    ended: &mut dyn FnMut(&StageReport),
) -> Result<Vec<StageReport>, StageError> {
    for name in &options.force {
        if !pipeline.nodes.iter().any(|node| node.name == *name) {
            let names = pipeline.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(nexa_core::Error::NotFound {
                what: "stage",
                name: name.clone(),
                hint: Some(format!("the pipeline has: {names}")),
            }
            .into());
        }
    }
    let project = services.lab.project(&pipeline.project)?;
    let checked = check(pipeline, services)?;
    let jobs = options.jobs.max(1);
    let mut states: Vec<Option<StageState>> = pipeline.nodes.iter().map(|_| None).collect();
    let mut started = vec![false; pipeline.nodes.len()];
    let mut running = 0;

    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        loop {
            for (position, node) in pipeline.nodes.iter().enumerate() {
                let waits = node.dependencies().any(|needed| states[needed].is_none());
                if started[position] || waits || running >= jobs {
                    continue;
                }
                started[position] = true;
                let Checked { stage, given } = &checked[position];
                match prepare(node, given, pipeline, &states) {
                    Prepared::Ready(_) if services.cancel.is_cancelled() => {
                        let error = nexa_core::Error::Interrupted.into();
                        report(
                            &mut states,
                            pipeline,
                            position,
                            StageState::Failed { error, log: None },
                            ended,
                        );
                    }
                    Prepared::Ready(_) if options.dry_run && options.force.contains(&node.name) => {
                        report(&mut states, pipeline, position, StageState::WouldRun, ended);
                    }
                    Prepared::Ended(state) => {
                        report(&mut states, pipeline, position, *state, ended);
                    }
                    Prepared::Ready(inputs) => {
                        running += 1;
                        let sender = sender.clone();
                        let project = &project;
                        scope.spawn(move || {
                            let sink = sink_for(&node.name);
                            let services = Services { events: sink.as_ref(), ..*services };
                            let force = options.force.contains(&node.name);
                            let request = Request { project, name: &node.output, inputs: &inputs, force };
                            let state = catch_panic(|| {
                                run_node(stage.as_ref(), &services, &request, options.dry_run)
                            });
                            // The receiver lives as long as the scope; it is gone only if it panicked.
                            let _ = sender.send((position, state));
                        });
                    }
                }
            }
            if states.iter().all(Option::is_some) {
                break;
            }
            if running == 0 {
                // What ended above without running may have set further stages free.
                continue;
            }
            let (position, state) = receiver.recv().expect("a sender is kept in this scope");
            running -= 1;
            report(&mut states, pipeline, position, state, ended);
        }
    });
    let reports = pipeline
        .nodes
        .iter()
        .zip(states)
        .filter_map(|(node, state)| state.map(|state| StageReport { name: node.name.clone(), state }));
    Ok(reports.collect())
}

enum Prepared {
    Ended(Box<StageState>),
    Ready(Inputs),
}

impl Prepared {
    fn ended(state: StageState) -> Self {
        Self::Ended(Box::new(state))
    }
}

/// Gathers the inputs of a stage, or finds that it cannot or need not run.
fn prepare(node: &Node, given: &Inputs, pipeline: &Pipeline, states: &[Option<StageState>]) -> Prepared {
    let mut inputs = given.clone();
    let mut blocked_by = Vec::new();
    let mut unknown = false;
    for (role, source) in &node.inputs {
        let Source::Stage(position) = source else { continue };
        let state = states[*position].as_ref();
        match state.and_then(StageState::artifact) {
            Some(artifact) => inputs = inputs.with(role, artifact.clone()),
            None if matches!(state, Some(StageState::WouldRun)) => unknown = true,
            None => blocked_by.push(pipeline.nodes[*position].name.clone()),
        }
    }
    if !blocked_by.is_empty() {
        Prepared::ended(StageState::Blocked { by: blocked_by })
    } else if unknown {
        Prepared::ended(StageState::WouldRun)
    } else {
        Prepared::Ready(inputs)
    }
}

fn run_node(stage: &dyn Stage, services: &Services<'_>, request: &Request<'_>, dry_run: bool) -> StageState {
    if dry_run {
        return match stage::existing(stage, services, request) {
            Ok(Some(artifact)) => StageState::UpToDate(artifact),
            Ok(None) => StageState::WouldRun,
            Err(error) => StageState::Failed { error: error.into(), log: None },
        };
    }
    match stage::execute(stage, services, request) {
        Ok(Outcome::UpToDate(artifact)) => StageState::UpToDate(artifact),
        Ok(Outcome::Made(artifact)) => StageState::Made(artifact),
        Err(error) => {
            let log = stage::unfinished_run(stage, services, request).ok().flatten();
            StageState::Failed { error, log: log.map(|folder| folder.join("events.jsonl")) }
        }
    }
}

/// A panic in one stage is a defect, but it must not take the others down or leave the pipeline waiting.
fn catch_panic(work: impl FnOnce() -> StageState) -> StageState {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let error = nexa_core::Error::Panicked { message: message.to_owned() };
        StageState::Failed { error: error.into(), log: None }
    })
}

fn report(
    states: &mut [Option<StageState>],
    pipeline: &Pipeline,
    position: usize,
    state: StageState,
    ended: &mut dyn FnMut(&StageReport),
) {
    let report = StageReport { name: pipeline.nodes[position].name.clone(), state };
    ended(&report);
    states[position] = Some(report.state);
}

/// The exit code of a whole pipeline.
pub(crate) fn exit_code(reports: &[StageReport]) -> ExitCode {
    let mut code = ExitCode::Success;
    for report in reports {
        if let StageState::Failed { error, .. } = &report.state {
            if error.exit_code() == ExitCode::Interrupted {
                return ExitCode::Interrupted;
            }
            code = ExitCode::StageFailed;
        }
    }
    code
}
