//! Files that people write: read as a whole, if they are files, and not larger than any that is meant.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Why one was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The system says why.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// To open a pipe is to wait for whoever writes to it.
    #[error("is not a file")]
    NotAFile,
    /// What is so large was meant for something else, and may have no end.
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads a file of so many bytes at the most. Takes as long as the file system does.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    // Asked before it is opened.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most { Err(Unreadable::TooLarge(most)) } else { Ok(content) }
}
