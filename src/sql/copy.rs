//! What COPY … FROM STDIN needs beside its text: how rows come, and whose they must be. Layer 2; pure.

use super::postgres::Guarded;
use crate::copy_format::CopyFormat;

/// One COPY … FROM STDIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIn {
    /// The columns that the client's rows have, in order.
    pub columns: Vec<String>,
    /// Whose the rows must be; `None` where the statement that is sent checks each row itself, or the
    /// table is the session's own.
    pub tenant: Option<CopyTenant>,
    /// The form in which the rows come.
    pub format: CopyFormat,
    /// How they go on.
    pub way: CopyWay,
}

/// How rows go on to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyWay {
    /// As rows of a COPY whose first column is the tenant.
    Copy,
    /// As rows of a temporary table, from which an INSERT takes them: where a COPY could not be checked
    /// or is refused.
    Staged(Box<Staged>),
}

/// The name of the temporary table. A session that has one of that name is refused.
pub const STAGING_TABLE: &str = "hedgerow_copy";

/// The statements around a COPY into a temporary table, each decided as if the client had sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Makes the table.
    pub make: Guarded,
    /// Takes the rows out of it, into the client's table.
    pub take: Guarded,
    /// Drops it.
    pub drop: Guarded,
}

/// The tenant as rows carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTenant {
    /// The tenant column.
    pub column: String,
    /// Where it stands among the client's columns; `None`: it is left out, and filled.
    pub at: Option<usize>,
    /// The tenant in its one canonical spelling.
    pub text: String,
    /// The column's type.
    pub kind: TenantKind,
}

/// The types that a tenant column may have in COPY data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantKind {
    /// `uuid`
    Uuid,
    /// `text`, `varchar`
    Text,
    /// `char(n)`: blanks at the end do not count.
    Padded,
    /// `int2`
    Int2,
    /// `int4`
    Int4,
    /// `int8`
    Int8,
}

impl CopyIn {
    /// The statements around the COPY, where its rows are staged.
    pub fn staged(&self) -> Option<&Staged> {
        match &self.way {
            CopyWay::Copy => None,
            CopyWay::Staged(staged) => Some(staged),
        }
    }
}

impl CopyTenant {
    /// Whether a field is this tenant. What cannot be read as the column's type is not.
    pub fn is(&self, field: Option<&[u8]>, format: &CopyFormat) -> bool {
        let Some(field) = field else { return false };
        if matches!(format, CopyFormat::Binary) {
            return match self.kind {
                TenantKind::Padded => unpadded(field) == unpadded(self.text.as_bytes()),
                TenantKind::Uuid
                | TenantKind::Text
                | TenantKind::Int2
                | TenantKind::Int4
                | TenantKind::Int8 => self.binary().as_deref() == Some(field),
            };
        }
        match self.kind {
            TenantKind::Uuid => {
                uuid(field).is_some_and(|own| uuid(self.text.as_bytes()) == Some(own))
            }
            TenantKind::Text => field == self.text.as_bytes(),
            TenantKind::Padded => unpadded(field) == unpadded(self.text.as_bytes()),
            TenantKind::Int2 | TenantKind::Int4 | TenantKind::Int8 => {
                integer(field).is_some_and(|own| self.integer() == Some(own))
            }
        }
    }

    /// The field that is written for the tenant column; `None` if there is none in that format, which
    /// the decision has excluded.
    pub fn written(&self, format: &CopyFormat) -> Option<Vec<u8>> {
        match format {
            CopyFormat::Binary => self.binary(),
            CopyFormat::Lines(_) => Some(self.text.as_bytes().to_vec()),
        }
    }

    fn integer(&self) -> Option<i64> {
        self.text.parse().ok()
    }

    fn binary(&self) -> Option<Vec<u8>> {
        match self.kind {
            TenantKind::Uuid => uuid(self.text.as_bytes()).map(|bytes| bytes.to_vec()),
            TenantKind::Text | TenantKind::Padded => Some(self.text.as_bytes().to_vec()),
            TenantKind::Int2 => {
                i16::try_from(self.integer()?).ok().map(|number| number.to_be_bytes().to_vec())
            }
            TenantKind::Int4 => {
                i32::try_from(self.integer()?).ok().map(|number| number.to_be_bytes().to_vec())
            }
            TenantKind::Int8 => self.integer().map(|number| number.to_be_bytes().to_vec()),
        }
    }
}

