//! `nexa distill regenerate`: prompts of what was rejected; with `--rounds` also the answers, through the same gates, and
//! again what those reject, until nothing is left to ask, often enough was asked, or the money is spent.
//!
//! A round is the stages that made the rows, run again with the settings of then: no stage calls another, so that each
//! round is skipped, resumed and paid for as if its commands had been typed.

use anyhow::{Context, Result};
use nexa_core::artifact::{Artifact, Kind, Parent};
use nexa_core::{ExitCode, config};
use nexa_distill::regenerate::Regenerate;
use serde_json::{Value, json};

use super::feedback::parent;
use super::{collect, stage};
use crate::app::App;
use crate::args::{Global, RegenerateArgs, StageArgs};
use crate::render::{self, error, error::reported};
use crate::stages;

/// The stage that makes prompts of what was rejected.
const STAGE: &str = "distill.regenerate";
/// The names of what rounds make, beside that of the prompts.
const OUTPUTS: &str = "regenerated_outputs";
const VERDICTS: &str = "regenerated_verdicts";
const FILTERED: &str = "regenerated";
/// The role of what gates let through and what they rejected.
const FILTERED_ROLE: &str = "filtered";

/// Runs the command.
pub(crate) fn run(global: &Global, args: &RegenerateArgs) -> Result<ExitCode> {
    let Some(rounds) = args.rounds else { return stage::run(global, STAGE, &args.stage, &[]) };
    let app = App::open(global)?;
    let mut first = args.stage.clone();
    let filtered = start(&app, &mut first)?;
    let mut made = vec![filtered];
    let recipe = Recipe::of(&app, &made[0], args)?;
    let mut spent_usd = 0.0;
    for round in 1..=rounds {
        let newest = made.last().context("there is what the rounds begin with")?;
        let pending = pending(&app, newest, &first, rounds)?;
        if pending == 0 {
            render::note(&format!("round {round}: nothing is left to ask again"));
            break;
        }
        render::note(&format!("round {round} of {rounds}: {pending} prompts are asked again"));
        let left_usd = args.max_cost.map(|max| (max - spent_usd).max(0.0));
        let Round { filtered, usd } =
            recipe.round(&app, newest, &Asked { args: &first, rounds, left_usd })?;
        spent_usd += usd;
        let Some(filtered) = filtered else {
            render::note(&format!(
                "round {round}: no answer passed the gates, so there is nothing to go on with"
            ));
            break;
        };
        made.push(filtered);
    }
    let gained: u64 = made[1..].iter().filter_map(|made| made.manifest.counts.rows).sum();
    render::note(&format!("{gained} rows were regained for ${spent_usd:.4}; next: nexa distill package"));
    if global.json {
        let manifests: Vec<_> = made[1..].iter().map(|made| &made.manifest).collect();
        render::json(&manifests)?;
    } else {
        made[1..].iter().for_each(|made| render::out(&made.id().to_string()));
    }
    Ok(ExitCode::Success)
}

/// What rounds begin with: what was typed, else the newest; where that is itself of rounds, what those began with.
fn start(app: &App, args: &mut StageArgs) -> Result<Artifact> {
    let project = app.project()?;
    let typed = args.inputs.iter().find_map(|input| input.strip_prefix("filtered="));
    let filtered = match typed {
        Some(typed) => app.store().resolve(project.name(), typed)?,
        None => {
            let newest = app.store().latest(project.name(), Kind::Filtered)?;
            let first = chain(app, &newest)?.swap_remove(0);
            render::note(&format!("using {} as {FILTERED_ROLE}", first.id()));
            first
        }
    };
    args.inputs.retain(|input| !input.starts_with("filtered="));
    Ok(filtered)
}

/// Filtered answers with those before them that they were asked again for: the first ones first.
pub(super) fn chain(app: &App, newest: &Artifact) -> Result<Vec<Artifact>> {
    let store = app.store();
    let mut chain = vec![newest.clone()];
    loop {
        let outputs = parent(&store, &filter_of(app, &chain[0])?, "outputs")?;
        let inputs = outputs.map(|outputs| parent(&store, &outputs, "inputs")).transpose()?.flatten();
        let again = inputs.filter(|inputs| inputs.manifest.producer.stage == STAGE);
        match again.map(|inputs| parent(&store, &inputs, FILTERED_ROLE)).transpose()?.flatten() {
            Some(before) => chain.insert(0, before),
            None => return Ok(chain),
        }
    }
}

/// What the gates made of answers, before reviewers had their say.
fn filter_of(app: &App, filtered: &Artifact) -> Result<Artifact> {
    let mut found = filtered.clone();
    while let Some(before) = parent(&app.store(), &found, FILTERED_ROLE)? {
        found = before;
    }
    Ok(found)
}

/// How many prompts would be asked again.
fn pending(app: &App, filtered: &Artifact, args: &StageArgs, rounds: u32) -> Result<usize> {
    let (value, place) = settings(args, rounds)?;
    let regenerate = Regenerate::new(config::from_value(value, &place)?).map_err(reported)?;
    regenerate.pending(&app.tables, filtered).map_err(reported)
}

/// The settings of the prompts: as typed, and as many attempts as there are rounds where nothing else was.
fn settings(args: &StageArgs, rounds: u32) -> Result<(Value, String)> {
    let (mut value, place) = stage::settings(args, &[])?;
    if value.get("max_attempts").is_none() {
        value["max_attempts"] = json!(rounds);
    }
    Ok((value, place))
}

