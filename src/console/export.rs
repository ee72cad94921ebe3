//! Exports: the records of a query as JSON lines or CSV, streamed. Layer 5.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::query::Query;
use super::{State, pages, select};
use crate::audit::search::{Format, Found, Printer};

/// How an export looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The records as they are in the files.
    JsonLines,
    /// RFC 4180 with a header; no cell is taken for a formula.
    Csv,
}

/// Answers with all records of a query, newest first.
pub(super) fn answer(state: Arc<State>, query: &str, form: Form) -> Response {
    let query = Query { before: None, grouped: false, ..Query::read(query) };
    let window = match query.window(Timestamp::now()) {
        Ok(window) => window,
        Err(reason) => return pages::failure(StatusCode::BAD_REQUEST, &reason),
    };
    let (kind, name) = match form {
        Form::JsonLines => ("application/jsonl", "attachment; filename=\"hedgerow-audit.jsonl\""),
        Form::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"hedgerow-audit.csv\""),
    };
    let (sender, chunks) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let format = match form {
            Form::JsonLines => Format::Json,
            Form::Csv => Format::Csv,
        };
        let mut printer = Printer::new(Chunks { sender, buffer: Vec::new() }, format, 0);
        select::walk(&state.watch.shared, &query, window, |line| {
            Found::read(line).is_none_or(|mut found| {
                if form == Form::Csv {
                    found.reveal(None);
                }
                printer.print(&found).is_ok()
            })
        });
        // Whoever does not listen any more misses nothing.
        let _ = printer.finish();
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    (headers, Body::new(Stream(chunks))).into_response()
}

/// Hands what is written to the connection, piece by piece.
struct Chunks {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Chunks {
    /// Size of a piece.
    const SIZE: usize = 64 * 1024;
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::SIZE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The pieces as a body.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
