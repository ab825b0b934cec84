//! The lines of a file that may be of any size, and may be anything: what is kept of one is bounded.

use std::io::{self, BufRead};

/// The longest line: what one registration alone may have.
pub(super) const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;

/// A line, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The first is 1.
    pub(super) number: u64,
    /// How many bytes it takes in the file.
    pub(super) bytes: u64,
    /// What is in it, without its end; `None`: too much.
    pub(super) text: Option<Vec<u8>>,
}

/// Reads line by line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    longest: usize,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { reader, longest, number: 0 }
    }

    /// The next line; the last one needs no line feed.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let mut bytes = 0;
        let mut is_too_long = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            if text.len() + piece.len() > self.longest {
                is_too_long = true;
                text = Vec::new();
            } else if !is_too_long {
                text.extend_from_slice(piece);
            }
            let read = piece.len() + usize::from(end.is_some());
            self.reader.consume(read);
            bytes += read as u64;
            if read == 0 && bytes == 0 {
                return Ok(None);
            }
            if end.is_some() || read == 0 {
                self.number += 1;
                let text = (!is_too_long).then_some(text);
                return Ok(Some(Line { number: self.number, bytes, text }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(file: &[u8], buffer: usize) -> Vec<(u64, u64, Option<String>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, file), 5);
        let text = |line: Line| line.text.map(|text| String::from_utf8_lossy(&text).into_owned());
        std::iter::from_fn(|| lines.next().unwrap())
            .map(|line| (line.number, line.bytes, text(line)))
            .collect()
    }

    #[test]
    fn lines_are_counted_and_what_is_too_long_is_not_kept() {
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            (1, 3, some("a\r")),
            (2, 1, some("")),
            (3, 6, some("12345")),
            (4, 7, None),
            (5, 14, None),
            (6, 2, some("b")),
            (7, 1, some("c")),
        ];
        for buffer in 1..20 {
            assert_eq!(read(b"a\r\n\n12345\n123456\n1234567890123\nb\nc", buffer), expected, "{buffer}");
            assert_eq!(read(b"", buffer), []);
            assert_eq!(read(b"\n", buffer), [(1, 1, some(""))]);
            assert_eq!(read(b"123456", buffer), [(1, 6, None)]);
        }
    }
}
