//! The egress guard: compares tenant columns of result rows with the tenant. Layer 5; pure.
//!
//! The last of four locks. It does not know a column's type, only its format: a value passes if it is
//! the tenant in any encoding that a tenant column can have.

use std::sync::Arc;

use uuid::Uuid;

use crate::claims::TenantClaim;
use crate::wire::DecodeFault;
use crate::wire::reader::Reader;

/// The tenant in every spelling that its column may have.
#[derive(Clone, Debug)]
pub(super) struct TenantValue {
    text: String,
    uuid: Option<Uuid>,
    integer: Option<i64>,
}

impl TenantValue {
    pub(super) fn new(tenant: &TenantClaim) -> Self {
        let text = tenant.to_string();
        Self { uuid: Uuid::parse_str(&text).ok(), integer: text.parse().ok(), text }
    }

    /// Whether `value`, as sent in `format`, is this tenant.
    fn is(&self, value: &[u8], format: Format) -> bool {
        // A char(n) column pads with blanks.
        let is_text =
            |value: &[u8]| value.trim_ascii_end() == self.text.trim_ascii_end().as_bytes();
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

/// Watches the rows of one statement.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// Positions of tenant columns, from 0.
    columns: Arc<[usize]>,
    formats: Vec<i16>,
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
    /// A watch over `columns`; `None` when there is nothing to watch. Formats as in a Bind: none (all
    /// text), one for all, or one a column, two bytes each.
    pub(super) fn new(columns: &Arc<[usize]>, result_formats: &[u8]) -> Option<Self> {
        if columns.is_empty() {
            return None;
        }
        let formats = result_formats
            .as_chunks()
            .0
            .iter()
            .map(|code: &[u8; 2]| i16::from_be_bytes(*code))
            .collect();
        Some(Self { columns: Arc::clone(columns), formats })
    }

    /// What a RowDescription of a simple query said.
    pub(super) fn described(&mut self, formats: Vec<i16>) {
        self.formats = formats;
    }

    fn format(&self, column: usize) -> Format {
        let code = match self.formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(0),
        };
        if code == 0 { Format::Text } else { Format::Binary }
    }

    /// Looks at the body of a DataRow. NULL passes: it is no tenant's value.
    pub(super) fn check(&self, body: &[u8], tenant: &TenantValue) -> Result<(), EgressFault> {
        let mut reader = Reader::new(body);
        for column in 0..reader.count()? {
            let value = reader.value()?;
            if let Some(value) = value
                && self.columns.contains(&column)
                && !tenant.is(value, self.format(column))
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
        let watch = Watch::new(&Arc::from([1]), formats).unwrap();
        watch.check(&row(values), &TenantValue::new(tenant))
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
        let watch = Watch::new(&Arc::from([0]), &[]).unwrap();
        let tenant = TenantValue::new(&TenantClaim::Integer(7));
        let mut body = row(&[Some(b"7")]);
        body.push(0);
        assert!(matches!(watch.check(&body, &tenant), Err(EgressFault::Unreadable(_))));
        assert!(matches!(watch.check(&body[..4], &tenant), Err(EgressFault::Unreadable(_))));
    }
}
