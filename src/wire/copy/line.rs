//! Rows of text and CSV: first a line, then its fields, as PostgreSQL reads them. Layer 1.

use super::{CopyFault, MAX_ROW_BYTES, Progress, Row};
use crate::copy_format::{Csv, Header, Lines};

/// How lines end, learnt from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Newline,
    Return,
    ReturnNewline,
}

/// What the next byte means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Anything,
    /// The other half of `\r\n`, perhaps.
    Newline,
    /// What a backslash escapes.
    Escaped,
    /// The line end behind `\.`.
    MarkerEnd,
    /// The newline behind `\.` and a carriage return.
    MarkerNewline,
    /// Nothing: the data is over, what comes is not read.
    Nothing,
}

/// What one byte did.
enum Step {
    Taken,
    /// The line is over.
    Line,
    /// The line is over, and the byte is the next one's.
    LineBefore,
}

/// Reads rows of text or CSV.
#[derive(Debug)]
pub struct LineReader {
    form: Lines,
    /// The line so far, as it came.
    line: Vec<u8>,
    ends: LineEnd,
    expect: Expect,
    in_quote: bool,
    last_was_escape: bool,
    /// The first line is still to come.
    at_header: bool,
}

impl LineReader {
    /// A reader of lines of that form.
    pub fn new(form: Lines) -> Self {
        Self {
            at_header: form.header != Header::None,
            form,
            line: Vec::new(),
            ends: LineEnd::Unknown,
            expect: Expect::Anything,
            in_quote: false,
            last_was_escape: false,
        }
    }

    pub(super) fn read(&mut self, input: &mut &[u8], row: &mut Row) -> Result<Progress, CopyFault> {
        while let Some((byte, rest)) = input.split_first() {
            if self.expect == Expect::Anything {
                let plain = input.iter().position(|byte| self.is_special(*byte));
                let (plain, rest) = input.split_at(plain.unwrap_or(input.len()));
                if !plain.is_empty() {
                    self.last_was_escape = false;
                    self.line.extend_from_slice(plain);
                    *input = rest;
                    if self.line.len() > MAX_ROW_BYTES {
                        return Err(CopyFault::TooLong);
                    }
                    continue;
                }
            }
            let step = self.step(*byte)?;
            if !matches!(step, Step::LineBefore) {
                *input = rest;
            }
            match step {
                Step::Taken if self.line.len() > MAX_ROW_BYTES => return Err(CopyFault::TooLong),
                Step::Taken => {}
                Step::Line | Step::LineBefore => match self.line_over(row)? {
                    Progress::More => {}
                    whole @ (Progress::Row | Progress::Header) => return Ok(whole),
                },
            }
        }
        Ok(Progress::More)
    }

    pub(super) fn finish(&mut self, row: &mut Row) -> Result<Progress, CopyFault> {
        match self.expect {
            Expect::Nothing => return Ok(Progress::More),
            Expect::MarkerEnd | Expect::MarkerNewline => return Err(CopyFault::MarkerNotAlone),
            // A return at the very end is a line end, if lines can end so.
            Expect::Newline if self.ends == LineEnd::ReturnNewline => {
                return Err(self.stray_return());
            }
            Expect::Newline => {
                self.ends = LineEnd::Return;
                return self.line_over(row);
            }
            Expect::Escaped => self.line.push(b'\\'),
            Expect::Anything => {}
        }
        if self.line.is_empty() {
            return Ok(Progress::More);
        }
        self.line_over(row)
    }

    /// Whether a byte, where anything may stand, needs more than being appended.
    fn is_special(&self, byte: u8) -> bool {
        match &self.form.csv {
            Some(csv) => {
                matches!(byte, b'\r' | b'\n' | b'\\') || byte == csv.quote || byte == csv.escape
            }
            None => matches!(byte, b'\r' | b'\n' | b'\\'),
        }
    }

