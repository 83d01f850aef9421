//! Files that are whole or absent: written under a temporary name, fsynced, then renamed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::{Error, Result};

/// How the names of files and folders begin that are not in their place yet.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes a file so that a reader sees either what stood there before or all of `bytes`, also after a crash.
///
/// # Errors
/// Fails when the folder cannot be made or the file cannot be written; the temporary file is removed then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.append(bytes)?;
    file.commit()
}

/// A file that is written in pieces and stands in its place once all are there; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Begins a file, making the folder that it belongs to.
    ///
    /// # Errors
    /// Fails with the path when the folder or the temporary file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_folder(folder)?;
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(folder)
            .map_err(|e| Error::io("create", path, e))?;
        Ok(Self { path: path.to_owned(), temporary: BufWriter::with_capacity(1 << 16, temporary) })
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// Fails with the path when they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.temporary.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Puts the file in its place, durably.
    ///
    /// # Errors
    /// Fails with the path when what was written cannot be synced or renamed.
    pub fn commit(self) -> Result<()> {
        let path = &self.path;
        let temporary = self.temporary.into_inner().map_err(|e| Error::io("write", path, e.into_error()))?;
        temporary.as_file().sync_all().map_err(|e| Error::io("sync", path, e))?;
        // A temporary file is private to its owner; what the lab keeps is readable like any other file.
        set_readable(temporary.as_file()).map_err(|e| Error::io("write", path, e))?;
        temporary.persist(path).map_err(|e| Error::io("write", path, e.error))?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// Writes a value as indented JSON with [`write_atomic`].
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::malformed(path, format!("cannot be written as JSON: {e}")))?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Reads a JSON file.
///
/// # Errors
/// Fails when the file cannot be read, or with line and key when it does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read(path)?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| Error::malformed(path, format!("key `{}`: {}", e.path(), e.inner())))
}

/// Reads a whole file.
///
/// # Errors
/// Fails with the path when the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, e))
}

/// Reads a whole text file.
///
/// # Errors
/// Fails with the path when the file cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))
}

/// Makes a folder and those above it, durably.
///
/// # Errors
/// Fails with the path when that is not possible.
pub fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let new: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(path).map_err(|e| Error::io("create folder", path, e))?;
    // A folder is a name in the one above it.
    new.into_iter().filter_map(Path::parent).try_for_each(sync_folder)
}

/// Removes a file or a folder with all it holds, if it is there.
///
/// # Errors
/// Fails with the path when something is there and cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", path, e)),
        Ok(()) => Ok(()),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// Fails with the path when the folder cannot be synced.
pub fn sync_folder(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| Error::io("sync", path, e))
}

/// Makes everything below a folder durable: files, and the names in every folder.
///
/// # Errors
/// Fails with the path of what cannot be synced.
pub fn sync_tree(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))? {
        let path = entry.map_err(|e| Error::io("list", folder, e))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", &path, e))?;
        }
    }
    sync_folder(folder)
}

/// Copies every file below a folder to the same place below another, which is made where it is missing.
///
/// # Errors
/// Fails with the path of what cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    create_folder(to)?;
    for name in walk(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        create_folder(target.parent().unwrap_or(to))?;
        std::fs::copy(&source, &target).map_err(|e| Error::io("copy", &source, e))?;
    }
    sync_folder(to)
}

/// Every file below a folder, as paths relative to it, in the order of their names.
///
/// # Errors
/// Fails with the path when a folder cannot be listed.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let here = folder.join(&relative);
        let entries = std::fs::read_dir(&here).map_err(|e| Error::io("list", &here, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &here, e))?;
            let path = relative.join(entry.file_name());
            if entry.file_type().map_err(|e| Error::io("list", &here, e))?.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Appends lines to a file such that a crash can only lose or cut the last one; a cut line is dropped on opening.
#[derive(Debug)]
pub struct LineLog {
    path: PathBuf,
    file: File,
}

