//! The keys of an API: read from a file, held as hashes, compared in constant time.

use std::path::Path;

use nexa_core::env::Secret;
use nexa_core::hash::ContentHash;
use subtle::{Choice, ConstantTimeEq};

/// The keys of which each request must bring one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<ContentHash>);

impl Keys {
    pub(crate) fn new(keys: &[Secret]) -> Self {
        Self(keys.iter().map(|key| ContentHash::of_bytes(key.expose().as_bytes())).collect())
    }

    /// Whether no key is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is one of these. Hashes, which are of one length, are compared, each to its end, and all of them, so
    /// that the time tells nothing about any key.
    pub(crate) fn accept(&self, key: &str) -> bool {
        let given = ContentHash::of_bytes(key.as_bytes());
        let equal = |known: &ContentHash| known.as_str().as_bytes().ct_eq(given.as_str().as_bytes());
        self.0.iter().map(equal).fold(Choice::from(0), |any, equal| any | equal).into()
    }
}

/// Reads a file of keys, one a line; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// Fails when the file cannot be read, holds no key, or holds a line that no header can carry. The line is named and not
/// shown.
pub fn read_keys(path: &Path) -> nexa_core::Result<Vec<Secret>> {
    let text = std::fs::read_to_string(path).map_err(|e| nexa_core::Error::io("read", path, e))?;
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let key = line.trim();
        if key.is_empty() || key.starts_with('#') {
            continue;
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message =
                format!("line {}: a key is of ASCII letters, digits and signs, without blanks", number + 1);
            return Err(nexa_core::Error::malformed(path, message));
        }
        keys.push(Secret::new(key));
    }
    if keys.is_empty() {
        return Err(nexa_core::Error::malformed(path, "holds no key: write one a line"));
    }
    Ok(keys)
}

/// Whether other users of this machine may read a file. Where the system has no such rights, nobody is said to.
pub fn is_readable_by_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_are_accepted() {
        let keys = Keys::new(&[Secret::new("first"), Secret::new("second")]);
        let check = |key: &str, expected: bool| assert_eq!(keys.accept(key), expected, "{key}");
        check("first", true);
        check("second", true);
        check("", false);
        check("firs", false);
        check("first ", false);
        check("firstsecond", false);
        assert!(!Keys::default().accept(""));
    }

    #[test]
    fn a_file_has_a_key_a_line_and_errors_do_not_show_it() {
        let folder = std::env::temp_dir().join(format!("nexa-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("keys");
        let check = |text: &str, expected: Result<&[&str], &str>| {
            std::fs::write(&path, text).expect("written");
            match (read_keys(&path), expected) {
                (Ok(keys), Ok(expected)) => {
                    assert_eq!(keys.iter().map(Secret::expose).collect::<Vec<_>>(), expected);
                }
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part) && !error.contains("sesame"), "{error}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        };
        check("# team\nfirst\n\n  second  \r\n", Ok(&["first", "second"]));
        check("# nothing\n\n", Err("holds no key"));
        check("first\nopen sesame\n", Err("line 2"));
        check("séssesame\n", Err("line 1"));
        assert!(read_keys(&folder.join("missing")).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
            set(0o600).expect("rights");
            assert!(!is_readable_by_others(&path));
            set(0o640).expect("rights");
            assert!(is_readable_by_others(&path));
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
