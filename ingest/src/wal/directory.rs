use std::path::PathBuf;
use std::sync::Arc;

use super::error::WalError;
use super::header::FileName;
use crate::disk::{Disk, DiskFile};

/// The log's directory. Changes to it are durable after [`WalDirectory::sync`].
pub(super) struct WalDirectory {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
}

impl WalDirectory {
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, WalError> {
        disk.create_directory(&path).map_err(WalError::io("create", &path))?;
        Ok(Self { disk, path })
    }

    pub(super) fn path(&self, name: FileName) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// The log's own files, oldest first; other names are left alone.
    pub(super) fn list(&self) -> Result<Vec<FileName>, WalError> {
        let names = self.disk.list(&self.path).map_err(WalError::io("list", &self.path))?;
        let mut names: Vec<FileName> = names.iter().filter_map(|name| FileName::parse(name)).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn open_file(&self, name: FileName) -> Result<Arc<dyn DiskFile>, WalError> {
        let path = self.path(name);
        self.disk.open(&path).map_err(WalError::io("open", path))
    }

    pub(super) fn rename(&self, from: FileName, to: FileName) -> Result<(), WalError> {
        let from = self.path(from);
        self.disk.rename(&from, &self.path(to)).map_err(WalError::io("rename", from))
    }

    pub(super) fn remove(&self, name: FileName) -> Result<(), WalError> {
        let path = self.path(name);
        self.disk.remove(&path).map_err(WalError::io("remove", path))
    }

    pub(super) fn sync(&self) -> Result<(), WalError> {
        self.disk.sync_directory(&self.path).map_err(WalError::io("sync", &self.path))
    }
}
