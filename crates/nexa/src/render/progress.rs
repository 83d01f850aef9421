//! Progress of stages: bars with rate and time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexa_core::event::{Event, EventSink};

/// How often a line of progress is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The screen that all stages share.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Inner>);

struct Inner {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// A screen on stderr.
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Self(Arc::new(Inner { bars }))
    }

    /// Where a stage of a name shows its events.
    pub(crate) fn sink(&self, name: &str) -> StageSink {
        StageSink { screen: self.clone(), name: name.to_owned(), state: Mutex::default() }
    }

    /// Writes a line above the bars.
    pub(crate) fn line(&self, text: &str) {
        match &self.0.bars {
            // A terminal that is gone cannot be told so.
            Some(bars) => drop(bars.println(text)),
            None => super::note(text),
        }
    }
}

/// Shows the events of one stage.
pub(crate) struct StageSink {
    screen: Screen,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    /// Time and units of the first progress of this process, for a rate that leaves earlier attempts out.
    first: Option<(Instant, u64)>,
}

impl EventSink for StageSink {
    fn emit(&self, event: Event) {
        match event {
            Event::Progress { done, total, unit, note } => self.progress(done, total, &unit, &note),
            Event::Info { message } => self.line(&message),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
        }
    }
}

impl StageSink {
    /// Writes a message under the stage's name; a table keeps its shape below it.
    fn line(&self, message: &str) {
        let message = if message.contains('\n') {
            format!("\n{message}").replace('\n', "\n    ")
        } else {
            format!(" {message}")
        };
        self.screen.line(&format!("  {}:{message}", self.name));
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: &str, note: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (first_at, first_done) = *state.first.get_or_insert((now, done));
        let seconds = (now - first_at).as_secs_f64();
        let rate = if seconds > 0.0 { done.saturating_sub(first_done) as f64 / seconds } else { 0.0 };
        let left = match total {
            Some(total) if rate > 0.0 => {
                format!("{} left", super::table::duration(total.saturating_sub(done) as f64 / rate))
            }
            _ => String::new(),
        };
        if let Some(bars) = &self.screen.0.bars {
            let bar = state.bar.get_or_insert_with(|| bars.add(bar(&self.name, total)));
            bar.set_position(done);
            bar.set_message(format!("{unit}  {left}  {note}"));
        } else if state.last_line.is_none_or(|last| now - last >= LINE_INTERVAL) {
            state.last_line = Some(now);
            let total = total.map(|total| format!("/{}", super::table::count(total))).unwrap_or_default();
            let parts = [format!("{}{total} {unit}", super::table::count(done)), left, note.to_owned()];
            let text = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("  ");
            super::note(&format!("  {}: {text}", self.name));
        }
    }
}

impl Drop for StageSink {
    fn drop(&mut self) {
        if let Some(bar) = &self.state.get_mut().unwrap_or_else(PoisonError::into_inner).bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let style = if total.is_some() {
        "  {prefix:<20} {bar:24} {human_pos}/{human_len} {msg}"
    } else {
        "  {prefix:<20} {spinner} {human_pos} {msg}"
    };
    let style = ProgressStyle::with_template(style).expect("the template is a constant and valid");
    // It draws nothing until the screen takes it over.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    bar.set_style(style);
    bar.set_prefix(name.to_owned());
    bar
}
