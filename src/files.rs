//! Opens and reads the files that operators name, so that none of them can hold us up for ever: nothing waits for the
//! other end of a FIFO, and nothing is read without an end.

mod connecting;
mod lines;

pub(crate) use connecting::connect_unix;
pub use lines::{LineWriter, LostLines};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A configuration of ten thousand servers has a megabyte.
pub const LONGEST: u64 = 64 << 20;

/// Opens a file to read it.
///
/// # Errors
/// Of the file system; it is no file, but a FIFO or a device.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nonblock()).open(path)?;
    match kind(&file)? {
        FileType::RegularFile => Ok(file),
        other => Err(no_file(other)),
    }
}

/// What a file holds.
///
/// # Errors
/// As of [`open`]; it is longer than [`LONGEST`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    open(path).and_then(bounded)
}

/// The same of one that is kept in memory.
///
/// # Errors
/// As of [`open`]; it is longer than that.
pub fn read_up_to(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    open(path).and_then(|file| bounded_by(file, longest))
}

/// The same as text.
///
/// # Errors
/// As of [`read`]; it is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?)
}

/// Another number for each change of a file.
///
/// # Errors
/// Of the file system.
pub fn version(file: &Path) -> io::Result<u64> {
    let found = file.metadata()?;
    let mut hasher = DefaultHasher::new();
    let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    (found.dev(), found.ino(), found.size(), times).hash(&mut hasher);
    Ok(hasher.finish())
}

/// Bytes as text.
///
/// # Errors
/// They are no UTF-8; it says where.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let said = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16; save it as UTF-8".to_owned(),
            _ => {
                let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                let begins = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let column = String::from_utf8_lossy(&good[begins..]).chars().count() + 1;
                let byte = bad.first().copied().unwrap_or_default();
                format!("line {line}, column {column}: the byte 0x{byte:02x} is no UTF-8; save it as UTF-8")
            }
        };
        io::Error::new(io::ErrorKind::InvalidData, said)
    })
}

/// What a reader gives, as far as that has an end; for what somebody waits for who can interrupt it.
///
/// # Errors
/// Of the reader; there is more than [`LONGEST`].
pub fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    bounded_by(reader, LONGEST)
}

fn bounded_by(reader: impl Read, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let longest = if longest < 1 << 20 {
            format!("{} KiB", longest >> 10)
        } else {
            format!("{} MiB", longest >> 20)
        };
        return Err(io::Error::other(format!("it is longer than {longest}")));
    }
    Ok(bytes)
}

/// Opens a file to append to, or a FIFO that somebody reads, or a device. Writing to it may wait.
///
/// # Errors
/// Of the file system; nobody reads the FIFO.
pub fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).custom_flags(nonblock()).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => {
            io::Error::other("it is a FIFO that nobody reads; start its reader first")
        }
        _ => error,
    })?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Opens a file to append to that is read back later.
///
/// # Errors
/// As of [`append`]; it is no file.
pub fn append_to_file(path: &Path) -> io::Result<File> {
    let file = append(path)?;
    match kind(&file)? {
        FileType::RegularFile => Ok(file),
        other => Err(no_file(other)),
    }
}

fn kind(file: &File) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn no_file(kind: FileType) -> io::Error {
    let what = match kind {
        FileType::Directory => return io::ErrorKind::IsADirectory.into(),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    io::Error::other(format!("it is {what}, and must be a file"))
}

fn nonblock() -> i32 {
    // The flags of a kernel fit.
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_at_its_place() {
        let said = |bytes: &[u8]| text(bytes.to_vec()).map_err(|error| error.to_string());
        assert_eq!(said("ä: 1\n".as_bytes()), Ok("ä: 1\n".to_owned()));
        let place = "line 2, column 5: the byte 0xe9 is no UTF-8; save it as UTF-8";
        assert_eq!(said(b"a: 1\nb: \xc3\xa9\xe9\n"), Err(place.to_owned()));
        assert_eq!(said(b"\xff\xfea\0"), Err("it is UTF-16; save it as UTF-8".to_owned()));
    }

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused_at_once() {
        let directory = std::env::temp_dir().join(format!("evenkeel-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let fifo = directory.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let said = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(said(&fifo), "it is a FIFO, and must be a file");
        assert_eq!(said(Path::new("/dev/zero")), "it is a device, and must be a file");
        assert_eq!(read(&directory).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let nobody = "it is a FIFO that nobody reads; start its reader first";
        assert_eq!(append(&fifo).unwrap_err().to_string(), nobody);
        let reader = OpenOptions::new().read(true).custom_flags(nonblock()).open(&fifo).unwrap();
        assert!(append(&fifo).is_ok());
        assert_eq!(append_to_file(&fifo).unwrap_err().to_string(), "it is a FIFO, and must be a file");
        drop(reader);
        let zero = File::open("/dev/zero").unwrap();
        assert_eq!(bounded(zero).unwrap_err().to_string(), "it is longer than 64 MiB");
        std::fs::write(directory.join("text"), "text").unwrap();
        assert_eq!(read_text(&directory.join("text")).unwrap(), "text");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
