//! Lines of the worker's stdout: split on `\n` alone, bounded.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest line: 128 Mi UTF-16 units take at most three bytes each in UTF-8.
pub const MAX_LINE: usize = 3 * 128 * 1024 * 1024;
const LEAST_READ: usize = 16 * 1024;
/// Longer lines take the memory they were read into along.
const LARGE: usize = 256 * 1024;

/// A line, or how long one was that went over the limit.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end.
    Whole(Bytes),
    /// A line beyond the limit was dropped.
    Oversized(usize),
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    buffer: BytesMut,
    scanned: usize,
    /// Bytes of an oversized line that were dropped so far.
    dropping: Option<usize>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines of at most `limit` bytes.
    pub fn new(from: R, limit: usize) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            scanned: 0,
            dropping: None,
            limit,
        }
    }

    /// The next line; None at the end. What follows the last `\n` is not a line.
    pub async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            self.buffer.reserve(LEAST_READ);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Option<Line> {
        let fresh = &self.buffer[self.scanned..];
        let Some(at) = memchr::memchr(b'\n', fresh) else {
            self.scanned = self.buffer.len();
            if self.dropping.is_some() || self.buffer.len() > self.limit {
                self.dropping = Some(self.dropping.unwrap_or(0) + self.buffer.len());
                self.buffer = BytesMut::new();
                self.scanned = 0;
            }
            return None;
        };
        let line = self.buffer.split_to(self.scanned + at + 1);
        self.scanned = 0;
        if line.len() > LARGE {
            // Otherwise what follows would keep all of it for as long as the worker runs.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        let dropped = self.dropping.take();
        if dropped.is_some() || line.len() > self.limit + 1 {
            return Some(Line::Oversized(dropped.unwrap_or(0) + line.len() - 1));
        }
        let mut line = line.freeze();
        line.truncate(line.len() - 1);
        Some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(input, limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn only_a_newline_ends_a_line() {
        let found = lines("a\u{2028}b\rc\n\nd\nrest".as_bytes(), 100).await;
        assert_eq!(found, [whole("a\u{2028}b\rc"), whole(""), whole("d")]);
    }

    #[tokio::test]
    async fn the_memory_of_a_large_line_goes_with_it() {
        let input = [&vec![b'x'; 8 * LARGE][..], b"\nok\n"].concat();
        let mut lines = Lines::new(&input[..], MAX_LINE);
        let large = lines.next().await.unwrap();
        let wanted = Bytes::copy_from_slice(&input[..8 * LARGE]);
        assert_eq!(large, Some(Line::Whole(wanted)));
        assert_eq!(lines.next().await.unwrap(), Some(whole("ok")));
        drop(large);
        lines.buffer.reserve(LEAST_READ);
        assert!(
            lines.buffer.capacity() < LARGE,
            "{}",
            lines.buffer.capacity()
        );
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_dropped_and_the_next_is_read() {
        let mut input = vec![b'x'; 100_000];
        input.extend_from_slice(b"\nok\n");
        let found = lines(&input, 1000).await;
        assert_eq!(found, [Line::Oversized(100_000), whole("ok")]);
    }
}
