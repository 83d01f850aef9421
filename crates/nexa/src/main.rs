//! The `nexa` binary.
fn main() {}
