//! The rows of one COPY … FROM STDIN, read and judged. Layer 5; pure.
//!
//! Permission is a type: a [`CheckedRow`] is a row whose tenant column either holds the session's tenant
//! or is left to Hedgerow; only [`Flow::row`] makes one, and the outbox takes no other.

use std::sync::Arc;

use super::answer::Answer;
use crate::copy_format::CopyFormat;
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::copy::{CopyIn, CopyWay};
use crate::wire::copy::{BinaryReader, CopyFault, LineReader, Progress, Row, RowReader};

/// Why a COPY is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A row is not the tenant's.
    Denied(Denial),
    /// The data is no rows; said as PostgreSQL says it.
    Wrong(Answer),
}

/// A row that may go on.
pub(super) struct CheckedRow<'f> {
    /// What Hedgerow writes into the tenant column; `None` where the statement sent has none.
    pub(super) tenant: Option<&'f [u8]>,
    row: &'f Row,
    /// The field that the tenant column had.
    left_out: Option<usize>,
    pub(super) binary: bool,
}

impl CheckedRow<'_> {
    /// The fields of the other columns, in order.
    pub(super) fn others(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let left_out = self.left_out;
        self.row
            .fields()
            .enumerate()
            .filter(move |(position, _)| Some(*position) != left_out)
            .map(|(_, field)| field)
    }
}

/// Reads the data of one COPY.
pub(super) struct Flow {
    plan: Arc<CopyIn>,
    reader: RowReader,
    row: Row,
    /// The tenant as it is written.
    tenant: Option<Vec<u8>>,
}

impl Flow {
    pub(super) fn new(plan: Arc<CopyIn>) -> Self {
        let reader = match &plan.format {
            CopyFormat::Lines(lines) => RowReader::Lines(LineReader::new(lines.clone())),
            CopyFormat::Binary => RowReader::Binary(BinaryReader::new(plan.columns.len())),
        };
        let tenant = match plan.way {
            CopyWay::Copy => plan.tenant.as_ref().and_then(|own| own.written(&plan.format)),
            // The INSERT that takes the rows fills it.
            CopyWay::Staged(_) => None,
        };
        Self { plan, reader, row: Row::default(), tenant }
    }

    /// Whether rows are binary.
    pub(super) fn is_binary(&self) -> bool {
        self.plan.format == CopyFormat::Binary
    }

    /// Takes bytes until a row is whole and may go on; `false`: there is none.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<bool, Stop> {
        loop {
            match self.reader.read(input, &mut self.row).map_err(Self::wrong)? {
                Progress::More => return Ok(false),
                Progress::Header => self.compare_header()?,
                Progress::Row => return self.check().map(|()| true),
            }
        }
    }

    /// There is no more data; whether there is a last row.
    pub(super) fn finish(&mut self) -> Result<bool, Stop> {
        match self.reader.finish(&mut self.row).map_err(Self::wrong)? {
            Progress::More => Ok(false),
            Progress::Header => self.compare_header().map(|()| false),
            Progress::Row => self.check().map(|()| true),
        }
    }

    /// The row that was read last.
    pub(super) fn row(&self) -> CheckedRow<'_> {
        CheckedRow {
            tenant: self.tenant.as_deref(),
            row: &self.row,
            left_out: self.plan.tenant.as_ref().and_then(|tenant| tenant.at),
            binary: self.is_binary(),
        }
    }

    /// SECURITY: a row passes with the right number of fields, its tenant column the tenant's.
    fn check(&self) -> Result<(), Stop> {
        let columns = &self.plan.columns;
        if let Some(missing) = columns.get(self.row.len()) {
            return Err(malformed(&format!("missing data for column \"{missing}\"")));
        }
        if self.row.len() > columns.len() {
            return Err(malformed("extra data after last expected column"));
        }
        let Some(tenant) = &self.plan.tenant else { return Ok(()) };
        let own = tenant
            .at
            .is_none_or(|at| tenant.is(self.row.fields().nth(at).flatten(), &self.plan.format));
        if own && (self.tenant.is_some() || self.plan.staged().is_some()) {
            Ok(())
        } else {
            let column = tenant.column.as_str();
            Err(Stop::Denied(Denial::of(DenialCode::WriteOutsideTenant, column)))
        }
    }

    fn compare_header(&self) -> Result<(), Stop> {
        let columns = &self.plan.columns;
        if self.row.len() != columns.len() {
            return Err(malformed(&format!(
                "wrong number of fields in header line: got {}, expected {}",
                self.row.len(),
                columns.len()
            )));
        }
        for (at, (field, column)) in self.row.fields().zip(columns).enumerate() {
            let number = at.saturating_add(1);
            match field {
                Some(name) if name == column.as_bytes() => {}
                Some(name) => {
                    return Err(malformed(&format!(
                        "column name mismatch in header line field {number}: got \"{}\", expected \"{column}\"",
                        String::from_utf8_lossy(name)
                    )));
                }
                None => {
                    return Err(malformed(&format!(
                        "column name mismatch in header line field {number}: got null value, expected \"{column}\""
                    )));
                }
            }
        }
        Ok(())
    }

    fn wrong(fault: CopyFault) -> Stop {
        Stop::Wrong(Answer::plain(fault.sqlstate(), &fault.to_string()))
    }
}

