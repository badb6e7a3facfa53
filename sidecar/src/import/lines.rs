//! Cuts a stream into lines of bounded length, so that a file without line ends cannot fill the memory.

use std::io::{BufRead, Result};

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The line, with its line end.
    Whole(Vec<u8>),
    /// The line is longer than the limit; it was read past and is not kept.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// Reads lines, counts them, and keeps each within a limit.
pub(super) struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    consumed: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes, their ends included.
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, number: 0, consumed: 0 }
    }

    /// Bytes read so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The next line with its number, counted from 1.
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, Line)>> {
        let mut kept = Vec::new();
        let mut length = 0u64;
        let mut ended = false;
        while !ended {
            let available = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n').map(|position| position + 1);
            let taken = &available[..end.unwrap_or(available.len())];
            length += taken.len() as u64;
            if length <= self.limit as u64 {
                kept.extend_from_slice(taken);
            } else {
                kept = Vec::new();
            }
            ended = end.is_some();
            let count = taken.len();
            self.input.consume(count);
        }
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.consumed += length;
        // Programs on Windows mark a file as UTF-8 with three bytes at its very beginning.
        if self.number == 1 && kept.starts_with(b"\xEF\xBB\xBF") {
            kept.drain(..3);
        }
        let line = if length > self.limit as u64 {
            Line::TooLong { bytes: length }
        } else {
            Line::Whole(kept)
        };
        Ok(Some((self.number, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, limit: usize, expected: &[Result<&str, u64>]) {
        // A buffer of three bytes makes every line cross its border.
        let mut lines = Lines::new(std::io::BufReader::with_capacity(3, input.as_bytes()), limit);
        for (index, expected) in expected.iter().enumerate() {
            let (number, line) = lines.next_line().expect("readable").expect("a line");
            assert_eq!(number, index as u64 + 1);
            let expected = match expected {
                Ok(text) => Line::Whole(text.as_bytes().to_vec()),
                Err(bytes) => Line::TooLong { bytes: *bytes },
            };
            assert_eq!(line, expected);
        }
        assert_eq!(lines.next_line().expect("readable"), None);
        assert_eq!(lines.consumed(), input.len() as u64);
    }

    type Result<T, E> = std::result::Result<T, E>;

    #[test]
    fn lines_are_cut_numbered_and_bounded() {
        check("", 10, &[]);
        check("one\ntwo", 10, &[Ok("one\n"), Ok("two")]);
        check("a\r\n\nb\n", 10, &[Ok("a\r\n"), Ok("\n"), Ok("b\n")]);
        check("0123456789\nshort\n0123456789", 8, &[Err(11), Ok("short\n"), Err(10)]);
        check("\u{feff}head\nrow", 10, &[Ok("head\n"), Ok("row")]);
    }
}
