//! Credentials from environment variables, or from files whose paths are in environment variables.

use std::path::PathBuf;

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark};
use zeroize::Zeroizing;

use crate::variables::{CLIENT_ID, CLIENT_SECRET, Found, Place, Variables};
use crate::{file, text};

const CLIENT_ID_FILE: &str = "ALVYS_CLIENT_ID_FILE";
const CLIENT_SECRET_FILE: &str = "ALVYS_CLIENT_SECRET_FILE";

/// Credentials from the environment, or from other [`Variables`].
///
/// | variable | also | meaning |
/// | --- | --- | --- |
/// | `ALVYS_CLIENT_ID` | `Alvys__ClientId` | the client id |
/// | `ALVYS_CLIENT_SECRET` | `Alvys__ClientSecret` | the client secret |
/// | `ALVYS_CLIENT_ID_FILE` | | the path of a file that contains the client id and nothing else |
/// | `ALVYS_CLIENT_SECRET_FILE` | | the path of a file that contains the client secret and nothing else |
///
/// Line breaks at the end of a file are ignored. A file is read again when it changes.
///
/// ```
/// use alvys_auth_config::{EnvironmentProvider, Variables};
/// use alvys_auth_core::CredentialsProvider;
///
/// let variables = Variables::from_iter([("ALVYS_CLIENT_ID", "my-client"), ("ALVYS_CLIENT_SECRET", "s3cret")]);
/// assert_eq!(EnvironmentProvider::of(variables).current()?.client_id(), "my-client");
///
/// let nothing = EnvironmentProvider::of(Variables::new(|_| None));
/// assert!(nothing.current().unwrap_err().to_string().starts_with("ALVYS_CLIENT_ID is not set"));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug)]
pub struct EnvironmentProvider {
    variables: Variables,
}

impl EnvironmentProvider {
    /// Reads the environment of this process.
    pub fn new() -> Self {
        Self::of(Variables::environment())
    }

    /// Reads `variables` instead.
    pub fn of(variables: Variables) -> Self {
        Self { variables }
    }

    fn client_id(&self) -> Result<Option<(Found, Place)>, Error> {
        self.variables.value_or_file(&CLIENT_ID, CLIENT_ID_FILE)
    }

    fn client_secret(&self) -> Result<Option<(Found, Place)>, Error> {
        self.variables.value_or_file(&CLIENT_SECRET, CLIENT_SECRET_FILE)
    }
}

impl Default for EnvironmentProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl CredentialsProvider for EnvironmentProvider {
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when a variable is missing, empty or not
    /// UTF-8, when two variables contradict each other, when a file cannot be read, or when a value is not usable. The error
    /// names the variable.
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let path = |found: Result<Option<(Found, Place)>, Error>| match found {
            Ok(Some((path, Place::File))) => Some(PathBuf::from(path.value.as_str())),
            _ => None,
        };
        let files = [path(self.client_id()), path(self.client_secret())];
        Given::unless(known, file::mark(files.into_iter().flatten()), || self.read())
    }
}

impl EnvironmentProvider {
    fn read(&self) -> Result<Credentials, Error> {
        let (client_id, id_place) = read(self.client_id()?, CLIENT_ID[0], CLIENT_ID_FILE)?;
        let (client_secret, secret_place) = read(self.client_secret()?, CLIENT_SECRET[0], CLIENT_SECRET_FILE)?;
        text::credentials(client_id, client_secret, &format!("{id_place}, {secret_place}"))
    }
}

fn read(
    found: Option<(Found, Place)>,
    name: &'static str,
    file_name: &'static str,
) -> Result<(Zeroizing<String>, &'static str), Error> {
    match found {
        None => Err(Error::configuration(
            format!("{name} is not set"),
            format!(
                "set it to the value shown on the application's page in Alvys, or set {file_name} to the path of a file that \
                 contains the value"
            ),
        )),
        Some((Found { name, value }, Place::Variable)) => Ok((value, name)),
        Some((Found { name, value }, Place::File)) => {
            let contents = file::read_secret(value.as_ref()).map_err(|error| text::located(name, &error))?;
            Ok((text::bare(&contents), name))
        }
    }
}
