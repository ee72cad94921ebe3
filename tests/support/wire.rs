//! A raw client of PostgreSQL's protocol 3.0: own framing, any bytes in any order, every wait
//! bounded, every received byte kept. It trusts nothing of the code under test.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a client waits for an answer unless told otherwise.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(15);

/// One backend message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body).replace('\0', "·");
        write!(f, "{}({})", self.tag as char, text.chars().take(400).collect::<String>())
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    fields: BTreeMap<char, String>,
}

impl Report {
    /// Reads a body.
    pub fn of(body: &[u8]) -> Self {
        let fields = body
            .split(|byte| *byte == 0)
            .filter_map(|field| {
                let (code, text) = field.split_first()?;
                Some((char::from(*code), String::from_utf8_lossy(text).into_owned()))
            })
            .collect();
        Self { fields }
    }

    /// A field by its letter, empty when absent.
    pub fn field(&self, code: char) -> &str {
        self.fields.get(&code).map_or("", String::as_str)
    }

    /// SQLSTATE.
    pub fn sqlstate(&self) -> &str {
        self.field('C')
    }

    /// MESSAGE.
    pub fn message(&self) -> &str {
        self.field('M')
    }

    /// Whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        self.field('V') == "FATAL" || self.field('S') == "FATAL"
    }

    /// Whether Hedgerow itself made it.
    pub fn is_denial(&self) -> bool {
        self.message().starts_with("hedgerow:")
    }

    /// The denial code in DETAIL, for example `HR1003`.
    pub fn denial_code(&self) -> Option<&str> {
        if !self.is_denial() {
            return None;
        }
        let detail = self.field('D');
        let at = detail.find("HR")?;
        detail.get(at..at + 6).filter(|code| code[2..].bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// Everything that came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Messages in order.
    pub messages: Vec<Message>,
    /// The server closed the connection.
    pub closed: bool,
    /// The wait ended before what was waited for came.
    pub timed_out: bool,
}

impl Outcome {
    /// Whether it ends in a ReadyForQuery.
    pub fn ready(&self) -> bool {
        self.messages.last().is_some_and(|message| message.tag == b'Z')
    }

    /// The transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> Option<char> {
        let last = self.messages.iter().rev().find(|message| message.tag == b'Z')?;
        last.body.first().map(|byte| char::from(*byte))
    }

    /// The errors, in order.
    pub fn errors(&self) -> Vec<Report> {
        self.of(b'E').map(|message| Report::of(&message.body)).collect()
    }

    /// The notices, in order.
    pub fn notices(&self) -> Vec<Report> {
        self.of(b'N').map(|message| Report::of(&message.body)).collect()
    }

    /// The only error.
    pub fn error(&self) -> Report {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "one error expected: {self:?}");
        errors.into_iter().next().expect("one")
    }

    /// The SQLSTATE of the first error, empty when there is none.
    pub fn sqlstate(&self) -> String {
        self.errors().first().map_or_else(String::new, |error| error.sqlstate().to_owned())
    }

    /// Whether Hedgerow denied something in it.
    pub fn denied(&self) -> bool {
        self.errors().iter().any(Report::is_denial)
    }

    /// The first denial's code, empty when there is none.
    pub fn denial_code(&self) -> String {
        self.errors()
            .iter()
            .find_map(|error| error.denial_code().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Command tags, in order.
    pub fn tags(&self) -> Vec<String> {
        self.of(b'C').map(|message| c_string(&message.body).0).collect()
    }

    /// Data rows, in order; NULL is `None`.
    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.of(b'D').map(|message| row(&message.body)).collect()
    }

    /// Data rows as text: columns joined by `|`, NULL as `∅`.
    pub fn lines(&self) -> Vec<String> {
        self.rows()
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|value| value.unwrap_or_else(|| "∅".to_owned()))
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect()
    }

    /// The single value of a single row.
    pub fn value(&self) -> String {
        let rows = self.rows();
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| "∅".to_owned()),
            _ => panic!("one value expected: {self:?}"),
        }
    }

    /// Column names and type OIDs of each RowDescription.
    pub fn columns(&self) -> Vec<Vec<(String, u32)>> {
        self.of(b'T').map(|message| row_description(&message.body)).collect()
    }

    /// The type bytes, in order, as text.
    pub fn shape(&self) -> String {
        self.messages.iter().map(|message| char::from(message.tag)).collect()
    }

    fn of(&self, tag: u8) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.tag == tag)
    }

    /// Both outcomes, one after the other.
    pub fn then(mut self, next: Self) -> Self {
        self.messages.extend(next.messages);
        Self {
            messages: self.messages,
            closed: self.closed || next.closed,
            timed_out: self.timed_out || next.timed_out,
        }
    }
}

