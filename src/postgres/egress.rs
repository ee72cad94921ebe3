//! The egress guard: compares tenant columns of result rows with the tenant. Layer 5; pure.
//!
//! The last of four locks. It does not know a column's type, only its format: a value passes if it is
//! the tenant in any encoding that a tenant column can have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use crate::claims::TenantClaim;
use crate::mutant;
use crate::wire::DecodeFault;
use crate::wire::reader::Reader;

/// The tenant in every spelling that its column may have.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantValue {
    text: Option<String>,
    uuid: Option<Uuid>,
    integer: Option<i64>,
}

impl TenantValue {
    /// The tenant's spellings; of a caller without a tenant none, and no value passes.
    pub(super) fn new(tenant: Option<&TenantClaim>) -> Self {
        let Some(tenant) = tenant else {
            return Self { text: None, uuid: None, integer: None };
        };
        let text = tenant.to_string();
        Self { uuid: Uuid::parse_str(&text).ok(), integer: text.parse().ok(), text: Some(text) }
    }

    /// Whether `value`, as sent in `format`, is this tenant.
    fn is(&self, value: &[u8], format: Format) -> bool {
        // A char(n) column pads with blanks.
        let is_text = |value: &[u8]| {
            let own = self.text.as_deref();
            own.is_some_and(|own| value.trim_ascii_end() == own.trim_ascii_end().as_bytes())
        };
        match format {
            Format::Text => {
                is_text(value)
                    || self.uuid.is_some_and(|uuid| Uuid::try_parse_ascii(value) == Ok(uuid))
                    || self.integer.is_some_and(|integer| {
                        std::str::from_utf8(value).is_ok_and(|text| text.parse() == Ok(integer))
                    })
            }
            Format::Binary => {
                is_text(value)
                    || self.uuid.is_some_and(|uuid| uuid.as_bytes() == value)
                    || self.integer.is_some_and(|integer| binary_integer(value) == Some(integer))
            }
        }
    }
}

fn binary_integer(value: &[u8]) -> Option<i64> {
    if let Ok(bytes) = <[u8; 2]>::try_from(value) {
        return Some(i16::from_be_bytes(bytes).into());
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(i32::from_be_bytes(bytes).into());
    }
    <[u8; 8]>::try_from(value).ok().map(i64::from_be_bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Binary,
}

/// Which columns of a statement's rows hold a tenant, by what the server says of where they come from.
/// Shared by a prepared statement, its portals and the Describe that asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape(Arc<Origin>);

#[derive(Debug, Default)]
struct Origin {
    /// The batch in which a Describe was sent last.
    asked: AtomicU64,
    tenant_columns: OnceLock<Box<[usize]>>,
}

impl Shape {
    /// Notes that a Describe is sent in a batch of messages; whether another's answer is known, or
    /// comes before anything else of the same batch. (What an error skips, it skips to the batch's end.)
    pub(super) fn ask(&self, batch: u64) -> bool {
        let before = self.0.asked.swap(batch, Ordering::Relaxed);
        self.0.tenant_columns.get().is_some() || before == batch
    }

    /// The server said what the columns are; these hold a tenant.
    pub(super) fn described(&self, tenant_columns: Vec<usize>) {
        let _known = self.0.tenant_columns.set(tenant_columns.into());
    }
}

/// Watches the rows of one statement: the columns that the rewriter knows to hold the tenant, and
/// those of which the server says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Positions of tenant columns by the rewriter's account, from 0.
    named: Arc<[usize]>,
    shape: Shape,
    formats: Vec<i16>,
    /// The tenant whose statement it is.
    tenant: Arc<TenantValue>,
}

/// A row that must not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EgressFault {
    /// A tenant column holds another value.
    #[error("a row of another tenant was about to leave")]
    Foreign,
    /// The row cannot be read, so nothing is known of it.
    #[error("a row could not be read: {0}")]
    Unreadable(#[from] DecodeFault),
}

impl Watch {
    /// A watch over the columns `named` and those of `shape`. Formats as in a Bind: none (all text), one
    /// for all, or one a column, two bytes each.
    pub(super) fn new(
        named: &Arc<[usize]>,
        shape: Shape,
        result_formats: &[u8],
        tenant: &Arc<TenantValue>,
    ) -> Self {
        let formats = result_formats
            .as_chunks()
            .0
            .iter()
            .map(|code: &[u8; 2]| i16::from_be_bytes(*code))
            .collect();
        Self { named: Arc::clone(named), shape, formats, tenant: Arc::clone(tenant) }
    }

