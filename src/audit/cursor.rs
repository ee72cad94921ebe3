//! How far a sink has come, in a file of the audit directory: `audit-sink-<name>.json`. Layer 3.
//!
//! The file is replaced in one step and is on disk before [`Cursor::write`] returns. A cursor that
//! lags behind what was delivered makes a sink deliver again what it has, never leave something out.

use super::follow::Position;
use super::segment::sync_parent;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// How far a sink has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// What was delivered; `None`: nothing yet.
    pub delivered: Option<Position>,
    /// Where the delivery that was begun ends. A sink whose deliveries have names repeats exactly
    /// that one after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Position>,
}

impl Cursor {
    fn path(directory: &Path, sink: &str) -> PathBuf {
        directory.join(format!("audit-sink-{sink}.json"))
    }

    /// Reads the cursor of a sink; a sink that never ran has an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or is no cursor.
    pub fn read(directory: &Path, sink: &str) -> io::Result<Self> {
        /// A cursor has some 300 bytes.
        const LIMIT: u64 = 16 * 1024;
        let file = match File::open(Self::path(directory, sink)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let mut text = Vec::new();
        file.take(LIMIT).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the disk cannot be written; the old cursor is still there then.
    pub fn write(&self, directory: &Path, sink: &str) -> io::Result<()> {
        let path = Self::path(directory, sink);
        let temporary = path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_parent(&path)
    }

    /// Whether the sink has everything of a chain up to the end of this segment. A cursor at the
    /// beginning of the next segment says so; one within this segment does not, although it may be at
    /// its end: then a segment is said to be missing which is not, rather than the other way round.
    pub(super) fn is_past(&self, chain: &str, segment: u64) -> bool {
        self.delivered.as_ref().is_some_and(|at| (at.chain.as_str(), at.segment) > (chain, segment))
    }
}
