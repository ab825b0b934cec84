//! Changes as messages. Each is rendered once, however many watchers are sent it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::json;

use super::EventBody;
use crate::node::{Event, Moment, Revision, Shown, ShownRecord};
use crate::registry::watching::{End, Told};

/// So many messages are kept for other watchers: they are sent about the same ones at about the same time.
const KEPT: usize = 64;
/// So many bytes are kept. A record may have 200 kB.
const KEPT_BYTES: usize = 1024 * 1024;

/// The messages that were rendered last.
#[derive(Debug, Default)]
pub(in crate::http) struct Messages {
    /// By revision, for the time that it takes to look one up or to render it: a std mutex, never held over an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The loading of the catalog that they are of: if the database was restored, the same numbers come again, and mean
    /// something else.
    epoch: u64,
    messages: VecDeque<Message>,
}

/// A change as it was rendered, and what of it isn't the same for all time: the node as it was then.
#[derive(Debug)]
struct Message {
    event: Event,
    matches: bool,
    node: Option<(Arc<ShownRecord>, Moment)>,
    bytes: Bytes,
}

impl Message {
    fn is(&self, told: &Told) -> bool {
        let same_node = match (&self.node, &told.node) {
            (None, None) => true,
            (Some((record, moment)), Some(node)) => {
                Arc::ptr_eq(record, &node.record) && *moment == node.moment
            }
            _ => false,
        };
        same_node && self.matches == told.matches && self.event == told.change.event
    }

    fn of(told: &Told) -> Self {
        Self {
            event: told.change.event.clone(),
            matches: told.matches,
            node: told.node.as_ref().map(|node| (Arc::clone(&node.record), node.moment)),
            bytes: Bytes::from(change(told)),
        }
    }
}

impl Messages {
    /// The message that tells a change.
    pub(super) fn of(&self, told: &Told) -> Bytes {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.epoch != told.epoch {
            *kept = Kept { epoch: told.epoch, messages: VecDeque::new() };
        }
        let kept = &mut kept.messages;
        if let Some(message) = kept.iter().rev().find(|message| message.is(told)) {
            return message.bytes.clone();
        }
        let message = Message::of(told);
        let bytes = message.bytes.clone();
        // What is older than all of them is for one that comes late, and not for many.
        let is_late = |oldest: &Message| message.event.revision < oldest.event.revision;
        if bytes.len() <= KEPT_BYTES && !kept.front().is_some_and(is_late) {
            kept.push_back(message);
            let mut size: usize = kept.iter().map(|message| message.bytes.len()).sum();
            while kept.len() > KEPT || size > KEPT_BYTES {
                size -= kept.pop_front().map_or(0, |message| message.bytes.len());
            }
        }
        bytes
    }
}

