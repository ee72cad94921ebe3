//! Channels of LISTEN and NOTIFY, each tenant's its own: what a client calls `news` has another name at
//! the server, which holds the tenant. Layer 2; pure.
//!
//! A name upstream is `hr`, the tenant (128 bits of SHA-256 in hexadecimal), and either `n` and the
//! client's name or, where that would be over PostgreSQL's 63 bytes, `h` and a hash of it.

use sha2::{Digest as _, Sha256};

use crate::claims::TenantClaim;

/// Longest name that fits as it is, in bytes: 63 less the prefix of 35.
pub const MAX_PLAIN: usize = 28;
/// Longest channel name of PostgreSQL, in bytes.
pub const MAX_NAME: usize = 63;

/// One tenant's channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    prefix: String,
}

/// A channel's name upstream, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'n> {
    /// The client's name.
    Plain(&'n str),
    /// A name that is too long to be held: whoever listens knows it.
    Hashed,
}

impl Channels {
    /// The channels of a tenant. SECURITY: text and number are told apart, and spellings are not
    /// brought together: two claims share channels only if they are one.
    pub fn of(tenant: &TenantClaim) -> Self {
        let kind = match tenant {
            TenantClaim::Text(_) => "text",
            TenantClaim::Integer(_) => "integer",
        };
        let digest = Sha256::digest(format!("hedgerow channel\0{kind}\0{tenant}"));
        Self { prefix: format!("hr{}", hexadecimal(&digest, 16)) }
    }

    /// What every name of this tenant's begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name upstream.
    pub fn upstream(&self, name: &str) -> String {
        if name.len() <= MAX_PLAIN {
            format!("{}n{name}", self.prefix)
        } else {
            format!("{}h{}", self.prefix, hexadecimal(&Sha256::digest(name), MAX_PLAIN / 2))
        }
    }

    /// What a name upstream stands for; `None` when it is not this tenant's.
    pub fn read<'n>(&self, upstream: &'n str) -> Option<Heard<'n>> {
        let rest = upstream.strip_prefix(self.prefix.as_str())?;
        match rest.split_at_checked(1)? {
            ("n", name) => Some(Heard::Plain(name)),
            ("h", _) => Some(Heard::Hashed),
            _ => None,
        }
    }
}

fn hexadecimal(digest: &[u8], bytes: usize) -> String {
    digest.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_read_back_by_their_own_tenant_only() {
        let (a, b) = (TenantClaim::Text("7".to_owned()), TenantClaim::Integer(7));
        let (a, b) = (Channels::of(&a), Channels::of(&b));
        for name in ["x", "Ünïcode", "a b\"c", &"l".repeat(28), &"l".repeat(29), &"l".repeat(63)]
        {
            let upstream = a.upstream(name);
            assert!(upstream.len() <= MAX_NAME, "{upstream}");
            let expected = if name.len() <= MAX_PLAIN { Heard::Plain(name) } else { Heard::Hashed };
            assert_eq!(a.read(&upstream), Some(expected));
            assert_eq!(b.read(&upstream), None);
            assert_ne!(upstream, b.upstream(name));
        }
        assert_eq!(a.read("news"), None);
        assert_eq!(a.read(a.prefix()), None);
    }
}
