//! A file of records, one a line, that gets whole records only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

/// A write that failed, with the bytes that were written all the same.
struct CutShort {
    written: usize,
    error: io::Error,
}

/// The file, or standard output.
#[derive(Debug)]
pub(super) struct RecordFile {
    /// `None` is standard output.
    path: Option<PathBuf>,
    out: File,
    /// The same file to read its end from; `None` where it has none, as a pipe.
    end: Option<File>,
    /// Whether the last write of this process was cut short. Counts where the end cannot be read.
    torn: bool,
}

impl RecordFile {
    /// Standard output, without its buffer: that would keep the rest of a half record and send it later.
    ///
    /// # Errors
    /// Where the process has no standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        #[cfg(unix)]
        let out = File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?);
        #[cfg(windows)]
        let out = File::from(std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?);
        Ok(Self { path: None, out, end: None, torn: false })
    }

    /// A file that is appended to. A new file gets mode 0600.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let out = options.open(&path)?;
        let end = readable(&out, &path);
        Ok(Self { path: Some(path), out, end, torn: false })
    }

    /// Opens the file at the path anew. Does nothing for standard output.
    ///
    /// # Errors
    /// Where the file cannot be opened. Then the old file stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let torn = self.torn;
            *self = Self { torn, ..Self::open(path.clone())? };
        }
        Ok(())
    }

    /// Appends a record, its line end included.
    ///
    /// # Errors
    /// Where it was not written whole. Then the file is as before, or the next record begins on a line of its own.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.append_by(record, write_all)
    }

    fn append_by(
        &mut self,
        record: &[u8],
        write: impl FnOnce(&mut File, &[u8]) -> Result<(), CutShort>,
    ) -> io::Result<()> {
        let mut text = Vec::with_capacity(record.len());
        if self.ends_torn() {
            // Whoever reads the log learns that the line before is no record.
            text.extend(format!("\n{{\"time\":\"{}\",\"kind\":\"torn\"}}\n", Timestamp::now()).into_bytes());
        }
        text.extend(record);
        let before = self.length();
        match write(&mut self.out, &text) {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(CutShort { written: 0, error }) => Err(error),
            Err(CutShort { written, error }) => {
                self.torn = !before.is_some_and(|before| self.take_back(before, &text[..written]));
                Err(error)
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.end.as_ref().and_then(|end| end.metadata().ok()).map(|metadata| metadata.len())
    }

    /// Whether the last line has no end: this process, an earlier one or another one wrote it half.
    fn ends_torn(&self) -> bool {
        let last = || {
            let length = self.length()?;
            let mut last = [b'\n'];
            if length > 0 && read_at(self.end.as_ref()?, &mut last, length - 1).is_none() {
                return None;
            }
            Some(last[0] != b'\n')
        };
        last().unwrap_or(self.torn)
    }

    /// Cuts off what was just written at `before`, where nobody has written after it. Returns whether it is gone.
    fn take_back(&self, before: u64, written: &[u8]) -> bool {
        let mut found = vec![0; written.len()];
        let mut is_own = || {
            let after = before + u64::try_from(written.len()).ok()?;
            read_at(self.end.as_ref()?, &mut found, before)?;
            Some(self.length()? == after && found == written)
        };
        is_own() == Some(true) && self.out.set_len(before).is_ok()
    }
}

fn write_all(out: &mut File, bytes: &[u8]) -> Result<(), CutShort> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err(CutShort { written, error: io::ErrorKind::WriteZero.into() }),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CutShort { written, error }),
        }
    }
    out.flush().map_err(|error| CutShort { written, error })
}

/// The file of `out` to read from, where it is a regular one and still stands at `path`.
#[cfg(unix)]
fn readable(out: &File, path: &Path) -> Option<File> {
    use std::os::unix::fs::MetadataExt as _;
    let written = out.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let end = File::open(path).ok()?;
    let read = end.metadata().ok()?;
    (written.dev() == read.dev() && written.ino() == read.ino()).then_some(end)
}

