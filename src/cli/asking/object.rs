//! JSON objects from the command line: whole, or member by member.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::value::RawValue;

/// What one flag says of an object.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Entry {
    /// All of it.
    Whole(String),
    /// One member.
    Member(String, Box<RawValue>),
}

impl FromStr for Entry {
    type Err = String;

    /// `{…}`, `name=text` or `name:=JSON`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let whole: Box<RawValue> =
                serde_json::from_str(text).map_err(|reason| format!("not JSON: {reason}"))?;
            return Ok(Self::Whole(whole.get().to_owned()));
        }
        let (name, value) = text.split_once('=').ok_or("neither {…}, nor name=text, nor name:=JSON")?;
        if let Some(name) = name.strip_suffix(':') {
            let value =
                serde_json::from_str(value).map_err(|reason| format!("'{name}' is not JSON: {reason}"))?;
            return Ok(Self::Member(name.to_owned(), value));
        }
        let value = serde_json::value::to_raw_value(value).map_err(|reason| reason.to_string())?;
        Ok(Self::Member(name.to_owned(), value))
    }
}

/// The object that these make together; `None` without any.
pub(in crate::cli) fn object(flag: &str, entries: &[Entry]) -> Result<Option<String>, String> {
    let mut members = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Whole(json) if entries.len() == 1 => return Ok(Some(json.clone())),
            Entry::Whole(_) => return Err(format!("{flag}: give the whole object once, or members of it")),
            Entry::Member(name, value) => {
                if members.insert(name, value).is_some() {
                    return Err(format!("{flag}: '{name}' is given twice; a list is {name}:=[…]"));
                }
            }
        }
    }
    if members.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&members).map(Some).map_err(|reason| format!("{flag}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Option<String>, String> {
        let entries = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Entry>, _>>()?;
        object("--metadata", &entries)
    }

    #[test]
    fn an_object_is_given_whole_or_by_its_members() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[r#"{"a": 1.10}"#]).unwrap().unwrap(), r#"{"a": 1.10}"#);
        assert_eq!(of(&["b=x=y", "a:=[1.10]", "c="]).unwrap().unwrap(), r#"{"a":[1.10],"b":"x=y","c":""}"#);
        for wrong in [&["a"][..], &["a:=x"], &["{"], &["{}", "a=b"], &["a=b", "a=c"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