/// What a round asks.
struct Asked<'a> {
    args: &'a StageArgs,
    rounds: u32,
    left_usd: Option<f64>,
}

/// What a round came to.
struct Round {
    /// Absent where no answer passed.
    filtered: Option<Artifact>,
    usd: f64,
}

/// A stage as it was run.
struct Step {
    config: Value,
    place: String,
    /// Its inputs but for those that a round makes anew.
    inputs: Vec<String>,
}

/// How the first answers were collected, judged and filtered.
struct Recipe {
    collect: Step,
    judge: Option<Step>,
    filter: Step,
}

impl Recipe {
    fn of(app: &App, filtered: &Artifact, args: &RegenerateArgs) -> Result<Self> {
        let store = app.store();
        let filter = filter_of(app, filtered)?;
        let missing = || format!("{} was not made of collected answers", filtered.id());
        let outputs = parent(&store, &filter, "outputs")?.with_context(missing)?;
        let judge = parent(&store, &filter, "verdicts")?;
        let mut collect = Step::of(&outputs, &["inputs"]);
        if let Some(teacher) = &args.teacher {
            collect.ask(app, teacher)?;
        }
        let judge = judge.map(|verdicts| Step::of(&verdicts, &["outputs"]));
        Ok(Self { collect, judge, filter: Step::of(&filter, &["outputs", "verdicts"]) })
    }

    fn round(&self, app: &App, filtered: &Artifact, asked: &Asked<'_>) -> Result<Round> {
        let (config, place) = settings(asked.args, asked.rounds)?;
        let ask = Step { config, place, inputs: asked.args.inputs.clone() };
        let name = asked.args.output.clone();
        let prompts = ask.run(app, STAGE, &[(FILTERED_ROLE, filtered)], name.as_deref())?;
        let collected = self.collect.within(asked.left_usd).run(
            app,
            "distill.collect",
            &[("inputs", &prompts)],
            Some(OUTPUTS),
        )?;
        let mut usd = collected.manifest.spend.usd;
        let mut inputs = vec![("outputs", &collected)];
        let verdicts = match &self.judge {
            Some(judge) => {
                let judge = judge.within(asked.left_usd.map(|left| (left - usd).max(0.0)));
                Some(judge.run(app, "distill.judge", &inputs, Some(VERDICTS))?)
            }
            None => None,
        };
        if let Some(verdicts) = &verdicts {
            usd += verdicts.manifest.spend.usd;
            inputs.push(("verdicts", verdicts));
        }
        let filtered = match self.filter.run(app, "distill.filter", &inputs, Some(FILTERED)) {
            Err(error) if is_nothing_left(&error) => None,
            filtered => Some(filtered?),
        };
        Ok(Round { filtered, usd })
    }
}

impl Step {
    /// The stage that made an artifact, without the inputs of some roles.
    fn of(made: &Artifact, renewed: &[&str]) -> Self {
        let producer = &made.manifest.producer;
        let mut config = producer.config.clone();
        let is_seeded = stages::find(&producer.stage).is_some_and(|kind| kind.seeded);
        if let Some(config) = config.as_object_mut().filter(|_| is_seeded) {
            config.insert("seed".to_owned(), producer.seed.into());
        }
        let is_kept = |parent: &&Parent| !renewed.contains(&parent.role.as_str()) && !parent.is_file();
        let inputs = made.manifest.parents.iter().filter(is_kept);
        let inputs = inputs.map(|parent| format!("{}={}", parent.role, parent.id)).collect();
        Self { config, place: format!("the record of {}", made.id()), inputs }
    }

    /// Has another teacher asked.
    fn ask(&mut self, app: &App, teacher: &str) -> Result<()> {
        self.config["teacher"] = json!(teacher);
        if let Some(config) = self.config.as_object_mut() {
            config.remove("source");
        }
        let mut args = StageArgs::default();
        collect::name_local_teacher(app, &mut self.config, &mut args)?;
        self.inputs = args.inputs;
        Ok(())
    }

    /// The same under a ceiling on what it may spend.
    fn within(&self, max_usd: Option<f64>) -> Self {
        let mut config = self.config.clone();
        if let Some(max_usd) = max_usd {
            config["max_cost_usd"] = json!(max_usd);
        }
        Self { config, place: self.place.clone(), inputs: self.inputs.clone() }
    }

    fn run(
        &self,
        app: &App,
        uses: &str,
        inputs: &[(&str, &Artifact)],
        name: Option<&str>,
    ) -> Result<Artifact> {
        let kind = stages::find(uses).context("the command names stages that exist")?;
        let own = inputs.iter().map(|(role, artifact)| format!("{role}={}", artifact.id()));
        let args = StageArgs {
            inputs: own.chain(self.inputs.iter().cloned()).collect(),
            output: name.map(str::to_owned),
            ..StageArgs::default()
        };
        let outcome = stage::execute(app, kind, self.config.clone(), &self.place, &args)?;
        render::note(&format!("  {}", stages::facts(outcome.artifact())));
        Ok(outcome.artifact().clone())
    }
}

/// Whether an error says that no answer passed the gates.
fn is_nothing_left(error: &anyhow::Error) -> bool {
    matches!(error::cause(error), Some(nexa_distill::Error::NothingLeft { .. }))
}
