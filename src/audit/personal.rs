//! Personal fields of records, sealed under a key per tenant. Layer 3.
//!
//! A record can never be taken out of the chain. What makes it personal (subject, user, address, token
//! id) can be written sealed, so that destroying the tenant's key erases it from every copy of the
//! trail at once, here, in buckets, in tables; and the chain still verifies.
//!
//! Beside the audit directory, not in it, for copies of the directory must not carry keys:
//! - `<directory>-personal.key`: the master key, 32 random bytes as base64; or a file of the
//!   operator's.
//! - `<directory>-tenant-keys.jsonl`: each tenant's key, wrapped by the master key; what was erased; and
//!   which erasures the trail has a record of.
//!
//! A record's own key is derived from the tenant's and the record's id, so that no key ever seals two
//! texts. Tenant, record and key id are bound into the seal: it opens in its own record only.

use super::record::{ClientAddress, Event};
use super::segment::sync_parent;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a key.
const KEY: usize = 32;
/// Largest store that is read, in bytes: some 300,000 tenants.
const MAX_STORE: u64 = 64 << 20;
/// What stands for a field whose key was destroyed.
pub const ERASED: &str = "[erased]";
/// What stands for a field whose key is not at hand.
pub const SEALED: &str = "[sealed]";
/// The fields, in `unmapped.hedgerow`.
pub const FIELDS: [&str; 4] = ["client_address", "client_user", "subject", "token_id"];

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersonalError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Encryption failed, or the system gave no random bytes.
    #[error("personal fields cannot be sealed")]
    Crypto,
}

/// Where the keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The master key; made if absent unless [`Self::master_is_given`].
    pub master: PathBuf,
    /// Whether the operator named it: then it must be there.
    pub master_is_given: bool,
    /// The tenants' keys.
    pub store: PathBuf,
}

impl Places {
    /// Beside an audit directory.
    pub fn beside(directory: &Path, master: Option<PathBuf>) -> Self {
        let beside = |suffix: &str| {
            let mut name = directory.file_name().unwrap_or("audit".as_ref()).to_owned();
            name.push(suffix);
            directory.with_file_name(name)
        };
        Self {
            master_is_given: master.is_some(),
            master: master.unwrap_or_else(|| beside("-personal.key")),
            store: beside("-tenant-keys.jsonl"),
        }
    }
}

/// Personal fields as a record holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the tenant's key.
    pub key_id: Arc<str>,
    /// Base64 of the sealed JSON object.
    pub text: String,
}

/// A line of the store.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    /// A tenant's key, wrapped.
    Key { tenant: String, id: String, wrapped: String },
    /// A tenant's keys were destroyed.
    Erased { tenant: String, ids: Vec<String> },
    /// The trail has a record of these erasures.
    Recorded { ids: Vec<String> },
}

/// Which file was read, to see whether it is another one now.
type Version = (u64, u64, i64, i64);

/// The tenants' keys.
pub struct PersonalKeys {
    places: Places,
    master: LessSafeKey,
    version: Option<Version>,
    by_id: HashMap<Arc<str>, [u8; KEY]>,
    current: HashMap<String, Arc<str>>,
    erased: HashSet<String>,
    /// Erasures of which the trail has no record yet.
    unrecorded: Vec<(String, Vec<String>)>,
}

impl std::fmt::Debug for PersonalKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PersonalKeys({} tenants)", self.current.len())
    }
}

impl PersonalKeys {
    /// Reads the master key and the store; makes the master key if there is none and none was named.
    ///
    /// # Errors
    /// When a file cannot be read or made, or is not what it should be.
    pub fn open(places: Places) -> Result<Self, PersonalError> {
        let master = match read_master(&places.master) {
            Err(PersonalError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !places.master_is_given =>
            {
                make_master(&places.master)?
            }
            other => other?,
        };
        Self::with(places, &master)
    }

    /// Reads the keys for opening only: makes no file. `None`: there is no master key or store.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn find(places: Places) -> Result<Option<Self>, PersonalError> {
        if !places.store.exists() || (!places.master_is_given && !places.master.exists()) {
            return Ok(None);
        }
        let master = read_master(&places.master)?;
        Self::with(places, &master).map(Some)
    }

