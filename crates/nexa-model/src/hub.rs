//! Where a model comes from: a folder, or a repository of the Hugging Face hub, which becomes a folder in the cache.
//!
//! Of a repository, only what a checkpoint consists of is fetched, all of it from one commit. The branch points to
//! that commit only once every file is there, so an interrupted download is never taken for a model. Without a
//! connection, the cached commit is used.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use nexa_core::env::{Environment, Secret};

use crate::Error;
use crate::files::{OPTIONAL, REQUIRED, WEIGHTS, WEIGHTS_INDEX};
use crate::weights::shard_names;

/// Begins the name of a repository.
const PREFIX: &str = "hf:";
/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Finds the folder of a model that is given as a path or as `hf:organisation/name`, perhaps with `@revision`.
///
/// A repository is looked for in `HF_HOME`, else in `cache`. `HF_TOKEN` opens private ones, `HF_ENDPOINT` names
/// another hub, and with `HF_HUB_OFFLINE` the cache must do.
///
/// # Errors
/// Names the folder or the repository, and why it cannot be had.
pub fn resolve(spec: &str, environment: &Environment, cache: &Path) -> Result<PathBuf, Error> {
    match spec.strip_prefix(PREFIX) {
        Some(name) => Hub::new(environment, cache).fetch(&Repository::parse(name)?),
        None if Path::new(spec).is_dir() => Ok(PathBuf::from(spec)),
        None => Err(Error::NoModel(spec.to_owned())),
    }
}

/// Whether a model is named as a repository of the hub, and not as a path.
pub(crate) fn is_repository(spec: &str) -> bool {
    spec.starts_with(PREFIX)
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repository {
    id: String,
    revision: String,
}

impl Repository {
    /// Reads `organisation/name` or `organisation/name@revision`. Both become parts of paths and of URLs, so they may
    /// hold nothing that means something there.
    fn parse(name: &str) -> Result<Self, Error> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let is_plain = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && part.chars().all(allowed) && part.chars().any(|c| c != '.')
        };
        let is_valid =
            id.split('/').count() == 2 && id.split('/').all(is_plain) && revision.split('/').all(is_plain);
        if is_valid {
            Ok(Self { id: id.to_owned(), revision: revision.to_owned() })
        } else {
            let problem = "is not of the form `hf:organisation/name` or `hf:organisation/name@revision`";
            Err(Error::Hub { repository: name.to_owned(), problem: problem.to_owned() })
        }
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::Hub { repository: self.id.clone(), problem: problem.into() })
    }

    /// Says what went wrong between us and the hub.
    fn failure(&self, error: ApiError) -> Error {
        let repository = self.id.clone();
        let problem = error.to_string();
        let ApiError::RequestError(request) = error else {
            return Error::Hub { repository, problem };
        };
        match request.into_response().map(|response| response.status()) {
            Some(status @ (401 | 403)) => Error::HubRefused { repository, status },
            Some(404) => Error::Hub {
                repository,
                problem: format!("has no revision `{}`, or does not exist", self.revision),
            },
            Some(_) => Error::Hub { repository, problem },
            None => Error::HubUnreachable { repository, problem },
        }
    }
}

/// A hub and the cache of what came from it.
struct Hub {
    endpoint: String,
    token: Option<Secret>,
    cache: PathBuf,
    is_offline: bool,
}

impl Hub {
    fn new(environment: &Environment, cache: &Path) -> Self {
        let get = |name: &str| environment.get(name).map(|value| value.expose().to_owned());
        let is_true = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Self {
            endpoint: get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            token: environment.get("HF_TOKEN"),
            cache: get("HF_HOME").map_or_else(|| cache.to_owned(), |home| Path::new(&home).join("hub")),
            is_offline: get("HF_HUB_OFFLINE").is_some_and(is_true),
        }
    }

    /// Returns the folder of a repository's files, after fetching what is not in the cache.
    fn fetch(&self, repository: &Repository) -> Result<PathBuf, Error> {
        let cached = self.cached(repository);
        if self.is_offline {
            return match cached {
                Some(folder) => Ok(folder),
                None => repository.fail(format!(
                    "is not in the cache ({}), and `HF_HUB_OFFLINE` is set",
                    self.cache.display()
                )),
            };
        }
        match (self.download(repository), cached) {
            (Err(Error::HubUnreachable { .. }), Some(folder)) => Ok(folder),
            (result, _) => result,
        }
    }

