//! Query strings of discovery and of the audit trail.
//!
//! What is accepted means what it says, read by another reader of forms; written anew, it is accepted again and means the
//! same. What is refused is refused for parameters that are there, in a bounded number of words.

use std::collections::BTreeSet;

use onex_registry::http::parsing::{self, Question};
use onex_registry::node::fault::harmless;
use onex_registry::node::{
    ColumnText, Cursor, DiscoveryQuery, EventQuery, Fault, Faults, Filter, Place, Revision,
};
use url::form_urlencoded::{self, Serializer};

/// As much as the head of a request may have.
const MAX_BYTES: usize = 16 * 1024;
/// The words for one fault: the names of all parameters are among them.
const MAX_DETAIL_BYTES: usize = 1_000;

/// Checks a query string.
pub fn holds(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > MAX_BYTES {
        return;
    }
    match parsing::discovery(text) {
        Ok(question) => discovery_means_what_it_says(text, &question),
        Err(faults) => faults_are_of_what_is_there(text, &faults),
    }
    match parsing::events(text) {
        Ok(query) => events_mean_what_they_say(text, &query),
        Err(faults) => faults_are_of_what_is_there(text, &faults),
    }
}

fn discovery_means_what_it_says(text: &str, question: &Question) {
    let said = Said::in_text(text);
    let Question { query, freshness, poll } = question;
    for name in Filter::NAMES {
        let values = said.all(name);
        let expected = (!values.is_empty()).then(|| Filter::new(name, values).expect("it is a filter"));
        let found = query.filters.iter().find(|filter| name_of(filter) == name);
        assert_eq!(found, expected.as_ref(), "{text}");
    }
    assert_eq!(
        query.node_id_prefix.as_ref().map(|prefix| prefix.as_str().to_owned()),
        said.one("node_id_prefix")
    );
    assert_eq!(query.status.iter().map(|status| status.as_str()).collect::<Vec<_>>(), said.all("status"));
    for (name, object) in [("capabilities", &query.capabilities), ("metadata", &query.metadata)] {
        assert_eq!(object.is_some(), said.one(name).is_some(), "{text}");
        // What is kept is what was said: the same by the rules of containment, both ways.
        if let (Some(object), Some(said)) = (object, said.one(name)) {
            super::containment::are_equal(object.as_str(), &said);
        }
    }
    assert_eq!(query.version_req.is_some(), said.one("version_req").is_some(), "{text}");
    assert_eq!(query.limit.get(), said.number("limit").map_or(100, |limit| usize::try_from(limit).unwrap()));
    assert_eq!(freshness.strong, said.one("consistency").is_some());
    assert_eq!(freshness.at_least.get(), said.number("min_revision").unwrap_or(0));
    assert_eq!(poll.is_some(), said.one("since").is_some() && said.one("wait").is_some(), "{text}");
    if let Some((since, _)) = poll {
        assert_eq!(Some(since.get()), said.number("since"));
    }
    let cursor = said.one("cursor").map(|cursor| Cursor::decode(&cursor).expect("it was accepted"));
    assert_eq!(cursor.as_ref().map(|cursor| &cursor.after), query.after.as_ref(), "{text}");
    assert!(cursor.is_none_or(|cursor| cursor.fingerprint == query.fingerprint()), "{text}");

    let written = write_discovery(question);
    let again =
        parsing::discovery(&written).unwrap_or_else(|faults| panic!("{text} -> {written}: {faults:?}"));
    assert!(ask_the_same(query, &again.query), "{text} -> {written}");
    assert_eq!((query.limit, &query.after), (again.query.limit, &again.query.after), "{text} -> {written}");
    assert_eq!((freshness, poll), (&again.freshness, &again.poll), "{text} -> {written}");
    assert_eq!(written, write_discovery(&again), "what was written is canonical");
}

