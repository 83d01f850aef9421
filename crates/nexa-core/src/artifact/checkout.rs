//! Putting the files of a version where a person wants them.

use std::path::{Path, PathBuf};

use super::Artifact;
use crate::hash::ContentHash;
use crate::{Error, Result, files};

impl Artifact {
    /// Copies the artifact into a folder, which must be new or empty: its files under their names, and the manifest.
    /// Copies may be edited; those of the lab stay as they are. The folder is whole or absent.
    ///
    /// # Errors
    /// Fails when the folder holds something, when a file cannot be copied, or when its content is not that of the
    /// manifest.
    pub fn checkout(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let is_taken = folder.exists() && (!folder.is_dir() || !files::walk(folder)?.is_empty());
        if is_taken {
            let message = "it is not an empty folder; name another".to_owned();
            return Err(Error::BadName { what: "folder", name: folder.display().to_string(), message });
        }
        let folder = std::path::absolute(folder).map_err(|e| Error::io("resolve", folder, e))?;
        let above = folder.parent().unwrap_or(Path::new("/"));
        files::create_folder(above)?;
        let temporary = tempfile::Builder::new()
            .prefix(files::TEMPORARY_PREFIX)
            .tempdir_in(above)
            .map_err(|e| Error::io("create", &folder, e))?;
        let mut names = Vec::new();
        for file in &self.manifest.files {
            let from = self.file(&file.name)?;
            let name = match self.manifest.kind.is_folder() {
                true => PathBuf::from(&file.name),
                false => PathBuf::from(format!("{}.{}", self.id().stem(), file.name)),
            };
            let to = temporary.path().join(&name);
            files::create_folder(to.parent().unwrap_or(&to))?;
            std::fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
            let found = ContentHash::of_file(&to)?;
            if found != file.hash {
                let message =
                    format!("its content is {} but the manifest says {}", found.short(), file.hash.short());
                return Err(Error::Integrity { path: from, message });
            }
            names.push(name);
        }
        let manifest = self.manifest_path();
        let name = PathBuf::from(manifest.file_name().unwrap_or_default());
        std::fs::copy(&manifest, temporary.path().join(&name))
            .map_err(|e| Error::io("copy", &manifest, e))?;
        names.push(name);
        files::sync_tree(temporary.path())?;
        files::set_folder_readable(temporary.path())?;
        files::remove(&folder)?;
        std::fs::rename(temporary.path(), &folder).map_err(|e| Error::io("move to", &folder, e))?;
        files::sync_folder(above)?;
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }
}
