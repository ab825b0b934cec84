//! All that is wrong with an input, each fault with the place where it stands.

use std::fmt::Write as _;

/// Where a fault stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A JSON Pointer (RFC 6901) into the body.
    Pointer(String),
    /// The name of a parameter of the path.
    PathParameter(&'static str),
    /// The name of a parameter of the query string.
    Parameter(String),
    /// The name of a header field.
    Header(&'static str),
}

impl Place {
    /// The pointer, or the name.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Pointer(text) | Self::Parameter(text) => text,
            Self::PathParameter(name) | Self::Header(name) => name,
        }
    }
}

/// One thing that is wrong, in words that are safe to show to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// What the rule is that it breaks.
    pub detail: String,
}

/// The faults of one input, in the order in which they were found.
///
/// Bounded, so that a body made of nothing but faults doesn't become an answer many times its size.
#[derive(Debug)]
pub struct Faults {
    found: Vec<Fault>,
    at_most: usize,
    left_out: usize,
}

impl Faults {
    /// Faults of one request: a thousand are named, the rest is counted.
    pub const OF_A_REQUEST: usize = 1_000;
    /// Faults of one item of a batch: twenty are named, the rest is counted. There may be a thousand such items.
    pub const OF_AN_ITEM: usize = 20;

    /// An empty list that names `at_most` faults and counts the others.
    #[must_use]
    pub fn at_most(at_most: usize) -> Self {
        Self { found: Vec::new(), at_most, left_out: 0 }
    }

    /// Adds a fault.
    pub fn add(&mut self, place: Place, detail: impl Into<String>) {
        if self.found.len() < self.at_most {
            self.found.push(Fault { place, detail: detail.into() });
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a fault of a parameter of the query string.
    pub fn parameter(&mut self, name: &str, detail: impl Into<String>) {
        self.add(Place::Parameter(name.to_owned()), detail);
    }

    /// Adds a fault of the body at `path`.
    pub fn at(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        // The pointer is only written out for a fault that will be named.
        let place = if self.found.len() < self.at_most { path.pointer() } else { String::new() };
        self.add(Place::Pointer(place), detail);
    }

    /// How many faults were found so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len() + self.left_out
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults; if some were only counted, the last one says so.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Fault> {
        if self.left_out > 0 {
            self.found.push(Fault {
                place: Place::Pointer(String::new()),
                detail: format!("{} more faults are not listed", self.left_out),
            });
        }
        self.found
    }
}

/// A place in a JSON document, as a chain on the stack: nothing is allocated until a fault is named.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The document itself.
    Root,
    /// A member of an object.
    Member(&'a Path<'a>, &'a str),
    /// An element of an array.
    Element(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The member `name` below this place.
    #[must_use]
    pub fn member(&'a self, name: &'a str) -> Path<'a> {
        Path::Member(self, name)
    }

    /// The element `index` below this place.
    #[must_use]
    pub fn element(&'a self, index: usize) -> Path<'a> {
        Path::Element(self, index)
    }

    /// The JSON Pointer (RFC 6901), with hostile names made harmless.
    #[must_use]
    pub fn pointer(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Path::Root => {}
            Path::Member(parent, name) => {
                parent.write(out);
                out.push('/');
                out.push_str(&harmless(name).replace('~', "~0").replace('/', "~1"));
            }
            Path::Element(parent, index) => {
                parent.write(out);
                // Writing to a String can't fail.
                let _ = write!(out, "/{index}");
            }
        }
    }
}

/// A name that a client invented, cut to 64 characters and without what could fool a terminal, a log or a page:
/// control characters, and those that reorder or hide text.
#[must_use]
pub fn harmless(name: &str) -> String {
    let mut out: String = name
        .chars()
        .take(64)
        .map(|c| if c.is_control() || hides_or_reorders(c) { '\u{FFFD}' } else { c })
        .collect();
    if name.chars().nth(64).is_some() {
        out.push('…');
    }
    out
}

/// Unicode's bidirectional controls, zero-width characters, line separators and tags.
fn hides_or_reorders(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_and_defuses_hostile_names() {
        let root = Path::Root;
        let column = root.member("a/b~c");
        assert_eq!(column.pointer(), "/a~1b~0c");
        assert_eq!(column.element(3).member("x\u{202E}\n").pointer(), "/a~1b~0c/3/x\u{FFFD}\u{FFFD}");
        assert_eq!(root.member(&"y".repeat(100)).pointer().chars().count(), 1 + 64 + 1);
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let mut faults = Faults::at_most(2);
        for i in 0..5 {
            faults.at(&Path::Root.element(i), "wrong");
        }
        assert_eq!(faults.count(), 5);
        let listed = faults.into_vec();
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[2].detail, "3 more faults are not listed");
    }
}
