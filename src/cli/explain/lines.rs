//! `hedgerow explain --file`: one JSON object in, one out, line by line. Layer 6.
//!
//! A line that is no statement gets an answer of its own and does not stop the others. Memory stays
//! bounded whatever the input is.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ERROR, NO};

/// Longest line, in bytes: room for a statement over every limit, written in JSON's escapes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Whether a statement would be denied, and the answer about it.
pub(super) type Explain<'a> = dyn Fn(&str) -> (bool, Value) + 'a;

/// Answers every line of `path` (`-`: standard input) on standard output.
pub fn run(path: &Path, explain: &Explain<'_>) -> anyhow::Result<ExitCode> {
    let output = BufWriter::new(std::io::stdout().lock());
    let end = if path == Path::new("-") {
        answer(BufReader::new(std::io::stdin().lock()), output, explain)?
    } else {
        let file = File::open(path)
            .with_context(|| format!("the statements {} cannot be read", path.display()))?;
        answer(BufReader::new(file), output, explain)?
    };
    Ok(match end {
        End { faulty: true, .. } => ExitCode::from(ERROR),
        End { denied: true, .. } => ExitCode::from(NO),
        End { .. } => ExitCode::SUCCESS,
    })
}

/// What came of all lines together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// One was denied.
    pub(super) denied: bool,
    /// One was no statement.
    pub(super) faulty: bool,
}

#[derive(Deserialize)]
struct Line {
    sql: String,
}

/// Answers every line; empty ones are passed over.
pub(super) fn answer(
    mut input: impl BufRead,
    mut output: impl Write,
    explain: &Explain<'_>,
) -> anyhow::Result<End> {
    let mut end = End::default();
    let mut number = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = (&mut input).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let cut = read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n');
        if cut {
            skip_line(&mut input)?;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answer = if cut {
            Err(format!("line {number} is longer than {MAX_LINE_BYTES} bytes"))
        } else {
            serde_json::from_slice::<Line>(&line)
                .map_err(|_| format!("line {number} is not a JSON object with `sql`, a text"))
        };
        let answer: Value = match answer {
            Ok(Line { sql }) => {
                let (denied, answer) = explain(&sql);
                end.denied |= denied;
                answer
            }
            Err(error) => {
                end.faulty = true;
                json!({"error": error})
            }
        };
        writeln!(output, "{answer}").context("standard output")?;
        output.flush().context("standard output")?;
    }
    Ok(end)
}

/// Reads on to the end of the line without keeping it.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (length, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        input.consume(length);
        if ends {
            return Ok(());
        }
    }
}