    fn with(places: Places, master: &[u8; KEY]) -> Result<Self, PersonalError> {
        let mut keys = Self {
            places,
            master: aead(master)?,
            version: None,
            by_id: HashMap::new(),
            current: HashMap::new(),
            erased: HashSet::new(),
            unrecorded: Vec::new(),
        };
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the store again if somebody changed it (`audit erase` does).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn refresh(&mut self) -> Result<(), PersonalError> {
        match version(&self.places.store) {
            Ok(version) if version == self.version => Ok(()),
            Ok(_) => self.reload(),
            Err(source) => Err(PersonalError::File { path: self.places.store.clone(), source }),
        }
    }

    fn reload(&mut self) -> Result<(), PersonalError> {
        let path = self.places.store.clone();
        let failed = |source| PersonalError::File { path: path.clone(), source };
        let wrong = |what| PersonalError::Format { path: path.clone(), what };
        let read_version = version(&path).map_err(failed)?;
        let text = read_store(&path).map_err(failed)?;
        self.by_id.clear();
        self.current.clear();
        self.erased.clear();
        self.unrecorded.clear();
        let mut erasures = Vec::new();
        let mut recorded = HashSet::new();
        // A last line without its end was being written when the machine failed: its key sealed nothing.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match serde_json::from_str(line).map_err(|_| wrong("not a store of tenants' keys"))? {
                Entry::Key { tenant, id, wrapped } => {
                    let key = self
                        .unwrap(&tenant, &id, &wrapped)
                        .ok_or_else(|| wrong("a key was wrapped by another master key"))?;
                    let id: Arc<str> = id.into();
                    self.by_id.insert(Arc::clone(&id), key);
                    self.current.insert(tenant, id);
                }
                Entry::Erased { tenant, ids } => {
                    self.erased.extend(ids.iter().cloned());
                    erasures.push((tenant, ids));
                }
                Entry::Recorded { ids } => recorded.extend(ids),
            }
        }
        erasures.retain(|(_, ids)| !ids.iter().all(|id| recorded.contains(id)));
        self.unrecorded = erasures;
        self.version = read_version;
        Ok(())
    }

    /// Erasures that the trail has no record of.
    pub(super) fn unrecorded(&mut self) -> Vec<(String, Vec<String>)> {
        std::mem::take(&mut self.unrecorded)
    }

    /// Notes that the trail has a record of an erasure.
    pub(super) fn recorded(&mut self, ids: Vec<String>) -> Result<(), PersonalError> {
        self.append(&Entry::Recorded { ids })
    }

    /// Takes the personal fields out of an event and puts them back sealed. An event without a tenant,
    /// or without such fields, stays as it is.
    pub(super) fn seal(&mut self, event: &mut Event) -> Result<(), PersonalError> {
        let Some(tenant) = event.tenant.clone() else { return Ok(()) };
        let mut fields = BTreeMap::new();
        if let Some(address) = &event.client_address {
            let text = match address {
                ClientAddress::Tcp(address) => address.to_string(),
                ClientAddress::Unix => "unix".to_owned(),
            };
            fields.insert("client_address", text);
        }
        for (name, text) in [
            ("client_user", &event.client_user),
            ("subject", &event.subject),
            ("token_id", &event.token_id),
        ] {
            if let Some(text) = text {
                fields.insert(name, text.to_string());
            }
        }
        if fields.is_empty() {
            return Ok(());
        }
        let key_id = self.key_of(&tenant)?;
        let key = self.by_id.get(&key_id).ok_or(PersonalError::Crypto)?;
        let uid = event.id.to_string();
        let mut text = serde_json::to_vec(&fields).map_err(|_| PersonalError::Crypto)?;
        record_key(key, &uid)?
            .seal_in_place_append_tag(zero_nonce(), bound(&tenant, &uid, &key_id), &mut text)
            .map_err(|_| PersonalError::Crypto)?;
        event.personal = Some(Sealed { key_id, text: STANDARD.encode(text) });
        event.client_address = None;
        event.client_user = None;
        event.subject = None;
        event.token_id = None;
        Ok(())
    }

    /// Puts the personal fields of a record back where they would stand in clear; [`ERASED`] where the
    /// key was destroyed, [`SEALED`] where it is not known. Answers whether the record had any.
    pub fn reveal(&self, record: &mut Value) -> bool {
        reveal(Some(self), record)
    }

    fn opened(
        &self,
        tenant: &str,
        uid: &str,
        key_id: &str,
        text: &str,
    ) -> Option<Map<String, Value>> {
        let key = self.by_id.get(key_id)?;
        let mut sealed = STANDARD.decode(text).ok()?;
        let plain = record_key(key, uid)
            .ok()?
            .open_in_place(zero_nonce(), bound(tenant, uid, key_id), &mut sealed)
            .ok()?;
        serde_json::from_slice(plain).ok()
    }

    /// The id of the tenant's key; makes one, on disk before it is used.
    fn key_of(&mut self, tenant: &str) -> Result<Arc<str>, PersonalError> {
        if let Some(id) = self.current.get(tenant) {
            return Ok(Arc::clone(id));
        }
        let mut key = [0; KEY];
        getrandom::fill(&mut key).map_err(|_| PersonalError::Crypto)?;
        let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let wrapped = self.wrap(tenant, &id, &key)?;
        self.append(&Entry::Key { tenant: tenant.to_owned(), id: id.to_string(), wrapped })?;
        self.by_id.insert(Arc::clone(&id), key);
        self.current.insert(tenant.to_owned(), Arc::clone(&id));
        Ok(id)
    }

    fn wrap(&self, tenant: &str, id: &str, key: &[u8; KEY]) -> Result<String, PersonalError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| PersonalError::Crypto)?;
        let mut text = key.to_vec();
        self.master
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                bound(tenant, "wrap", id),
                &mut text,
            )
            .map_err(|_| PersonalError::Crypto)?;
        Ok(STANDARD.encode([nonce.as_slice(), &text].concat()))
    }

    fn unwrap(&self, tenant: &str, id: &str, wrapped: &str) -> Option<[u8; KEY]> {
        let bytes = STANDARD.decode(wrapped).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let key = self.master.open_in_place(nonce, bound(tenant, "wrap", id), &mut text).ok()?;
        (&*key).try_into().ok()
    }

    /// Appends to the store; on disk when this returns.
    fn append(&mut self, entry: &Entry) -> Result<(), PersonalError> {
        let path = &self.places.store;
        let failed = |source| PersonalError::File { path: path.clone(), source };
        let _lock = lock(path).map_err(failed)?;
        // `audit erase` may have put another file in its place; what it destroyed must stay so.
        let before = version(path).map_err(failed)?;
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_all()?;
            sync_parent(path)
        };
        append().map_err(failed)?;
        if before == self.version {
            self.version = version(path).map_err(failed)?;
        }
        Ok(())
    }
}

