//! Who may look: everybody on this machine (loopback), or whoever signs in with a token that the
//! same rules verify as a client's, and that holds a required claim. Layer 5.
//!
//! A session keeps the token in memory and verifies it anew at every request, so that expiry and
//! revocation end it. Its cookie is 256 random bits, `HttpOnly` and `SameSite=Strict`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use serde_json::Value;

use crate::claims::ClaimPath;
use crate::error::Denial;
use crate::identity::VerifiedIdentity;
use crate::keys::Authenticator;

/// Most sessions at a time; over it the oldest ends.
const MOST_SESSIONS: usize = 1_000;

/// A claim that the token of whoever looks must hold: `role=auditor`, `role=auditor,security`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    path: ClaimPath,
    values: Vec<String>,
}

impl RequiredClaim {
    /// Reads `path=value[,value…]`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no claim: write PATH=VALUE, for example role=auditor");
        let (path, values) = text.split_once('=').ok_or_else(wrong)?;
        let path = ClaimPath::parse(path.trim()).ok_or_else(wrong)?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { path, values })
    }

    /// Whether the claim is one of the values, or a list that holds one of them.
    fn holds(&self, identity: &VerifiedIdentity) -> bool {
        let is_wanted = |value: &Value| match value {
            Value::String(text) => self.values.contains(text),
            Value::Bool(flag) => self.values.contains(&flag.to_string()),
            Value::Number(number) => self.values.contains(&number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match identity.claims().at(&self.path) {
            Some(Value::Array(values)) => values.iter().any(is_wanted),
            Some(value) => is_wanted(value),
            None => false,
        }
    }
}

/// Who may look.
pub enum Access {
    /// Whoever reaches the loopback address.
    Loopback,
    /// Whoever signs in.
    SignIn(Box<SignIn>),
}

/// What signing in takes.
pub struct SignIn {
    authenticator: Authenticator,
    required: RequiredClaim,
    /// Whether the cookie is for TLS alone.
    secure: bool,
    sessions: Mutex<HashMap<String, Session>>,
}

/// One session.
struct Session {
    token: String,
    /// Grows with each session: the order in which they began.
    number: u64,
}

/// Why somebody may not look.
#[derive(Debug)]
pub(super) enum Refused {
    /// No token, or a session that is over.
    NoToken,
    /// The token is not good.
    Token(Denial),
    /// The token is good, but lacks the claim.
    Claim,
}

impl Refused {
    /// For the reader.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoToken => String::new(),
            Self::Token(denial) => format!("{}: {}.", denial.code, denial.code.reason()),
            Self::Claim => {
                "The token is valid, but does not hold the claim that this page asks for."
                    .to_owned()
            }
        }
    }
}

impl SignIn {
    /// Sign-in by these rules. `secure`: the page is reached by TLS.
    pub fn new(authenticator: Authenticator, required: RequiredClaim, secure: bool) -> Self {
        Self { authenticator, required, secure, sessions: Mutex::new(HashMap::new()) }
    }

    /// The name of the cookie.
    const fn cookie_name(&self) -> &'static str {
        if self.secure { "__Host-hedgerow-console" } else { "hedgerow-console" }
    }

    /// Who is asking, by the `Authorization` header or the session's cookie.
    pub(super) async fn who(&self, headers: &HeaderMap) -> Result<VerifiedIdentity, Refused> {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let token = match bearer {
            Some(token) => token.trim().to_owned(),
            None => self.session(headers).ok_or(Refused::NoToken)?,
        };
        self.verify(&token).await
    }

    async fn verify(&self, token: &str) -> Result<VerifiedIdentity, Refused> {
        let identity = self.authenticator.authenticate(token).await.map_err(Refused::Token)?;
        if !self.required.holds(&identity) {
            tracing::warn!(subject = identity.subject(), "console: the required claim is missing");
            return Err(Refused::Claim);
        }
        Ok(identity)
    }

    /// Begins a session and answers its cookie.
    pub(super) async fn begin(&self, token: &str) -> Result<String, Refused> {
        let identity = self.verify(token).await?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| Refused::NoToken)?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MOST_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.number);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                sessions.remove(&oldest);
            }
        }
        let number = sessions.values().map(|session| session.number).max().unwrap_or(0);
        let number = number.saturating_add(1);
        sessions.insert(id.clone(), Session { token: token.to_owned(), number });
        drop(sessions);
        tracing::info!(
            subject = identity.subject(),
            issuer = identity.issuer(),
            "console: signed in"
        );
        Ok(self.cookie(&id, ""))
    }

    /// Ends the session and answers a cookie that takes the browser's away.
    pub(super) fn end(&self, headers: &HeaderMap) -> String {
        for id in self.cookies(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        self.cookie("", "; Max-Age=0")
    }

    fn cookie(&self, id: &str, more: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={id}; Path=/; HttpOnly; SameSite=Strict{secure}{more}", self.cookie_name())
    }

    fn session(&self, headers: &HeaderMap) -> Option<String> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        self.cookies(headers).find_map(|id| sessions.get(id)).map(|session| session.token.clone())
    }

    fn cookies<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie_name())
            .map(|(_, id)| id)
    }
}

/// Whether a `Host` header may be answered. SECURITY: a page elsewhere can point a name of its own
/// at this address (DNS rebinding) and would then read everything as the browser's own origin. An
/// address as a name cannot be pointed anywhere; other names must be configured.
pub(super) fn host_is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
            Some(_) | None => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_localhost_or_configured() {
        let names = ["console.example.com".to_owned()];
        for host in [
            "127.0.0.1:9188",
            "localhost:9188",
            "LOCALHOST",
            "[::1]:9188",
            "[::1]",
            "10.0.0.7",
            "console.example.com",
            "Console.Example.com:443",
        ] {
            assert!(host_is_ours(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9188",
            "[::1",
            "[::1]evil.example",
            "console.example.com.evil.example",
            ":9188",
            "127.0.0.1@evil.example",
        ] {
            assert!(!host_is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn a_required_claim_is_a_path_and_values() {
        let claim = RequiredClaim::parse("org.role=auditor, security").unwrap();
        assert_eq!(claim.values, ["auditor", "security"]);
        for wrong in ["", "role", "role=", "=x", "role=a,,b", "a..b=c"] {
            assert!(RequiredClaim::parse(wrong).is_err(), "{wrong}");
        }
    }
}
