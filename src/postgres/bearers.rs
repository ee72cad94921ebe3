//! What a token says, held once for all sessions of it. Layer 5.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::egress::TenantValue;
use crate::decide::Viewpoint;
use crate::identity::VerifiedIdentity;
use crate::sql;

/// What follows from a verified token alone, on one database: sessions of one token share it.
pub(super) struct Bearer {
    /// `None` in tests alone.
    pub(super) identity: Option<VerifiedIdentity>,
    pub(super) viewpoint: Viewpoint,
    pub(super) tenant: Arc<TenantValue>,
}

/// The bearers for whom sessions are open on one database, so that each is held once.
#[derive(Default)]
pub(super) struct Bearers(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// By the hash of what tells tokens apart.
    by_hash: HashMap<u64, Weak<Bearer>>,
    hasher: RandomState,
    /// How many are noted before those that are gone are forgotten.
    room: usize,
}

impl Bearers {
    /// Fewest that are noted before those that are gone are looked for.
    const LEAST_ROOM: usize = 64;

    /// The bearer of this token.
    pub(super) fn of(
        &self,
        identity: VerifiedIdentity,
        database: &str,
        limits: sql::Limits,
    ) -> Arc<Bearer> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = open.hasher.hash_one((
            identity.issuer(),
            identity.subject(),
            identity.token_id(),
            (identity.issued_at(), identity.expires_at()),
        ));
        if let Some(known) = open.by_hash.get(&hash).and_then(Weak::upgrade)
            && known.identity.as_ref() == Some(&identity)
            && known.viewpoint.limits() == limits
        {
            return known;
        }
        let bearer = Arc::new(Bearer {
            viewpoint: Viewpoint::new(identity.principal(), database, limits),
            tenant: Arc::new(TenantValue::new(identity.tenant())),
            identity: Some(identity),
        });
        if open.by_hash.len() >= open.room {
            open.by_hash.retain(|_, bearer| bearer.strong_count() > 0);
            open.room = (2 * open.by_hash.len()).max(Self::LEAST_ROOM);
        }
        open.by_hash.insert(hash, Arc::downgrade(&bearer));
        bearer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::{check_claims, claims};

    fn token(id: usize) -> VerifiedIdentity {
        let mut claims = claims();
        claims.insert("jti".to_owned(), id.to_string().into());
        check_claims(&claims).unwrap()
    }

    #[test]
    fn sessions_of_one_token_share_what_it_says_and_others_do_not() {
        let bearers = Bearers::default();
        let limits = sql::Limits::default();
        let first = bearers.of(token(1), "d", limits);
        assert!(Arc::ptr_eq(&first, &bearers.of(token(1), "d", limits)));
        assert!(!Arc::ptr_eq(&first, &bearers.of(token(2), "d", limits)));
        let longer = sql::Limits { max_statement: limits.max_statement + 1 };
        let other = bearers.of(token(1), "d", longer);
        assert_eq!(other.viewpoint.limits(), longer);
        // The same id, but another tenant: what tells tokens apart may be all the same.
        let mut claims = claims();
        claims.insert("jti".to_owned(), "1".into());
        claims.insert("tenant_id".to_owned(), "globex".into());
        let forged = bearers.of(check_claims(&claims).unwrap(), "d", limits);
        assert_eq!(forged.viewpoint.tenant().map(ToString::to_string).as_deref(), Some("globex"));
    }

    #[test]
    fn tokens_whose_sessions_are_gone_are_forgotten() {
        let bearers = Bearers::default();
        let kept = bearers.of(token(0), "d", sql::Limits::default());
        for id in 1..1000 {
            drop(bearers.of(token(id), "d", sql::Limits::default()));
        }
        let noted = bearers.0.lock().unwrap().by_hash.len();
        assert!(noted <= Bearers::LEAST_ROOM, "{noted}");
        assert!(Arc::ptr_eq(&kept, &bearers.of(token(0), "d", sql::Limits::default())));
    }
}
