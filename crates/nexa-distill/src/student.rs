//! The student's tokenizer, where a stage was given one.

use std::fmt;
use std::sync::Arc;

use nexa_core::lm::{Tokenizer, TokenizerLoader};
use nexa_core::stage::Context;

use crate::{Error, Result};

/// The roles that it may play: a tokenizer of its own, or that of a checkpoint.
const ROLES: [&str; 2] = ["tokenizer", "student"];

/// What opens tokenizers for a stage; nothing, where the binary wired nothing in.
#[derive(Clone, Default)]
pub(crate) struct Opener(Option<Arc<dyn TokenizerLoader>>);

impl Opener {
    pub(crate) fn new(loader: Arc<dyn TokenizerLoader>) -> Self {
        Self(Some(loader))
    }

    /// Opens the tokenizer that plays a role, if one does.
    pub(crate) fn open(
        &self,
        context: &Context<'_>,
        stage: &'static str,
    ) -> Result<Option<Arc<dyn Tokenizer>>> {
        let Some(artifact) = ROLES.iter().find_map(|role| context.inputs.get(role)) else { return Ok(None) };
        let failed =
            |message: String| Error::NoTokenizer { stage, artifact: artifact.id().to_string(), message };
        let loader = self.0.as_ref().ok_or_else(|| failed("nothing here opens tokenizers".to_owned()))?;
        loader.load_tokenizer(&artifact.path()).map(Some).map_err(|error| failed(error.to_string()))
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Opener(…)" } else { "Opener(nothing)" })
    }
}
