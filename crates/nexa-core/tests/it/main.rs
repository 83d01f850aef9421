//! Behaviour of the contracts through their public doors.

mod index;
mod lineage;
mod manifest;
mod stage;
mod support;
