//! Pax headers, which say more about the entry that follows: `<length> <key>=<value>\n` each.

use std::io::Read;

use paperclip_artifact::limits;

use super::{Broken, Rule, escape, read_whole};

/// What matters of one header.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Pax {
    /// A global header speaks of every entry behind it, so it may say nothing that matters.
    pub(super) fn check_global(&self) -> Result<(), Broken> {
        if self.path.is_none() && self.size.is_none() {
            return Ok(());
        }
        let found = "a global pax header with a path or a size";
        Err(Broken::new(Rule::PaxHeader, found, "comments and times"))
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Broken> {
        let refuse = |found: String, wanted: &str| Err(Broken::new(Rule::PaxHeader, found, wanted));
        match key {
            b"path" if self.path.is_none() && !value.is_empty() && !value.contains(&0) => {
                self.path = Some(value.to_vec());
            }
            b"path" => return refuse("`path` twice, empty or with a NUL".into(), "one path"),
            b"size" if self.size.is_some() => return refuse("`size` twice".into(), "one size"),
            b"size" => match number(value) {
                Some(size) => self.size = Some(size),
                None => return refuse(format!("size `{}`", escape(value)), "digits"),
            },
            b"linkpath" => {
                let wanted = "folders and regular files alone";
                return Err(Broken::new(Rule::Link, "a `linkpath`", wanted));
            }
            _ if key.starts_with(b"GNU.sparse") => {
                return Err(Broken::new(
                    Rule::Kind,
                    "a sparse file",
                    "its bytes in full",
                ));
            }
            // Times, owners, comments and what programs say to themselves.
            _ => {}
        }
        Ok(())
    }
}

/// Reads the content of a pax header.
pub(super) fn read(content: &mut impl Read, size: u64) -> Result<Pax, Broken> {
    if size > limits::PAX_HEADER {
        let wanted = format!("at most {}", limits::PAX_HEADER);
        let found = format!("a pax header of {size} bytes");
        return Err(Broken::new(Rule::PaxHeader, found, wanted));
    }
    let bytes = read_whole(content, size)?;
    let mut rest = &bytes[..];
    let mut pax = Pax::default();
    while !rest.is_empty() {
        let (key, value, behind) = split(rest).ok_or_else(|| {
            let found = format!("a record `{}`", escape(&rest[..rest.len().min(40)]));
            Broken::new(Rule::PaxHeader, found, "`<length> <key>=<value>`")
        })?;
        pax.record(key, value)?;
        rest = behind;
    }
    Ok(pax)
}

/// Key and value of the first record, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let behind = bytes.get(length..)?;
    Some((&record[..equals], &record[equals + 1..], behind))
}

/// Digits alone: no sign, which other readers would take or not.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
