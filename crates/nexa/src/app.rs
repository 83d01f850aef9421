//! What every command needs: the lab, the environment, tables, the screen, and the wish to stop.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nexa_core::artifact::Store;
use nexa_core::env::Environment;
use nexa_core::event::{Cancel, EventSink};
use nexa_core::lab::{Lab, Project};
use nexa_core::stage::Services;
use nexa_data::tables::FileTables;

use crate::args::Global;
use crate::render::progress::Screen;

/// An opened lab with all that commands use.
pub(crate) struct App {
    pub(crate) lab: Lab,
    pub(crate) environment: Environment,
    pub(crate) tables: FileTables,
    pub(crate) screen: Screen,
    pub(crate) cancel: Cancel,
    project: Option<String>,
}

impl App {
    /// Opens the lab that the arguments, `NEXA_LAB` or the current folder name.
    pub(crate) fn open(global: &Global) -> Result<Self> {
        let lab = match &global.lab {
            Some(folder) => Lab::open(folder)?,
            None => Lab::discover(Path::new("."))?,
        };
        Self::with_lab(lab, global.project.clone())
    }

    /// Uses a lab that is open.
    pub(crate) fn with_lab(lab: Lab, project: Option<String>) -> Result<Self> {
        let environment = Environment::load(lab.root())?;
        Ok(Self {
            environment,
            tables: FileTables,
            screen: Screen::new(),
            cancel: cancel_on_signal()?,
            lab,
            project,
        })
    }

    /// What stages are given, with events going to a sink.
    pub(crate) fn services<'a>(&'a self, events: &'a dyn EventSink) -> Services<'a> {
        Services {
            lab: &self.lab,
            environment: &self.environment,
            tables: &self.tables,
            events,
            cancel: &self.cancel,
        }
    }

    /// The project that the command is about.
    pub(crate) fn project(&self) -> Result<Project> {
        Ok(self.lab.project_or_default(self.project.as_deref())?)
    }

    /// The project, where one was named.
    pub(crate) fn named_project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The artifacts of the lab.
    pub(crate) fn store(&self) -> Store<'_> {
        Store::new(&self.lab)
    }

    /// A path as the user would write it from the current folder.
    pub(crate) fn show(&self, path: &Path) -> String {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        path.strip_prefix(&here).unwrap_or(path).display().to_string()
    }
}

/// The name of the user, as the system tells it.
pub(crate) fn user() -> Option<String> {
    let named = std::env::var("USER").or_else(|_| std::env::var("USERNAME"));
    named.ok().filter(|name| !name.is_empty())
}

/// Sets a flag on the first Ctrl-C or SIGTERM, so that work stops at a safe point; the second one ends the process.
fn cancel_on_signal() -> Result<Cancel> {
    let cancel = Cancel::default();
    let flag = cancel.clone();
    ctrlc::set_handler(move || {
        if flag.is_cancelled() {
            std::process::exit(nexa_core::ExitCode::Interrupted as i32);
        }
        flag.cancel();
        crate::render::note("stopping at the next safe point; once more to stop at once");
    })?;
    Ok(cancel)
}
