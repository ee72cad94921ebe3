//! Uploads: a job and its file in one request (`multipart`), or in several (`resumable`). Layer 5.
//!
//! Either way the whole file is here before anything goes upstream, where it arrives as one request
//! that was built anew. An upload's id is bound to the tenant; where it leads upstream, nobody learns.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moka::sync::Cache;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::answer::Answer;
use super::dispatch::Asked;
use super::exchange::Exchange;
use super::fault::{BodyFault, Fault};
use super::keyring::Use;
use super::load::{self, Load};
use crate::identity::strict_object;

/// Largest file, in bytes.
const MAX_FILE_BYTES: usize = 32 << 20;
/// KiB of files that are held at a time, of all tenants together.
const ROOM_KIB: u32 = 256 << 10;
/// How long an upload that goes no further is kept.
const IDLE: Duration = Duration::from_secs(600);
/// Most uploads that are under way.
const MAX_UPLOADS: u64 = 1_000;
/// Longest boundary, as RFC 2046 has it.
const MAX_BOUNDARY: usize = 70;

/// Uploads under way.
pub(super) struct Uploads {
    open: Cache<String, Arc<Mutex<Upload>>>,
    room: Arc<Semaphore>,
}

/// One upload. Its job is taken when the file is whole.
struct Upload {
    load: Option<Load>,
    file: BytesMut,
    held: Vec<OwnedSemaphorePermit>,
}

impl Uploads {
    /// None yet.
    pub(super) fn new() -> Self {
        let open = Cache::builder().max_capacity(MAX_UPLOADS).time_to_idle(IDLE).build();
        Self { open, room: Arc::new(Semaphore::new(ROOM_KIB as usize)) }
    }

    fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(|_| Fault::Unavailable)
    }
}

/// POST /upload/…/jobs
pub(super) async fn begin(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    match asked.parameter("uploadType") {
        Some("multipart") => multipart(asked, exchange).await,
        Some("resumable") => {
            super::form::json_type(exchange.header("content-type")?)?;
            let body = exchange.body().await?;
            let job =
                strict_object(&body).map_err(|fault| Fault::form(format!("body: {fault}")))?;
            let load = load::read(asked, job)?;
            asked.by_itself().await?;
            let id = load.job.clone();
            let upload = Upload { load: Some(load), file: BytesMut::new(), held: Vec::new() };
            let sealed = asked.owner().seal(Use::Upload, "", &id);
            asked.front.uploads.open.insert(id, Arc::new(Mutex::new(upload)));
            let mut answer = Answer::bytes(200, Vec::new());
            answer.location = Some(format!(
                "{}/upload/bigquery/v2/projects/{}/jobs?uploadType=resumable&upload_id={sealed}",
                origin(asked, exchange)?,
                asked.project,
            ));
            Ok(answer)
        }
        Some(_) | None => Err(Fault::form("query parameter uploadType")),
    }
}

/// Where the client believes to be. It alone reads this.
fn origin(asked: &Asked<'_>, exchange: &Exchange) -> Result<String, Fault> {
    let host = exchange.header("host")?.unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return Err(Fault::form("header host"));
    }
    let scheme = if asked.front.settings.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

async fn multipart(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let boundary = boundary(exchange.header("content-type")?)?;
    let _held = asked.front.uploads.hold(MAX_FILE_BYTES)?;
    let body = exchange.body_up_to(MAX_FILE_BYTES).await?;
    let (job, file) = parts(&body, &boundary).ok_or_else(|| Fault::form("multipart body"))?;
    let job = strict_object(&job).map_err(|fault| Fault::form(format!("body: {fault}")))?;
    load::read(asked, job)?.run(asked, file).await
}

/// The boundary of `multipart/related; boundary=…`.
fn boundary(header: Option<&str>) -> Result<String, Fault> {
    let fault = || Fault::form("header content-type");
    let mut parts = header.unwrap_or_default().split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("multipart/related") {
        return Err(fault());
    }
    let named = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    let boundary = named.ok_or_else(fault)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    let well =
        !boundary.is_empty() && boundary.len() <= MAX_BOUNDARY && boundary.chars().all(plain);
    if well { Ok(boundary.to_owned()) } else { Err(fault()) }
}

/// The two parts of a body: the job, and the file.
fn parts(body: &Bytes, boundary: &str) -> Option<(Bytes, Bytes)> {
    let open = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let start = find(body, open.as_bytes())?;
    // Nothing but blanks stands in front of the first boundary.
    if !body.get(..start)?.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let first = line_end(body, start + open.len())?;
    let middle = first + find(body.get(first..)?, between.as_bytes())?;
    let second = line_end(body, middle + between.len())?;
    let rest = body.get(second..)?;
    let last = second + find(rest, between.as_bytes())?;
    let tail = body.get(last + between.len()..)?;
    if !tail.starts_with(b"--") {
        return None;
    }
    Some((content(body.slice(first..middle))?, content(body.slice(second..last))?))
}

/// Behind a boundary: the place after the line's end.
fn line_end(body: &[u8], at: usize) -> Option<usize> {
    let blanks = body.get(at..)?.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    body.get(at + blanks..)?.starts_with(b"\r\n").then_some(at + blanks + 2)
}

