//! The review in a terminal, key by key, and where there is none line by line.

use std::io::BufRead;

use anyhow::Result;
use crossterm::cursor::MoveTo;
use crossterm::event::{self, Event, KeyEventKind};
use crossterm::execute;
use crossterm::terminal::{self, Clear, ClearType};

use super::desk::{Desk, Then};
use super::keys::{self, Key, Order};
use crate::app::App;
use crate::render;

/// How often the wish to stop is looked at while no key is pressed.
const CANCEL_POLL: std::time::Duration = std::time::Duration::from_millis(200);

/// Reads keys until the reviewer leaves.
pub(super) fn by_key(app: &App, desk: &mut Desk<'_>) -> Result<()> {
    let mut said = "? for help".to_owned();
    while !app.cancel.is_cancelled() {
        execute!(std::io::stdout(), Clear(ClearType::All), MoveTo(0, 0))?;
        render::out(&desk.show());
        render::note(&format!("{}\n{said}", desk.summary()));
        let Some(key) = read_key(app)? else { continue };
        let order = match key {
            Key::Order(order) => Some(order),
            Key::Ask(word, question) => keys::of_line(&format!("{word} {}", ask(question)?)),
        };
        said = match order.map(|order| desk.act(order)) {
            Some(Ok(Then::Quit)) => break,
            Some(Ok(Then::Show(said))) => said,
            // A full disk or a mistake loses nothing; the reviewer may try again.
            Some(Err(error)) => format!("error: {error:#}"),
            None => "that was not understood; ? for help".to_owned(),
        };
    }
    Ok(())
}

/// Reads lines until there are no more. Unlike with a person at hand, the first error ends it.
pub(super) fn by_line(desk: &mut Desk<'_>) -> Result<()> {
    render::out(&desk.show());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        match keys::of_line(&line) {
            Some(Order::Quit) => break,
            Some(order) => {
                if let Then::Show(said) = desk.act(order)?
                    && !said.is_empty()
                {
                    render::note(&said);
                }
                render::out(&desk.show());
            }
            None => anyhow::bail!("`{}` is not understood; `?` shows what is", line.trim()),
        }
    }
    Ok(())
}

/// The terminal takes keys one by one for as long as this is there.
struct Raw;

impl Raw {
    fn begin() -> Result<Self> {
        terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = terminal::disable_raw_mode();
    }
}

/// Waits for a key that means something; nothing when the user wants to stop, or the window changed.
fn read_key(app: &App) -> Result<Option<Key>> {
    let _raw = Raw::begin()?;
    while !app.cancel.is_cancelled() {
        if !event::poll(CANCEL_POLL)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if let Some(key) = keys::of_key(&key) {
                    return Ok(Some(key));
                }
            }
            Event::Resize(..) => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

fn ask(question: &str) -> Result<String> {
    use std::io::Write;
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}
