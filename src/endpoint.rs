//! Where the upstream PostgreSQL is and how to sign in to it: plain settings. Layer 0.

use std::fmt;
use std::path::PathBuf;

/// Text that must not be printed: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How far TLS towards the upstream goes (libpq's `sslmode` without its silent fall-backs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS, certificate not verified.
    Require,
    /// TLS, certificate of a trusted authority.
    VerifyCa,
    /// TLS, certificate of a trusted authority for this host name.
    VerifyFull,
}

/// Whether a password's proof is bound to the certificate that the server showed: to whoever stands in
/// between with another one it is worth nothing then (SCRAM-SHA-256-PLUS; libpq's words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where the server offers it. One that offers it, and whose offer was taken out on the way, refuses.
    Prefer,
    /// Always: a server that signs in otherwise is refused.
    Require,
}

/// The upstream server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, address, or directory of a Unix socket (starts with `/`).
    pub host: String,
    /// TCP port; for a Unix socket the suffix of `.s.PGSQL.`.
    pub port: u16,
    /// The database; `None`: the client's.
    pub database: Option<String>,
    /// The role.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<Secret>,
    /// TLS.
    pub tls: TlsMode,
    /// Channel binding, over TLS.
    pub channel_binding: Binding,
    /// Trusted authorities in PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key in PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}
