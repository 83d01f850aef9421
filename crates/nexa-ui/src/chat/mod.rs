//! Inference servers, as the chat page reaches them: what they serve, and what they answer.
//!
//! The page asks this process, and this process the server: so the page needs no other origin, and the key of the server
//! never reaches the browser. What is passed on is narrow: conversations, to servers that the user named, by pages of this
//! process. What a server answers is handed on unread, as it comes; and once the browser has gone, the connection to the
//! server is closed, which makes it stop writing.

mod address;
mod model;
mod upstream;

pub use address::{Chat, ServerAddress};
pub(crate) use model::served;
pub(crate) use upstream::{Upstream, complete};

/// The header in which the page of a chat proves that it is of this process. No form and no foreign page can send it.
pub(crate) const TOKEN: &str = "x-nexa-token";

/// The longest conversation that is passed on. The contexts of models end long before.
pub(crate) const MAX_BODY_BYTES: usize = 2 << 20;
