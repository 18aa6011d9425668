//! The walk over a package's tarball, before anything unpacks it.
//!
//! The tarball is decompressed as a stream and never written anywhere. It passes only in the
//! shape in which every reader of archives sees the same thing: one gzip member, one archive,
//! folders and regular files, every name once, every size said once. Two readers that
//! disagree about an archive are how one program checks a file and another installs a
//! different one, so what is ambiguous is refused, also where npm would shrug.

mod names;
mod pax;

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use paperclip_artifact::limits;
use tar::{EntryType, Header};

use names::Names;
use pax::Pax;

/// A rule of tarballs. Its name is part of the message, so that people and tests can tell
/// refusals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The registry says where the tarball is.
    Url,
    /// The bytes have the SHA-512 that the lock names.
    Integrity,
    /// One gzip member, whole, with nothing behind it.
    Gzip,
    /// Headers of tar that are whole and have their checksum.
    Format,
    /// The archive ends where its last entry does.
    TrailingData,
    /// No path begins at the root.
    AbsolutePath,
    /// No path has a part `..`.
    ParentPath,
    /// No symbolic link and no hard link, wherever it leads.
    Link,
    /// No device and no pipe.
    Device,
    /// No other kind of entry, such as a sparse file.
    Kind,
    /// No two names that differ in case only.
    CaseCollision,
    /// No name twice, and no file where a folder is.
    Duplicate,
    /// Names are UTF-8.
    Utf8,
    /// Names hold no control character and no backslash.
    NameCharacters,
    /// Paths are not longer than [`limits::PATH`], parts of them than [`limits::NAME`].
    PathLength,
    /// Paths are not deeper than [`limits::DEPTH`].
    PathDepth,
    /// A size in a pax header is that of the header it belongs to.
    PaxSize,
    /// Pax headers are well-formed, small, and change nothing but names and times.
    PaxHeader,
    /// Not more files than [`limits::PACKAGE_FILES`], with all packages [`limits::ENTRIES`].
    FileCount,
    /// No file larger than [`limits::FILE`].
    FileSize,
    /// All packages together unpack to at most [`limits::TREE`].
    TreeSize,
    /// Files have as many bytes as their headers say.
    Truncated,
}

impl Rule {
    /// The name of the rule in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "tarball-url",
            Self::Integrity => "integrity",
            Self::Gzip => "gzip",
            Self::Format => "format",
            Self::TrailingData => "trailing-data",
            Self::AbsolutePath => "absolute-path",
            Self::ParentPath => "parent-path",
            Self::Link => "link",
            Self::Device => "device",
            Self::Kind => "kind",
            Self::CaseCollision => "case-collision",
            Self::Duplicate => "duplicate",
            Self::Utf8 => "utf-8",
            Self::NameCharacters => "name-characters",
            Self::PathLength => "path-length",
            Self::PathDepth => "path-depth",
            Self::PaxSize => "pax-size",
            Self::PaxHeader => "pax-header",
            Self::FileCount => "file-count",
            Self::FileSize => "file-size",
            Self::TreeSize => "tree-size",
            Self::Truncated => "truncated",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A rule that an archive breaks, before it is known whose archive it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: Rule,
    /// The entry, escaped; none when the whole archive is at fault.
    pub entry: Option<String>,
    /// The value found.
    pub found: String,
    /// The wanted value.
    pub wanted: String,
}

impl Broken {
    pub(crate) fn new(rule: Rule, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self {
            rule,
            entry: None,
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    /// Names the entry, unless a step below did.
    fn at(mut self, entry: &[u8]) -> Self {
        self.entry.get_or_insert_with(|| escape(entry));
        self
    }

    /// Says whose archive it is.
    #[must_use]
    pub fn of(self, package: &str) -> ArchiveError {
        ArchiveError {
            package: package.to_owned(),
            broken: Box::new(self),
        }
    }
}

/// A tarball is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tarball of {package} breaks the rule `{}`{}: found {}, wanted {}", broken.rule, self.place(), broken.found, broken.wanted)]
pub struct ArchiveError {
    /// Package and version.
    pub package: String,
    /// The fault.
    pub broken: Box<Broken>,
}

impl ArchiveError {
    fn place(&self) -> String {
        let entry = self.broken.entry.as_ref();
        entry.map_or_else(String::new, |entry| format!(" at `{entry}`"))
    }
}

/// What a tree may still take: the bound of all its tarballs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    entries: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: limits::TREE,
            entries: limits::ENTRIES,
        }
    }
}

