//! Ids that a tenant is given, bound to the tenant by a key. Layer 5.
//!
//! BigQuery knows one caller, Hedgerow; so a job id, page token or session id would be a capability
//! for whoever learns it. A job that the client names `X` is upstream `hr_<tag>_X`, where the tag is a
//! MAC of the tenant: a foreign tenant that asks for `X` asks for another job. An id that the service
//! made is shown as `hrs_<MAC of tenant and id>_<id>`; page tokens, which may name the last job or row of
//! the service's own list, are encrypted. Nothing is stored, so every replica with the same
//! key, and every restart, knows whose a job is.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{aead, hmac};

use crate::claims::TenantClaim;

/// Begins an upstream id of a job that a client named.
const NAMED: &str = "hr_";
/// Begins what a client sees of an id that the service made.
const SEALED: &str = "hrs_";
/// Characters of a MAC: 128 bits.
const MAC_CHARACTERS: usize = 32;
/// Longest id that is looked at, in bytes.
const MAX_ID_BYTES: usize = 1_000;
/// Longest page token or session id, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;
const KEY_BYTES: usize = 32;

/// The key file cannot be used. For the operator.
#[derive(Debug, thiserror::Error)]
#[error("bigquery: the ownership key {}: {source}", path.display())]
pub struct KeyringError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The key.
pub(super) struct Keyring(hmac::Key);

/// What a MAC is for: two uses never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A job.
    Job,
    /// A page of a list or result; the context says of which.
    Page,
    /// A session.
    Session,
    /// An anonymous table.
    Table,
    /// A request id that the client chose.
    Request,
    /// An upload.
    Upload,
}

impl Use {
    const fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Page => "page",
            Self::Session => "session",
            Self::Table => "table",
            Self::Request => "request",
            Self::Upload => "upload",
        }
    }
}

impl Keyring {
    /// A key that follows from a secret of the operator's.
    pub(super) fn from_secret(secret: &[u8]) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&outer, b"hedgerow: ownership of BigQuery jobs, 1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The key in a file, which is made if it is not there.
    pub(super) fn from_file(path: &Path) -> Result<Self, KeyringError> {
        let fault = |source| KeyringError { path: path.to_owned(), source };
        match fs::File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(1024).read_to_string(&mut text).map_err(fault)?;
                let key = STANDARD.decode(text.trim()).unwrap_or_default();
                if key.len() < KEY_BYTES {
                    return Err(fault(io::Error::other("is not 32 bytes in base64")));
                }
                Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(path).map_err(fault)
            }
            Err(error) => Err(fault(error)),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)
            .map_err(|_| io::Error::other("the system gives no randomness"))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(STANDARD.encode(key).as_bytes())?;
        file.sync_all()?;
        tracing::warn!(
            path = %path.display(),
            "made a new key for the ownership of BigQuery jobs: replicas that serve the same tenants \
             need the same file"
        );
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// Everything of one tenant in one project.
    pub(super) fn of<'a>(&'a self, tenant: &'a TenantClaim, project: &'a str) -> Owner<'a> {
        Owner { keyring: self, tenant, project }
    }

    fn tag(&self, parts: &[&str]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            // INVARIANT: lengths first, so that no two lists of parts run into the same bytes.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign()
    }
}

impl Keyring {
    /// The key for what must not be read, which follows from the other.
    fn cipher(&self) -> Option<aead::LessSafeKey> {
        let key = hmac::sign(&self.0, b"hedgerow: page tokens, 1");
        aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref()).ok().map(aead::LessSafeKey::new)
    }

    /// Compares in a time that does not depend on where two texts differ: by their MACs.
    fn equal(&self, left: &str, right: &str) -> bool {
        let right = hmac::sign(&self.0, right.as_bytes());
        hmac::verify(&self.0, left.as_bytes(), right.as_ref()).is_ok()
    }
}

/// A tenant, as far as ids are bound to it.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    keyring: &'a Keyring,
    tenant: &'a TenantClaim,
    project: &'a str,
}

