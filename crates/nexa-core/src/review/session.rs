//! One reviewer at work on one artifact: what pages and terminals do with what is typed.

use std::collections::BTreeMap;

use chrono::Utc;
use serde::Serialize;

use super::deck::{Deck, Filter};
use super::history::{Decision, Draft, History, Standing, Status};
use super::label::{Action, Line, Verdict};
use super::labels::{Journal, Labels};
use super::outcome::{Outcome, outcome};
use crate::{Error, Result};

/// A decision to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The row.
    pub row_id: &'a str,
    /// What is decided.
    pub verdict: Verdict,
    /// The text with which the row is kept.
    pub text: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Whether it settles a disagreement of others.
    pub adjudicates: bool,
}

/// How far a reviewer has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// All rows.
    pub rows: usize,
    /// Those not decided.
    pub pending: usize,
    /// Those begun and not decided.
    pub draft: usize,
    /// Those accepted.
    pub accept: usize,
    /// Those rejected.
    pub reject: usize,
    /// Those edited.
    pub edit: usize,
    /// Those to be asked for again.
    pub regenerate: usize,
}

impl Progress {
    /// How far the rows of a deck have come.
    pub fn of(deck: &Deck, history: &History) -> Self {
        let mut progress = Self { rows: deck.len(), ..Self::default() };
        for record in deck.records() {
            *match history.status(record.row_id) {
                Status::Pending => &mut progress.pending,
                Status::Draft => &mut progress.draft,
                Status::Decided(Verdict::Accept) => &mut progress.accept,
                Status::Decided(Verdict::Reject) => &mut progress.reject,
                Status::Decided(Verdict::Edit) => &mut progress.edit,
                Status::Decided(Verdict::Regenerate) => &mut progress.regenerate,
            } += 1;
        }
        progress
    }

    /// Rows that are decided.
    pub fn decided(&self) -> usize {
        self.accept + self.reject + self.edit + self.regenerate
    }
}

/// A reviewer at work.
#[derive(Debug)]
pub struct Session<'a> {
    labels: Labels,
    reviewer: String,
    deck: &'a Deck,
    journals: BTreeMap<String, Journal>,
}

impl<'a> Session<'a> {
    /// Begins, or goes on with, the review of an artifact's rows.
    ///
    /// # Errors
    /// Fails when the reviewer's name cannot be that of a file, or labels cannot be read.
    pub fn open(labels: Labels, deck: &'a Deck, reviewer: &str) -> Result<Self> {
        labels.path(reviewer)?;
        let mut journals = labels.read_all()?;
        journals.entry(reviewer.to_owned()).or_default();
        Ok(Self { labels, reviewer: reviewer.to_owned(), deck, journals })
    }

    /// Who reviews.
    pub fn reviewer(&self) -> &str {
        &self.reviewer
    }

    /// What the reviewer did so far.
    pub fn history(&self) -> &History {
        &self.journals[&self.reviewer].history
    }

    /// Files whose last line is cut off, with its number.
    pub fn cut_lines(&self) -> Vec<String> {
        let cut = |(reviewer, journal): (&String, &Journal)| {
            let line = journal.cut_line?;
            Some(format!(
                "{}.{reviewer}.jsonl: line {line} is cut off and left out",
                self.labels.artifact().stem()
            ))
        };
        self.journals.iter().filter_map(cut).collect()
    }

    /// How far the reviewer has come.
    pub fn progress(&self) -> Progress {
        Progress::of(self.deck, self.history())
    }

    /// The places of the rows that fit a filter.
    pub fn matching(&self, filter: &Filter) -> Vec<usize> {
        self.deck.matching(filter, self.history())
    }

    /// The next open row after a place, among those that fit a filter and starting anew at the end; the row of the
    /// place itself comes last.
    pub fn next_open(&self, filter: &Filter, after: Option<usize>) -> Option<usize> {
        let open = |index: &usize| {
            self.deck.get(*index).is_some_and(|record| self.history().status(record.row_id).is_open())
        };
        // What is decided now no longer stands as the filter may want, so its status does not count here.
        let filter = Filter { status: None, ..filter.clone() };
        let open: Vec<usize> = self.matching(&filter).into_iter().filter(open).collect();
        let later = open.iter().find(|index| after.is_none_or(|after| **index > after));
        later.or(open.first()).copied()
    }

    /// How a row stands with this reviewer.
    pub fn standing(&self, row_id: &str) -> Standing {
        self.history().standing(row_id)
    }

