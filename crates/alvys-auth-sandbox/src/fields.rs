//! The fields of a token request, from a form or from JSON.

use std::fmt;

use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// Named values, each name at most once.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body by its `Content-Type`. Parameters such as a charset are ignored.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let pairs = match media_type(headers).as_str() {
            "application/json" => from_json(body)?,
            "application/x-www-form-urlencoded" => from_form(body)?,
            _ => return Err(Refusal::MediaType),
        };
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::Body(format!("Duplicate parameter: {name}")));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a field. None when it is missing or empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a body cannot be read.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Neither a form nor JSON.
    MediaType,
    /// Not valid for its media type. The text is for the client.
    Body(String),
}

/// The media type of a body, in lower case and without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn from_form(body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    form_urlencoded::parse(body)
        .map(
            |(name, value)| {
                if name.contains('[') { Err(must_be_text(&name)) } else { Ok((name.into_owned(), value.into_owned())) }
            },
        )
        .collect()
}

fn from_json(body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let Ok(Members(members)) = serde_json::from_slice(body) else {
        return Err(Refusal::Body("The body is not a JSON object".to_owned()));
    };
    members
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Null => Ok((name, String::new())),
            _ => Err(must_be_text(&name)),
        })
        .collect()
}

fn must_be_text(name: &str) -> Refusal {
    Refusal::Body(format!("Parameter must be a string: {name}"))
}

/// The members of a JSON object in their order, including repeated ones.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