#[cfg(not(unix))]
fn readable(out: &File, path: &Path) -> Option<File> {
    out.metadata().ok().filter(std::fs::Metadata::is_file)?;
    File::open(path).ok()
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> Option<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at).ok()
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> Option<()> {
    use std::io::{Read as _, Seek as _};
    file.seek(io::SeekFrom::Start(at)).ok()?;
    file.read_exact(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("bindery-records-{:016x}", fastrand::u64(..)));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("audit.jsonl")
        }

        fn lines(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.log()).unwrap();
            text.lines().map(|line| if line.contains("torn") { "torn".to_owned() } else { line.to_owned() }).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A disk that is full after `room` bytes.
    fn full_after(room: usize) -> impl FnOnce(&mut File, &[u8]) -> Result<(), CutShort> {
        move |out, bytes| {
            let written = room.min(bytes.len());
            out.write_all(&bytes[..written]).unwrap();
            Err(CutShort { written, error: io::ErrorKind::StorageFull.into() })
        }
    }

    #[test]
    fn a_record_that_a_full_disk_cut_leaves_no_trace_and_the_next_one_is_whole() {
        let folder = Folder::new();
        let mut file = RecordFile::open(folder.log()).unwrap();
        file.append(b"{\"n\":1}\n").unwrap();
        for room in [0, 1, 4, 7, 8] {
            assert!(file.append_by(b"{\"n\":2}\n", full_after(room)).is_err());
        }
        file.append(b"{\"n\":3}\n").unwrap();
        assert_eq!(folder.lines(), ["{\"n\":1}", "{\"n\":3}"]);
    }

    #[test]
    fn a_half_record_that_somebody_wrote_after_stays_and_the_next_one_has_its_own_line() {
        let folder = Folder::new();
        let mut file = RecordFile::open(folder.log()).unwrap();
        let other = folder.log();
        let result = file.append_by(b"{\"n\":1}\n", |out, bytes| {
            let cut = full_after(4)(out, bytes);
            OpenOptions::new().append(true).open(&other).unwrap().write_all(b"other").unwrap();
            cut
        });
        assert!(result.is_err());
        file.append(b"{\"n\":2}\n").unwrap();
        file.append(b"{\"n\":3}\n").unwrap();
        assert_eq!(folder.lines(), ["{\"n\"other", "torn", "{\"n\":2}", "{\"n\":3}"]);
    }

    #[test]
    fn a_half_record_of_a_killed_process_is_told_apart_at_the_next_start() {
        let folder = Folder::new();
        std::fs::write(folder.log(), "{\"n\":1}\n{\"n\":").unwrap();
        RecordFile::open(folder.log()).unwrap().append(b"{\"n\":3}\n").unwrap();
        assert_eq!(folder.lines(), ["{\"n\":1}", "{\"n\":", "torn", "{\"n\":3}"]);
    }

    #[test]
    fn a_rotation_after_a_half_record_begins_a_clean_file() {
        let folder = Folder::new();
        let mut file = RecordFile::open(folder.log()).unwrap();
        std::fs::rename(folder.log(), folder.0.join("old")).unwrap();
        assert!(file.append_by(b"{\"n\":1}\n", full_after(3)).is_err());
        file.append(b"{\"n\":2}\n").unwrap();
        file.reopen().unwrap();
        file.append(b"{\"n\":3}\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.0.join("old")).unwrap(), "{\"n\":2}\n");
        assert_eq!(folder.lines(), ["{\"n\":3}"]);
        // Some tools copy the file and cut the original.
        std::fs::write(folder.log(), "").unwrap();
        file.append(b"{\"n\":4}\n").unwrap();
        assert_eq!(folder.lines(), ["{\"n\":4}"]);
    }

    #[test]
    fn a_pipe_that_took_half_a_record_gets_the_next_one_on_a_line_of_its_own() {
        let (mut reader, writer) = io::pipe().unwrap();
        let out = File::from(std::os::fd::OwnedFd::from(writer));
        let mut file = RecordFile { path: None, out, end: None, torn: false };
        assert!(file.append_by(b"{\"n\":1}\n", full_after(4)).is_err());
        file.append(b"{\"n\":2}\n").unwrap();
        file.append(b"{\"n\":3}\n").unwrap();
        drop(file);
        let text = io::read_to_string(&mut reader).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!((lines[0], lines[2], lines[3]), ("{\"n\"", "{\"n\":2}", "{\"n\":3}"));
        assert!(lines[1].contains("\"kind\":\"torn\""), "{text}");
    }
}