    /// What others decided on a row: nothing until this reviewer has decided on it as well.
    pub fn others(&self, row_id: &str) -> Vec<(&str, &Decision)> {
        if self.history().decision(row_id).is_none() {
            return Vec::new();
        }
        self.opinions(row_id)
    }

    /// What others decided on a row that this reviewer may settle: they disagree, and this reviewer is not one of
    /// them. Nothing where there is nothing to settle.
    pub fn dispute(&self, row_id: &str) -> Vec<(&str, &Decision)> {
        let own = self.history().decision(row_id);
        if own.is_some_and(|decision| !decision.adjudicates) {
            return Vec::new();
        }
        let opinions: Vec<_> =
            self.opinions(row_id).into_iter().filter(|(_, decision)| !decision.adjudicates).collect();
        let differ = opinions.windows(2).any(|pair| !pair[0].1.agrees_with(pair[1].1));
        if differ { opinions } else { Vec::new() }
    }

    /// The rows whose reviewers disagree and nobody has settled it, in the deck's order. Whose disagreement it is and
    /// what they say is told by [`Session::dispute`] alone.
    pub fn disputed(&self) -> Vec<&'a str> {
        let is_disputed = |row_id: &&str| matches!(outcome(&self.journals, row_id, 1), Outcome::Disagreed(_));
        (0..self.deck.len())
            .filter_map(|index| self.deck.get(index))
            .map(|record| record.row_id)
            .filter(is_disputed)
            .collect()
    }

    /// What everyone wrote.
    pub fn journals(&self) -> &BTreeMap<String, Journal> {
        &self.journals
    }

    /// Decides on a row. A row is kept with the text that is given: one that changes nothing accepts, and accepting one
    /// that changes something edits.
    ///
    /// # Errors
    /// Fails when there is no such row, an edit leaves no text, there is nothing that this reviewer may settle, or the
    /// decision cannot be written.
    pub fn decide(&mut self, choice: &Choice<'_>) -> Result<()> {
        let line = self.line(choice)?;
        self.write(vec![line])
    }

    /// Keeps what was typed on a row without deciding. What is what the row has anyway is no draft.
    ///
    /// # Errors
    /// Fails when there is no such row, or the draft cannot be written.
    pub fn draft(&mut self, row_id: &str, draft: Draft) -> Result<()> {
        let record = self.deck.find(row_id).ok_or_else(|| self.no_row(row_id))?;
        let standing = self.standing(row_id);
        let decision = standing.decision.as_ref();
        let base = decision.and_then(|made| made.text.as_deref()).unwrap_or_else(|| record.completion());
        let reason = decision.and_then(|made| made.reason.as_deref()).unwrap_or_default();
        let draft = Draft {
            text: draft.text.filter(|text| text != base),
            reason: draft.reason.filter(|text| text != reason),
        };
        if standing.draft.unwrap_or_default() == draft {
            return Ok(());
        }
        let line = Line::new(row_id, Action::Draft, &self.reviewer);
        self.write(vec![Line { text: draft.text, reason: draft.reason, ..line }])
    }

    /// Takes back the last decision, or all that were made at once, and returns the rows, newest first.
    ///
    /// # Errors
    /// Fails when that cannot be written.
    pub fn undo(&mut self) -> Result<Vec<String>> {
        let rows: Vec<String> = self.history().to_undo().into_iter().map(str::to_owned).collect();
        let lines = rows.iter().map(|row_id| Line::new(row_id, Action::Undo, &self.reviewer)).collect();
        self.write(lines)?;
        Ok(rows)
    }

    /// Makes the same decision on every row that fits a filter, if they are as many as the reviewer was told.
    ///
    /// # Errors
    /// Fails when they are another number, the decision is an edit, or it cannot be written.
    pub fn decide_all(&mut self, filter: &Filter, verdict: Verdict, expected: usize) -> Result<usize> {
        if verdict == Verdict::Edit {
            return Err(self.refused("many rows cannot be edited at once".to_owned()));
        }
        let rows = self.matching(filter);
        if rows.len() != expected {
            let found = rows.len();
            let message = format!("{expected} rows were to be decided, but the filter finds {found} now");
            return Err(self.refused(message));
        }
        let batch = Utc::now().format("%Y%m%dT%H%M%S%.6fZ").to_string();
        let records = rows.iter().filter_map(|index| self.deck.get(*index));
        let line = |row_id: &str| Line {
            batch: Some(batch.clone()),
            ..Line::new(row_id, verdict.into(), &self.reviewer)
        };
        let lines: Vec<Line> = records.map(|record| line(record.row_id)).collect();
        self.write(lines)?;
        Ok(expected)
    }

    fn line(&self, choice: &Choice<'_>) -> Result<Line> {
        let record = self.deck.find(choice.row_id).ok_or_else(|| self.no_row(choice.row_id))?;
        if choice.adjudicates && self.dispute(choice.row_id).is_empty() {
            let message =
                format!("row `{}` holds no disagreement that {} may settle", choice.row_id, self.reviewer);
            return Err(self.refused(message));
        }
        let mut line = Line::new(choice.row_id, choice.verdict.into(), &self.reviewer);
        if choice.verdict.keeps() {
            line.action = match choice.text {
                Some(text) if text == record.completion() => Action::Accept,
                Some(text) if !text.trim().is_empty() => Action::Edit,
                None if choice.verdict == Verdict::Accept => Action::Accept,
                _ => {
                    return Err(self.refused(format!("the edit leaves row `{}` without text", choice.row_id)));
                }
            };
            line.text = choice.text.filter(|_| line.action == Action::Edit).map(str::to_owned);
        }
        line.reason = choice.reason.filter(|reason| !reason.trim().is_empty()).map(str::to_owned);
        line.adjudicates = choice.adjudicates;
        Ok(line)
    }

    fn write(&mut self, lines: Vec<Line>) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.labels.append(&self.reviewer, &lines)?;
        let journal = self.journals.entry(self.reviewer.clone()).or_default();
        lines.iter().for_each(|line| journal.history.apply(line));
        Ok(())
    }

    fn opinions(&self, row_id: &str) -> Vec<(&str, &Decision)> {
        let others = self.journals.iter().filter(|(reviewer, _)| **reviewer != self.reviewer);
        others
            .filter_map(|(name, journal)| Some((name.as_str(), journal.history.decision(row_id)?)))
            .collect()
    }

    fn no_row(&self, row_id: &str) -> Error {
        Error::NotFound { what: "row", name: format!("{row_id} of {}", self.labels.artifact()), hint: None }
    }

    fn refused(&self, message: String) -> Error {
        Error::Review { artifact: self.labels.artifact().to_string(), message }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::artifact::ArtifactId;
    use crate::lab::Lab;

    struct Desk {
        _folder: tempfile::TempDir,
        lab: Lab,
        deck: Deck,
    }

    impl Desk {
        fn new(rows: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let lab = Lab::init(folder.path(), Some("tutor")).unwrap();
            let row = |n| json!({"id": format!("r{n}"), "user_prompt": "?", "teacher_output": format!("answer {n}")});
            let rows = (0..rows).map(|n| row(n).as_object().unwrap().clone()).collect();
            let deck = Deck::new(&artifact(), Arc::new(rows), Arc::default()).unwrap();
            Self { _folder: folder, lab, deck }
        }

        fn session(&self, reviewer: &str) -> Session<'_> {
            Session::open(Labels::new(&self.lab, &artifact()), &self.deck, reviewer).unwrap()
        }
    }

    fn artifact() -> ArtifactId {
        "tutor/filtered_v1".parse().unwrap()
    }

    fn choice(row_id: &str, verdict: Verdict) -> Choice<'_> {
        Choice { row_id, verdict, text: None, reason: None, adjudicates: false }
    }

    #[test]
    fn decisions_are_there_when_the_session_is_opened_again() {
        let desk = Desk::new(4);
        let mut session = desk.session("ana");
        session.decide(&choice("r0", Verdict::Accept)).unwrap();
        session.decide(&Choice { reason: Some("wrong"), ..choice("r1", Verdict::Reject) }).unwrap();
        session.decide(&Choice { text: Some("better"), ..choice("r2", Verdict::Edit) }).unwrap();
        let draft = Draft { text: Some("half".to_owned()), reason: None };
        session.draft("r3", draft).unwrap();
        let written = session.progress();
        let again = desk.session("ana");
        assert_eq!(again.progress(), written);
        assert_eq!(
            written,
            Progress { rows: 4, accept: 1, reject: 1, edit: 1, draft: 1, ..Progress::default() }
        );
        assert_eq!(again.standing("r1").reason(), Some("wrong"));
        assert_eq!(
            (again.standing("r2").text(), again.standing("r3").text()),
            (Some("better"), Some("half"))
        );
        assert_eq!(again.next_open(&Filter::default(), Some(0)), Some(3));
    }

    #[test]
    fn a_row_is_kept_with_the_text_that_is_given() {
        let desk = Desk::new(1);
        let mut session = desk.session("ana");
        let mut check = |verdict: Verdict, text: Option<&str>, expected: Option<(Verdict, Option<&str>)>| {
            let decided = session.decide(&Choice { text, ..choice("r0", verdict) });
            assert_eq!(decided.is_ok(), expected.is_some(), "{verdict} {text:?}");
            let made = session.history().decision("r0");
            let made = made.map(|made| (made.verdict, made.text.as_deref()));
            assert!(expected.is_none() || made == expected, "{verdict} {text:?}: {made:?}");
        };
        check(Verdict::Accept, None, Some((Verdict::Accept, None)));
        check(Verdict::Edit, Some("better"), Some((Verdict::Edit, Some("better"))));
        check(Verdict::Edit, Some("answer 0"), Some((Verdict::Accept, None)));
        check(Verdict::Accept, Some("better"), Some((Verdict::Edit, Some("better"))));
        check(Verdict::Reject, Some("better"), Some((Verdict::Reject, None)));
        check(Verdict::Edit, None, None);
        check(Verdict::Accept, Some(" \n"), None);
        assert!(session.decide(&choice("r9", Verdict::Accept)).is_err());
    }

    #[test]
    fn a_draft_of_what_is_there_anyway_writes_nothing() {
        let desk = Desk::new(1);
        let mut session = desk.session("ana");
        let mut draft = |text: &str| {
            session.draft("r0", Draft { text: Some(text.to_owned()), reason: Some(String::new()) }).unwrap();
            let path = Labels::new(&desk.lab, &artifact()).path("ana").unwrap();
            std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
        };
        assert_eq!([draft("answer 0"), draft("a"), draft("a"), draft("answer 0")], [0, 1, 1, 2]);
        assert_eq!(session.history().status("r0"), Status::Pending);
    }

    #[test]
    fn many_are_decided_and_undone_at_once_but_only_as_many_as_was_told() {
        let desk = Desk::new(12);
        let mut session = desk.session("ana");
        session.decide(&choice("r1", Verdict::Accept)).unwrap();
        let filter = Filter { search: Some("answer 1".to_owned()), ..Filter::default() };
        let error = session.decide_all(&filter, Verdict::Reject, 5).unwrap_err().to_string();
        assert!(error.contains("5 rows were to be decided, but the filter finds 3 now"), "{error}");
        assert_eq!(session.progress().decided(), 1);
        assert_eq!(session.decide_all(&filter, Verdict::Reject, 3).unwrap(), 3);
        assert_eq!(session.progress().reject, 3);
        assert_eq!(session.undo().unwrap(), ["r11", "r10", "r1"]);
        assert_eq!((session.progress().reject, session.progress().accept), (0, 1));
        assert_eq!(session.undo().unwrap(), ["r1"]);
        assert_eq!(session.undo().unwrap(), Vec::<String>::new());
        assert_eq!(desk.session("ana").progress().decided(), 0);
        assert!(session.decide_all(&filter, Verdict::Edit, 3).is_err());
    }

    #[test]
    fn reviewers_are_blind_and_a_third_settles_what_two_disagree_on() {
        let desk = Desk::new(2);
        let mut ana = desk.session("ana");
        ana.decide(&choice("r0", Verdict::Accept)).unwrap();
        let mut ben = desk.session("ben");
        assert_eq!(ben.others("r0"), [], "nothing is told before ben has decided");
        ben.decide(&choice("r0", Verdict::Reject)).unwrap();
        assert_eq!(ben.others("r0").len(), 1);
        assert_eq!(ben.disputed(), ["r0"]);
        assert!(ben.dispute("r0").is_empty(), "who disagrees does not settle it");
        let settle = Choice { adjudicates: true, ..choice("r0", Verdict::Reject) };
        assert!(ben.decide(&settle).is_err());
        let mut cy = desk.session("cy");
        assert!(cy.dispute("r1").is_empty());
        let told: Vec<_> = cy.dispute("r0").into_iter().map(|(name, made)| (name, made.verdict)).collect();
        assert_eq!(told, [("ana", Verdict::Accept), ("ben", Verdict::Reject)]);
        cy.decide(&settle).unwrap();
        assert!(desk.session("dan").disputed().is_empty());
        cy.undo().unwrap();
        assert_eq!(desk.session("dan").disputed(), ["r0"]);
    }
}
