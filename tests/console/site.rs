//! A console under test, and plain HTTP to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hedgerow::audit::{Audit, Event, Settings};

/// A running `hedgerow console`.
pub struct Site {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer: status, head, body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> String {
        let wanted = format!("{}:", name.to_ascii_lowercase());
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&wanted));
        line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value).to_owned()
    }

    /// The links of a page whose address begins so.
    pub fn links(&self, beginning: &str) -> Vec<String> {
        let parts = self.body.split("href=\"").skip(1).filter_map(|part| part.split('"').next());
        parts
            .filter(|link| link.starts_with(beginning))
            .map(|link| link.replace("&#38;", "&").replace("&amp;", "&"))
            .collect()
    }
}

/// Runs the command to its end.
pub fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerow"));
    command.arg("console").args(arguments).output().unwrap()
}

impl Site {
    /// Starts a console on a free port over a directory.
    pub fn over(directory: &Path) -> Self {
        Self::start(&["--audit", directory.to_str().unwrap(), "--listen", "127.0.0.1:0"])
    }

    /// Starts a console; its first line says where it is.
    pub fn start(arguments: &[&str]) -> Self {
        let site = Self::start_tls(arguments);
        site.until("the index is built", || !site.get("/sign-in").body.contains("data-building"));
        site
    }

    /// Starts one that speaks TLS, or is not waited for.
    pub fn start_tls(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hedgerow"))
            .arg("console")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).and_then(|rest| rest.split(';').next());
        let mut address: SocketAddr =
            address.unwrap_or_else(|| panic!("no address in {line:?}")).parse().unwrap();
        // Bound to every address of this machine, it is asked by the one that leads nowhere else.
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Self { child, address }
    }

    /// Waits for something, a while.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the home page says so.
    pub fn until_home_says(&self, text: &str) -> Answer {
        self.until(text, || self.get("/").body.contains(text));
        self.get("/")
    }

    /// Asks for a page.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Asks with header lines (each ending in CRLF) and a body.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Answer { status, head: head.to_owned(), body }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// Runs asynchronous work of a test.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// Writes events to a trail and closes it.
pub fn write(directory: &Path, events: Vec<Event>) {
    block_on(async {
        let audit = Audit::open(Settings::new(directory)).unwrap();
        for event in events {
            audit.permit().unwrap().record_durable(event).await.unwrap();
        }
        audit.close().await;
    });
}
