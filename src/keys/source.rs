//! Where key sets come from: a JWKS by HTTPS, a JWKS file, a secret file. Layer 4.
//!
//! Refuses: plain HTTP but to this machine, redirects, user names in URLs, answers and files over
//! the size limit (never read beyond it), what is no regular file, answers slower than the
//! time-out. It only fetches; what stays in force after a failure is for `super::state`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use crate::identity::{KeySet, KeySetError, MAX_KEY_SET_BYTES};

/// Where the keys of one issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS at this URL: `https://`, or `http://` on this machine.
    JwksUrl(String),
    /// A JWKS file.
    JwksFile(PathBuf),
    /// A file whose bytes, one trailing newline left off, are an HMAC secret.
    HmacSecretFile(PathBuf),
}

impl KeySource {
    /// Whether the source holds a secret (HS256) and not public keys.
    pub const fn is_secret(&self) -> bool {
        match self {
            Self::HmacSecretFile(_) => true,
            Self::JwksUrl(_) | Self::JwksFile(_) => false,
        }
    }
}

impl fmt::Display for KeySource {
    /// The file, or the URL without its query, which may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JwksUrl(url) => f.write_str(url.split(['?', '#']).next().unwrap_or_default()),
            Self::JwksFile(path) | Self::HmacSecretFile(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a URL cannot be a source of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// No URL.
    #[error("is not an absolute URL; write https://host/path")]
    Malformed,
    /// Plain HTTP over a network, or another scheme.
    #[error("must begin with https://; http:// is accepted on a loopback address only")]
    Scheme,
    /// A credential in the URL.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// The HTTP client cannot be set up.
    #[error("cannot be fetched: the HTTP client cannot be set up on this system")]
    Client,
}

/// Checks a JWKS URL as [`super::Authenticator::start`] will.
///
/// # Errors
/// [`UrlError`], to be read behind the key's name.
pub fn check_url(text: &str) -> Result<(), UrlError> {
    parse_url(text).map(drop)
}

fn parse_url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    match url.scheme() {
        "https" if url.host_str().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(UrlError::Scheme),
    }
}

/// `localhost`, 127.0.0.0/8 or `::1`.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Why keys could not be loaded. Names no key and no secret.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// A directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Over [`MAX_KEY_SET_BYTES`].
    #[error("has more than {MAX_KEY_SET_BYTES} bytes")]
    TooLarge,
    /// The content is no key set or secret.
    #[error("is not usable: {0}")]
    Content(#[from] KeySetError),
    /// The server cannot be reached, or breaks off.
    #[error("cannot be fetched: {0}")]
    Http(String),
    /// The server sends elsewhere, which is not followed.
    #[error("answers with a redirect ({0}), which is not followed; configure the final URL")]
    Redirect(u16),
    /// The runtime is shutting down.
    #[error("was not read: the runtime is shutting down")]
    Interrupted,
    /// Another status than 200.
    #[error("answers with status {0}")]
    Status(u16),
}

/// A source that is ready to be asked.
pub(super) enum Door {
    Url { client: reqwest::Client, url: Url },
    File(PathBuf),
    Secret(PathBuf),
}

impl Door {
    /// Prepares a source; reads nothing yet.
    pub(super) fn new(source: &KeySource, timeout: Duration) -> Result<Self, UrlError> {
        Ok(match source {
            KeySource::JwksUrl(url) => {
                let url = parse_url(url)?;
                Self::Url { client: client(&url, timeout)?, url }
            }
            KeySource::JwksFile(path) => Self::File(path.clone()),
            KeySource::HmacSecretFile(path) => Self::Secret(path.clone()),
        })
    }

    /// The bytes as they are now, at most [`MAX_KEY_SET_BYTES`].
    pub(super) async fn read(&self) -> Result<Vec<u8>, LoadError> {
        match self {
            Self::Url { client, url } => fetch(client, url).await,
            Self::File(path) | Self::Secret(path) => read_file(path).await,
        }
    }

    /// What the bytes mean.
    pub(super) fn parse(&self, content: &[u8]) -> Result<KeySet, LoadError> {
        Ok(match self {
            Self::Url { .. } | Self::File(_) => KeySet::from_jwks(content)?,
            Self::Secret(_) => KeySet::from_secret_file(content)?,
        })
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    // Before opening: to open a pipe would wait for its other end.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(LoadError::NotAFile);
    }
    let mut content = Vec::new();
    let limit = MAX_KEY_SET_BYTES as u64 + 1;
    tokio::fs::File::open(path).await?.take(limit).read_to_end(&mut content).await?;
    if content.len() > MAX_KEY_SET_BYTES { Err(LoadError::TooLarge) } else { Ok(content) }
}

/// A client of its own for one URL: ring, the system's authorities (`SSL_CERT_FILE` is honoured),
/// no redirects, one time-out over the whole exchange.
fn client(url: &Url, timeout: Duration) -> Result<reqwest::Client, UrlError> {
    let builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls().map_err(|_| UrlError::Client)?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("hedgerow/", env!("CARGO_PKG_VERSION")));
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    builder.build().map_err(|_| UrlError::Client)
}

fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::warn!("no trusted authorities found on this system; JWKS over https will fail");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn fetch(client: &reqwest::Client, url: &Url) -> Result<Vec<u8>, LoadError> {
    // The query may hold a credential: errors go without the URL.
    let failed = |error: reqwest::Error| LoadError::Http(chain(&error.without_url()));
    let request = client.get(url.clone()).header("accept", "application/json");
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(LoadError::Redirect(status.as_u16()));
    }
    if status != reqwest::StatusCode::OK {
        return Err(LoadError::Status(status.as_u16()));
    }
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if content.len() + chunk.len() > MAX_KEY_SET_BYTES {
            return Err(LoadError::TooLarge);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// An error with its causes: reqwest's own text alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_http_urls_are_sources() {
        for url in [
            "https://auth.example.com/jwks.json",
            "https://auth.example.com:8443/jwks?tenant=1",
            "http://127.0.0.1:8080/jwks",
            "http://127.9.9.9/jwks",
            "http://[::1]:8080/jwks",
            "http://localhost/jwks",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in [
            "http://auth.example.com/jwks.json",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
        ] {
            assert_eq!(check_url(url), Err(UrlError::Scheme), "{url}");
        }
        for url in ["", "jwks.json", "//auth.example.com/", "https://"] {
            assert_eq!(check_url(url), Err(UrlError::Malformed), "{url}");
        }
        assert_eq!(check_url("https://me:pw@example.com/"), Err(UrlError::UserInfo));
        assert_eq!(check_url("https://me@example.com/"), Err(UrlError::UserInfo));
    }

    #[test]
    fn a_source_is_shown_without_its_query() {
        let source = KeySource::JwksUrl("https://a.example/jwks?key=hidden#part".into());
        assert_eq!(source.to_string(), "https://a.example/jwks");
    }
}
