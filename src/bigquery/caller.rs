//! Who is calling: the token of a request. Layer 5.
//!
//! The rules are those of every front (`crate::keys`); each request is verified anew, so that an
//! expired or revoked token ends with the request before.

use super::exchange::Exchange;
use super::fault::Fault;
use crate::error::{Denial, DenialCode};
use crate::identity::VerifiedIdentity;
use crate::keys::Authenticator;

/// The header for clients whose library insists on a credential of its own.
const OWN_HEADER: &str = "x-hedgerow-token";

/// The verified caller of a request; a tenant's.
///
/// # Errors
/// HR2xxx
pub(super) async fn identify(
    exchange: &Exchange,
    authenticator: &Authenticator,
) -> Result<VerifiedIdentity, Fault> {
    let identity = authenticator.authenticate(token(exchange)?).await?;
    if identity.tenant().is_none() {
        return Err(Denial::new(DenialCode::TokenTenant).into());
    }
    Ok(identity)
}

/// The token: of the header of our own if it is there, else the bearer.
fn token(exchange: &Exchange) -> Result<&str, Fault> {
    let unclear = |_| Fault::from(Denial::new(DenialCode::TokenInvalid));
    if let Some(token) = exchange.header(OWN_HEADER).map_err(unclear)? {
        return Ok(token.trim());
    }
    let missing = || Fault::from(Denial::new(DenialCode::TokenMissing));
    let header = exchange.header("authorization").map_err(unclear)?.ok_or_else(missing)?;
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) | None => Err(missing()),
    }
}
