//! Lines that are appended to an output, each whole or not at all as far as that can be had.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An output of lines.
pub struct LineWriter {
    write: Box<dyn Write + Send>,
    /// It ends within a line, which a full disk has cut.
    is_torn: bool,
}

/// What could not be written.
#[derive(Debug)]
pub struct LostLines {
    pub lines: u64,
    pub error: io::Error,
}

impl LineWriter {
    /// One that has nothing yet.
    pub fn new(write: impl Write + Send + 'static) -> Self {
        Self { write: Box::new(write), is_torn: false }
    }

    /// One that goes on with a file, which was opened at this path to be appended to.
    pub fn append(file: File, path: &Path) -> Self {
        let is_torn = ends_within_a_line(&file, path);
        Self { write: Box::new(file), is_torn }
    }

    /// Writes whole lines. After a torn one the next begins on a line of its own.
    ///
    /// # Errors
    /// Of the output, with how many of the lines it has not got whole.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), LostLines> {
        let lost = |lines, error| Err(LostLines { lines, error });
        if self.is_torn {
            if let Err(error) = self.write.write_all(b"\n") {
                return lost(count(lines), error);
            }
            self.is_torn = false;
        }
        let mut written = 0;
        let failed = loop {
            match self.write.write(&lines[written..]) {
                Ok(0) if written == lines.len() => break None,
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if written == lines.len() {
                break None;
            }
        };
        let Some(error) = failed.or_else(|| self.write.flush().err()) else { return Ok(()) };
        let (whole, missing) = lines.split_at(written);
        self.is_torn = whole.last().is_some_and(|last| *last != b'\n');
        lost(count(missing), error)
    }
}

impl std::fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineWriter").field("is_torn", &self.is_torn).finish_non_exhaustive()
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Whether a file that is written to already ends within a line, as one does that was full when we, or the process before,
/// wrote to it. Of what is no plain file, or may not be read, nobody knows.
fn ends_within_a_line(file: &File, path: &Path) -> bool {
    let length = file.metadata().ok().filter(Metadata::is_file).map_or(0, |metadata| metadata.len());
    let mut last = [0];
    length > 0
        && File::open(path).and_then(|read| read.read_exact_at(&mut last, length - 1)).is_ok()
        && last != *b"\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A disk that has room for so many bytes, and more once it is told.
    struct Filling(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Filling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.0);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= n;
            disk.1.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_spoils_no_other_and_each_that_is_lost_is_counted() {
        let lines = |n: usize, text: &str| format!("{text}\n").repeat(n).into_bytes();
        // Room for no line, one and a half, two; two batches come while it is full.
        for (room, lost, kept) in
            [(0, 6, ""), (9, 5, "first\nfir\n"), (12, 4, "first\nfirst\n"), (18, 3, "first\nfirst\nfirst\n")]
        {
            let disk = Arc::new(Mutex::new((room, Vec::new())));
            let mut output = LineWriter::new(Filling(Arc::clone(&disk)));
            let mut counted = 0;
            for lines in [lines(3, "first"), lines(3, "never")] {
                counted += output.write(&lines).err().map_or(0, |lost| lost.lines);
            }
            disk.lock().unwrap().0 = usize::MAX;
            assert!(output.write(&lines(2, "later")).is_ok());
            let text = String::from_utf8(disk.lock().unwrap().1.clone()).unwrap();
            assert_eq!((counted, text), (lost, format!("{kept}later\nlater\n")), "{room}");
        }
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_gone_on_with_on_the_next() {
        let path = std::env::temp_dir().join(format!("evenkeel-lines-{}", std::process::id()));
        for (before, expected) in [("", "{}\n"), ("{}\n", "{}\n{}\n"), ("{}\n{\"ti", "{}\n{\"ti\n{}\n")] {
            std::fs::write(&path, before).unwrap();
            let mut output = LineWriter::append(crate::files::append(&path).unwrap(), &path);
            assert!(output.write(b"{}\n").is_ok());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
        std::fs::remove_file(path).unwrap();
    }
}
