//! Rows of COPY's binary format (PostgreSQL manual, COPY, "Binary Format"). Layer 1.

use super::write::SIGNATURE;
use super::{CopyFault, MAX_ROW_BYTES, Progress, Row};

/// Longest header extension, in bytes. Nobody writes one.
const MAX_EXTENSION: usize = 1 << 16;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Signature,
    Flags,
    ExtensionLength,
    Extension(usize),
    /// The number of fields of a row, or the trailer.
    Count,
    /// The length of a field, and how many fields there are still, this one counted.
    Length(u16),
    /// The bytes of a field; fields as above.
    Value(usize, u16),
    /// Nothing: the trailer was read.
    Nothing,
}

/// Reads rows of the binary format.
#[derive(Debug)]
pub struct BinaryReader {
    expect: Expect,
    columns: usize,
    /// The bytes of a part that is not whole.
    part: Vec<u8>,
    begun: usize,
}

impl BinaryReader {
    /// A reader of rows of so many columns.
    pub const fn new(columns: usize) -> Self {
        Self { expect: Expect::Signature, columns, part: Vec::new(), begun: 0 }
    }

    pub(super) fn read(&mut self, input: &mut &[u8], row: &mut Row) -> Result<Progress, CopyFault> {
        loop {
            if let Expect::Value(left, fields) = self.expect {
                let (taken, rest) = input.split_at(left.min(input.len()));
                row.bytes.extend_from_slice(taken);
                *input = rest;
                if taken.len() < left {
                    self.expect = Expect::Value(left - taken.len(), fields);
                    return Ok(Progress::More);
                }
                row.value(self.begun);
                if self.field_over(fields) {
                    return Ok(Progress::Row);
                }
                continue;
            }
            let needed = match self.expect {
                Expect::Signature => SIGNATURE.len(),
                Expect::Flags | Expect::ExtensionLength | Expect::Length(_) => 4,
                Expect::Extension(length) => length,
                Expect::Count => 2,
                Expect::Nothing if input.is_empty() => return Ok(Progress::More),
                Expect::Nothing | Expect::Value(..) => return Err(CopyFault::AfterTrailer),
            };
            let missing = needed.saturating_sub(self.part.len());
            let (taken, rest) = input.split_at(missing.min(input.len()));
            self.part.extend_from_slice(taken);
            *input = rest;
            if self.part.len() < needed {
                return Ok(Progress::More);
            }
            if self.part_over(row)? {
                return Ok(Progress::Row);
            }
        }
    }

    pub(super) const fn finish(&self) -> Result<Progress, CopyFault> {
        match self.expect {
            // PostgreSQL does not ask for the trailer.
            Expect::Count | Expect::Nothing => Ok(Progress::More),
            Expect::Signature => Err(CopyFault::Signature),
            Expect::Flags | Expect::ExtensionLength | Expect::Extension(_) => {
                Err(CopyFault::BinaryHeader)
            }
            Expect::Length(_) | Expect::Value(..) => Err(CopyFault::Truncated),
        }
    }

    /// A part is whole; whether the row is.
    fn part_over(&mut self, row: &mut Row) -> Result<bool, CopyFault> {
        let number =
            || -> i32 { self.part.as_slice().try_into().map_or(i32::MIN, i32::from_be_bytes) };
        let mut whole = false;
        match self.expect {
            Expect::Signature if self.part == SIGNATURE => self.expect = Expect::Flags,
            Expect::Signature => return Err(CopyFault::Signature),
            // No flag is known: bit 16 announced OIDs, the ones above are critical, those below are
            // for nothing yet.
            Expect::Flags if number() == 0 => self.expect = Expect::ExtensionLength,
            Expect::Flags => return Err(CopyFault::BinaryHeader),
            Expect::ExtensionLength => match usize::try_from(number()) {
                Ok(length) if length <= MAX_EXTENSION => self.expect = Expect::Extension(length),
                Ok(_) | Err(_) => return Err(CopyFault::BinaryHeader),
            },
            Expect::Extension(_) => self.expect = Expect::Count,
            Expect::Count => {
                let count = self.part.as_slice().try_into().map_or(i16::MIN, i16::from_be_bytes);
                row.clear();
                match u16::try_from(count) {
                    Ok(fields) if usize::from(fields) == self.columns => {
                        self.expect = Expect::Length(fields);
                        if fields == 0 {
                            self.expect = Expect::Count;
                            whole = true;
                        }
                    }
                    Err(_) if count == -1 => self.expect = Expect::Nothing,
                    Ok(_) | Err(_) => {
                        let expected = self.columns;
                        return Err(CopyFault::FieldCount { found: count, expected });
                    }
                }
            }
            Expect::Length(fields) => {
                self.begun = row.bytes.len();
                match usize::try_from(number()) {
                    Ok(length) if self.begun.saturating_add(length) > MAX_ROW_BYTES => {
                        return Err(CopyFault::TooLong);
                    }
                    Ok(length) => self.expect = Expect::Value(length, fields),
                    Err(_) if number() == -1 => {
                        row.null(self.begun);
                        whole = self.field_over(fields);
                    }
                    Err(_) => return Err(CopyFault::FieldSize),
                }
            }
            Expect::Value(..) | Expect::Nothing => return Err(CopyFault::AfterTrailer),
        }
        self.part.clear();
        Ok(whole)
    }