    fn step(&mut self, byte: u8) -> Result<Step, CopyFault> {
        match self.expect {
            Expect::Anything => self.anything(byte),
            Expect::Newline if byte == b'\n' => {
                self.ends = LineEnd::ReturnNewline;
                Ok(Step::Line)
            }
            Expect::Newline if self.ends == LineEnd::ReturnNewline => Err(self.stray_return()),
            Expect::Newline => {
                self.ends = LineEnd::Return;
                Ok(Step::LineBefore)
            }
            Expect::Escaped if byte == b'.' && self.line.is_empty() => {
                self.expect = Expect::MarkerEnd;
                Ok(Step::Taken)
            }
            // Older servers read a row in front of the marker; newer ones refuse it.
            Expect::Escaped if byte == b'.' && self.form.csv.is_none() => {
                Err(CopyFault::MarkerNotAlone)
            }
            Expect::Escaped => {
                self.expect = Expect::Anything;
                self.line.push(b'\\');
                if self.form.csv.is_some() {
                    // In CSV a backslash escapes nothing here.
                    return self.anything(byte);
                }
                self.line.push(byte);
                Ok(Step::Taken)
            }
            Expect::MarkerEnd => match (byte, self.ends) {
                (b'\n', LineEnd::Unknown | LineEnd::Newline)
                | (b'\r', LineEnd::Unknown | LineEnd::Return) => {
                    self.expect = Expect::Nothing;
                    Ok(Step::Taken)
                }
                (b'\r', LineEnd::ReturnNewline) => {
                    self.expect = Expect::MarkerNewline;
                    Ok(Step::Taken)
                }
                (b'\n' | b'\r', _) => Err(CopyFault::MarkerNewline),
                _ => Err(CopyFault::MarkerNotAlone),
            },
            Expect::MarkerNewline if byte == b'\n' => {
                self.expect = Expect::Nothing;
                Ok(Step::Taken)
            }
            Expect::MarkerNewline => Err(CopyFault::MarkerNewline),
            Expect::Nothing => Ok(Step::Taken),
        }
    }

    fn anything(&mut self, byte: u8) -> Result<Step, CopyFault> {
        let mut escapes = true;
        if let Some(csv) = &self.form.csv {
            // The same toggles as in CopyReadLineText.
            let escape = (csv.escape != csv.quote).then_some(csv.escape);
            if self.in_quote && Some(byte) == escape {
                self.last_was_escape = !self.last_was_escape;
            }
            if byte == csv.quote && !self.last_was_escape {
                self.in_quote = !self.in_quote;
            }
            if Some(byte) != escape {
                self.last_was_escape = false;
            }
            escapes = csv.end_marker && self.line.is_empty();
        }
        match byte {
            b'\r' if !self.in_quote => match self.ends {
                LineEnd::Unknown | LineEnd::ReturnNewline => {
                    self.expect = Expect::Newline;
                    Ok(Step::Taken)
                }
                LineEnd::Return => Ok(Step::Line),
                LineEnd::Newline => Err(self.stray_return()),
            },
            b'\n' if !self.in_quote => match self.ends {
                LineEnd::Unknown | LineEnd::Newline => {
                    self.ends = LineEnd::Newline;
                    Ok(Step::Line)
                }
                LineEnd::Return | LineEnd::ReturnNewline => Err(match self.form.csv {
                    Some(_) => CopyFault::UnquotedNewline,
                    None => CopyFault::LiteralNewline,
                }),
            },
            b'\\' if escapes => {
                self.expect = Expect::Escaped;
                Ok(Step::Taken)
            }
            _ => {
                self.line.push(byte);
                Ok(Step::Taken)
            }
        }
    }

    const fn stray_return(&self) -> CopyFault {
        match self.form.csv {
            Some(_) => CopyFault::UnquotedReturn,
            None => CopyFault::LiteralReturn,
        }
    }