    /// Where the columns come from.
    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the RowDescription of a simple query said.
    pub(super) fn described(&mut self, tenant_columns: Vec<usize>, formats: Vec<i16>) {
        self.shape = Shape::default();
        self.shape.described(tenant_columns);
        self.formats = formats;
    }

    /// Whether the server has said where the columns come from.
    pub(super) fn is_described(&self) -> bool {
        self.shape.0.tenant_columns.get().is_some()
    }

    /// Whether there is a column to look at.
    pub(super) fn is_active(&self) -> bool {
        !self.named.is_empty()
            || self.shape.0.tenant_columns.get().is_some_and(|columns| !columns.is_empty())
    }

    fn watches(&self, column: usize) -> bool {
        self.named.contains(&column)
            || self.shape.0.tenant_columns.get().is_some_and(|columns| columns.contains(&column))
    }

    fn format(&self, column: usize) -> Format {
        let code = match self.formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(0),
        };
        if code == 0 || mutant::on("egress-format") { Format::Text } else { Format::Binary }
    }

    /// Looks at the body of a DataRow. NULL passes: it is no tenant's value.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), EgressFault> {
        let mut reader = Reader::new(body);
        for column in 0..reader.count()? {
            let value = reader.value()?;
            if let Some(value) = value
                && self.watches(column)
                && !self.tenant.is(value, self.format(column))
                && !mutant::on("egress")
            {
                return Err(EgressFault::Foreign);
            }
        }
        Ok(reader.end()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6b1f3b0e-51f4-4c0c-9f5e-3f1a0b3f7d11";

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = i16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    body.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(value);
                }
            }
        }
        body
    }

    fn check(
        tenant: &TenantClaim,
        formats: &[u8],
        values: &[Option<&[u8]>],
    ) -> Result<(), EgressFault> {
        let tenant = Arc::new(TenantValue::new(Some(tenant)));
        let watch = Watch::new(&Arc::from([1]), Shape::default(), formats, &tenant);
        watch.check(&row(values))
    }

    #[test]
    fn the_tenants_own_value_passes_in_every_encoding() {
        let uuid = TenantClaim::Text(UUID.to_uppercase());
        assert_eq!(check(&uuid, &[], &[Some(b"x"), Some(UUID.as_bytes())]), Ok(()));
        let bytes = Uuid::parse_str(UUID).unwrap();
        assert_eq!(check(&uuid, &[0, 1], &[Some(b"x"), Some(bytes.as_bytes())]), Ok(()));
        let number = TenantClaim::Integer(7);
        assert_eq!(check(&number, &[], &[None, Some(b"7")]), Ok(()));
        for value in [&7_i16.to_be_bytes()[..], &7_i32.to_be_bytes(), &7_i64.to_be_bytes()] {
            assert_eq!(check(&number, &[0, 0, 0, 1], &[None, Some(value)]), Ok(()));
        }
        assert_eq!(
            check(&TenantClaim::Text("acme".into()), &[0, 1], &[None, Some(b"acme  ")]),
            Ok(())
        );
        assert_eq!(check(&number, &[], &[Some(b"9"), None]), Ok(()));
    }

    #[test]
    fn a_foreign_value_is_stopped() {
        for (tenant, formats, value) in [
            (TenantClaim::Integer(7), &[][..], &b"8"[..]),
            (TenantClaim::Integer(7), &[0, 1], &8_i32.to_be_bytes()),
            (TenantClaim::Text("acme".into()), &[], b"ACME"),
            (TenantClaim::Text(UUID.into()), &[0, 1], &[9; 16]),
            (TenantClaim::Text("acme".into()), &[], b""),
        ] {
            assert_eq!(check(&tenant, formats, &[None, Some(value)]), Err(EgressFault::Foreign));
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_stopped() {
        let tenant = Arc::new(TenantValue::new(Some(&TenantClaim::Integer(7))));
        let watch = Watch::new(&Arc::from([0]), Shape::default(), &[], &tenant);
        let mut body = row(&[Some(b"7")]);
        body.push(0);
        assert!(matches!(watch.check(&body), Err(EgressFault::Unreadable(_))));
        assert!(matches!(watch.check(&body[..4]), Err(EgressFault::Unreadable(_))));
    }
}
