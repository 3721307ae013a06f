//! Named values in layers: flags over a profile over the environment.

use std::env;
use std::ffi::OsString;
use std::fmt;

use alvys_auth_core::Error;
use zeroize::Zeroizing;

/// The names of each half of the credentials, in whatever is read.
pub(crate) const CLIENT_ID: [&str; 2] = ["ALVYS_CLIENT_ID", "Alvys__ClientId"];
pub(crate) const CLIENT_SECRET: [&str; 2] = ["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret"];

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Named values such as `ALVYS_CLIENT_ID`, in layers: what an earlier layer sets counts, whatever later ones say.
///
/// A layer sets a value under any of its names, so that `ALVYS_CLIENT_SECRET` in an upper layer is in no conflict with
/// `ALVYS_CLIENT_SECRET_FILE` in a lower one. Two names of one value that differ within a layer are an error.
///
/// ```
/// use alvys_auth_config::Variables;
///
/// let flags = Variables::from_iter([("ALVYS_FLOW", "current")]);
/// let all = flags.over(Variables::environment());
/// # let _ = all;
/// ```
pub struct Variables(Vec<Box<Lookup>>);

/// A value, and the name under which it was found.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) value: Zeroizing<String>,
}

impl Variables {
    /// The environment of this process, read anew at every look.
    #[must_use]
    pub fn environment() -> Self {
        Self::new(|name| env::var_os(name))
    }

    /// One layer that asks `lookup` for the value of a name.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(vec![Box::new(lookup)])
    }

    /// These values, and under them those of `lower`.
    #[must_use]
    pub fn over(mut self, lower: Self) -> Self {
        self.0.extend(lower.0);
        self
    }

    /// Whether a value of this name is there; an empty one is none.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.iter().find_map(|lookup| lookup(name)).is_some_and(|value| !value.is_empty())
    }

    /// The value that goes by any of `names`.
    pub(crate) fn value(&self, names: &[&'static str]) -> Result<Option<Found>, Error> {
        one_of(self.all(names)?)
    }

    /// As [`value`](Self::value), or the path that `file_name` gives of a file that holds it; never both in one layer.
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
            (Some(value), Some(_)) => Err(Error::configuration(
                format!("{} and {file_name} are both set", value.name),
                "unset the one that is not meant",
            )),
            (Some(value), None) => Ok(Some((value, Place::Variable))),
            (None, file) => Ok(file.map(|path| (path, Place::File))),
        }
    }

    /// What the uppermost layer that knows any of `names` says, in their order.
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

/// What a found value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The value itself.
    Variable,
    /// The path of the file that holds it.
    File,
}

fn checked(name: &'static str, value: OsString) -> Result<Found, Error> {
    let value = value.into_string().map_err(|value| {
        drop(Zeroizing::new(value.into_encoded_bytes()));
        Error::configuration(format!("{name} is not UTF-8"), "set it to text in UTF-8")
    })?;
    if value.trim().is_empty() {
        return Err(Error::configuration(format!("{name} is set, but empty"), "give it a value or unset it"));
    }
    Ok(Found { name, value: Zeroizing::new(value) })
}

fn one_of(found: Vec<Found>) -> Result<Option<Found>, Error> {
    let mut found = found.into_iter();
    let Some(first) = found.next() else { return Ok(None) };
    match found.find(|other| other.value != first.value) {
        Some(other) => Err(Error::configuration(
            format!("{} and {} name the same thing and differ", first.name, other.name),
            "unset the one that is not meant",
        )),
        None => Ok(Some(first)),
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Variables {
    /// One layer of values given here; of a name given twice the first counts.
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