/// [`PersonalKeys::reveal`] without keys: everything is [`SEALED`].
pub fn reveal(keys: Option<&PersonalKeys>, record: &mut Value) -> bool {
    let text = |record: &Value, pointer: &str| {
        record.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    };
    let Some(sealed) = text(record, "/unmapped/hedgerow/personal/sealed") else { return false };
    let key_id = text(record, "/unmapped/hedgerow/personal/key_id").unwrap_or_default();
    let tenant = text(record, "/unmapped/hedgerow/tenant").unwrap_or_default();
    let uid = text(record, "/metadata/uid").unwrap_or_default();
    let opened = keys.and_then(|keys| keys.opened(&tenant, &uid, &key_id, &sealed));
    let erased = keys.is_some_and(|keys| keys.erased.contains(&key_id));
    let Some(Value::Object(own)) = record.pointer_mut("/unmapped/hedgerow") else { return false };
    match opened {
        Some(fields) => {
            for name in FIELDS {
                if let Some(Value::String(text)) = fields.get(name) {
                    own.insert(name.to_owned(), Value::String(text.clone()));
                }
            }
        }
        None => {
            let stands_for = if erased { ERASED } else { SEALED };
            for name in FIELDS {
                own.insert(name.to_owned(), Value::String(stands_for.to_owned()));
            }
        }
    }
    true
}