    fn line_over(&mut self, row: &mut Row) -> Result<Progress, CopyFault> {
        self.expect = Expect::Anything;
        self.in_quote = false;
        self.last_was_escape = false;
        let header = std::mem::replace(&mut self.at_header, false);
        let done = if header && self.form.header == Header::Skip {
            Ok(Progress::More)
        } else {
            row.clear();
            match &self.form.csv {
                Some(csv) => csv_fields(&self.line, &self.form, csv, row),
                None => {
                    text_fields(&self.line, &self.form, row);
                    Ok(())
                }
            }
            .and_then(|()| {
                let text = std::str::from_utf8(row.bytes()).is_ok() && fields_are_text(row);
                if text { Ok(()) } else { Err(CopyFault::NotUtf8) }
            })
            .map(|()| if header { Progress::Header } else { Progress::Row })
        };
        self.line.clear();
        if self.line.capacity() > 1 << 20 {
            self.line = Vec::new();
        }
        done
    }
}

/// Whether each field is UTF-8 by itself and holds no NUL.
fn fields_are_text(row: &Row) -> bool {
    row.fields().flatten().all(|field| std::str::from_utf8(field).is_ok() && !field.contains(&0))
}

/// `CopyReadAttributesText`.
fn text_fields(line: &[u8], form: &Lines, row: &mut Row) {
    let mut rest = line;
    loop {
        let begun = row.bytes.len();
        let field = rest;
        let mut more = false;
        // Where the field's raw text ends: without the delimiter, and without a backslash at the end.
        let mut raw_end = field.len();
        while let Some((byte, after)) = rest.split_first() {
            let at = field.len() - rest.len();
            rest = after;
            if *byte == form.delimiter {
                (raw_end, more) = (at, true);
                break;
            }
            if *byte != b'\\' {
                row.push(*byte);
                continue;
            }
            let Some((escaped, after)) = rest.split_first() else {
                raw_end = at;
                break;
            };
            rest = after;
            row.push(match *escaped {
                digit @ b'0'..=b'7' => octal(digit, &mut rest),
                b'x' => hexadecimal(&mut rest),
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                other => other,
            });
        }
        if field.get(..raw_end) == Some(form.null.as_slice()) {
            row.null(begun);
        } else {
            row.value(begun);
        }
        if !more {
            return;
        }
    }
}

/// One to three octal digits; the eighth bit on is cut off.
fn octal(first: u8, rest: &mut &[u8]) -> u8 {
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let Some((digit @ b'0'..=b'7', after)) = rest.split_first() else { break };
        value = (value << 3) + u16::from(digit - b'0');
        *rest = after;
    }
    value.to_be_bytes()[1]
}

/// One or two hexadecimal digits behind `\x`; without one it is an `x`.
fn hexadecimal(rest: &mut &[u8]) -> u8 {
    let mut value = None;
    for _ in 0..2 {
        let Some((byte, after)) = rest.split_first() else { break };
        let Some(digit) = char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
        else {
            break;
        };
        value = Some((value.unwrap_or(0_u8) << 4) | digit);
        *rest = after;
    }
    value.unwrap_or(b'x')
}

