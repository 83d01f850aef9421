//! The dashboards through real HTTP on loopback, over labs that are made as real ones are.
#![cfg(test)]

#[path = "../../examples/dashboard/lab.rs"]
mod lab;

#[path = "../../examples/dashboard/evaluations.rs"]
mod evaluations_lab;

mod chat;
mod evaluations;
mod events;
mod http;
mod pages;
mod review;
mod serving;
