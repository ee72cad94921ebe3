//! Segment files: names, listing, reading by line, and the small door to the disk through which
//! the writer goes, so that a test can put a failing disk there. Layer 3.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest line that is read, in bytes. No record comes near.
pub(super) const MAX_LINE: usize = 4 << 20;

/// Name of the public key file in the directory.
pub const PUBLIC_KEY_FILE: &str = "audit-public-key.pem";

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// The chain's id.
    pub chain: String,
    /// The segment's number in its chain, from 1.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl SegmentFile {
    /// The file of a segment in a directory.
    pub(super) fn in_directory(directory: &Path, chain: &str, number: u64) -> Self {
        let path = directory.join(format!("audit-{chain}-{number:010}.jsonl"));
        Self { chain: chain.to_owned(), number, path }
    }

    /// Reads chain and number from a file's name: `audit-<uuid>-<ten digits>.jsonl`.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let stem = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
        let (chain, number) = stem.rsplit_once('-')?;
        let digits = number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit());
        let chain = uuid::Uuid::try_parse(chain).ok()?.to_string();
        let number = number.parse().ok().filter(|&number| digits && number > 0)?;
        Some(Self { chain, number, path: path.to_owned() })
    }

    /// All segments of a directory, by chain (oldest first: ids are ordered by time) and number.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(directory: &Path) -> io::Result<Vec<Self>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            segments.extend(Self::from_path(&entry?.path()));
        }
        segments.sort();
        Ok(segments)
    }
}

/// One line of a file.
pub(super) enum Line {
    /// A line with its newline taken off.
    Whole,
    /// The last bytes, with no newline behind them.
    Unfinished,
    /// More than [`MAX_LINE`] bytes without a newline.
    TooLong,
    /// The end.
    End,
}

/// Reads the next line into `buffer`, in bounded memory.
pub(super) fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Line> {
    buffer.clear();
    let read = input.take(MAX_LINE as u64 + 1).read_until(b'\n', buffer)?;
    Ok(if read == 0 {
        Line::End
    } else if buffer.last() == Some(&b'\n') {
        buffer.pop();
        Line::Whole
    } else if read > MAX_LINE {
        Line::TooLong
    } else {
        Line::Unfinished
    })
}

/// The disk, as the writer sees it.
pub(super) trait Disk: Send {
    /// Makes a new segment file, which must not exist, and makes its name durable.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
}

/// A segment file being written.
pub(super) trait DiskFile: Send {
    /// Writes all bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written is on disk (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to this length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Whether the file is still what its name leads to.
    fn in_place(&self, path: &Path) -> bool;
}

/// The real disk.
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.append(true).mode(0o640);
        let file = match options.clone().create_new(true).open(path) {
            // An attempt before this one made the file and then failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = options.open(path)?;
                if file.metadata()?.len() > 0 {
                    return Err(error);
                }
                file
            }
            other => other?,
        };
        sync_parent(path)?;
        Ok(Box::new(file))
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn in_place(&self, path: &Path) -> bool {
        match (self.metadata(), fs::metadata(path)) {
            (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
            (_, Err(_)) | (Err(_), _) => false,
        }
    }
}

/// Makes names in the file's directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