fn unpadded(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = text.strip_suffix(b" ") {
        text = shorter;
    }
    text
}

/// A UUID as PostgreSQL reads it (`uuid_in`): in braces or not, a hyphen behind any group of four digits.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix(b"{") {
        Some(rest) => rest.strip_suffix(b"}")?,
        None => text,
    };
    let mut bytes = [0_u8; 16];
    let mut rest = inner;
    for (position, byte) in bytes.iter_mut().enumerate() {
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from((high? << 4) | low?).ok()?;
        rest = after;
        if position % 2 == 1 && position < 15 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
    }
    rest.is_empty().then_some(bytes)
}

/// A decimal integer as every server reads it: blanks around, a sign. Other notations are not the
/// tenant.
fn integer(text: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let begin = text.iter().position(|byte| !blank(byte))?;
    let end = text.iter().rposition(|byte| !blank(byte))?;
    std::str::from_utf8(text.get(begin..=end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy_format::{Header, Lines};

    fn tenant(kind: TenantKind, text: &str) -> CopyTenant {
        CopyTenant { column: "t".to_owned(), at: Some(0), text: text.to_owned(), kind }
    }

    const LINES: CopyFormat = CopyFormat::Lines(Lines {
        delimiter: b',',
        null: Vec::new(),
        header: Header::None,
        csv: None,
    });
    const A: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";

    #[test]
    fn the_tenant_passes_in_every_spelling_of_its_type() {
        for (kind, text, fields) in [
            (
                TenantKind::Uuid,
                A,
                vec![
                    A,
                    "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA",
                    "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa",
                    "{aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa}",
                    "aaaa-aaaa-aaaa-4aaa-8aaa-aaaa-aaaa-aaaa",
                ],
            ),
            (TenantKind::Text, "acme", vec!["acme"]),
            (TenantKind::Padded, "acme", vec!["acme", "acme  "]),
            (TenantKind::Int4, "7", vec!["7", " 7 ", "+7", "007"]),
        ] {
            for field in fields {
                assert!(tenant(kind, text).is(Some(field.as_bytes()), &LINES), "{field}");
            }
        }
        for (kind, text, field) in [
            (TenantKind::Uuid, A, uuid(A.as_bytes()).unwrap().to_vec()),
            (TenantKind::Text, "acme", b"acme".to_vec()),
            (TenantKind::Int2, "-7", (-7_i16).to_be_bytes().to_vec()),
            (TenantKind::Int4, "7", 7_i32.to_be_bytes().to_vec()),
            (TenantKind::Int8, "7", 7_i64.to_be_bytes().to_vec()),
        ] {
            let tenant = tenant(kind, text);
            assert!(tenant.is(Some(&field), &CopyFormat::Binary), "{field:?}");
            assert_eq!(tenant.written(&CopyFormat::Binary).as_ref(), Some(&field));
        }
    }

    #[test]
    fn what_is_not_the_tenant_does_not_pass() {
        for (kind, text, fields) in [
            (
                TenantKind::Uuid,
                A,
                vec![
                    "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
                    "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa",
                    "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa ",
                    "{aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
                    "a-aaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
                    "",
                ],
            ),
            (TenantKind::Text, "acme", vec!["ACME", "acme ", ""]),
            (TenantKind::Padded, "acme", vec![" acme", "acme\t"]),
            (TenantKind::Int4, "7", vec!["8", "0x7", "7.0", "1_7", "", " "]),
        ] {
            for field in fields {
                assert!(!tenant(kind, text).is(Some(field.as_bytes()), &LINES), "{field}");
            }
            assert!(!tenant(kind, text).is(None, &LINES));
        }
        let seven = tenant(TenantKind::Int4, "7");
        assert!(!seven.is(Some(&7_i64.to_be_bytes()), &CopyFormat::Binary));
        assert!(!seven.is(Some(b"7"), &CopyFormat::Binary));
    }
}