/// Walks a tarball to its end and takes from the budget what it will unpack to.
///
/// # Errors
/// Names the first rule that is broken. Memory is bounded whatever the bytes are.
pub fn check(tarball: impl Read, budget: &mut Budget) -> Result<(), Broken> {
    let plain = GzDecoder::new(BufReader::new(tarball));
    let bounded = Bounded {
        inner: plain,
        left: limits::STREAM,
    };
    let mut archive = tar::Archive::new(bounded);
    let mut walk = Walk {
        budget,
        names: Names::default(),
        pax: None,
        long_name: None,
    };
    let entries = archive.entries().map_err(unreadable)?;
    for entry in entries.raw(true) {
        walk.visit(entry.map_err(unreadable)?)?;
    }
    walk.end()?;
    end(archive.into_inner())
}

/// What is left behind the last entry: zeros of the archive, then nothing.
fn end<R: BufRead>(mut rest: Bounded<GzDecoder<R>>) -> Result<(), Broken> {
    let mut buffer = [0; 8192];
    loop {
        let count = rest.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            let found = "other bytes behind the end of the archive";
            return Err(Broken::new(Rule::TrailingData, found, "zeros alone"));
        }
    }
    let mut behind = rest.inner.into_inner();
    if behind.fill_buf().map_err(unreadable)?.is_empty() {
        return Ok(());
    }
    let found = "more bytes behind the gzip member";
    Err(Broken::new(
        Rule::Gzip,
        found,
        "one member and nothing else",
    ))
}

/// What a failed read says of the archive: the stream's own bound, gzip's checks, or tar's.
fn unreadable(error: io::Error) -> Broken {
    if error.get_ref().is_some_and(|inner| inner.is::<TooMuch>()) {
        let wanted = format!("at most {} bytes", limits::STREAM);
        return Broken::new(Rule::TreeSize, "an archive that unpacks to more", wanted);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Broken::new(Rule::Truncated, "an end in the middle", "a whole archive")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            let found = format!("bytes that do not decompress: {error}");
            Broken::new(Rule::Gzip, found, "one whole gzip member")
        }
        _ => {
            // Its words quote the header, which is long and somebody else's.
            let found: String = error.to_string().chars().take(60).collect();
            let found = escape(found.as_bytes());
            Broken::new(Rule::Format, found, "headers as POSIX has them")
        }
    }
}

struct Walk<'a> {
    budget: &'a mut Budget,
    names: Names,
    /// The pax header of the entry that follows.
    pax: Option<Pax>,
    /// Its GNU long name.
    long_name: Option<Vec<u8>>,
}

