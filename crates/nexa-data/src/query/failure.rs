//! What went wrong in a query, in the words of this program.
//!
//! DataFusion wraps errors in errors; here the innermost is taken out, cut to one line, and given a hint. What an object
//! store answered is told by its code alone: some services put the key of the caller, or what was signed, into the text.

use std::error::Error as StdError;
use std::path::Path;

use arrow_schema::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use nexa_core::{Error as CoreError, ExitCode, config};
use parquet::errors::ParquetError;

use crate::Error;

/// The longest text of a service that is passed on.
const TOLD_CHARACTERS: usize = 160;

/// Finds out what an error of DataFusion is about.
pub(super) fn failure(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => failure(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => failure(first),
            None => query("it failed".to_owned(), None),
        },
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(inner) => failure(inner),
            // Other parts of the query still hold it.
            Err(inner) => match inner.find_root() {
                DataFusionError::ResourcesExhausted(_) => Error::QueryMemory { limit: 0 },
                root => query(root.message().into_owned(), None),
            },
        },
        DataFusionError::External(inner) => external(inner),
        DataFusionError::ArrowError(inner, _) => match *inner {
            ArrowError::ExternalError(inner) => external(inner),
            ArrowError::ParquetError(text) => damaged(&text),
            other => query(other.to_string(), None),
        },
        DataFusionError::ParquetError(inner) => match *inner {
            ParquetError::External(inner) => external(inner),
            other => damaged(&other.to_string()),
        },
        DataFusionError::ObjectStore(inner) => refused("a table", &inner),
        DataFusionError::IoError(inner) => CoreError::io("use", "a file of a query", inner).into(),
        DataFusionError::SchemaError(inner, _) => schema(*inner),
        DataFusionError::SQL(inner, _) => {
            let text = inner.to_string();
            query(text.strip_prefix("sql parser error: ").unwrap_or(&text).to_owned(), None)
        }
        DataFusionError::ResourcesExhausted(_) => Error::QueryMemory { limit: 0 },
        DataFusionError::ExecutionJoin(inner) if inner.is_panic() => {
            CoreError::Panicked { message: inner.to_string() }.into()
        }
        other => query(other.message().into_owned(), None),
    }
}

impl Error {
    /// Names the place of an error that does not know it.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Query { message, .. } => CoreError::malformed(Path::new(place), message).into(),
            Self::Damaged { message, .. } => Self::Damaged { place: place.to_owned(), message },
            Self::Store { message, exit_code, .. } => {
                Self::Store { place: place.to_owned(), message, exit_code }
            }
            other => other,
        }
    }

    /// Names the memory that a query may take, where that was too little.
    pub(super) fn within(self, limit: u64) -> Self {
        match self {
            Self::QueryMemory { .. } => Self::QueryMemory { limit },
            other => other,
        }
    }
}

/// An error of the statement itself.
pub(super) fn query(message: String, hint: Option<String>) -> Error {
    // What DataFusion proposes stands on lines of its own.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Query { message: lowercase_first(message.trim_end_matches('.')), hint }
}

fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

fn external(error: Box<dyn StdError + Send + Sync>) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(own) => return *own,
        Err(other) => other,
    };
    let error = match error.downcast::<CoreError>() {
        Ok(own) => return (*own).into(),
        Err(other) => other,
    };
    let error = match error.downcast::<DataFusionError>() {
        Ok(inner) => return failure(*inner),
        Err(other) => other,
    };
    let error = match error.downcast::<ParquetError>() {
        Ok(inner) => return failure((*inner).into()),
        Err(other) => other,
    };
    let error = match error.downcast::<ArrowError>() {
        Ok(inner) => return failure((*inner).into()),
        Err(other) => other,
    };
    match error.downcast::<object_store::Error>() {
        Ok(inner) => refused("a table", &inner),
        Err(other) => query(other.to_string(), None),
    }
}

/// A file of Parquet, which one is found out by whoever knows them: see [`Error::at`].
fn damaged(text: &str) -> Error {
    let message = text.strip_prefix("Parquet error: ").unwrap_or(text).to_owned();
    Error::Damaged { place: "a Parquet file".to_owned(), message }
}

fn schema(error: SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            let hint = match known.iter().find(|name| name.eq_ignore_ascii_case(&field.name)) {
                Some(name) if **name != field.name => {
                    Some(format!("a column with capitals is written in quotes: \"{name}\""))
                }
                _ => match config::nearest(&field.name, known.iter().copied()) {
                    Some(name) => Some(format!("did you mean `{name}`?")),
                    None if known.is_empty() => None,
                    None => Some(format!("there are: {}", known.join(", "))),
                },
            };
            query(format!("there is no column `{}`", field.flat_name()), hint)
        }
        other => query(other.to_string(), None),
    }
}

/// The codes by which S3 refuses keys.
const CREDENTIAL_CODES: [&str; 5] =
    ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"];

/// What an object store's refusal means.
pub(super) fn refused(place: &str, error: &object_store::Error) -> Error {
    let code = code_of(error);
    let (message, exit_code) = match (error, code.as_deref()) {
        (_, Some("NoSuchBucket")) => ("there is no such bucket".to_owned(), ExitCode::Input),
        (object_store::Error::NotFound { .. }, _) => ("it is not there".to_owned(), ExitCode::Input),
        (
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
            code,
        ) => {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            (format!("the service refused the credentials{code}"), ExitCode::Credentials)
        }
        // Listing a bucket tells a refusal by its code alone.
        (_, Some(code)) if CREDENTIAL_CODES.contains(&code) => {
            (format!("the service refused the credentials ({code})"), ExitCode::Credentials)
        }
        (_, Some(code)) => (format!("the service says {code}"), ExitCode::Unavailable),
        (error, None) => (innermost(error), ExitCode::Unavailable),
    };
    Error::Store { place: place.to_owned(), message, exit_code }
}

/// The code in the answer of the service.
fn code_of(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    code.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| code.to_owned())
}

/// The cause behind all causes, without what a service sent.
fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let told = text.split(['<', '\n']).next().unwrap_or_default().trim_end_matches([' ', ':']);
    told.chars().take(TOLD_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use nexa_core::Diagnose;

    use super::*;

    #[test]
    fn a_refusal_of_a_service_is_told_by_its_code() {
        let check = |code: &str, exit_code: ExitCode, message: &str| {
            let source =
                format!("status 403: <Error><Code>{code}</Code><Message>no</Message></Error>").into();
            let error = refused("s3://bucket/a", &object_store::Error::Generic { store: "S3", source });
            assert_eq!(error.exit_code(), exit_code, "{error}");
            assert!(error.to_string().contains(message), "{error}");
        };
        check("InvalidAccessKeyId", ExitCode::Credentials, "refused the credentials (InvalidAccessKeyId)");
        check("NoSuchBucket", ExitCode::Input, "there is no such bucket");
        check("SlowDown", ExitCode::Unavailable, "the service says SlowDown");
    }
}
