//! Tarballs byte by byte, since no honest program writes what these tests need.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An archive in the making.
pub struct Tarball {
    gzip: GzEncoder<Vec<u8>>,
}

/// Type flags of tar.
pub const FILE: u8 = b'0';
pub const HARD_LINK: u8 = b'1';
pub const SYMBOLIC_LINK: u8 = b'2';
pub const CHARACTER_DEVICE: u8 = b'3';
pub const PIPE: u8 = b'6';
pub const FOLDER: u8 = b'5';
pub const PAX: u8 = b'x';
pub const GLOBAL_PAX: u8 = b'g';
pub const LONG_NAME: u8 = b'L';

impl Tarball {
    pub fn new() -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::fast()),
        }
    }

    /// One with the `package.json` of a package, and nothing else yet.
    pub fn of(name: &str) -> Self {
        let manifest = format!(r#"{{"name":"{name}","version":"1.0.0"}}"#);
        Self::new().file(b"package/package.json", manifest.as_bytes())
    }

    pub fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.header(FILE, name, content.len() as u64, b"")
            .content(content)
    }

    /// An entry without content.
    pub fn entry(self, kind: u8, name: &[u8]) -> Self {
        self.header(kind, name, 0, b"")
    }

    pub fn link(self, kind: u8, name: &[u8], target: &[u8]) -> Self {
        self.header(kind, name, 0, target)
    }

    /// A header that says more about the next entry.
    pub fn extension(self, kind: u8, content: &[u8]) -> Self {
        self.header(kind, b"PaxHeader", content.len() as u64, b"")
            .content(content)
    }

    pub fn header(self, kind: u8, name: &[u8], size: u64, target: &[u8]) -> Self {
        self.header_in(b"ustar\x0000", kind, name, size, target)
    }

    /// An extension in the format that had none: without the magic of ustar.
    pub fn oldest_extension(self, kind: u8, content: &[u8]) -> Self {
        self.header_in(&[0; 8], kind, b"PaxHeader", content.len() as u64, b"")
            .content(content)
    }

    fn header_in(
        mut self,
        format: &[u8; 8],
        kind: u8,
        name: &[u8],
        size: u64,
        target: &[u8],
    ) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name[..name.len().min(100)]);
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target);
        put(257, format);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.gzip.write_all(&header).unwrap();
        self
    }

    pub fn content(mut self, content: &[u8]) -> Self {
        self.gzip.write_all(content).unwrap();
        let padding = content.len().next_multiple_of(512) - content.len();
        self.gzip.write_all(&[0; 512][..padding]).unwrap();
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.gzip.write_all(bytes).unwrap();
        self
    }

    /// The archive with its end.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).cut()
    }

    /// The archive without its end.
    pub fn cut(self) -> Vec<u8> {
        self.gzip.finish().unwrap()
    }
}

/// One record of a pax header.
pub fn record(key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length += 1;
    }
    format!("{length}{body}").into_bytes()
}
