//! The inference engine and its HTTP API.