/// A part without its headers.
fn content(part: Bytes) -> Option<Bytes> {
    if part.starts_with(b"\r\n") {
        return Some(part.slice(2..));
    }
    let end = find(&part, b"\r\n\r\n")?;
    let headers = part.get(..end)?.to_ascii_lowercase();
    // Base64 or packed content is not unpacked.
    if find(&headers, b"content-transfer-encoding").is_some() && find(&headers, b"binary").is_none()
        || find(&headers, b"content-encoding").is_some()
    {
        return None;
    }
    Some(part.slice(end + 4..))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// PUT /upload/…/jobs?upload_id=…
pub(super) async fn go_on(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    if asked.parameter("uploadType") != Some("resumable") {
        return Err(Fault::form("query parameter uploadType"));
    }
    let foreign = || Fault::foreign("Upload");
    let sealed = asked.parameter("upload_id").ok_or_else(foreign)?;
    let id = asked.owner().open(Use::Upload, "", sealed).ok_or_else(foreign)?;
    let upload = asked.front.uploads.open.get(&id).ok_or_else(foreign)?;
    let mut upload = upload.lock().await;
    let range = Range::of(exchange.header("content-range")?)?;
    let body = exchange.body().await?;
    let known = upload.file.len();
    if let Some(first) = range.first {
        if first != known || range.length() != Some(body.len()) {
            // The client asks where it stands, and goes on there.
            return Ok(incomplete(known));
        }
        if known + body.len() > MAX_FILE_BYTES {
            asked.front.uploads.open.invalidate(&id);
            return Err(Fault::Body(BodyFault::TooLarge));
        }
        let held = asked.front.uploads.hold(body.len())?;
        upload.held.push(held);
        upload.file.extend_from_slice(&body);
    } else if !body.is_empty() && range.total.is_some() {
        return Err(Fault::form("header content-range"));
    } else if range.whole {
        let held = asked.front.uploads.hold(body.len())?;
        upload.held.push(held);
        upload.file = BytesMut::from(body.as_ref());
    }
    let whole = range.whole || range.total == Some(upload.file.len());
    if !whole {
        return Ok(incomplete(upload.file.len()));
    }
    asked.front.uploads.open.invalidate(&id);
    let load = upload.load.take().ok_or_else(foreign)?;
    let file = std::mem::take(&mut upload.file).freeze();
    load.run(asked, file).await
}

/// 308, and what has arrived.
fn incomplete(known: usize) -> Answer {
    let mut answer = Answer::bytes(308, Vec::new());
    answer.range = known.checked_sub(1).map(|last| format!("bytes=0-{last}"));
    answer
}

/// `Content-Range`, in the forms that clients send.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    /// The first byte of this piece.
    first: Option<usize>,
    last: Option<usize>,
    /// Bytes of the whole file, once the client knows.
    total: Option<usize>,
    /// Whether the piece is the file.
    whole: bool,
}

impl Range {
    fn of(header: Option<&str>) -> Result<Self, Fault> {
        let fault = || Fault::form("header content-range");
        let number = |text: &str| text.parse::<usize>().map_err(|_| fault());
        let Some(header) = header else {
            return Ok(Self { first: None, last: None, total: None, whole: true });
        };
        let (piece, total) = header
            .strip_prefix("bytes ")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(fault)?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if piece == "*" {
            return Ok(Self { first: None, last: None, total, whole: false });
        }
        let (first, last) = piece.split_once('-').ok_or_else(fault)?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last || total.is_some_and(|total| last >= total) {
            return Err(fault());
        }
        Ok(Self { first: Some(first), last: Some(last), total, whole: false })
    }

    /// Bytes of this piece.
    fn length(&self) -> Option<usize> {
        self.last?.checked_sub(self.first?)?.checked_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_two_parts_and_nothing_else() {
        let split = |body: &str| {
            parts(&Bytes::from(body.to_owned()), "b").map(|(job, file)| {
                let text = |part: Bytes| String::from_utf8(part.to_vec()).unwrap();
                (text(job), text(file))
            })
        };
        let body = "--b\r\ncontent-type: application/json\r\n\r\n{}\r\n--b\r\ncontent-type: */*\r\n\r\nrow 1\nrow 2\n\r\n--b--";
        assert_eq!(split(body).unwrap(), ("{}".to_owned(), "row 1\nrow 2\n".to_owned()));
        for body in [
            "",
            "--b\r\n\r\n{}",
            "--b\r\n\r\n{}\r\n--b--",
            "--b\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--",
            "x--b\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b--",
            "--b\r\n\r\n{}\r\n--bb\r\n\r\nx\r\n--b--",
            "--b\r\n\r\n{}\r\n--b\r\ncontent-transfer-encoding: base64\r\n\r\nx\r\n--b--",
        ] {
            assert_eq!(split(body), None, "{body}");
        }
    }

    #[test]
    fn boundaries_and_ranges_are_read_strictly() {
        let named = |header| boundary(Some(header)).ok();
        assert_eq!(named("multipart/related; boundary=\"a==b\"").as_deref(), Some("a==b"));
        assert_eq!(named("multipart/related; boundary=a").as_deref(), Some("a"));
        assert_eq!(named("multipart/mixed; boundary=a"), None);
        assert_eq!(named("multipart/related"), None);
        let range = |header| Range::of(header).ok();
        let piece = range(Some("bytes 0-19/20")).unwrap();
        assert_eq!((piece.first, piece.length(), piece.total), (Some(0), Some(20), Some(20)));
        assert_eq!(range(Some("bytes 5-9/*")).unwrap().total, None);
        assert_eq!(range(Some("bytes */20")).unwrap().first, None);
        assert!(range(None).unwrap().whole);
        for header in ["bytes 9-5/20", "bytes 0-20/20", "0-1/2", "bytes a-b/2", "bytes 0-1"] {
            assert_eq!(range(Some(header)), None, "{header}");
        }
    }
}
