//! Why a node is out of service.

use serde_json::value::RawValue;

use super::fault::{Faults, Path};
use super::json::{Json, fields, read_string};

/// Long enough for a sentence and a link to the ticket; it is in every answer that shows the node.
const MAX_CHARS: usize = 500;

/// Why a node is taken out of service: 1 to 500 characters, no control characters, not white space alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(String);

impl Reason {
    /// Checks a reason.
    ///
    /// # Errors
    /// Every rule that it breaks, in words for the client.
    pub fn parse(text: &str) -> Result<Self, Vec<&'static str>> {
        let mut broken = Vec::new();
        if text.is_empty() || text.chars().nth(MAX_CHARS).is_some() {
            broken.push("must have 1 to 500 characters");
        }
        if text.chars().any(char::is_control) {
            broken.push("must not contain control characters");
        }
        if !text.is_empty() && text.chars().all(char::is_whitespace) {
            broken.push("must not be white space alone");
        }
        if broken.is_empty() { Ok(Self(text.to_owned())) } else { Err(broken) }
    }

    /// Reads `{"reason": "…"}`. `None` if a rule was broken; `faults` names all that were.
    #[must_use]
    pub fn read(body: &RawValue, faults: &mut Faults) -> Option<Self> {
        let root = Path::Root;
        let before = faults.count();
        let Some(given) = fields(body.get(), &root, faults) else {
            faults.at(&root, format!("must be a JSON object, not {}", Json::kind_of(body)));
            return None;
        };
        let at = root.member("reason");
        let mut reason = None;
        for (name, value) in &given {
            if name != "reason" {
                faults.at(&root.member(name), "is not a field of this call; the field is reason");
                continue;
            }
            let Some(text) = read_string(value, &at, faults) else { continue };
            match Self::parse(&text) {
                Ok(parsed) => reason = Some(parsed),
                Err(broken) => broken.into_iter().for_each(|rule| faults.at(&at, rule)),
            }
        }
        if !given.iter().any(|(name, _)| name == "reason") {
            faults.at(&at, "is required");
        }
        if faults.count() == before { reason } else { None }
    }

    /// The reason as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_line_of_text() {
        for text in ["x", " disk swap ", "🦀", "a\u{a0}b", &"é".repeat(500)] {
            assert_eq!(Reason::parse(text).map(|reason| reason.0), Ok(text.to_owned()));
        }
        for (text, rules) in [
            ("", 1),
            (&*"é".repeat(501), 1),
            ("a\nb", 1),
            ("\u{85}", 2),
            (" \u{3000}", 1),
            (&"\t".repeat(501), 3),
        ] {
            assert_eq!(Reason::parse(text).unwrap_err().len(), rules, "{text:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_body_is_named() {
        for (body, places) in [
            (r#"{"reason":"x"}"#, 0),
            ("{}", 1),
            (r#"{"reason":null}"#, 1),
            (r#"{"reason":"\u0000"}"#, 1),
            (r#"{"reason":"\u001f\u001f","until":1,"a":2}"#, 3),
            (r#"{"Reason":"x"}"#, 2),
            (r#"["x"]"#, 1),
        ] {
            let mut faults = Faults::at_most(9);
            let read = Reason::read(serde_json::from_str(body).unwrap(), &mut faults);
            assert_eq!((faults.count(), read.is_some()), (places, places == 0), "{body}");
        }
    }
}