/// `CopyReadAttributesCSV`, and FORCE_NOT_NULL and FORCE_NULL.
fn csv_fields(line: &[u8], form: &Lines, csv: &Csv, row: &mut Row) -> Result<(), CopyFault> {
    let mut rest = line;
    loop {
        let begun = row.bytes.len();
        let field = rest;
        let (mut quoted, mut in_quote, mut more) = (false, false, false);
        let mut raw_end = field.len();
        while let Some((byte, after)) = rest.split_first() {
            let at = field.len() - rest.len();
            rest = after;
            if !in_quote {
                if *byte == form.delimiter {
                    (raw_end, more) = (at, true);
                    break;
                }
                if *byte == csv.quote {
                    (quoted, in_quote) = (true, true);
                } else {
                    row.push(*byte);
                }
                continue;
            }
            if *byte == csv.escape
                && let Some((next, after)) = rest.split_first()
                && (*next == csv.escape || *next == csv.quote)
            {
                row.push(*next);
                rest = after;
            } else if *byte == csv.quote {
                in_quote = false;
            } else {
                row.push(*byte);
            }
        }
        if in_quote {
            return Err(CopyFault::OpenQuote);
        }
        let at = row.fields.len();
        let forced = |columns: &[bool]| columns.get(at).copied().unwrap_or(false);
        let marked = !quoted && field.get(..raw_end) == Some(form.null.as_slice());
        let null = if marked {
            !forced(&csv.force_not_null)
        } else {
            forced(&csv.force_null) && row.bytes.get(begun..) == Some(form.null.as_slice())
        };
        if null {
            row.null(begun);
        } else {
            row.value(begun);
        }
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> Lines {
        let null = b"\\N".to_vec();
        Lines { delimiter: b'\t', null, header: Header::None, csv: None }
    }

    fn csv() -> Lines {
        let csv = Csv {
            quote: b'"',
            escape: b'"',
            end_marker: true,
            force_not_null: Vec::new(),
            force_null: Vec::new(),
        };
        Lines { delimiter: b',', null: Vec::new(), header: Header::None, csv: Some(csv) }
    }

    type Rows = Vec<Vec<Option<String>>>;

    /// All rows of data that comes in pieces of `size` bytes, fields as text.
    fn rows_of(form: &Lines, data: &[u8], size: usize) -> Result<Rows, CopyFault> {
        let mut reader = LineReader::new(form.clone());
        let (mut row, mut rows) = (Row::default(), Vec::new());
        let mut keep = |progress, row: &Row| {
            if progress != Progress::More {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                rows.push(row.fields().map(|field| field.map(text)).collect());
            }
            progress != Progress::More
        };
        for mut piece in data.chunks(size.max(1)) {
            loop {
                let progress = reader.read(&mut piece, &mut row)?;
                if !keep(progress, &row) {
                    break;
                }
            }
        }
        let progress = reader.finish(&mut row)?;
        keep(progress, &row);
        Ok(rows)
    }

    fn row(fields: &[Option<&str>]) -> Vec<Option<String>> {
        fields.iter().map(|field| field.map(str::to_owned)).collect()
    }

    #[test]
    fn text_is_read_as_postgresql_reads_it() {
        for (data, expected) in [
            (&b"a\tb\n"[..], vec![row(&[Some("a"), Some("b")])]),
            (b"a\tb", vec![row(&[Some("a"), Some("b")])]),
            (b"\\N\t\\\\N\tN\n", vec![row(&[None, Some("\\N"), Some("N")])]),
            (b"\\x41\\101\\n\\t\\q\\x\\xg\n", vec![row(&[Some("AA\n\tqxxg")])]),
            (b"a\\\nb\n", vec![row(&[Some("a\nb")])]),
            (b"a\\\tb\n", vec![row(&[Some("a\tb")])]),
            (b"a\r\nb\r\n", vec![row(&[Some("a")]), row(&[Some("b")])]),
            (b"a\rb\r", vec![row(&[Some("a")]), row(&[Some("b")])]),
            (b"\n\n", vec![row(&[Some("")]), row(&[Some("")])]),
            (b"a\n\\.\nb\n", vec![row(&[Some("a")])]),
            (b"a\\", vec![row(&[Some("a")])]),
            (b"", vec![]),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(rows_of(&text(), data, size).as_ref(), Ok(&expected), "{data:?} {size}");
            }
        }
    }

    #[test]
    fn csv_is_read_as_postgresql_reads_it() {
        for (data, expected) in [
            (&b"a,b\n"[..], vec![row(&[Some("a"), Some("b")])]),
            (b",\"\"\n", vec![row(&[None, Some("")])]),
            (b"\"a\n,\"\"b\",c\n", vec![row(&[Some("a\n,\"b"), Some("c")])]),
            (b"x\"y,\"z\n", vec![row(&[Some("xy,z")])]),
            (b"\\N,\\\n", vec![row(&[Some("\\N"), Some("\\")])]),
            (b"a\n\\.\nb\n", vec![row(&[Some("a")])]),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(rows_of(&csv(), data, size).as_ref(), Ok(&expected), "{data:?} {size}");
            }
        }
        let mut other = csv();
        if let Some(csv) = &mut other.csv {
            csv.escape = b'\\';
            csv.force_null = vec![true, false];
            csv.force_not_null = vec![false, true];
        }
        let found = rows_of(&other, b"\"\",\n\"a\\\"b\\\\\",\"\"\n", 1);
        let expected = vec![row(&[None, Some("")]), row(&[Some("a\"b\\"), Some("")])];
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (form, data, fault) in [
            (text(), &b"a\nb\r"[..], CopyFault::LiteralReturn),
            (text(), b"a\r\nb\n", CopyFault::LiteralNewline),
            (text(), b"a\\.\n", CopyFault::MarkerNotAlone),
            (text(), b"\\.x\n", CopyFault::MarkerNotAlone),
            (text(), b"\\.", CopyFault::MarkerNotAlone),
            (text(), b"a\n\\.\r", CopyFault::MarkerNewline),
            (text(), b"\\000\n", CopyFault::NotUtf8),
            (text(), b"\\377\n", CopyFault::NotUtf8),
            (text(), b"\xc3\t\xa4\n", CopyFault::NotUtf8),
            (csv(), b"\"a", CopyFault::OpenQuote),
            (csv(), b"a\nb\r\n", CopyFault::UnquotedReturn),
            (csv(), b"a\r\nb\n", CopyFault::UnquotedNewline),
        ] {
            for size in [1, 100] {
                assert_eq!(rows_of(&form, data, size), Err(fault), "{data:?}");
            }
        }
    }

    #[test]
    fn a_header_is_skipped_or_handed_over() {
        let mut form = csv();
        form.header = Header::Skip;
        assert_eq!(rows_of(&form, b"id,name\n1,x\n", 3), Ok(vec![row(&[Some("1"), Some("x")])]));
        form.header = Header::Match;
        assert_eq!(rows_of(&form, b"id\n1\n", 3).map(|rows| rows.len()), Ok(2));
    }

    #[test]
    fn a_row_is_bounded() {
        let long = vec![b'x'; MAX_ROW_BYTES + 1];
        assert_eq!(rows_of(&text(), &long, 1 << 20), Err(CopyFault::TooLong));
    }

    proptest! {
        /// However data is cut, it holds the same rows; and nothing makes a reader panic.
        #[test]
        fn cuts_change_nothing(
            data in "[a\\\\.,\"\r\n\t\\x00N0x]{0,60}",
            size in 1_usize..8,
            is_csv in any::<bool>(),
        ) {
            let form = if is_csv { csv() } else { text() };
            let whole = rows_of(&form, data.as_bytes(), usize::MAX);
            prop_assert_eq!(whole, rows_of(&form, data.as_bytes(), size));
        }

        /// What was read, written and read again is the same.
        #[test]
        fn the_canonical_form_is_read_back(data in "[a\\\\.,\"\r\n\tN0xä]{0,60}") {
            let mut reader = LineReader::new(csv());
            let (mut row, mut rest) = (Row::default(), data.as_bytes());
            let mut written = bytes::BytesMut::new();
            let mut expected: Rows = Vec::new();
            while let Ok(Progress::Row) = reader.read(&mut rest, &mut row) {
                super::super::write_text(&mut written, Some(b"t"), row.fields());
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let first = std::iter::once(Some("t".to_owned()));
                expected.push(first.chain(row.fields().map(|field| field.map(text))).collect());
            }
            prop_assert_eq!(rows_of(&text(), &written, 7), Ok(expected));
        }
    }
}
