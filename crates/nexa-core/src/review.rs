//! Review by people: the lines in which they decide on rows, what those lines come to, and how far reviewers agree.
//!
//! Whoever shows rows to people (`nexa ui`, the terminal) writes through a [`Session`]; whoever makes data of the
//! decisions (`distill.review`) reads [`Labels`] and asks for the [`Outcome`] of each row. They meet in the files:
//!
//! ```text
//! data/processed/<project>/distillation/labels/<artifact>.<reviewer>.jsonl
//! ```
//!
//! - A file belongs to one artifact and one reviewer, and is only ever added to: it merges well in git, and what was
//!   undone can still be read.
//! - The last line on a row counts. An undo is a line that takes back the last decision on its row, a draft is a line
//!   that decides nothing.
//! - A decision is on disk, synced, before it is shown as made. What a kill cuts off of the last line is left out,
//!   told, and dropped by the next line.
//! - Reviewers are blind: a [`Session`] tells what others decided on a row only to who has decided on it, or settles a
//!   disagreement of others.

mod agreement;
mod deck;
mod history;
mod label;
mod labels;
mod outcome;
mod session;

pub use agreement::{Agreement, Estimate, cohen_kappa, krippendorff_alpha, raw_agreement};
pub use deck::{Deck, Filter, PASSED, Record, ScoreRange, is_reviewable, row_id};
pub use history::{Decision, Draft, History, Standing, Status};
pub use label::{Action, Line, Verdict};
pub use labels::{Journal, Labels};
pub use outcome::{Opinion, Outcome, outcome};
pub use session::{Choice, Progress, Session};