fn events_mean_what_they_say(text: &str, query: &EventQuery) {
    let said = Said::in_text(text);
    assert_eq!(query.after.map(Revision::get), said.number("after"), "{text}");
    let ids = said.all("node_id");
    let expected = (!ids.is_empty()).then(|| ids.into_iter().filter_map(ColumnText::new).collect());
    assert_eq!(query.node_ids, expected, "{text}");
    assert!(query.node_ids.iter().flatten().count() <= EventQuery::MAX_NODE_IDS);
    assert_eq!(query.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), said.all("kind"), "{text}");
    assert_eq!(query.limit.get(), said.number("limit").map_or(100, |limit| usize::try_from(limit).unwrap()));
}

fn faults_are_of_what_is_there(text: &str, faults: &[Fault]) {
    assert!(!faults.is_empty(), "{text}: refused without a reason");
    assert!(faults.len() <= Faults::OF_A_REQUEST + 1);
    let said = Said::in_text(text);
    let names: BTreeSet<String> = said.0.iter().map(|(name, _)| harmless(name)).collect();
    for fault in faults {
        assert!(fault.detail.len() <= MAX_DETAIL_BYTES, "{text}: {fault:?}");
        match &fault.place {
            Place::Parameter(name) => assert!(names.contains(name), "{text}: {fault:?}"),
            // How many more there are.
            Place::Pointer(pointer) => assert!(pointer.is_empty() && faults.len() > Faults::OF_A_REQUEST),
            place => panic!("{text}: {place:?}"),
        }
    }
}

/// Whether a query string has a parameter.
pub fn says(text: &str, name: &str) -> bool {
    !Said::in_text(text).all(name).is_empty()
}

/// Whether two queries ask for the same nodes, whatever the page.
pub fn ask_the_same(one: &DiscoveryQuery, other: &DiscoveryQuery) -> bool {
    let parts = |query: &DiscoveryQuery| {
        let filter = |name: &str| query.filters.iter().find(|filter| name_of(filter) == name).cloned();
        (
            Filter::NAMES.map(filter),
            query.node_id_prefix.clone(),
            query.status.iter().map(|status| status.as_str()).collect::<BTreeSet<_>>(),
            query.capabilities.clone(),
            query.metadata.clone(),
            query.version_req.clone(),
        )
    };
    parts(one) == parts(other)
}

fn write_discovery(question: &Question) -> String {
    let Question { query, freshness, poll } = question;
    let mut out = Serializer::new(String::new());
    for filter in &query.filters {
        let (Filter::NodeType(values) | Filter::NodeId(values) | Filter::NodeVersion(values)) = filter;
        for value in values {
            out.append_pair(name_of(filter), value.as_str());
        }
        // All that was asked for is what no column holds.
        if values.is_empty() {
            out.append_pair(name_of(filter), "\0");
        }
    }
    for status in &query.status {
        out.append_pair("status", status.as_str());
    }
    let texts = [
        ("node_id_prefix", query.node_id_prefix.as_ref().map(|prefix| prefix.as_str().to_owned())),
        ("capabilities", query.capabilities.as_ref().map(|object| object.as_str().to_owned())),
        ("metadata", query.metadata.as_ref().map(|object| object.as_str().to_owned())),
        ("version_req", query.version_req.as_ref().map(ToString::to_string)),
        ("limit", Some(query.limit.get().to_string())),
        ("consistency", freshness.strong.then(|| "strong".to_owned())),
        ("min_revision", Some(freshness.at_least.to_string())),
        ("since", poll.map(|(since, _)| since.to_string())),
        ("wait", poll.map(|(_, wait)| format!("{}ns", wait.as_nanos()))),
        (
            "cursor",
            query.after.clone().map(|after| Cursor { after, fingerprint: query.fingerprint() }.encode()),
        ),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            out.append_pair(name, &value);
        }
    }
    out.finish()
}

fn name_of(filter: &Filter) -> &'static str {
    match filter {
        Filter::NodeType(_) => "node_type",
        Filter::NodeId(_) => "node_id",
        Filter::NodeVersion(_) => "node_version",
    }
}

/// What a form says, by the reader of the URL standard.
struct Said(Vec<(String, String)>);

impl Said {
    fn in_text(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(said, _)| said == name).map(|(_, value)| value.clone()).collect()
    }

    fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() <= 1, "{name} was accepted twice: {all:?}");
        all.pop()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.one(name).map(|text| text.parse().expect("it was accepted"))
    }
}
