//! Private files: kept in private directories, replaced in one step, and protected by advisory locks. For what has to stay on
//! this host and with this user, such as tokens and secrets.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs4::{FileExt, TryLockError};
use tempfile::NamedTempFile;

/// The pause between two tries to take a lock.
const TICK: Duration = Duration::from_millis(1);

/// Makes a directory, and its missing parents, that only this user may read. An existing directory is closed to others.
///
/// # Errors
/// When it cannot be made, belongs to another user, or is not a directory.
pub fn private_directory(path: &Path) -> io::Result<()> {
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
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of this user"));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Writes a file that only this user may read, in one step: a reader sees the old content or the new one.
///
/// # Errors
/// When the directory cannot be written to. Nothing has changed then.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // The file is made with mode 0600.
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(contents)?;
    file.persist(path)?;
    Ok(())
}

/// Reads a regular file of at most `limit` bytes that belongs to this user and that nobody else may read.
///
/// # Errors
/// When it is anything else, or does not exist.
pub fn read_private(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let refused = |what| io::Error::new(io::ErrorKind::PermissionDenied, what);
    let mut options = OpenOptions::new();
    options.read(true);
    // Opening a pipe would wait for its writer. A link may lead to any file.
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > limit as u64 {
        return Err(refused("it is not a regular file of the expected size"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused("it belongs to another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("other users may read it"));
        }
    }
    let mut contents = Vec::new();
    file.take(limit as u64).read_to_end(&mut contents)?;
    Ok(contents)
}

/// A lock. The system releases it when the process ends, even by a crash.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held until it is dropped")] File);

/// The result of a try to take a lock.
#[derive(Debug)]
pub enum Try {
    /// This process has the lock until it drops it.
    Taken(Lock),
    /// Another process has the lock.
    Busy,
}

/// Tries to take the lock of the file `path`. The file stays after the lock is released, so that all processes lock the same
/// file.
///
/// # Errors
/// When the file can be neither opened nor made, or when the file system has no locks.
pub fn try_lock(path: &Path) -> io::Result<Try> {
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

/// Takes the lock of the file `path`, and waits for it for at most `patience`.
///
/// # Errors
/// As [`try_lock`], and when `patience` is over.
pub fn lock(path: &Path, patience: Duration) -> io::Result<Lock> {
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
