//! The door: a lab, a project, and statements.

use nexa_core::artifact::Kind;
use nexa_core::env::Environment;
use nexa_core::event::Cancel;
use nexa_core::lab::Lab;
use nexa_core::machine::Host;
use nexa_core::{Error, config};

use super::answer::Answer;
use super::names::Names;
use super::session::Session;
use super::work::Work;
use crate::Result;
use crate::catalog::{self, DatasetEntry};
use crate::tables::Format;

/// The share of the machine's memory that a query may take where no limit is given.
const MEMORY_DIVISOR: u64 = 2;

/// How queries run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bytes that sorts, groups and joins may hold; what is more goes to disk. Half of the machine's memory by default.
    pub memory_limit: Option<u64>,
    /// Where the credentials of object stores stand.
    pub environment: Environment,
    /// Ends a query that runs.
    pub cancel: Cancel,
}

/// Queries over the tables of a lab, as seen from one of its projects.
///
/// ```no_run
/// # fn main() -> nexa_data::Result<()> {
/// # let lab = nexa_core::lab::Lab::discover(".".as_ref())?;
/// let query = nexa_data::query::DataQuery::new(&lab, "arithmetic_tutor")?;
/// for row in query.teacher_outputs(Some(1))?.rows() {
///     println!("{}", row?["teacher_output"]);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Everything blocks; from asynchronous code it is called on a thread that may.
pub struct DataQuery {
    pub(super) lab: Lab,
    pub(super) project: String,
    pub(super) memory_limit: u64,
    pub(super) environment: Environment,
    pub(super) work: Work,
}

impl DataQuery {
    /// Queries of a project, with credentials from the environment and the lab's `.env`.
    ///
    /// # Errors
    /// As [`DataQuery::with_options`], or when `.env` is malformed.
    pub fn new(lab: &Lab, project: &str) -> Result<Self> {
        let environment = Environment::load(lab.root())?;
        Self::with_options(lab, project, Options { environment, ..Options::default() })
    }

    /// Queries of a project.
    ///
    /// # Errors
    /// Fails when the system gives no threads.
    pub fn with_options(lab: &Lab, project: &str, options: Options) -> Result<Self> {
        let Options { memory_limit, environment, cancel } = options;
        Ok(Self {
            lab: lab.clone(),
            project: project.to_owned(),
            memory_limit: memory_limit.unwrap_or(Host::current().memory_bytes / MEMORY_DIVISOR),
            environment,
            work: Work::start(cancel)?,
        })
    }

    /// Runs a statement; see the module `names` for what can stand behind FROM.
    ///
    /// # Errors
    /// Fails when it is no query, names what is not there, or cannot be planned; rows that cannot be read are told when
    /// the answer comes to them.
    pub fn sql(&self, statement: &str) -> Result<Answer> {
        Ok(Answer::new(Session::begin(self)?.run(statement)?, self))
    }

    /// The prompts for a teacher, of a version or the newest.
    ///
    /// # Errors
    /// Fails when there is no such version, with those that there are.
    pub fn teacher_inputs(&self, version: Option<u32>) -> Result<Answer> {
        self.of_kind(Kind::TeacherInputs, version)
    }

    /// A teacher's answers, of a version or the newest.
    ///
    /// # Errors
    /// Fails when there is no such version, with those that there are.
    pub fn teacher_outputs(&self, version: Option<u32>) -> Result<Answer> {
        self.of_kind(Kind::TeacherOutputs, version)
    }

    /// A shard of texts to pre-train on: `training/pretrain/<shard>.jsonl`, or in another format of tables.
    ///
    /// # Errors
    /// Fails when there is no such shard, with those that there are.
    pub fn pretrain_dataset(&self, shard: &str) -> Result<Answer> {
        let folder = self.lab.project(&self.project)?.processed_folder().join("training/pretrain");
        let mut known = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some((stem, _)) = name.to_str().and_then(Format::split) {
                if stem == shard {
                    return self
                        .sql(&format!("SELECT * FROM {}", quoted(&entry.path().display().to_string())));
                }
                known.push(stem.to_owned());
            }
        }
        known.sort();
        let hint = match config::nearest(shard, known.iter().map(String::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if known.is_empty() => format!("there is none in `{}`", folder.display()),
            None => format!("there are: {}", known.join(", ")),
        };
        let name = format!("{shard} of project {}", self.project);
        Err(Error::NotFound { what: "pre-training shard", name, hint: Some(hint) }.into())
    }

    /// The tables of the project.
    ///
    /// # Errors
    /// As [`catalog::list_available_datasets`].
    pub fn list_available_datasets(&self) -> Result<Vec<DatasetEntry>> {
        catalog::list_available_datasets(&self.lab, Some(&self.project))
    }

    fn of_kind(&self, kind: Kind, version: Option<u32>) -> Result<Answer> {
        let word = kind.as_str();
        let wanted = version.map_or_else(|| word.to_owned(), |version| format!("{word}_v{version}"));
        let artifact = Names { lab: &self.lab, project: &self.project }.artifact(&self.project, &wanted)?;
        artifact.expect_kind(kind)?;
        self.sql(&format!("SELECT * FROM {}", artifact.id().stem()))
    }
}

/// A name in quotes, as SQL has them.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
