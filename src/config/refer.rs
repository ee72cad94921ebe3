//! Files that the configuration refers to: found from its directory, and readable. Layer 6.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::file::ServerTlsFile;
use super::{ServerTls, read_text};
use crate::yaml::read::{At, Present};
use crate::yaml::{Fault, quoted};

/// Longest secret, key or certificate file, in bytes.
const MAX_REFERENCE_BYTES: u64 = 1 << 20;

/// Collects what is wrong, and knows where relative paths begin.
pub struct Checker<'a> {
    /// Directory of the configuration file.
    pub directory: &'a Path,
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What deserves a word.
    pub warnings: Vec<Fault>,
}

impl Checker<'_> {
    /// Records a fault.
    pub fn fault(&mut self, at: &crate::yaml::SourcePosition, message: impl Into<String>) {
        self.faults.push(Fault::new(at, message));
    }

    /// Records a warning.
    pub fn warn(&mut self, at: &crate::yaml::SourcePosition, message: impl Into<String>) {
        self.warnings.push(Fault::new(at, message));
    }

    /// The path as the process must open it.
    pub fn resolve(&self, text: &str) -> PathBuf {
        self.directory.join(text)
    }

    /// A file that must be there, readable and of sane size; its content.
    pub fn read(&mut self, file: &At<String>) -> Option<(PathBuf, Vec<u8>)> {
        use std::io::Read as _;
        let path = self.resolve(&file.value);
        let read = || -> Result<Vec<u8>, String> {
            let opened = std::fs::File::open(&path).map_err(|error| error.to_string())?;
            if opened.metadata().map_err(|error| error.to_string())?.is_dir() {
                return Err("it is a directory".to_owned());
            }
            let mut bytes = Vec::new();
            let mut bounded = opened.take(MAX_REFERENCE_BYTES + 1);
            bounded.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            if bytes.len() as u64 > MAX_REFERENCE_BYTES {
                return Err(format!("it is longer than {MAX_REFERENCE_BYTES} bytes"));
            }
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                self.fault(&file.at, format!("{} cannot be read: {error}", quoted(&file.value)));
                None
            }
        }
    }

    /// A PEM file with at least one certificate.
    pub fn certificates(&mut self, file: &At<String>) -> Option<PathBuf> {
        let (path, bytes) = self.read(file)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match certificates {
            Ok(list) if !list.is_empty() => Some(path),
            Ok(_) | Err(_) => {
                self.fault(&file.at, format!("{} holds no PEM certificate", quoted(&file.value)));
                None
            }
        }
    }

    /// A PEM file with a private key.
    pub fn private_key(&mut self, file: &At<String>) -> Option<PathBuf> {
        let (path, bytes) = self.read(file)?;
        if PrivateKeyDer::from_pem_slice(&bytes).is_err() {
            self.fault(&file.at, format!("{} holds no PEM private key", quoted(&file.value)));
            return None;
        }
        Some(path)
    }

    /// Certificate and key of a listener.
    pub fn server_tls(&mut self, tls: ServerTlsFile) -> Option<ServerTls> {
        let cert_file = self.certificates(&tls.cert_file);
        let key_file = self.private_key(&tls.key_file);
        Some(ServerTls { cert_file: cert_file?, key_file: key_file? })
    }

    /// A secret of text: the file's content, one trailing newline left off.
    pub fn secret_text(&mut self, file: &At<String>) -> Option<String> {
        let path = self.resolve(&file.value);
        match read_text(&path) {
            Ok(text) => Some(without_newline(text)),
            Err(message) => {
                self.fault(&file.at, format!("{}: {message}", quoted(&file.value)));
                None
            }
        }
    }

    /// Of several keys exactly one must be there (`None`: or none, if `optional`). Says which.
    pub fn exactly_one<T>(
        &mut self,
        section: &crate::yaml::SourcePosition,
        optional: bool,
        keys: Vec<(&str, Option<Present<At<T>>>)>,
    ) -> Option<(String, Option<At<T>>)> {
        let names: Vec<String> = keys.iter().map(|(name, _)| format!("`{name}`")).collect();
        let mut given: Vec<_> =
            keys.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if given.len() > 1 {
            let at = given.iter().rev().find_map(|(_, value)| value.0.as_ref().map(|v| &v.at));
            let at = at.unwrap_or(section).clone();
            self.fault(&at, format!("only one of {} may be given", names.join(", ")));
            return None;
        }
        match given.pop() {
            Some((name, value)) => Some((name.to_owned(), value.0)),
            None => {
                if !optional {
                    self.fault(section, format!("one of {} must be given", names.join(", ")));
                }
                None
            }
        }
    }
}

/// The text without one trailing newline.
pub fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