/// Destroys a tenant's keys. Answers how many; none: there were none.
///
/// The bytes of the wrapped keys are overwritten where they lie, then the store is replaced by one
/// without them. Backups of the store are not in its reach.
///
/// # Errors
/// When the store cannot be read or replaced.
pub fn erase(store: &Path, tenant: &str) -> Result<usize, PersonalError> {
    let failed = |source| PersonalError::File { path: store.to_owned(), source };
    let _lock = lock(store).map_err(failed)?;
    let text = read_store(store).map_err(failed)?;
    let mut ids = Vec::new();
    let mut kept = String::new();
    let mut destroyed = Vec::new();
    let mut at = 0_u64;
    for line in text.split_inclusive('\n') {
        let begin = at;
        at += line.len() as u64;
        match serde_json::from_str(line.trim()) {
            Ok(Entry::Key { tenant: owner, id, .. }) if owner == tenant => {
                ids.push(id);
                destroyed.push((begin, line.trim_end().len()));
            }
            Ok(Entry::Key { .. } | Entry::Erased { .. } | Entry::Recorded { .. }) => {
                kept.push_str(line);
            }
            Err(_) => {}
        }
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let count = ids.len();
    let replace = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(store)?;
        for (begin, length) in destroyed {
            file.seek(SeekFrom::Start(begin))?;
            file.write_all(&vec![b' '; length])?;
        }
        file.sync_all()?;
        let entry = serde_json::to_string(&Entry::Erased { tenant: tenant.to_owned(), ids })?;
        let temporary = store.with_extension("jsonl.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(format!("{kept}{entry}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, store)?;
        sync_parent(store)
    };
    replace().map_err(failed)?;
    Ok(count)
}

