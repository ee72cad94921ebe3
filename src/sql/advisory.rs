//! Advisory locks, each tenant's its own: a lock's number is hashed with the tenant, so that two tenants
//! never wait for each other and the sessions of one do. Layer 2; pure.
//!
//! SHA-256 keeps a tenant from finding the number under which another's lock lies: that would let it hold
//! that lock, or watch it. There is no key in it: all sidecars of a database, of every version and through
//! every change of a password, must come to the same number, or locks would no longer keep a tenant's own
//! sessions apart. So who knows a tenant's name and its number can look for a number of its own that falls
//! together with it: some 2^64 hashes, for a lock that it then holds or sees held, and no row. The one number (`int8`) and the pair (`int4`, `int4`), which PostgreSQL keeps
//! apart, become one number of different texts.

use sha2::{Digest as _, Sha256};

use crate::claims::TenantClaim;

/// What these functions are called; with `try_`, `xact_` and `_shared` as PostgreSQL has them.
pub const FUNCTIONS: &[&str] = &[
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
];

/// Those whose lock outlives the transaction.
pub const OF_SESSION: &[&str] = &[
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
];

/// Gives up all locks of the session. It names none.
pub const UNLOCK_ALL: &str = "pg_advisory_unlock_all";

/// What the texts of a tenant's locks begin with. Callers without a tenant (`ddl`, break-glass) share one
/// space: migrations keep each other out by a lock.
pub fn prefix(tenant: Option<&TenantClaim>) -> String {
    // SECURITY: text and number are told apart, as for channels.
    let (kind, tenant) = match tenant {
        Some(TenantClaim::Text(text)) => ("text", text.clone()),
        Some(TenantClaim::Integer(number)) => ("integer", number.to_string()),
        None => ("none", String::new()),
    };
    let digest = Sha256::digest(format!("hedgerow lock\0{kind}\0{tenant}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tenants_share_a_space() {
        let tenants = [
            None,
            Some(TenantClaim::Text(String::from("7"))),
            Some(TenantClaim::Integer(7)),
            Some(TenantClaim::Text(String::from("none"))),
        ];
        let mut prefixes: Vec<String> =
            tenants.iter().map(|tenant| prefix(tenant.as_ref())).collect();
        assert!(prefixes.iter().all(|prefix| prefix.len() == 32));
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(prefixes.len(), tenants.len());
    }
}