impl LineLog {
    /// Opens a log for appending and drops what a crash left of an unfinished last line.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        use std::io::{Read, Seek, SeekFrom};
        let folder = path.parent().unwrap_or(Path::new("."));
        create_folder(folder)?;
        let is_new = !path.exists();
        let open = || -> io::Result<File> {
            let mut file = File::options().create(true).read(true).append(true).open(path)?;
            let length = file.metadata()?.len();
            let mut keep = length;
            let mut block = [0_u8; 4096];
            'search: while keep > 0 {
                let start = keep.saturating_sub(block.len() as u64);
                let size = usize::try_from(keep - start).expect("a block of 4 KiB fits in usize");
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut block[..size])?;
                for offset in (0..size).rev() {
                    if block[offset] == b'\n' {
                        keep = start + offset as u64 + 1;
                        break 'search;
                    }
                }
                keep = start;
            }
            if keep < length {
                file.set_len(keep)?;
            }
            Ok(file)
        };
        let file = open().map_err(|e| Error::io("open", path, e))?;
        if is_new {
            sync_folder(folder)?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one value as a line of JSON, in one write.
    ///
    /// # Errors
    /// Fails with the path when the line cannot be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|e| Error::malformed(&self.path, format!("cannot be written as JSON: {e}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be synced.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }

    /// A handle with which another thread makes durable what was appended, while this one goes on appending.
    ///
    /// # Errors
    /// Fails with the path when the system gives no second handle.
    pub fn syncer(&self) -> Result<Syncer> {
        let file = self.file.try_clone().map_err(|e| Error::io("open", &self.path, e))?;
        Ok(Syncer { path: self.path.clone(), file })
    }
}

/// Makes durable what was appended to a [`LineLog`] before.
#[derive(Debug)]
pub struct Syncer {
    path: PathBuf,
    file: File,
}

impl Syncer {
    /// Waits until the disk has it.
    ///
    /// # Errors
    /// Fails with the path when the file cannot be synced.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

/// Reads the lines of a [`LineLog`]; an unfinished last line is left out.
///
/// # Errors
/// Fails with path and line when a finished line does not hold a `T`. A missing file is an empty log.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut values = Vec::new();
    for (number, line) in bytes[..end].split(|&byte| byte == b'\n').enumerate() {
        if !line.is_empty() {
            let value = serde_json::from_slice(line)
                .map_err(|e| Error::malformed(path, format!("line {}: {e}", number + 1)))?;
            values.push(value);
        }
    }
    Ok(values)
}

#[cfg(unix)]
fn set_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_readable(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Lets everyone look into a folder that was made as a temporary one, which is private to its owner.
///
/// # Errors
/// Fails with the path when its permissions cannot be changed.
#[cfg(unix)]
pub fn set_folder_readable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| Error::io("write", path, e))
}

/// Lets everyone look into a folder that was made as a temporary one.
///
/// # Errors
/// Never here.
#[cfg(not(unix))]
pub fn set_folder_readable(_path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_dropped_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = LineLog::open(&path).unwrap();
        log.append(&1).unwrap();
        log.append(&2).unwrap();
        drop(log);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"cut");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_lines::<u32>(&path).unwrap(), [1, 2]);
        let mut log = LineLog::open(&path).unwrap();
        log.append(&3).unwrap();
        assert_eq!(read_lines::<u32>(&path).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn an_atomic_write_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write_json(&path, &vec![1, 2]).unwrap();
        write_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), [3]);
        assert_eq!(walk(folder.path()).unwrap(), [PathBuf::from("a/b.json")]);
    }

    #[test]
    fn a_file_in_pieces_is_there_once_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pieces");
        let mut dropped = AtomicFile::create(&path).unwrap();
        dropped.append(b"half").unwrap();
        drop(dropped);
        assert_eq!(walk(folder.path()).unwrap(), Vec::<PathBuf>::new());
        let mut file = AtomicFile::create(&path).unwrap();
        file.append(b"one, ").unwrap();
        file.append(b"two").unwrap();
        file.commit().unwrap();
        assert_eq!(read(&path).unwrap(), b"one, two");
    }
}
