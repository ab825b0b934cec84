//! File systems of their own, small enough to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::tool;

/// A mounted file system. It is unmounted when this is dropped.
pub(crate) struct Disk {
    /// Where it is mounted.
    pub(crate) folder: PathBuf,
    filler: PathBuf,
}

impl Disk {
    /// A file system in a file: what is synced to it is on the disk below.
    pub(crate) fn in_a_file(folder: &Path, mebibytes: u64) -> anyhow::Result<Self> {
        let image = folder.with_extension("img");
        std::fs::File::create(&image)?.set_len(mebibytes * 1_024 * 1_024)?;
        // Nothing is kept back for root: whoever writes here finds it full.
        tool::run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        Self::mount(folder, &["-o", "loop"], &image)
    }

    /// A file system in memory.
    pub(crate) fn in_memory(folder: &Path, mebibytes: u64) -> anyhow::Result<Self> {
        let size = format!("size={mebibytes}m");
        Self::mount(folder, &["-t", "tmpfs", "-o", &size], Path::new("tmpfs"))
    }

    fn mount(folder: &Path, options: &[&str], what: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        tool::run(Command::new("mount").args(options).arg(what).arg(folder))?;
        Ok(Self { folder: folder.to_owned(), filler: folder.join("filler") })
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(&self.filler)?;
        let mut block = vec![0_u8; 1_024 * 1_024];
        // Ever smaller pieces, until not even a page has room.
        while block.len() >= 4_096 {
            match filler.write_all(&block).and_then(|()| filler.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    block.truncate(block.len() / 2);
                }
                Err(error) => return Err(error).context("a disk can't be filled"),
            }
        }
        Ok(())
    }

    /// There is room again.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.filler).context("the filler is not there")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there is about to end.
        if let Err(error) = tool::run(Command::new("umount").arg("--lazy").arg(&self.folder)) {
            eprintln!("{error:#}");
        }
    }
}