/// `change` or `removed`: the event, with the node put in. JSON without blanks has no line breaks.
fn change(told: &Told) -> Vec<u8> {
    let Told { change, node, matches, .. } = told;
    let name = if *matches { "change" } else { "removed" };
    let room = node.as_ref().map_or(0, |node| node.record.len());
    let mut out = Vec::with_capacity(room + 512);
    out.extend_from_slice(format!("event: {name}\nid: {}\ndata: ", change.event.revision).as_bytes());
    // Strings and numbers, to memory: this can't fail.
    let _ = serde_json::to_writer(&mut out, &EventBody::new(&change.event));
    // The event is an object with members.
    out.pop();
    out.extend_from_slice(br#","node":"#);
    match node {
        Some(node) => node.write(&mut out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n\n");
    out
}

/// `snapshot`, once per node. Without an id: who has only a part of them has to begin anew.
pub(super) fn snapshot(nodes: &[Shown]) -> Bytes {
    let room = nodes.iter().map(|node| node.record.len() + 32).sum();
    let mut out = Vec::with_capacity(room);
    for node in nodes {
        out.extend_from_slice(b"event: snapshot\ndata: ");
        node.write(&mut out);
        out.extend_from_slice(b"\n\n");
    }
    out.into()
}

/// `synced`: all nodes have been told, as of this revision.
pub(super) fn synced(revision: Revision) -> Bytes {
    format!("event: synced\nid: {revision}\ndata: {}\n\n", json!({"revision": revision.get()})).into()
}

/// The first thing that is sent: when to come again, and from where on if the changes begin at once.
pub(super) fn hello(position: Option<Revision>) -> Bytes {
    let mut out = format!("retry: {RETRY_MILLIS}\n");
    if let Some(position) = position {
        let _ = writeln!(out, "id: {position}");
    }
    out.push('\n');
    out.into()
}

/// A comment, for whoever takes silence for death; and how far the server has looked, if that is news. An id without data
/// is no event (WHATWG HTML, section 9.2.6).
pub(super) fn keep_alive(position: Option<Revision>) -> Bytes {
    match position {
        Some(position) => format!(":\nid: {position}\n\n").into(),
        None => Bytes::from_static(b":\n\n"),
    }
}

/// `closing`: nothing more is told.
pub(super) fn closing(end: End) -> Bytes {
    let (reason, retry, id) = match end {
        // All of them come at once, to a server that is just starting, or to the others.
        End::Shutdown => ("shutdown", RETRY_MILLIS + spread(), ""),
        End::SlowReader => ("slow_reader", RETRY_MILLIS, ""),
        // Nobody is to come back with the id that is known: it may mean something else now.
        End::Reset => ("reset", RETRY_MILLIS, "id\n"),
    };
    format!("event: closing\n{id}retry: {retry}\ndata: {}\n\n", json!({ "reason": reason })).into()
}

/// The same for a client whose key is not valid any more. It may have another one.
pub(super) fn closing_for_key() -> Bytes {
    let reason = json!({"reason": "key_revoked"});
    format!("event: closing\nretry: {RETRY_MILLIS}\ndata: {reason}\n\n").into()
}

/// When a client should come again.
const RETRY_MILLIS: u64 = 1_000;
/// Over so long a time those come again that are sent away together.
const SPREAD_MILLIS: u64 = 4_000;

fn spread() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 % SPREAD_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{NodeKey, Timestamp};
    use crate::registry::catalog::Change;

    /// That a node has gone, as the change with this number.
    fn gone(epoch: u64, revision: i64, id: &str) -> Told {
        let event = Event {
            revision: Revision::new(revision).unwrap(),
            node_id: NodeKey::new(id).unwrap(),
            kind: "deregistered".into(),
            changed: vec![],
            actor: "anonymous".into(),
            correlation_id: None,
            occurred_at: Timestamp::from_unix_micros(0),
        };
        Told {
            change: Arc::new(Change { event, before: None, after: None }),
            node: None,
            matches: false,
            epoch,
        }
    }

    fn is_kept(messages: &Messages, told: &Told) -> bool {
        messages.of(told).as_ptr() == messages.of(told).as_ptr()
    }

    #[test]
    fn a_message_is_rendered_once_for_all_that_are_told_the_same() {
        let messages = Messages::default();
        let first = messages.of(&gone(1, 7, "a"));
        assert_eq!(
            first.as_ptr(),
            messages.of(&gone(1, 7, "a")).as_ptr(),
            "whoever has read it from the log"
        );
        assert_ne!(first, messages.of(&gone(1, 8, "a")));
        assert!(!is_kept(&messages, &gone(1, 6, "a")), "who comes late is alone");
    }

    #[test]
    fn after_a_restore_nobody_is_told_what_a_number_meant_before() {
        let messages = Messages::default();
        messages.of(&gone(1, 7, "a"));
        for epoch in [1, 2] {
            let told = String::from_utf8(messages.of(&gone(epoch, 7, "b")).to_vec()).unwrap();
            assert!(told.contains(r#""node_id":"b""#), "{epoch}: {told}");
        }
        assert!(!is_kept(&messages, &gone(2, 3, "c")));
        assert!(is_kept(&messages, &gone(3, 3, "c")), "the numbers have gone back");
    }
}
