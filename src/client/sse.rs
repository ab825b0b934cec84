//! Server-Sent Events (WHATWG HTML, section 9.2.6): bytes in, events out.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest line, and the most data of an event. A change has a record in it, of some 200 kB.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) data: String,
}

/// Reads a stream, and remembers where it was.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    /// The line before ended with a carriage return: a line feed that comes next belongs to it.
    after_return: bool,
    name: String,
    data: String,
    id: Option<String>,
    ready: VecDeque<Message>,
    /// The last id; with it a client goes on elsewhere. Empty: the server took it back.
    pub(super) last_id: Option<String>,
    /// How long to wait before connecting again, if the server has said so.
    pub(super) retry: Option<Duration>,
}

/// A line or an event is larger than any of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Reader {
    /// The rest of a stream that ended is no event; what it said before stays.
    pub(super) fn begin_again(&mut self) {
        *self = Self { last_id: self.last_id.take(), retry: self.retry, ..Self::default() };
    }

    pub(super) fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        for byte in bytes {
            let is_rest = std::mem::take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if is_rest => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line));
                }
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.data.len() > MAX_BYTES {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => {
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                self.retry =
                    value.parse().ok().filter(|_| is_number).map(Duration::from_millis).or(self.retry);
            }
            // A comment, or something that we don't know.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if data.pop().is_some() {
            self.ready.push_back(Message { name, data });
        }
    }
}
