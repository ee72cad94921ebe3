//! A tenant's quota, asked before its statements run. Layer 5.
//!
//! Counted is what the server is sent to run, but for the beginning and end of transactions, so that
//! a transaction can always be ended. A session holds one place among its tenant's at work from its
//! first statement until everything that it asked for is answered, however that comes about.

use std::sync::Arc;

use super::facts::Facts;
use super::judge::Refused;
use super::session::Link;
use crate::error::Denial;
use crate::sql::Kind;

impl Link {
    /// Whether decided statements may begin now. A quota that is only monitored lets them through,
    /// and the denial that it would have been comes back.
    pub(super) fn admit(&mut self, decided: &[Arc<Facts>]) -> Result<Option<Denial>, Refused> {
        let statements = decided.iter().filter(|facts| is_counted(facts)).count();
        if statements == 0 {
            return Ok(None);
        }
        let statements = u32::try_from(statements).unwrap_or(u32::MAX);
        match self.judge.admit(statements, self.place.is_none()) {
            Ok(admitted) => {
                if admitted.place.is_some() {
                    self.place = admitted.place;
                }
                Ok(admitted.would_deny)
            }
            Err(denial) => Err(refused(denial, decided)),
        }
    }
}

const fn is_counted(facts: &Facts) -> bool {
    let control =
        matches!(facts.kind, Kind::Begin(_) | Kind::End(_) | Kind::Transaction | Kind::Empty);
    !control && facts.token.is_none()
}

/// The refusal, with what is known of the first of the statements.
fn refused(denial: Denial, decided: &[Arc<Facts>]) -> Refused {
    match decided.iter().find(|facts| is_counted(facts)) {
        Some(first) => Refused::about(denial, first),
        None => Refused::of(denial),
    }
}

/// The facts, with the denial that a monitored quota would have been, if they have none.
pub(super) fn noting(facts: Arc<Facts>, would_deny: Option<&Denial>) -> Arc<Facts> {
    match would_deny {
        Some(denial) if facts.would_deny.is_none() && is_counted(&facts) => {
            Arc::new(Facts { would_deny: Some(denial.clone()), ..facts.as_ref().clone() })
        }
        Some(_) | None => facts,
    }
}
