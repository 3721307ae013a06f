//! Named settings in layers: flags before a profile before the environment.

use std::env;
use std::ffi::OsString;
use std::fmt;

use alvys_auth_core::Error;
use zeroize::Zeroizing;

/// The names of the client id and of the client secret in variables and in files.
pub(crate) const CLIENT_ID: [&str; 2] = ["ALVYS_CLIENT_ID", "Alvys__ClientId"];
pub(crate) const CLIENT_SECRET: [&str; 2] = ["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret"];

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Named settings such as `ALVYS_CLIENT_ID`, in layers. When several layers have a setting, the first of them counts.
///
/// A setting may have several names. The first layer that has any of them decides: `ALVYS_CLIENT_SECRET` in the first layer
/// counts, although the second one has `ALVYS_CLIENT_SECRET_FILE`. Two names of one setting with different values in the
/// same layer are an error.
///
/// ```
/// use alvys_auth_config::Variables;
///
/// let flags = Variables::from_iter([("ALVYS_FLOW", "current")]);
/// let all = flags.over(Variables::environment());
/// # let _ = all;
/// ```
#[must_use = "its setters give back the changed value"]
pub struct Variables(Vec<Box<Lookup>>);

/// A value, and the name that it was found under.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) value: Zeroizing<String>,
}

impl Variables {
    /// The environment of this process. It is read each time a value is needed.
    pub fn environment() -> Self {
        Self::new(|name| env::var_os(name))
    }

    /// One layer: `lookup` returns the value for a name.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(vec![Box::new(lookup)])
    }

    /// Adds the layers of `lower` after these.
    pub fn over(mut self, lower: Self) -> Self {
        self.0.extend(lower.0);
        self
    }

    /// Refuses a variable that is set, but empty: whoever set it meant something by it. For variables that a program reads
    /// itself; those that this crate reads are checked when they are read.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration). The error names the variable.
    pub fn refuse_empty(&self, names: &[&str]) -> Result<(), Error> {
        let is_empty = |value: OsString| value.to_str().is_some_and(|value| value.trim().is_empty());
        let empty = names.iter().find(|name| self.0.iter().find_map(|lookup| lookup(name)).is_some_and(is_empty));
        empty.map_or(Ok(()), |name| Err(set_but_empty(name)))
    }

    /// Whether there is a value of this name that is not empty.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.iter().find_map(|lookup| lookup(name)).is_some_and(|value| !value.is_empty())
    }

    /// The value under any of `names`.
    pub(crate) fn value(&self, names: &[&'static str]) -> Result<Option<Found>, Error> {
        one_of(self.all(names)?)
    }

    /// The value under any of `names`, or the path under `file_name` of a file that contains it. Both in one layer are an
    /// error.
    pub(crate) fn value_or_file(
        &self,
        names: &[&'static str],
        file_name: &'static str,
    ) -> Result<Option<(Found, Place)>, Error> {
        let mut names = names.to_vec();
        names.push(file_name);
        let mut found = self.all(&names)?;
        let file = found.pop_if(|last| last.name == file_name);
        match (one_of(found)?, file) {
            (Some(value), Some(_)) => {
                Err(Error::configuration(format!("{} and {file_name} are both set", value.name), "unset one of them"))
            }
            (Some(value), None) => Ok(Some((value, Place::Variable))),
            (None, file) => Ok(file.map(|path| (path, Place::File))),
        }
    }

    /// The values under `names` in the first layer that has any of them, in the order of `names`.
    fn all(&self, names: &[&'static str]) -> Result<Vec<Found>, Error> {
        for lookup in &self.0 {
            let set = names.iter().filter_map(|name| Some((*name, lookup(name)?)));
            let found = set.map(|(name, value)| checked(name, value)).collect::<Result<Vec<_>, _>>()?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The value of the setting.
    Variable,
    /// The path of a file that contains the value.
    File,
}

fn checked(name: &'static str, value: OsString) -> Result<Found, Error> {
    let value = value.into_string().map_err(|value| {
        drop(Zeroizing::new(value.into_encoded_bytes()));
        Error::configuration(format!("{name} is not UTF-8 text"), "set it to text in UTF-8")
    })?;
    if value.trim().is_empty() {
        return Err(set_but_empty(name));
    }
    Ok(Found { name, value: Zeroizing::new(value) })
}

fn set_but_empty(name: &str) -> Error {
    Error::configuration(format!("{name} is set, but empty"), "set it to a value, or unset it")
}

fn one_of(found: Vec<Found>) -> Result<Option<Found>, Error> {
    let mut found = found.into_iter();
    let Some(first) = found.next() else { return Ok(None) };
    match found.find(|other| other.value != first.value) {
        Some(other) => Err(Error::configuration(
            format!("{} and {} are the same setting but have different values", first.name, other.name),
            "unset one of them",
        )),
        None => Ok(Some(first)),
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Variables {
    /// One layer of these values. When a name occurs twice, the first value counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        let values: Vec<(String, Zeroizing<String>)> =
            values.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect();
        Self::new(move |name| {
            values.iter().find(|(one, _)| one == name).map(|(_, value)| OsString::from(value.as_str()))
        })
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("layers", &self.0.len()).finish_non_exhaustive()
    }
}
