//! A reviewer's place in the rows: what an order does, and how a row reads.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use nexa_core::review::{Choice, Deck, Filter, Record, Session, Standing, Verdict};
use similar::{ChangeTag, TextDiff};

use super::editor;
use super::keys::Order;

const HELP: &str = "a accept   r reject   e edit   x regenerate   u undo   > < next, previous   / search   g gate   \
                    o open only\nR X with a reason   A all that fit   ? help   q leave";

/// A reviewer's place in the rows.
pub(super) struct Desk<'a> {
    deck: &'a Deck,
    session: Session<'a>,
    filter: Filter,
    open_only: bool,
    at: Option<usize>,
    /// Where texts lie while they are edited.
    texts: PathBuf,
}

/// What comes after an order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// A line to the reviewer, and the row of the place again.
    Show(String),
    /// The end.
    Quit,
}

impl<'a> Desk<'a> {
    /// Begins at the first open row.
    pub(super) fn new(deck: &'a Deck, session: Session<'a>, texts: PathBuf) -> Self {
        let at = session.next_open(&Filter::default(), None).or((!deck.is_empty()).then_some(0));
        Self { deck, session, filter: Filter::default(), open_only: false, at, texts }
    }

    /// Does what is wanted.
    ///
    /// # Errors
    /// Fails when a decision cannot be made or written; nothing has changed then.
    pub(super) fn act(&mut self, order: Order) -> Result<Then> {
        let said = match order {
            Order::Quit => return Ok(Then::Quit),
            Order::Help => HELP.to_owned(),
            Order::Next => self.step(true),
            Order::Previous => self.step(false),
            Order::Undo => self.undo()?,
            Order::Search(text) => {
                self.filter.search = text;
                self.refilter()
            }
            Order::Gate(gate) => {
                let gates = self.deck.gates();
                if let Some(name) = gate.as_ref().filter(|name| !gates.contains(name)) {
                    return Ok(Then::Show(format!("no gate `{name}`; there are: {}", gates.join(", "))));
                }
                self.filter.gate = gate;
                self.refilter()
            }
            Order::OpenOnly => {
                self.open_only = !self.open_only;
                self.refilter()
            }
            Order::DecideAll(verdict, count) => {
                let decided = self.session.decide_all(&self.filter, verdict, count)?;
                self.at = self.session.next_open(&self.filter, self.at).or(self.at);
                format!("{verdict}: {decided} rows")
            }
            Order::Decide(verdict, words) => self.decide(verdict, words)?,
        };
        Ok(Then::Show(said))
    }

    fn decide(&mut self, verdict: Verdict, words: Option<String>) -> Result<String> {
        let Some(record) = self.record() else { return Ok("no row fits".to_owned()) };
        let (row_id, standing) = (record.row_id, self.session.standing(record.row_id));
        let (text, reason) = match (verdict, words) {
            (Verdict::Edit, None) => {
                let text = standing.text().unwrap_or(record.completion());
                (Some(editor::edit(&self.texts, row_id, text)?), None)
            }
            (Verdict::Edit, text) => (text, None),
            (_, reason) => (standing.text().map(str::to_owned), reason),
        };
        let kept = standing.draft.as_ref().and_then(|draft| draft.reason.as_deref());
        let (text, reason) = (text.as_deref(), reason.as_deref().or(kept));
        self.session.decide(&Choice { row_id, verdict, text, reason, adjudicates: false })?;
        if verdict == Verdict::Edit {
            editor::forget(&self.texts, row_id)?;
        }
        let mut said = format!("{row_id}: {}", self.session.history().status(row_id));
        for (reviewer, decision) in self.session.others(row_id) {
            let _ = write!(said, "; {reviewer}: {}", decision.verdict);
        }
        self.at = self.session.next_open(&self.filter, self.at).or(self.at);
        Ok(said)
    }

    fn undo(&mut self) -> Result<String> {
        let undone = self.session.undo()?;
        let Some(first) = undone.first() else { return Ok("nothing is left to undo".to_owned()) };
        self.at = self.deck.find(first).map(|record| record.index);
        Ok(match undone.len() {
            1 => format!("{first}: undone"),
            rows => format!("{rows} rows: undone"),
        })
    }