/// Held while the store is changed, by whichever process.
fn lock(store: &Path) -> io::Result<File> {
    let path = store.with_extension("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}

fn version(path: &Path) -> io::Result<Option<Version>> {
    match fs::metadata(path) {
        Ok(data) => Ok(Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_store(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    let mut text = String::new();
    let read = file.take(MAX_STORE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_STORE {
        return Err(io::Error::other("the store of tenants' keys is too large"));
    }
    Ok(text)
}

fn read_master(path: &Path) -> Result<[u8; KEY], PersonalError> {
    let text = fs::read_to_string(path)
        .map_err(|source| PersonalError::File { path: path.to_owned(), source })?;
    let bytes = STANDARD.decode(text.trim()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| PersonalError::Format {
        path: path.to_owned(),
        what: "not 32 bytes as base64 (`openssl rand -base64 32`)",
    })
}

fn make_master(path: &Path) -> Result<[u8; KEY], PersonalError> {
    let failed = |source| PersonalError::File { path: path.to_owned(), source };
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|_| PersonalError::Crypto)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(format!("{}\n", STANDARD.encode(key)).as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    sync_parent(path).map_err(failed)?;
    tracing::warn!(
        path = %path.display(),
        "made a new key for personal fields: without it nobody can read them"
    );
    Ok(key)
}

fn aead(key: &[u8]) -> Result<LessSafeKey, PersonalError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| PersonalError::Crypto)
}

/// The key of one record: it seals one text, so that its nonce may be zero.
fn record_key(tenant_key: &[u8; KEY], uid: &str) -> Result<LessSafeKey, PersonalError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, tenant_key);
    let label = format!("hedgerow audit personal v1\n{uid}");
    aead(hmac::sign(&key, label.as_bytes()).as_ref())
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// What a seal is bound to. The tenant comes last, for it alone may hold a line end.
fn bound(tenant: &str, uid: &str, key_id: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{uid}\n{key_id}\n{tenant}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::statement;

    fn places(root: &Path) -> Places {
        Places::beside(&root.join("audit"), None)
    }

    /// A record's tree as far as `reveal` looks.
    fn record(event: &Event) -> Value {
        let sealed = event.personal.as_ref().unwrap();
        serde_json::json!({
            "metadata": {"uid": event.id.to_string()},
            "unmapped": {"hedgerow": {
                "tenant": event.tenant.as_deref().unwrap(),
                "personal": {"key_id": &*sealed.key_id, "sealed": sealed.text},
            }},
        })
    }

    fn shown(keys: Option<&PersonalKeys>, record: &Value) -> Vec<String> {
        let mut record = record.clone();
        assert!(reveal(keys, &mut record));
        let own = &record["unmapped"]["hedgerow"];
        FIELDS.iter().map(|name| own[*name].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn sealed_fields_open_with_the_key_in_their_own_record_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let mut keys = PersonalKeys::open(places(root.path())).unwrap();
        let mut event = statement();
        keys.seal(&mut event).unwrap();
        assert!(event.subject.is_none() && event.client_address.is_none());
        let sealed = record(&event);
        let clear = ["127.0.0.1:55001", "app", "alice", "jti-1"];
        assert_eq!(shown(Some(&keys), &sealed), clear);
        let again = PersonalKeys::find(places(root.path())).unwrap().unwrap();
        assert_eq!(shown(Some(&again), &sealed), clear, "from the files");
        assert_eq!(shown(None, &sealed), [SEALED; 4]);
        let mut moved = sealed.clone();
        moved["metadata"]["uid"] = Value::from(statement().id.to_string());
        assert_eq!(shown(Some(&keys), &moved), [SEALED; 4]);
        let mut moved = sealed;
        moved["unmapped"]["hedgerow"]["tenant"] = Value::from("other");
        assert_eq!(shown(Some(&keys), &moved), [SEALED; 4]);
        let store = fs::read_to_string(&places(root.path()).store).unwrap();
        assert_eq!(store.lines().count(), 1, "one key for one tenant");
    }

    #[test]
    fn an_erased_tenant_stays_erased_and_its_neighbour_readable() {
        let root = tempfile::tempdir().unwrap();
        let mut keys = PersonalKeys::open(places(root.path())).unwrap();
        let (mut of_a, mut of_b) = (statement(), statement());
        of_b.tenant = Some("b".into());
        keys.seal(&mut of_a).unwrap();
        keys.seal(&mut of_b).unwrap();
        let wrapped = fs::read_to_string(&places(root.path()).store).unwrap();
        let store = places(root.path()).store;
        assert_eq!(erase(&store, "nobody").unwrap(), 0);
        assert_eq!(erase(&store, "8d1f").unwrap(), 1);
        keys.refresh().unwrap();
        assert_eq!(shown(Some(&keys), &record(&of_a)), [ERASED; 4]);
        assert_eq!(shown(Some(&keys), &record(&of_b))[2], "alice");
        assert_eq!(keys.unrecorded().len(), 1);
        let left = fs::read_to_string(&store).unwrap();
        assert!(!left.contains(wrapped.lines().next().unwrap()));
        // A later record of the tenant has a key of its own, and the old one does not come back.
        let mut later = statement();
        keys.seal(&mut later).unwrap();
        assert_eq!(shown(Some(&keys), &record(&later))[2], "alice");
        let again = PersonalKeys::open(places(root.path())).unwrap();
        assert_eq!(shown(Some(&again), &record(&of_a)), [ERASED; 4]);
        assert_eq!(shown(Some(&again), &record(&later))[2], "alice");
    }

    #[test]
    fn another_master_key_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let mut keys = PersonalKeys::open(places(root.path())).unwrap();
        keys.seal(&mut statement()).unwrap();
        fs::remove_file(&places(root.path()).master).unwrap();
        assert!(PersonalKeys::open(places(root.path())).is_err());
        let named = Places::beside(&root.path().join("audit"), Some(root.path().join("none")));
        assert!(PersonalKeys::open(named).is_err(), "a key that was named must be there");
    }
}
