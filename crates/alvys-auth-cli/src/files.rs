//! Private files: in directories of their own, replaced in one step, locked by advice.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs4::{FileExt, TryLockError};
use tempfile::NamedTempFile;

/// How often a taken lock is tried again.
pub(crate) const TICK: Duration = Duration::from_millis(15);

/// Makes a directory, and those above it that are missing, that nobody else may look into; one that is there already is
/// closed to others.
///
/// # Errors
/// When it cannot be made, belongs to somebody else, or is no directory.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    #[cfg(unix)]
    {
        use std::fs;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no directory of this user"));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Puts a file that nobody else may read in the place of any other, in one step: readers see the old one or the new one.
///
/// # Errors
/// When the directory cannot be written; then nothing has changed.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Made readable for this user alone.
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(contents)?;
    file.persist(path)?;
    Ok(())
}

/// Reads a regular file of at most `limit` bytes that belongs to this user and that nobody else may read.
///
/// # Errors
/// When it is anything else, or not there.
pub(crate) fn read_private(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let refused = |what| io::Error::new(io::ErrorKind::PermissionDenied, what);
    let mut options = OpenOptions::new();
    options.read(true);
    // Opening a pipe would wait for its writer; a link leads to who knows what.
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > limit as u64 {
        return Err(refused("it is no regular file of the expected size"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused("it belongs to somebody else"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("others may read it"));
        }
    }
    let mut contents = Vec::new();
    file.take(limit as u64).read_to_end(&mut contents)?;
    Ok(contents)
}

/// A lock that ends with the process that holds it, however that ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held until it is dropped")] File);

/// What became of a try to take a lock.
#[derive(Debug)]
pub(crate) enum Try {
    /// It is ours until it is dropped.
    Taken(Lock),
    /// Another process has it.
    Busy,
}

/// Tries to take the lock that `path` stands for. The file stays when the lock is given back, so that all see the same one.
///
/// # Errors
/// When the file can be neither opened nor made, or when there are no locks on this file system.
pub(crate) fn try_lock(path: &Path) -> io::Result<Try> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    let file = options.open(path)?;
    match FileExt::try_lock(&file) {
        Ok(()) => Ok(Try::Taken(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(Try::Busy),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock that `path` stands for, and waits for it for so long at the most.
///
/// # Errors
/// As [`try_lock`], and when time runs out.
pub(crate) fn lock(path: &Path, patience: Duration) -> io::Result<Lock> {
    let started = Instant::now();
    loop {
        match try_lock(path)? {
            Try::Taken(lock) => return Ok(lock),
            Try::Busy if started.elapsed() >= patience => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds its lock"));
            }
            Try::Busy => sleep(TICK),
        }
    }
}
