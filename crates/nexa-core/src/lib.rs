//! Contracts of the lab: artifacts, manifests, lineage, runs, costs, events, configuration, and the traits at the
//! seams. Every other crate may use this one, and this one uses none of them.

pub mod event;
pub mod lm;