    fn step(&mut self, forward: bool) -> String {
        let rows = self.rows();
        let next = match (self.at, forward) {
            (Some(at), true) => rows.iter().find(|row| **row > at),
            (Some(at), false) => rows.iter().rfind(|row| **row < at),
            (None, _) => rows.first(),
        };
        match next {
            Some(next) => {
                self.at = Some(*next);
                String::new()
            }
            None => "no further row".to_owned(),
        }
    }

    fn refilter(&mut self) -> String {
        let rows = self.rows();
        self.at = self.at.filter(|at| rows.contains(at)).or(rows.first().copied());
        format!("{} rows fit", rows.len())
    }

    /// The places of the rows that are shown.
    fn rows(&self) -> Vec<usize> {
        let is_open = |row: &usize| {
            self.deck.get(*row).is_some_and(|record| self.session.history().status(record.row_id).is_open())
        };
        let rows = self.session.matching(&self.filter);
        rows.into_iter().filter(|row| !self.open_only || is_open(row)).collect()
    }

    fn record(&self) -> Option<Record<'a>> {
        self.deck.get(self.at?)
    }

    /// How far the reviewer has come.
    pub(super) fn summary(&self) -> String {
        let progress = self.session.progress();
        format!(
            "{} of {} rows decided by {}: {} accepted, {} rejected, {} edited, {} to regenerate",
            progress.decided(),
            progress.rows,
            self.session.reviewer(),
            progress.accept,
            progress.reject,
            progress.edit,
            progress.regenerate
        )
    }

    /// The row of the place, in full.
    pub(super) fn show(&self) -> String {
        let Some(record) = self.record() else { return "no row fits".to_owned() };
        let (standing, status) =
            (self.session.standing(record.row_id), self.session.history().status(record.row_id));
        let rows = self.rows();
        let place =
            rows.binary_search(&record.index).map_or_else(|_| "-".to_owned(), |at| (at + 1).to_string());
        let gate = match (record.gate(), record.gate_reason()) {
            (None, _) => "passed the gates".to_owned(),
            (Some(gate), reason) => format!("rejected by {gate}: {}", reason.unwrap_or("no reason")),
        };
        let mut out = format!("── {place}/{}  {}  [{status}]  {gate}\n", rows.len(), record.row_id);
        let mut part = |name: &str, text: &str| {
            let _ = writeln!(out, "{name}:\n  {}", text.replace('\n', "\n  "));
        };
        if let Some(system) = record.system() {
            part("system", system);
        }
        part("prompt", record.prompt());
        part("completion", &changed(record.completion(), &standing));
        if let Some(reference) = record.reference() {
            part("reference", reference);
        }
        let scores: Vec<String> =
            record.scores().into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        if !scores.is_empty() {
            let _ = writeln!(out, "{}", scores.join("   "));
        }
        if let Some(reason) = standing.reason() {
            let _ = writeln!(out, "reason: {reason}");
        }
        out
    }
}

/// The completion, with what an edit or draft changes marked as `[-old-]{+new+}`.
fn changed(completion: &str, standing: &Standing) -> String {
    let Some(text) = standing.text() else { return completion.to_owned() };
    let mut parts: Vec<(ChangeTag, String)> = Vec::new();
    for change in TextDiff::from_words(completion, text).iter_all_changes() {
        match parts.last_mut() {
            Some((tag, words)) if *tag == change.tag() => words.push_str(change.value()),
            _ => parts.push((change.tag(), change.value().to_owned())),
        }
    }
    let marked = parts.into_iter().map(|(tag, words)| match tag {
        ChangeTag::Equal => words,
        ChangeTag::Delete => format!("[-{words}-]"),
        ChangeTag::Insert => format!("{{+{words}+}}"),
    });
    marked.collect()
}

#[cfg(test)]
mod tests {
    use nexa_core::review::Draft;

    use super::*;

    #[test]
    fn an_edit_is_shown_as_what_it_changes() {
        let draft = |text: &str| Standing {
            draft: Some(Draft { text: Some(text.to_owned()), reason: None }),
            ..Standing::default()
        };
        assert_eq!(changed("It is 4.", &Standing::default()), "It is 4.");
        assert_eq!(changed("It is 4.", &draft("It is 5.")), "It is [-4.-]{+5.+}");
        assert_eq!(changed("So it is 4.", &draft("It is 4.")), "[-So it-]{+It+} is 4.");
    }
}
