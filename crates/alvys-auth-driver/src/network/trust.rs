//! Which certificates are trusted, and which certificate is shown to a server that asks for one.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alvys_auth_core::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use zeroize::Zeroizing;

use crate::causes::in_words;

/// The files and directories that replace the certificates of the system for every program on it.
const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Which certificates are trusted. By default these are the certificates of the system. `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` replace them if they are set. Mozilla's certificates are used if the system has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    bundle: Option<Named>,
    more: Option<Named>,
    identity: Option<[PathBuf; 2]>,
}

/// TLS settings, ready for use.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// The settings, without an application protocol.
    pub config: Arc<ClientConfig>,
    /// The certificates that cannot be used and were left out, one sentence for each file.
    pub ignored: Vec<String>,
}

/// A file or a directory with certificates, and the setting that names it.
#[derive(Clone, PartialEq, Eq)]
struct Named {
    setting: String,
    path: PathBuf,
}

impl Trust {
    /// The certificates that every program on this system trusts.
    pub fn system() -> Self {
        Self::default()
    }

    /// Trusts the certificates of this PEM file in place of all others. `setting` is what names the file, for errors.
    pub fn only(mut self, setting: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.bundle = Some(Named { setting: setting.into(), path: path.into() });
        self
    }

    /// Trusts the certificates of this PEM file besides. `setting` is what names the file, for errors.
    pub fn more(mut self, setting: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.more = Some(Named { setting: setting.into(), path: path.into() });
        self
    }

    /// Shows this certificate to servers that ask for one. Both are PEM files; one file may hold both.
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some([certificate.into(), key.into()]);
        self
    }

    /// Whether a setting names a file, including the settings of the environment.
    pub fn is_named(&self) -> bool {
        *self != Self::system() || !of_environment().is_empty()
    }

    /// TLS settings that trust nobody, for clients that encrypt nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when the cryptography cannot be used.
    pub fn nobody(provider: Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, Error> {
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| unusable(&error))?.with_root_certificates(RootCertStore::empty());
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// Reads all certificates.
    ///
    /// A certificate that cannot be used is left out and listed in [`Trusted::ignored`].
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when a file that a setting names cannot be read
    /// or holds no usable certificate, or the certificate to show does not fit its key. The error names the setting.
    pub fn read(&self, provider: Arc<CryptoProvider>) -> Result<Trusted, Error> {
        let mut ignored = Vec::new();
        let mut load = |named: &Named| named.load(&mut ignored);
        let bundles = self.bundle.clone().map_or_else(of_environment, |bundle| vec![bundle]);
        let more = self.more.iter().map(&mut load).collect::<Result<Vec<_>, _>>()?.concat();
        let (own, failed): (Vec<_>, Vec<_>) = bundles.iter().map(&mut load).partition(Result::is_ok);
        let own: Vec<_> = own.into_iter().flatten().flatten().collect();
        // Of the places that the environment lists, one may be missing or empty.
        for error in failed.into_iter().filter_map(Result::err) {
            if own.is_empty() {
                return Err(error);
            }
            ignored.push(error.to_string());
        }
        let chosen = |mut roots: RootCertStore| {
            roots.add_parsable_certificates(more.iter().cloned());
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
            verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|error| unusable(&error))
        };
        let verifier = if bundles.is_empty() {
            match of_system(&more, Arc::clone(&provider)) {
                Ok(verifier) => Arc::new(verifier),
                // The only reason for it on a system where certificates are files is that there are none.
                Err(_) => chosen(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })?,
            }
        } else {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(own);
            chosen(roots)?
        };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| unusable(&error))?.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some([certificate, key]) => {
                let (chain, key) = shown(certificate, key)?;
                config.with_client_auth_cert(chain, key).map_err(|error| {
                    Error::configuration(
                        format!(
                            "the client certificate {} cannot be used: {}",
                            certificate.display(),
                            in_words(&error)
                        ),
                        "give the certificate and the private key that belongs to it, both as PEM files",
                    )
                })?
            }
        };
        Ok(Trusted { config: Arc::new(config), ignored })
    }

    /// The settings that are used when you bring none. They are made once in a process, because reading the
    /// certificates of the system takes milliseconds.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn shared(provider: impl FnOnce() -> Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, Error> {
        if let Some(shared) = SYSTEM.get() {
            return Ok(Arc::clone(shared));
        }
        let chosen = CryptoProvider::get_default().cloned();
        let Trusted { config, ignored } = Self::system().read(chosen.unwrap_or_else(provider))?;
        for what in ignored {
            tracing::warn!(target: "alvys_auth", "{what}");
        }
        Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |named: &Option<Named>| named.as_ref().map(|named| named.path.clone());
        f.debug_struct("Trust")
            .field("bundle", &path(&self.bundle))
            .field("more", &path(&self.more))
            .field("identity", &self.identity)
            .finish()
    }
}

