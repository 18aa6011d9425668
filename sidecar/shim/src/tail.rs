//! The worker's stderr: whole lines as they come, and the last of them kept.

/// Characters kept for the report of an exit.
const KEPT: usize = 8000;
/// Longest line passed on in one piece, in bytes.
const LONGEST: usize = 16 * 1024;

/// Splits stderr into lines and keeps its end.
#[derive(Debug, Default)]
pub struct Tail {
    partial: Vec<u8>,
    kept: String,
}

impl Tail {
    /// Takes bytes and gives the lines they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.partial.push(byte);
            }
            if byte == b'\n' || self.partial.len() >= LONGEST {
                lines.extend(self.flush());
            }
        }
        lines
    }

    /// Gives the last line when it has no end.
    pub fn flush(&mut self) -> Option<String> {
        if self.partial.is_empty() {
            return None;
        }
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        self.kept.push_str(&line);
        self.kept.push('\n');
        self.cut();
        Some(line)
    }

    /// The last of what was written.
    pub fn kept(&self) -> &str {
        self.kept.trim_end()
    }

    fn cut(&mut self) {
        let surplus = self.kept.chars().count().saturating_sub(KEPT);
        if surplus > 0
            && let Some((at, _)) = self.kept.char_indices().nth(surplus)
        {
            self.kept.drain(..at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_when_complete() {
        let mut tail = Tail::default();
        assert_eq!(tail.push(b"one\ntw"), ["one"]);
        assert_eq!(tail.push(b"o\n"), ["two"]);
        assert_eq!(tail.push(b"three"), Vec::<String>::new());
        assert_eq!(tail.flush().as_deref(), Some("three"));
        assert_eq!(tail.kept(), "one\ntwo\nthree");
    }

    #[test]
    fn only_the_last_8000_characters_are_kept() {
        let mut tail = Tail::default();
        for _ in 0..100 {
            tail.push("ä".repeat(999).as_bytes());
            tail.push(b"\n");
        }
        tail.push(b"end\n");
        assert!(tail.kept().ends_with("end"));
        assert!(tail.kept().chars().count() <= KEPT);
    }
}