trait Stream: Read + Write + Send {
    fn limit_read(&self, limit: Duration) -> std::io::Result<()>;
    fn limit_write(&self, limit: Duration) -> std::io::Result<()>;
    fn close(&self, how: std::net::Shutdown) -> std::io::Result<()>;
    fn vanish(&self);
}

/// From now on the kernel throws away whatever comes for this socket, as if its host had lost the network:
/// nothing is acknowledged, and nobody hangs up.
pub fn vanish<'s>(socket: impl Into<socket2::SockRef<'s>>) {
    // BPF_RET | BPF_K: of each packet, keep no byte.
    let nothing = socket2::SockFilter::new(0x06, 0, 0, 0);
    socket.into().attach_filter(&[nothing]).expect("a filter can be attached");
}

macro_rules! stream {
    ($($kind:ty),*) => {$(impl Stream for $kind {
        fn limit_read(&self, limit: Duration) -> std::io::Result<()> {
            self.set_read_timeout(Some(limit))
        }
        fn limit_write(&self, limit: Duration) -> std::io::Result<()> {
            self.set_write_timeout(Some(limit))
        }
        fn close(&self, how: std::net::Shutdown) -> std::io::Result<()> {
            self.shutdown(how)
        }
        fn vanish(&self) {
            vanish(self);
        }
    })*};
}
stream!(TcpStream, UnixStream);

/// The client.
pub struct WireClient {
    stream: Box<dyn Stream>,
    /// Every byte that ever came back.
    pub received: Vec<u8>,
    parsed: usize,
    /// Longest wait for one answer.
    pub limit: Duration,
    /// Process id and secret of BackendKeyData, when one came.
    pub cancel_key: Option<(i32, Vec<u8>)>,
}

impl WireClient {
    /// Over TCP.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).ok();
        Self::over(Box::new(stream))
    }

    /// Over TCP, if anybody answers.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
        stream.set_nodelay(true).ok();
        Some(Self::over(Box::new(stream)))
    }

    /// Over a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path)
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", path.display()));
        Self::over(Box::new(stream))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        stream.limit_write(DEFAULT_LIMIT).ok();
        Self { stream, received: Vec::new(), parsed: 0, limit: DEFAULT_LIMIT, cancel_key: None }
    }

    /// Sends the startup packet and signs in, answering a password request with `password`; ends at
    /// the first ReadyForQuery or when the server closes.
    pub fn start(&mut self, parameters: &[(&str, &str)], password: Option<&str>) -> Outcome {
        self.send(&startup(196_608, parameters));
        let end = Instant::now() + self.limit;
        let mut outcome = Outcome::default();
        loop {
            let Some(message) = self.message_until(end, &mut outcome) else { return outcome };
            if message.tag == b'R' && message.body.starts_with(&[0, 0, 0, 3]) {
                let Some(password) = password else { return outcome };
                self.send(&frame(b'p', &c_bytes(password)));
            }
            if message.tag == b'K' {
                let pid = message.body[..4].try_into().map(i32::from_be_bytes).expect("four bytes");
                self.cancel_key = Some((pid, message.body[4..].to_vec()));
            }
            if message.tag == b'Z' {
                return outcome;
            }
        }
    }

    /// Sends bytes as they are. A peer that has closed already shows in what is read next.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).ok();
    }

    /// Sends bytes in pieces of `size`.
    pub fn send_split(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size.max(1)) {
            self.send(piece);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A simple query and all of its answer.
    pub fn query(&mut self, sql: &str) -> Outcome {
        self.send(&query(sql));
        self.collect(1)
    }

    /// Parse, Bind with text parameters, Describe, Execute, Sync, and all of the answer.
    pub fn extended(&mut self, sql: &str, parameters: &[Option<&str>]) -> Outcome {
        let mut bytes = parse("", sql, &[]);
        bytes.extend(bind("", "", parameters));
        bytes.extend(describe(b'P', ""));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        self.send(&bytes);
        self.collect(1)
    }

    /// Collects until `ready` ReadyForQuery messages came, the server closed or the limit passed.
    pub fn collect(&mut self, ready: usize) -> Outcome {
        let end = Instant::now() + self.limit;
        let mut outcome = Outcome::default();
        let mut seen = 0;
        while seen < ready {
            let Some(message) = self.message_until(end, &mut outcome) else { break };
            seen += usize::from(message.tag == b'Z');
        }
        outcome
    }

    /// Reads one answer without keeping it: how many rows came, and their bytes.
    pub fn drain(&mut self) -> (usize, usize) {
        let end = Instant::now() + self.limit;
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let mut outcome = Outcome::default();
            let message = self.message_until(end, &mut outcome);
            self.forget();
            match message {
                Some(Message { tag: b'D', body }) => {
                    rows += 1;
                    bytes += body.len();
                }
                Some(Message { tag: b'Z', .. }) | None => return (rows, bytes),
                Some(_) => {}
            }
        }
    }

    /// Collects until `done` says so, the server closed or the limit passed.
    pub fn collect_until(&mut self, done: impl Fn(&Outcome) -> bool) -> Outcome {
        let end = Instant::now() + self.limit;
        let mut outcome = Outcome::default();
        while !done(&outcome) {
            if self.message_until(end, &mut outcome).is_none() {
                break;
            }
        }
        outcome
    }

    /// Collects whatever comes within `time`.
    pub fn collect_for(&mut self, time: Duration) -> Outcome {
        let limit = std::mem::replace(&mut self.limit, time);
        let mut outcome = self.collect_until(|_| false);
        self.limit = limit;
        outcome.timed_out = false;
        outcome
    }

    /// Ends the session politely.
    pub fn terminate(mut self) {
        self.send(&frame(b'X', &[]));
    }

    /// Lets go of what was received and read: for a client that runs thousands of statements.
    pub fn forget(&mut self) {
        self.received.drain(..self.parsed);
        self.parsed = 0;
    }

    /// Loses the network, as far as the other side can tell.
    pub fn vanish(&self) {
        self.stream.vanish();
    }

    /// Closes the writing half only.
    pub fn close_write(&mut self) {
        self.stream.close(std::net::Shutdown::Write).ok();
    }

    fn message_until(&mut self, end: Instant, outcome: &mut Outcome) -> Option<Message> {
        loop {
            if let Some(message) = self.next_message() {
                outcome.messages.push(message.clone());
                return Some(message);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                outcome.timed_out = true;
                return None;
            }
            self.stream.limit_read(left.max(Duration::from_millis(1))).ok();
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    outcome.closed = true;
                    return None;
                }
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                            | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => {
                    outcome.closed = true;
                    return None;
                }
            }
        }
    }

    fn next_message(&mut self) -> Option<Message> {
        let rest = &self.received[self.parsed..];
        let (head, body) = rest.split_at_checked(5)?;
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
        assert!(length >= 4, "a message of length {length} came back");
        let body = body.get(..length - 4)?.to_vec();
        self.parsed += length + 1;
        Some(Message { tag: head[0], body })
    }
}