fn unusable(error: &dyn fmt::Display) -> Error {
    let hint = "check the certificates of this system and the cryptography that the program has chosen";
    Error::configuration(format!("the certificates cannot be used: {error}"), hint)
}

/// The file and the directories that the environment names.
fn of_environment() -> Vec<Named> {
    let named = |setting: &str, path| Named { setting: setting.to_owned(), path };
    let file = env::var_os(FILE).filter(|path| !path.is_empty()).map(|path| named(FILE, path.into()));
    let directories = env::var_os(DIRECTORIES).unwrap_or_default();
    let directories = env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty());
    let listed: Vec<_> = file.into_iter().chain(directories.map(|path| named(DIRECTORIES, path))).collect();
    // An empty variable counts as not set. The reader of the system's certificates would look for a missing file.
    #[cfg(all(unix, not(any(target_vendor = "apple", target_os = "android"))))]
    if listed.is_empty() && env::var_os(FILE).is_some() {
        return openssl_probe::probe().cert_file.map(|path| named(FILE, path)).into_iter().collect();
    }
    listed
}

fn of_system(more: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Result<Verifier, rustls::Error> {
    #[cfg(not(target_os = "android"))]
    return Verifier::new_with_extra_roots(more.iter().cloned(), provider);
    #[cfg(target_os = "android")]
    if more.is_empty() { Verifier::new(provider) } else { Err(rustls::Error::General("no extra roots".to_owned())) }
}

impl Named {
    /// The usable certificates.
    fn load(&self, ignored: &mut Vec<String>) -> Result<Vec<CertificateDer<'static>>, Error> {
        let (path, setting) = (self.path.display(), &self.setting);
        let refused = |what: String| {
            Error::configuration(
                format!("the CA bundle {path} {what}"),
                format!("set {setting} to a PEM file with certificates, or unset it"),
            )
        };
        let files = files(&self.path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let (mut usable, mut roots, mut unusable) = (Vec::new(), RootCertStore::empty(), Vec::new());
        for file in files {
            let pem = match fs::read(&file) {
                Ok(pem) => pem,
                Err(error) if file == self.path => return Err(refused(format!("cannot be read: {error}"))),
                Err(error) => {
                    unusable.push(error.to_string());
                    continue;
                }
            };
            for certificate in certificates(&pem) {
                let added = certificate.and_then(|certificate| {
                    roots.add(certificate.clone()).map(|()| certificate).map_err(|error| in_words(&error))
                });
                match added {
                    Ok(certificate) => usable.push(certificate),
                    Err(error) => unusable.push(error),
                }
            }
        }
        if usable.is_empty() {
            return Err(refused("holds no certificate that can be used".to_owned()));
        }
        if let [first, ..] = unusable.as_slice() {
            let count = unusable.len();
            ignored.push(format!(
                "the CA bundle {path} of {setting} holds certificates that cannot be used: {count} left out, the others \
                 trusted; {first}"
            ));
        }
        Ok(usable)
    }
}

/// The file itself, or the files of a directory.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

/// The blocks of a PEM file, each with the text after it. So a block without an end does not include the next one.
fn blocks(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let begins = |at: &usize| pem[*at..].starts_with(BEGIN) && (*at == 0 || matches!(pem[*at - 1], b'\n' | b'\r'));
    let mut starts = (0..pem.len()).filter(begins).peekable();
    std::iter::from_fn(move || Some(&pem[starts.next()?..starts.peek().copied().unwrap_or(pem.len())]))
}

/// The certificates of a PEM file, and the reasons why other blocks are not certificates.
fn certificates(pem: &[u8]) -> impl Iterator<Item = Result<CertificateDer<'static>, String>> {
    blocks(pem).flat_map(CertificateDer::pem_slice_iter).map(|read| read.map_err(|error| malformed(&error)))
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let mut keys = blocks(pem).flat_map(PrivateKeyDer::pem_slice_iter);
    keys.next().unwrap_or(Err(pem::Error::NoItemsFound)).map_err(|error| malformed(&error))
}

/// What is wrong with a block of a PEM file.
fn malformed(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a block is not in base64".to_owned(),
        pem::Error::NoItemsFound => "there is none".to_owned(),
        other => other.to_string(),
    }
}

/// The certificate that is shown, with the certificates that vouch for it, and its key.
fn shown(chain: &Path, private: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let refused = |what: &str, path: &Path, error: String| {
        Error::configuration(
            format!("{} holds no {what} that can be used: {error}", path.display()),
            "give a PEM file; a private key must not have a password",
        )
    };
    let read = |path| fs::read(path).map(Zeroizing::new).map_err(|error| error.to_string());
    let read_chain = || match certificates(&read(chain)?).collect::<Result<Vec<_>, _>>()? {
        found if found.is_empty() => Err("there is none".to_owned()),
        found => Ok(found),
    };
    let found = read_chain().map_err(|error| refused("client certificate", chain, error))?;
    let key = read(private).and_then(|pem| key(&pem)).map_err(|error| refused("private key", private, error))?;
    Ok((found, key))
}
