//! The head file of a chain: a signed note of the last checkpoint, so that removing the newest
//! segments does not go unseen. Layer 3.
//!
//! It bounds what can be removed quietly by whoever cannot sign. Whoever can put back an *older*
//! head file together with the older end of the chain is found only with a copy kept elsewhere.

use super::chain::{RecordHash, Tip};
use super::key::{SigningKey, TrustedKeys};
use super::segment::sync_parent;
use super::walk::Fault;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The last checkpoint of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) chain: String,
    /// The segment that the checkpoint closed.
    pub(super) segment: u64,
    /// The checkpoint's sequence number.
    pub(super) sequence: u64,
    /// The checkpoint's hash.
    pub(super) hash: String,
    /// The checkpoint's id.
    pub(super) uid: String,
    key_id: String,
    signature: String,
}

impl Head {
    /// A signed head.
    pub(super) fn new(chain: &str, segment: u64, tip: &Tip, key: &SigningKey) -> Self {
        let mut head = Self {
            chain: chain.to_owned(),
            segment,
            sequence: tip.sequence,
            hash: tip.hash.to_string(),
            uid: tip.uid.clone(),
            key_id: key.public().id().to_owned(),
            signature: String::new(),
        };
        head.signature = key.sign(&head.signed_bytes());
        head
    }

    /// Where the head of a chain lies.
    pub(super) fn path(directory: &Path, chain: &str) -> PathBuf {
        directory.join(format!("audit-head-{chain}.json"))
    }

    /// Reads the head of a chain. `Ok(None)`: there is none. `Err`: it is not readable as one.
    pub(super) fn read(directory: &Path, chain: &str) -> io::Result<Option<Self>> {
        /// A head is about 400 bytes.
        const LIMIT: u64 = 16 * 1024;
        let file = match File::open(Self::path(directory, chain)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = Vec::new();
        file.take(LIMIT).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// All chains of a directory that have a head.
    pub(super) fn chains(directory: &Path) -> io::Result<Vec<String>> {
        let mut chains = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let chain = name
                .to_str()
                .and_then(|name| name.strip_prefix("audit-head-")?.strip_suffix(".json"));
            chains.extend(chain.map(str::to_owned));
        }
        chains.sort();
        Ok(chains)
    }

    /// Checks that it is signed by a trusted key and about this chain.
    pub(super) fn check(&self, chain: &str, keys: &TrustedKeys) -> Result<(), Fault> {
        match keys.verify(&self.key_id, &self.signed_bytes(), &self.signature) {
            Some(true) if self.chain == chain => Ok(()),
            Some(_) => Err(Fault::Head),
            None => Err(Fault::UnknownKey(self.key_id.clone())),
        }
    }

    /// The end of the chain that the head names.
    pub(super) fn tip(&self) -> Option<Tip> {
        let hash = RecordHash::from_hex(&self.hash)?;
        Some(Tip { sequence: self.sequence, hash, uid: self.uid.clone() })
    }

    /// Replaces the head file in one step.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let path = Self::path(directory, &self.chain);
        let temporary = path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_parent(&path)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let Self { chain, segment, sequence, hash, uid, key_id, signature: _ } = self;
        format!("hedgerow audit head v1\n{chain}\n{segment}\n{sequence}\n{hash}\n{uid}\n{key_id}")
            .into_bytes()
    }
}

/// Whether [`Head::read`] failed for what is in the file, not for the disk.
pub(super) fn head_is_garbled(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
