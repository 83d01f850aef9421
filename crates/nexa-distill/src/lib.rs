//! Teachers, collection, gates and packaging: from prompts to supervised fine-tuning data.
//!
//! ```text
//! problems ──(ingest)──▶ dataset ──▶ inputs ──▶ collect ──┬─────────▶ filter ──┬──▶ (review) ──▶ package
//!                           │                       ▲     └▶ judge ─────┘       │                   ▲
//!                           │                       └──────── regenerate ◀──────┘                   │
//!                           └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each stage is a module with a `Config` and a type that implements [`nexa_core::stage::Stage`]. They meet only in
//! the tables whose columns [`nexa_core::columns`] names. Invariants:
//!
//! - an answer that was paid for is in the log before anything else happens with it, and is never asked for again;
//! - no row is null because a call failed: failed rows stand in a file of their own, with the reason;
//! - what a gate rejects is kept, with the gate and the reason, and the counts add up;
//! - a problem and its paraphrases never stand on two sides of a split.

mod conversation;
mod error;
mod schema;
mod student;
mod table;
mod text;

pub mod api;
pub mod client;
pub mod collect;
pub mod embedded;
pub mod filter;
pub mod gates;
pub mod inputs;
pub mod judge;
pub mod package;
pub mod problems;
pub mod regenerate;
pub mod review;
pub mod teacher;

pub use error::{Error, Result};

use nexa_core::draw;