impl Owner<'_> {
    fn mac_bytes(self, used: Use, context: &str, text: &str) -> hmac::Tag {
        let (kind, tenant) = match self.tenant {
            TenantClaim::Text(text) => ("text", text.clone()),
            TenantClaim::Integer(number) => ("integer", number.to_string()),
        };
        self.keyring.tag(&[used.word(), kind, &tenant, self.project, context, text])
    }

    fn mac(self, used: Use, context: &str, text: &str) -> String {
        let tag = self.mac_bytes(used, context, text);
        tag.as_ref().iter().take(MAC_CHARACTERS / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The tenant's tag: the same for all that is the tenant's in this project, and no one else's.
    pub(super) fn tag(self) -> String {
        self.mac(Use::Job, "tag", "")
    }

    /// The upstream id of the job that the client calls so. `None`: no such job can be.
    pub(super) fn upstream_job(self, shown: &str) -> Option<String> {
        if shown.starts_with(SEALED) {
            return self.open(Use::Job, "", shown);
        }
        let plain = is_job_id(shown) && shown.len() <= MAX_ID_BYTES && !shown.starts_with(NAMED);
        plain.then(|| format!("{NAMED}{}_{shown}", self.tag()))
    }

    /// What the client sees of a job of its own.
    pub(super) fn shown_job(self, upstream: &str) -> String {
        match self.named(upstream) {
            Some(shown) => shown.to_owned(),
            None => self.seal(Use::Job, "", upstream),
        }
    }

    /// The client's name for a job that is this tenant's by its upstream id alone.
    pub(super) fn named(self, upstream: &str) -> Option<&str> {
        let (tag, shown) = upstream.strip_prefix(NAMED)?.split_at_checked(MAC_CHARACTERS)?;
        self.keyring.equal(tag, &self.tag()).then_some(())?;
        shown.strip_prefix('_')
    }

    /// Binds an id that the service made. Of a page's token nothing can be read.
    pub(super) fn seal(self, used: Use, context: &str, id: &str) -> String {
        match used {
            Use::Page => self.hide(context, id).unwrap_or_default(),
            Use::Job | Use::Session | Use::Table | Use::Request | Use::Upload => {
                format!("{SEALED}{}_{id}", self.mac(used, context, id))
            }
        }
    }

    /// AES-256-GCM over the token, tenant, project and context authenticated with it. The nonce is a MAC
    /// of all of these, so that it comes twice for one and the same message only.
    fn hide(self, context: &str, token: &str) -> Option<String> {
        let whole = self.mac_bytes(Use::Page, context, token);
        let nonce = whole.as_ref().first_chunk::<{ aead::NONCE_LEN }>()?;
        let mut text = token.as_bytes().to_vec();
        let whose = self.mac(Use::Page, context, "");
        let (key, aad) = (self.keyring.cipher()?, aead::Aad::from(whose.as_bytes()));
        let nonce_used = aead::Nonce::assume_unique_for_key(*nonce);
        key.seal_in_place_append_tag(nonce_used, aad, &mut text).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &text].concat()))
    }

    fn reveal(self, context: &str, hidden: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(hidden).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let whose = self.mac(Use::Page, context, "");
        let (key, aad) = (self.keyring.cipher()?, aead::Aad::from(whose.as_bytes()));
        let token = key.open_in_place(nonce, aad, text).ok()?;
        String::from_utf8(token.to_vec()).ok()
    }

    /// The id that was sealed for this tenant, use and context; `None` for any other.
    pub(super) fn open(self, used: Use, context: &str, sealed: &str) -> Option<String> {
        if sealed.len() > MAX_TOKEN_BYTES {
            return None;
        }
        if used == Use::Page {
            return self.reveal(context, sealed);
        }
        let (mac, id) = sealed.strip_prefix(SEALED)?.split_at_checked(MAC_CHARACTERS)?;
        let id = id.strip_prefix('_')?;
        let expected = self.mac(used, context, id);
        self.keyring.equal(mac, &expected).then_some(())?;
        Some(id.to_owned())
    }

    /// A name that the client chose and the service compares: another tenant's equal one differs.
    pub(super) fn veiled(self, used: Use, name: &str) -> String {
        self.mac(used, "veiled", name)
    }
}