/// A frame: tag, length, body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A StartupMessage of any protocol version (or CancelRequest and SSLRequest codes).
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(c_bytes(name));
        body.extend(c_bytes(value));
    }
    body.push(0);
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// A CancelRequest.
pub fn cancel_request(pid: i32, secret: &[u8]) -> Vec<u8> {
    let mut bytes = (12 + secret.len() as u32).to_be_bytes().to_vec();
    bytes.extend(80_877_102_u32.to_be_bytes());
    bytes.extend(pid.to_be_bytes());
    bytes.extend(secret);
    bytes
}

/// Query
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c_bytes(sql))
}

/// Parse
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = c_bytes(name);
    body.extend(c_bytes(sql));
    body.extend((types.len() as u16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// Bind with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = c_bytes(portal);
    body.extend(c_bytes(statement));
    body.extend(0_u16.to_be_bytes());
    body.extend(arguments(parameters));
    body.extend(0_u16.to_be_bytes());
    frame(b'B', &body)
}

/// Describe of `S`tatement or `P`ortal.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(c_bytes(name));
    frame(b'D', &body)
}

/// Close of `S`tatement or `P`ortal.
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(c_bytes(name));
    frame(b'C', &body)
}

/// Execute; 0 rows means all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = c_bytes(portal);
    body.extend(rows.to_be_bytes());
    frame(b'E', &body)
}

/// Sync
pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

/// Flush
pub fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

/// FunctionCall with text arguments and a text result.
pub fn function_call(oid: u32, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend(0_u16.to_be_bytes());
    body.extend(arguments(parameters));
    body.extend(0_u16.to_be_bytes());
    frame(b'F', &body)
}

/// CopyData
pub fn copy_data(text: &str) -> Vec<u8> {
    frame(b'd', text.as_bytes())
}

/// CopyDone
pub fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

fn arguments(parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = (parameters.len() as u16).to_be_bytes().to_vec();
    for parameter in parameters {
        match parameter {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(text) => {
                body.extend((text.len() as u32).to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    body
}

fn c_bytes(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn c_string(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (text, bytes.get(end + 1..).unwrap_or_default())
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    (0..count)
        .map(|_| {
            let length = i32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
            rest = &rest[4..];
            let length = usize::try_from(length).ok()?;
            let (value, after) = rest.split_at(length);
            rest = after;
            Some(String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}

fn row_description(body: &[u8]) -> Vec<(String, u32)> {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    (0..count)
        .map(|_| {
            let (name, after) = c_string(rest);
            let oid = u32::from_be_bytes(after[6..10].try_into().expect("four bytes"));
            rest = &after[18..];
            (name, oid)
        })
        .collect()
}