    /// A field is whole; whether it was the row's last.
    const fn field_over(&mut self, fields: u16) -> bool {
        let left = fields.saturating_sub(1);
        self.expect = if left == 0 { Expect::Count } else { Expect::Length(left) };
        left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BINARY_HEADER, BINARY_TRAILER, write_binary};
    use super::*;
    use proptest::prelude::*;

    type Rows = Vec<Vec<Option<Vec<u8>>>>;

    fn rows_of(data: &[u8], columns: usize, size: usize) -> Result<Rows, CopyFault> {
        let mut reader = BinaryReader::new(columns);
        let (mut row, mut rows) = (Row::default(), Vec::new());
        for mut piece in data.chunks(size) {
            while reader.read(&mut piece, &mut row)? == Progress::Row {
                rows.push(row.fields().map(|field| field.map(<[u8]>::to_vec)).collect());
            }
        }
        reader.finish()?;
        Ok(rows)
    }

    fn data(body: &[u8]) -> Vec<u8> {
        [BINARY_HEADER, body].concat()
    }

    #[test]
    fn rows_are_read_and_written_alike() {
        let rows: [&[Option<&[u8]>]; 3] =
            [&[Some(b"ab"), None], &[Some(b""), Some(b"\0\xff")], &[None, None]];
        let mut written = bytes::BytesMut::from(BINARY_HEADER);
        for row in rows {
            write_binary(&mut written, Some(b"t"), row.iter().copied());
        }
        let expected: Rows = rows
            .iter()
            .map(|row| {
                let rest = row.iter().map(|field| field.map(<[u8]>::to_vec));
                std::iter::once(Some(b"t".to_vec())).chain(rest).collect()
            })
            .collect();
        for trailer in [&[][..], BINARY_TRAILER] {
            let whole = [&written[..], trailer].concat();
            for size in [1, 2, 3, 5, 1000] {
                assert_eq!(rows_of(&whole, 3, size).as_ref(), Ok(&expected), "{size}");
            }
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (bytes, fault) in [
            (b"PGCOPY\n\xff\r\n\x01\0\0\0\0\0\0\0\0".to_vec(), CopyFault::Signature),
            (b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0".to_vec(), CopyFault::BinaryHeader),
            (b"PGCOPY\n\xff\r\n\0\0\0\0\0\xff\xff\xff\xff".to_vec(), CopyFault::BinaryHeader),
            (data(b"\0\x02"), CopyFault::FieldCount { found: 2, expected: 1 }),
            (data(b"\0\x01\xff\xff\xff\xfe"), CopyFault::FieldSize),
            (data(b"\0\x01\x7f\xff\xff\xff"), CopyFault::TooLong),
            (data(b"\0\x01\0\0\0\x02a"), CopyFault::Truncated),
            (data(b"\xff\xff\0"), CopyFault::AfterTrailer),
            (b"PGC".to_vec(), CopyFault::Signature),
        ] {
            for size in [1, 1000] {
                assert_eq!(rows_of(&bytes, 1, size), Err(fault), "{bytes:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn random_data_never_panics(
            body in prop::collection::vec(any::<u8>(), 0..80),
            size in 1_usize..9,
        ) {
            let whole = data(&body);
            prop_assert_eq!(rows_of(&whole, 2, size), rows_of(&whole, 2, whole.len()));
        }
    }
}