fn malformed(message: &str) -> Stop {
    Stop::Wrong(Answer::plain(SqlState("22P04"), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy_format::{Header, Lines};
    use crate::sql::copy::{CopyTenant, TenantKind};

    fn flow(at: Option<usize>, header: Header) -> Flow {
        let lines = Lines { delimiter: b'\t', null: b"\\N".to_vec(), header, csv: None };
        let tenant =
            CopyTenant { column: "t".to_owned(), at, text: "7".to_owned(), kind: TenantKind::Int4 };
        let columns: Vec<String> = ["a", "t", "b"].map(str::to_owned).to_vec();
        Flow::new(Arc::new(CopyIn {
            columns: if at.is_some() { columns } else { vec!["a".into(), "b".into()] },
            tenant: Some(tenant),
            format: CopyFormat::Lines(lines),
            way: CopyWay::Copy,
        }))
    }

    fn rows(flow: &mut Flow, mut data: &[u8]) -> Result<Vec<String>, Stop> {
        let mut rows = Vec::new();
        while flow.next(&mut data)? || flow.finish()? {
            let row = flow.row();
            let mut out = bytes::BytesMut::new();
            crate::wire::copy::write_text(&mut out, row.tenant, row.others());
            rows.push(String::from_utf8(out.to_vec()).unwrap());
        }
        Ok(rows)
    }

    #[test]
    fn the_tenants_rows_go_on_with_the_tenant_first() {
        let found = rows(&mut flow(Some(1), Header::None), b"x\t7\ty\nz\t 07\t\\N");
        assert_eq!(found, Ok(vec!["7\tx\ty\n".to_owned(), "7\tz\t\\N\n".to_owned()]));
        let found = rows(&mut flow(None, Header::Match), b"a\tb\nx\ty\n");
        assert_eq!(found, Ok(vec!["7\tx\ty\n".to_owned()]));
    }

    #[test]
    fn another_row_stops_the_copy() {
        for field in ["8", "\\N", "", "0x7"] {
            let data = format!("x\t7\ty\nx\t{field}\ty\n");
            let found = rows(&mut flow(Some(1), Header::None), data.as_bytes());
            assert!(matches!(found, Err(Stop::Denied(_))), "{field} {found:?}");
        }
        for data in ["x\t7\n", "x\t7\ty\tz\n", "\n"] {
            let found = rows(&mut flow(Some(1), Header::None), data.as_bytes());
            assert!(matches!(found, Err(Stop::Wrong(_))), "{data} {found:?}");
        }
        let found = rows(&mut flow(None, Header::Match), b"a\tc\n");
        assert!(matches!(found, Err(Stop::Wrong(_))), "{found:?}");
    }
}
