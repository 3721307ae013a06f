//! Credentials from files, for example the ones that an orchestrator mounts.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark};
use tracing::warn;
use zeroize::Zeroizing;

use crate::text;

/// Credentials from a file. The file is read again when it changes.
///
/// The file is not watched. A token source checks it before each token request and while it remembers a refusal, and reads
/// it once more when the server refuses the credentials. A held token stays in use until its renewal is due.
///
/// A change shows in the file's times, length and identity. Symbolic links are followed, so a change is also noticed when
/// Kubernetes replaces the directory of a mounted secret, or when the file is replaced by renaming. Only regular files of at
/// most 64 KiB are read. On Unix, a file that its group or others can write is refused, and one that all users can read is
/// told of in a `tracing` warning.
///
/// ```
/// use alvys_auth_config::FileProvider;
/// use alvys_auth_core::{CredentialsProvider, Given};
///
/// # let directory = std::env::temp_dir().join(format!("alvys-auth-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// let path = directory.join("alvys.json");
/// std::fs::write(&path, r#"{"client_id": "my-client", "client_secret": "s3cret"}"#)?;
/// let provider = FileProvider::new(&path);
/// let (credentials, mark) = provider.credentials(None)?.first()?;
/// assert_eq!(credentials.client_id(), "my-client");
/// assert_eq!(provider.credentials(Some(mark))?, Given::Unchanged);
///
/// std::fs::write(&path, "ALVYS_CLIENT_ID=my-client\nALVYS_CLIENT_SECRET=rotated\n")?;
/// assert_ne!(provider.credentials(Some(mark))?, Given::Unchanged);
/// assert_ne!(provider.current()?, credentials);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileProvider {
    layout: Layout,
}

#[derive(Debug, Clone)]
enum Layout {
    One(PathBuf),
    Secret { client_id: String, path: PathBuf },
    Pair { client_id: PathBuf, client_secret: PathBuf },
}

impl FileProvider {
    /// One file with both values: a JSON object with `client_id` and `client_secret`, or lines `ALVYS_CLIENT_ID=…` and
    /// `ALVYS_CLIENT_SECRET=…` as in a `.env` file.
    ///
    /// Values in lines may be in quotes. Apart from that they are taken literally; no variables are expanded.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::One(path.into()) }
    }

    /// A file that contains the client secret and nothing else. Line breaks at its end are ignored.
    pub fn secret(client_id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::Secret { client_id: client_id.into(), path: path.into() } }
    }

    /// Two files that contain one value each and nothing else, as Kubernetes mounts a secret with two keys.
    pub fn pair(client_id: impl Into<PathBuf>, client_secret: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::Pair { client_id: client_id.into(), client_secret: client_secret.into() } }
    }
}

impl CredentialsProvider for FileProvider {
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when the file cannot be read or contains no
    /// usable credentials. The error names the file.
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let mark = match &self.layout {
            Layout::One(path) | Layout::Secret { path, .. } => mark([path]),
            Layout::Pair { client_id, client_secret } => mark([client_id, client_secret]),
        };
        Given::unless(known, mark, || self.read())
    }
}

impl FileProvider {
    fn read(&self) -> Result<Credentials, Error> {
        match &self.layout {
            Layout::One(path) => text::pair(&read_secret(path)?, &shown(path)),
            Layout::Secret { client_id, path } => {
                text::credentials(Zeroizing::new(client_id.clone()), text::bare(&read_secret(path)?), &shown(path))
            }
            Layout::Pair { client_id, client_secret } => {
                let place = format!("{}, {}", shown(client_id), shown(client_secret));
                text::credentials(
                    text::bare(&read_secret(client_id)?),
                    text::bare(&read_secret(client_secret)?),
                    &place,
                )
            }
        }
    }
}

/// Refuses a file that other users can write: they would choose what is sent, or which command is run. One that they can read
/// is told of, and used all the same, because some platforms mount secrets like this.
///
/// `metadata` is that of the file itself, not of a link to it.
///
/// # Errors
/// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when the group or others can write the file.
#[cfg(unix)]
fn check_access(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(Error::configuration(
            format!("other users of this machine can write {}", shown(path)),
            format!("take that from them, and check its content: chmod go-w {}", path.display()),
        ));
    }
    if mode & 0o004 != 0 {
        warn!(
            target: "alvys_auth",
            "all users of this machine can read {}; where it is not a mount for this program alone: chmod o-r {}",
            shown(path),
            path.display()
        );
    }
    Ok(())
}

/// This system has other permissions, which are not checked.
///
/// # Errors
/// None.
#[cfg(not(unix))]
fn check_access(_: &Path, _: &Metadata) -> Result<(), Error> {
    Ok(())
}

/// The text of a regular file of at most 64 KiB, which no other user can write. One that they can read is
/// told of in the log, because some platforms mount secrets like this.
///
/// # Errors
/// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when it is anything else, or cannot be read. The error
/// names the file.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let place = shown(path);
    let refused = |error: io::Error| {
        Error::configuration(
            format!("cannot read {place}: {error}"),
            "check that the file exists and that this process may read it",
        )
    };
    // Checked before the file is opened, because opening a pipe waits for its writer. Checked again after, because the file
    // may have been replaced in between.
    let regular = |metadata: Metadata| {
        if metadata.is_file() {
            return Ok(());
        }
        Err(Error::configuration(
            format!("{place} is not a regular file"),
            "give the path of a regular file; to use the output of a program, set a command instead",
        ))
    };
    regular(fs::metadata(path).map_err(refused)?)?;
    let mut file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    check_access(path, &metadata)?;
    regular(metadata)?;
    // Allocated in full at once, because a buffer that grows leaves copies of the secret in memory.
    let mut bytes = Zeroizing::new(vec![0; text::LIMIT + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(refused(error)),
        }
    }
    if length > text::LIMIT {
        return Err(Error::configuration(
            format!("{place} is longer than 64 KiB"),
            "give the path of a file that contains what is asked for and nothing else",
        ));
    }
    bytes.truncate(length);
    text::utf8(bytes, &place)
}

/// A mark that changes when one of the files is written, replaced, removed or created.
pub(crate) fn mark(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Mark {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let metadata = fs::metadata(path).ok();
        metadata.map(|metadata| (metadata.len(), metadata.modified().ok(), identity(&metadata))).hash(&mut hasher);
    }
    Mark::new(hasher.finish())
}

/// The inode, and the time of its last change of any kind. Unlike the time of the last write, nobody can set it back.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> impl Hash + use<> {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> impl Hash + use<> {
    metadata.created().ok()
}

fn shown(path: &Path) -> String {
    format!("{path:?}")
}
