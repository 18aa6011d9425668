//! Reading a file that somebody else wrote: no link is followed, nothing waits, nothing is endless.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// The whole content of a regular file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be opened, is a link or no regular file, or is larger.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe for reading would wait for somebody to write.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let found = metadata.len().max(limit + 1);
        return Err(io::Error::other(format!(
            "it has {found} bytes, wanted at most {limit}"
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_pipes_folders_and_giants_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&path("file"), 4).unwrap(), b"1234");
        for (name, limit) in [("file", 3), ("link", 4), ("pipe", 4), (".", 4)] {
            assert!(read(&path(name), limit).is_err(), "{name}");
        }
    }
}
