//! Query strings.

use percent_encoding::utf8_percent_encode;

use super::RESERVED;

/// Parameters, by the names of the API. What they may be, the server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; a name may be added several times.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// Removes all of a name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(given, _)| *given != name);
    }

    /// Sets one that is given once.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.remove(name);
        self.add(name, value);
    }

    /// The value of the first of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A path with them behind it.
    pub(super) fn after(&self, path: &str) -> String {
        let mut out = path.to_owned();
        for (index, (name, value)) in self.0.iter().enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            out.push_str(name);
            out.push('=');
            out.extend(utf8_percent_encode(value, RESERVED));
        }
        out
    }
}