/// Whether a text has the form of a job id.
pub(super) fn is_job_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantClaim {
        TenantClaim::Text(name.to_owned())
    }

    #[test]
    fn a_job_is_found_by_its_tenant_alone() {
        let ring = Keyring::from_secret(b"secret");
        let (a, b) = (tenant("a"), tenant("b"));
        let (a, b) = (ring.of(&a, "p"), ring.of(&b, "p"));
        let upstream = a.upstream_job("mine").unwrap();
        assert!(upstream.starts_with("hr_") && upstream.ends_with("_mine"));
        assert_eq!(a.shown_job(&upstream), "mine");
        assert_ne!(b.upstream_job("mine").unwrap(), upstream);
        assert_eq!(b.named(&upstream), None);
        // The whole upstream id is no way in either.
        assert_eq!(a.upstream_job(&upstream), None);
        assert_eq!(b.upstream_job(&upstream), None);
        let sealed = a.shown_job("job_made_upstream");
        assert_eq!(a.upstream_job(&sealed).as_deref(), Some("job_made_upstream"));
        assert_eq!(b.upstream_job(&sealed), None);
        assert_eq!(ring.of(&tenant("a"), "other").upstream_job(&sealed), None);
        assert_eq!(a.upstream_job("job_made_upstream"), a.upstream_job("job_made_upstream"));
        for id in ["", "a.b", "a/b", "hr_x", "hrs_", "hrs_00_x", "é", "x".repeat(1_001).as_str()] {
            assert_eq!(a.upstream_job(id), None, "{id}");
        }
    }

    #[test]
    fn a_number_and_its_text_are_two_tenants() {
        let ring = Keyring::from_secret(b"secret");
        let number = TenantClaim::Integer(7);
        assert_ne!(ring.of(&number, "p").tag(), ring.of(&tenant("7"), "p").tag());
    }

    #[test]
    fn a_seal_holds_for_its_use_and_context_alone() {
        let ring = Keyring::from_secret(b"secret");
        let (a, b) = (tenant("a"), tenant("b"));
        let (a, b) = (ring.of(&a, "p"), ring.of(&b, "p"));
        let other = Keyring::from_secret(b"another");
        for (used, wrong) in [(Use::Page, Use::Session), (Use::Session, Use::Page)] {
            let sealed = a.seal(used, "job 1", "token");
            assert_eq!(a.open(used, "job 1", &sealed).as_deref(), Some("token"));
            assert_eq!(a.open(used, "job 2", &sealed), None);
            assert_eq!(a.open(wrong, "job 1", &sealed), None);
            assert_eq!(b.open(used, "job 1", &sealed), None);
            assert_eq!(other.of(&tenant("a"), "p").open(used, "job 1", &sealed), None);
            for at in 0..sealed.len() {
                let mut changed = sealed.clone().into_bytes();
                changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
                let changed = String::from_utf8(changed).unwrap();
                assert_ne!(a.open(used, "job 1", &changed).as_deref(), Some("token"), "{at}");
            }
            for odd in ["", "x", "hrs_", "AAAAAAAAAAAAAAAA", "\u{e9}"] {
                assert_eq!(a.open(used, "job 1", odd), None, "{odd}");
            }
        }
        assert!(!a.seal(Use::Page, "jobs", "job_of_b").contains("job_of_b"));
    }

    #[test]
    fn the_key_file_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/key");
        let first = Keyring::from_file(&path).unwrap();
        let again = Keyring::from_file(&path).unwrap();
        let a = tenant("a");
        assert_eq!(first.of(&a, "p").tag(), again.of(&a, "p").tag());
        std::fs::write(&path, "short").unwrap();
        assert!(Keyring::from_file(&path).is_err());
    }
}
