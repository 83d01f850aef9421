//! Buckets of S3 and of services that speak like it.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreUrl;
use futures_util::TryStreamExt;
use glob::Pattern;
use nexa_core::env::Environment;
use nexa_core::{Error, ExitCode};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};

use super::address::{Address, Place};
use super::failure::{failure, refused};
use crate::Result;
use crate::tables::{Format, GLOB_CHARACTERS, GLOB_OPTIONS, bad_pattern, no_tables};

/// What addresses of S3 begin with.
const SCHEME: &str = "s3://";

/// The variables by which the tools of S3 are set up.
const VARIABLES: [(&str, Key); 9] = [
    ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", Key::Token),
    ("AWS_DEFAULT_REGION", Key::Region),
    ("AWS_REGION", Key::Region),
    ("AWS_ENDPOINT_URL", Key::Endpoint),
    ("AWS_ENDPOINT_URL_S3", Key::Endpoint),
    ("AWS_ALLOW_HTTP", Key::Client(ClientConfigKey::AllowHttp)),
    ("AWS_SKIP_SIGNATURE", Key::SkipSignature),
];

/// A service that does not answer is given up after this.
const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    },
    max_retries: 3,
    retry_timeout: Duration::from_secs(30),
};

/// A bucket, and what is wanted of it.
pub(super) struct Request {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) bucket: ObjectStoreUrl,
    /// A key, a prefix or a pattern.
    pattern: String,
    /// The address as it was written.
    shown: String,
}

impl Request {
    /// Takes an address apart and opens the bucket; `None` where the text is no address of S3.
    ///
    /// # Errors
    /// Fails when there are no credentials, or the bucket or a variable cannot be used.
    pub(super) fn open(address: &str, environment: &Environment) -> Result<Option<Self>> {
        let Some(rest) = address.strip_prefix(SCHEME) else { return Ok(None) };
        let (bucket, pattern) = rest.split_once('/').unwrap_or((rest, ""));
        let url = ObjectStoreUrl::parse(format!("{SCHEME}{bucket}"));
        let (Ok(url), false) = (url, bucket.is_empty()) else {
            let message = "an address is of the form s3://bucket/key".to_owned();
            return Err(Error::BadName { what: "file", name: address.to_owned(), message }.into());
        };
        let store = open_bucket(bucket, environment)?;
        Ok(Some(Self { store, bucket: url, pattern: pattern.to_owned(), shown: address.to_owned() }))
    }

    /// The objects that the address names, in the order of their keys. A prefix stands for all tables below it.
    ///
    /// # Errors
    /// Fails when the service refuses, or nothing is there that could be a table.
    pub(super) async fn expand(&self) -> Result<Vec<Address>> {
        let refused = |error: object_store::Error| refused(&self.shown, &error);
        let is_pattern = self.pattern.contains(GLOB_CHARACTERS);
        let whole = Path::parse(self.pattern.trim_end_matches('/')).map_err(|e| refused(e.into()))?;
        if !is_pattern && !self.pattern.is_empty() && !self.pattern.ends_with('/') {
            match self.store.head(&whole).await {
                Ok(meta) => return Ok(vec![self.address(meta)?]),
                Err(object_store::Error::NotFound { .. }) if Format::of(whole.as_ref().as_ref()).is_err() => {
                }
                Err(error) => return Err(refused(error)),
            }
        }
        let (prefix, matches): (Path, Option<Pattern>) = if is_pattern {
            let fixed = self.pattern.split(GLOB_CHARACTERS).next().unwrap_or_default();
            let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
            let pattern = Pattern::new(&self.pattern).map_err(|e| bad_pattern(&self.shown, &e))?;
            (Path::parse(folder).map_err(|e| refused(e.into()))?, Some(pattern))
        } else {
            (whole, None)
        };
        let found: Vec<ObjectMeta> = self.store.list(Some(&prefix)).try_collect().await.map_err(refused)?;
        let is_wanted = |meta: &ObjectMeta| {
            let key = meta.location.as_ref();
            Format::of(key.as_ref()).is_ok()
                && matches.as_ref().is_none_or(|pattern| pattern.matches_with(key, GLOB_OPTIONS))
        };
        let mut found: Vec<ObjectMeta> = found.into_iter().filter(is_wanted).collect();
        found.sort_by(|one, other| one.location.cmp(&other.location));
        if found.is_empty() {
            return Err(no_tables(&self.shown, false).into());
        }
        found.into_iter().map(|meta| self.address(meta)).collect()
    }

    fn address(&self, meta: ObjectMeta) -> Result<Address> {
        let shown = format!("{}{}", self.bucket.as_str(), meta.location);
        let format = Format::of(shown.as_ref())?;
        let place = Place::Object { store: Arc::clone(&self.store), bucket: self.bucket.clone(), meta };
        Ok(Address { shown, format, place })
    }
}

fn open_bucket(bucket: &str, environment: &Environment) -> Result<Arc<dyn ObjectStore>> {
    let place = format!("{SCHEME}{bucket}");
    let is_open = environment.get("AWS_SKIP_SIGNATURE").is_some_and(|value| value.expose() == "true");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        if !is_open && environment.get(name).is_none() {
            let message = format!("{name} is not set");
            return Err(crate::Error::Store { place, message, exit_code: ExitCode::Credentials });
        }
    }
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(RETRIES);
    for (name, key) in VARIABLES {
        if let Some(value) = environment.get(name) {
            builder = builder.with_config(key, value.expose());
        }
    }
    let store = builder.build().map_err(|e| failure(e.into()).at(&place))?;
    Ok(Arc::new(store))
}