    /// Returns the folder of a revision that was fetched before, and completely.
    fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        let cache = Cache::new(self.cache.clone()).repo(repository.at(&repository.revision));
        let config = cache.get(REQUIRED[0])?;
        let has = |file: &str| cache.get(file).is_some();
        let has_weights = has(WEIGHTS)
            || cache.get(WEIGHTS_INDEX).is_some_and(|index| {
                shard_names(&index).is_ok_and(|names| names.iter().all(|name| has(name)))
            });
        (has_weights && REQUIRED.iter().all(|file| has(file))).then(|| config.parent().map(Path::to_owned))?
    }

    fn download(&self, repository: &Repository) -> Result<PathBuf, Error> {
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.as_ref().map(|token| token.expose().to_owned()))
            .with_progress(false)
            .build()
            .map_err(|error| repository.failure(error))?;
        let get = |repo: &ApiRepo, file: &str| repo.get(file).map_err(|error| repository.failure(error));

        let branch = repository.at(&repository.revision);
        let info = api.repo(branch.clone()).info().map_err(|error| repository.failure(error))?;
        if info.sha.is_empty() || !info.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return repository.fail(format!("has the commit `{}`, which is no hash", info.sha));
        }
        let commit = api.repo(repository.at(&info.sha));
        let has = |file: &str| info.siblings.iter().any(|sibling| sibling.rfilename == file);
        if let Some(missing) = REQUIRED.iter().find(|file| !has(file)) {
            return repository.fail(format!("has no `{missing}`"));
        }
        let config = get(&commit, REQUIRED[0])?;
        for file in REQUIRED[1..].iter().chain(&OPTIONAL).filter(|file| has(file)) {
            get(&commit, file)?;
        }
        if has(WEIGHTS) {
            get(&commit, WEIGHTS)?;
        } else if has(WEIGHTS_INDEX) {
            for name in shard_names(&get(&commit, WEIGHTS_INDEX)?)? {
                get(&commit, &name)?;
            }
        } else {
            return repository.fail(format!("has neither `{WEIGHTS}` nor `{WEIGHTS_INDEX}`"));
        }
        cache.repo(branch).create_ref(&info.sha)?;
        Ok(config.parent().map(Path::to_owned).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A hub on the loopback interface with one repository, `tiny/model`, that only a token opens.
    struct FakeHub {
        endpoint: String,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl FakeHub {
        fn start(files: &'static [(&'static str, &'static str)]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
            let requests = Arc::new(Mutex::new(Vec::new()));
            let log = requests.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    answer(stream.expect("a connection"), files, &log);
                }
            });
            Self { endpoint, requests }
        }

        fn hub(&self, cache: &Path) -> Hub {
            Hub {
                endpoint: self.endpoint.clone(),
                token: Some(Secret::new("secret")),
                cache: cache.to_owned(),
                is_offline: false,
            }
        }

        /// The paths that were asked for since the last call, each once.
        fn requests(&self) -> Vec<String> {
            let mut paths = std::mem::take(&mut *self.requests.lock().expect("not poisoned"));
            paths.dedup();
            paths
        }
    }

    fn answer(mut stream: TcpStream, files: &[(&str, &str)], log: &Mutex<Vec<String>>) {
        let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers: Vec<String> =
            lines.take_while(|line| !line.is_empty()).map(|l| l.to_lowercase()).collect();
        log.lock().expect("not poisoned").push(path.clone());
        let file = path.strip_prefix(&format!("/tiny/model/resolve/{COMMIT}/"));
        let body = if !headers.contains(&"authorization: bearer secret".to_owned()) {
            Err("401 Unauthorized")
        } else if path == "/api/models/tiny/model/revision/main" {
            let siblings: Vec<_> =
                files.iter().map(|(name, _)| serde_json::json!({ "rfilename": name })).collect();
            Ok(serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string())
        } else {
            let found = files.iter().find(|(name, _)| Some(*name) == file);
            found.map(|(_, text)| (*text).to_owned()).ok_or("404 Not Found")
        };
        let response = match body {
            Err(status) => {
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            }
            Ok(text) => {
                let total = text.len();
                let range = headers.iter().find_map(|header| header.strip_prefix("range: bytes="));
                let (first, last) = match range.and_then(|range| range.split_once('-')) {
                    None => (0, total - 1),
                    Some((first, last)) => (
                        first.parse().expect("a number"),
                        last.parse().map_or(total - 1, |last: usize| last.min(total - 1)),
                    ),
                };
                let part = &text[first..=last];
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{last}/{total}\r\n\
                     etag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n{part}",
                    part.len(),
                    blake3::hash(text.as_bytes()).to_hex(),
                )
            }
        };
        stream.write_all(response.as_bytes()).expect("the client listens");
    }

    fn tiny() -> Repository {
        Repository::parse("tiny/model").expect("valid")
    }

    #[test]
    fn only_what_a_checkpoint_consists_of_is_fetched_and_only_once() {
        let fake = FakeHub::start(&[
            ("README.md", "not wanted"),
            ("config.json", "{\"a\": 1}"),
            ("pytorch_model.bin", "not wanted"),
            ("model.safetensors", "weights"),
            ("tokenizer.json", "{\"b\": 2}"),
            ("tokenizer_config.json", "{\"c\": 3}"),
            ("special_tokens_map.json", "{\"d\": 4}"),
        ]);
        let cache = tempfile::tempdir().expect("a folder");
        let folder = fake.hub(cache.path()).fetch(&tiny()).expect("fetches");
        let mut found: Vec<String> = folder
            .read_dir()
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        found.sort();
        let expected = [
            "config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(found, expected);
        assert_eq!(std::fs::read_to_string(folder.join("model.safetensors")).expect("a file"), "weights");
        assert_eq!(fake.requests().len(), 6);

        // Once they are there, the hub is asked for the commit alone, or for nothing.
        assert_eq!(fake.hub(cache.path()).fetch(&tiny()).expect("is there"), folder);
        assert_eq!(fake.requests(), ["/api/models/tiny/model/revision/main"]);
        let offline = Hub { is_offline: true, ..fake.hub(cache.path()) };
        assert_eq!(offline.fetch(&tiny()).expect("is there"), folder);
        assert!(fake.requests().is_empty());
        let gone = Hub { endpoint: unused_endpoint(), ..fake.hub(cache.path()) };
        assert_eq!(gone.fetch(&tiny()).expect("is there"), folder);
    }

    #[test]
    fn shards_are_those_of_the_index() {
        let fake = FakeHub::start(&[
            ("config.json", "{\"a\": 1}"),
            (
                "model.safetensors.index.json",
                r#"{"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}}"#,
            ),
            ("consolidated.safetensors", "not wanted"),
            ("one.safetensors", "1"),
            ("two.safetensors", "2"),
            ("tokenizer.json", "{\"b\": 2}"),
            ("tokenizer_config.json", "{\"c\": 3}"),
        ]);
        let cache = tempfile::tempdir().expect("a folder");
        let folder = fake.hub(cache.path()).fetch(&tiny()).expect("fetches");
        assert!(folder.join("one.safetensors").exists() && folder.join("two.safetensors").exists());
        assert!(!folder.join("consolidated.safetensors").exists());
    }

    #[test]
    fn what_cannot_be_had_is_an_error_that_names_it() {
        let fake = FakeHub::start(&[("config.json", "{\"a\": 1}")]);
        let cache = tempfile::tempdir().expect("a folder");
        let check = |hub: Hub, name: &str, expected: &str| {
            let error = Repository::parse(name).and_then(|repository| hub.fetch(&repository));
            let error = error.expect_err(expected).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        };
        let hub = || fake.hub(cache.path());
        check(hub(), "tiny/model", "`tiny/model` has no `tokenizer.json`");
        check(hub(), "tiny/model@v2", "`tiny/model` has no revision `v2`");
        check(Hub { token: None, ..hub() }, "tiny/model", "`tiny/model` is refused with status 401");
        check(Hub { endpoint: unused_endpoint(), ..hub() }, "tiny/model", "`tiny/model` cannot be reached");
        check(Hub { is_offline: true, ..hub() }, "tiny/model", "`tiny/model` is not in the cache");
        for name in ["model", "tiny/", "tiny/../model", "../model", "tiny/model@../x", "tiny/model@"] {
            check(hub(), name, "is not of the form");
        }
    }

    #[test]
    fn a_path_is_a_folder_that_exists() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("a name");
        let environment = Environment::default();
        assert_eq!(resolve(path, &environment, folder.path()).expect("exists"), folder.path());
        let absent = resolve("no/such/folder", &environment, folder.path()).expect_err("is absent");
        assert_eq!(absent.to_string(), "there is no model folder `no/such/folder`");
    }

    /// An address at which nobody listens.
    fn unused_endpoint() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    }
}