impl Walk<'_> {
    fn visit<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), Broken> {
        let short = entry.header().path_bytes().into_owned();
        let size = entry.header().entry_size().map_err(|error| {
            let found = escape(error.to_string().as_bytes());
            Broken::new(Rule::Format, found, "a size").at(&short)
        })?;
        check_format(entry.header()).map_err(|b| b.at(&short))?;
        match entry.header().entry_type() {
            EntryType::XHeader => self.take_pax(&mut entry, size).map_err(|b| b.at(&short)),
            EntryType::XGlobalHeader => {
                let header = pax::read(&mut entry, size).map_err(|b| b.at(&short))?;
                header.check_global().map_err(|b| b.at(&short))
            }
            EntryType::GNULongName => self
                .take_long_name(&mut entry, size)
                .map_err(|b| b.at(&short)),
            kind => {
                let pax = self.pax.take().unwrap_or_default();
                let long = self.long_name.take();
                if long.is_some() && pax.path.is_some() {
                    let found = "two long names, one of GNU and one of pax";
                    return Err(Broken::new(Rule::PaxHeader, found, "one").at(&short));
                }
                let name = pax.path.clone().or(long).unwrap_or(short);
                self.take(&mut entry, kind, size, &pax, &name)
                    .map_err(|broken| broken.at(&name))
            }
        }
    }

    fn take_pax(&mut self, content: &mut impl Read, size: u64) -> Result<(), Broken> {
        let header = pax::read(content, size)?;
        match self.pax.replace(header) {
            None => Ok(()),
            Some(_) => Err(Broken::new(
                Rule::PaxHeader,
                "two pax headers in a row",
                "one",
            )),
        }
    }

    fn take_long_name(&mut self, content: &mut impl Read, size: u64) -> Result<(), Broken> {
        let most = limits::PATH as u64 + 1;
        if size > most {
            let found = format!("a GNU long name of {size} bytes");
            return Err(Broken::new(
                Rule::PathLength,
                found,
                format!("at most {most}"),
            ));
        }
        let mut name = read_whole(content, size)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        match self.long_name.replace(name) {
            None => Ok(()),
            Some(_) => Err(Broken::new(
                Rule::Duplicate,
                "two GNU long names in a row",
                "one",
            )),
        }
    }

    /// One entry that npm would unpack.
    fn take(
        &mut self,
        content: &mut impl Read,
        kind: EntryType,
        size: u64,
        pax: &Pax,
        name: &[u8],
    ) -> Result<(), Broken> {
        if let Some(stated) = pax.size
            && stated != size
        {
            let found = format!("a pax size of {stated} and a header's of {size}");
            return Err(Broken::new(Rule::PaxSize, found, "one size"));
        }
        let is_folder = match kind {
            // An old way to say folder: a file whose name ends with a slash.
            EntryType::Regular | EntryType::Continuous => name.ends_with(b"/"),
            EntryType::Directory => true,
            other => return Err(refused_kind(other)),
        };
        if is_folder && size != 0 {
            let found = format!("a folder with {size} bytes of content");
            return Err(Broken::new(Rule::Format, found, "a folder without"));
        }
        if is_folder {
            return self.names.folder(name);
        }
        self.names.file(name)?;
        self.spend(size)?;
        let found = io::copy(content, &mut io::sink()).map_err(unreadable)?;
        if found == size {
            return Ok(());
        }
        let found = format!("{found} bytes and the end of the archive");
        Err(Broken::new(Rule::Truncated, found, format!("{size} bytes")))
    }

    fn spend(&mut self, size: u64) -> Result<(), Broken> {
        if size > limits::FILE {
            let wanted = format!("at most {}", limits::FILE);
            return Err(Broken::new(Rule::FileSize, format!("{size} bytes"), wanted));
        }
        let files = self.names.files();
        if files > limits::PACKAGE_FILES {
            let wanted = format!("at most {}", limits::PACKAGE_FILES);
            return Err(Broken::new(
                Rule::FileCount,
                format!("{files} files"),
                wanted,
            ));
        }
        self.budget.entries = self.budget.entries.checked_sub(1).ok_or_else(|| {
            let wanted = format!("at most {} in all packages", limits::ENTRIES);
            Broken::new(Rule::FileCount, "one file more", wanted)
        })?;
        self.budget.bytes = self.budget.bytes.checked_sub(size).ok_or_else(|| {
            let wanted = format!("at most {} bytes in all packages", limits::TREE);
            Broken::new(Rule::TreeSize, format!("{size} bytes more"), wanted)
        })?;
        Ok(())
    }

    fn end(&self) -> Result<(), Broken> {
        if self.pax.is_some() || self.long_name.is_some() {
            let found = "a long name or pax header and no entry behind it";
            return Err(Broken::new(Rule::Truncated, found, "its entry"));
        }
        if self.names.files() == 0 {
            return Err(Broken::new(Rule::Truncated, "no file", "a package"));
        }
        Ok(())
    }
}

/// Headers that say more about the next entry are of the formats that have them. In one of the
/// oldest format some readers see an extension, and others a file with its content.
fn check_format(header: &Header) -> Result<(), Broken> {
    let kind = header.entry_type();
    let is_extension = matches!(
        kind,
        EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName
    );
    if !is_extension || header.as_ustar().is_some() || header.as_gnu().is_some() {
        return Ok(());
    }
    let found = format!(
        "type {:#04x} in a header of the oldest format",
        kind.as_byte()
    );
    Err(Broken::new(Rule::Format, found, "ustar's or GNU's"))
}

fn refused_kind(kind: EntryType) -> Broken {
    let files = "folders and regular files alone";
    match kind {
        EntryType::Symlink => Broken::new(Rule::Link, "a symbolic link", files),
        EntryType::Link | EntryType::GNULongLink => Broken::new(Rule::Link, "a hard link", files),
        EntryType::Block | EntryType::Char => Broken::new(Rule::Device, "a device", files),
        EntryType::Fifo => Broken::new(Rule::Device, "a pipe", files),
        other => {
            let found = format!("an entry of type {:#04x}", other.as_byte());
            Broken::new(Rule::Kind, found, files)
        }
    }
}

/// Reads exactly so many bytes, of which the caller knows that they are few.
fn read_whole(content: &mut impl Read, size: u64) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    content
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    let found = format!("{} bytes and the end of the archive", bytes.len());
    Err(Broken::new(Rule::Truncated, found, format!("{size} bytes")))
}

/// Hostile text as it may stand in a message: short, one line, printable.
fn escape(text: &[u8]) -> String {
    text[..text.len().min(200)].escape_ascii().to_string()
}

/// A reader that fails, rather than ends, at its bound.
struct Bounded<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more bytes than are read")]
struct TooMuch;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(TooMuch))?;
        Ok(count)
    }
}
