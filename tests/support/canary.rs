//! The canary scanner: values of another tenant are recognisable, and no byte that a client
//! receives may hold one, plain, in hexadecimal, in base64 or in UTF-16.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

/// The plain form of tenant B's values.
pub const OF_TENANT_B: &str = r"(?i)B-SECRET|bsecretword|4242\d\d";
/// The words behind it, for the encoded forms.
const WORDS_OF_TENANT_B: &[&str] = &["B-SECRET", "bsecretword"];
/// Tenant A's values, for clients of tenant B.
pub const OF_TENANT_A: &str = r"(?i)A-SECRET|asecretword";
const WORDS_OF_TENANT_A: &[&str] = &["A-SECRET", "asecretword"];
/// Bytes kept from one read to the next, so that a value that is cut in two is still seen.
const OVERLAP: usize = 256;

/// What must not be seen.
#[derive(Clone)]
pub struct Canary {
    forms: Arc<[Regex]>,
}

impl Canary {
    /// Values of tenant B.
    pub fn of_b() -> Self {
        Self::new(OF_TENANT_B, WORDS_OF_TENANT_B)
    }

    /// Values of tenant A.
    pub fn of_a() -> Self {
        Self::new(OF_TENANT_A, WORDS_OF_TENANT_A)
    }

    /// A plain pattern, and words whose encodings count as well.
    pub fn new(plain: &str, words: &[&str]) -> Self {
        let mut forms = vec![bytes_regex(plain, false)];
        for word in words {
            for spelling in [(*word).to_owned(), word.to_lowercase(), word.to_uppercase()] {
                for encoded in encodings(spelling.as_bytes()) {
                    forms.push(encoded);
                }
            }
        }
        Self { forms: forms.into() }
    }

    /// The first forbidden value in `bytes`, with what stands around it.
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        let bytes = &*without_record_ids(bytes);
        let found = self.forms.iter().find_map(|form| form.find(bytes))?;
        let from = found.start().saturating_sub(60);
        let to = (found.end() + 60).min(bytes.len());
        Some(String::from_utf8_lossy(&bytes[from..to]).replace('\0', "·"))
    }
}

/// The audit record's id in a denial: chance may put any digits into it.
static RECORD_ID: LazyLock<Regex> =
    LazyLock::new(|| bytes_regex(r"\(audit record [0-9a-f-]{0,36}", false));

/// The bytes without the ids of audit records.
pub fn without_record_ids(bytes: &[u8]) -> Cow<'_, [u8]> {
    RECORD_ID.replace_all(bytes, &b""[..])
}

/// The end of what was seen, so that a value that is cut in two is still found.
#[derive(Default)]
struct Window(Vec<u8>);

impl Window {
    /// The first forbidden value in what came before and these bytes.
    fn look(&mut self, canary: &Canary, bytes: &[u8]) -> Option<String> {
        self.0.extend_from_slice(bytes);
        let finding = canary.find(&self.0);
        let cut = self.0.len().saturating_sub(OVERLAP);
        // The window never begins within a record's id: what is left of it would look like any number.
        let within = RECORD_ID.find_iter(&self.0).find(|id| id.start() < cut && cut < id.end());
        let cut = within.map_or(cut, |id| id.start());
        self.0.drain(..cut);
        finding
    }
}

fn bytes_regex(pattern: &str, ignore_case: bool) -> Regex {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .unicode(false)
        .build()
        .unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn encodings(word: &[u8]) -> Vec<Regex> {
    use base64::Engine;
    let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
    let wide: String = word.iter().map(|byte| format!(r"\x{byte:02x}\x00")).collect();
    let mut forms = vec![bytes_regex(&hex, true), bytes_regex(&wide, false)];
    // Base64 shows a word in three ways, by its place in the groups of three; the characters at
    // both ends mix with their neighbours and are left out.
    for shift in 0..3 {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(word);
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes);
        let first = (shift * 8).div_ceil(6);
        let last = bytes.len() * 8 / 6;
        forms.push(bytes_regex(&regex::escape(&text[first..last]), false));
    }
    forms
}

/// A relay between a client and `hedgerow` that looks at every byte towards the client.
pub struct Relay {
    address: SocketAddr,
    findings: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Listens on a free port and forwards to `target` for as long as the test binary lives.
    pub fn start(target: SocketAddr, canary: Canary) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound address");
        let findings = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&findings);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(10))
                else {
                    continue;
                };
                client.set_nodelay(true).ok();
                server.set_nodelay(true).ok();
                let (Ok(client_read), Ok(server_read)) = (client.try_clone(), server.try_clone())
                else {
                    continue;
                };
                let (canary, found) = (canary.clone(), Arc::clone(&found));
                std::thread::spawn(move || forward(client_read, server, |_| ()));
                std::thread::spawn(move || {
                    let mut window = Window::default();
                    forward(server_read, client, |bytes| {
                        if let Some(finding) = window.look(&canary, bytes) {
                            found.lock().unwrap_or_else(|poison| poison.into_inner()).push(finding);
                        }
                    });
                });
            }
        });
        Self { address, findings }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was seen and must not have been.
    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(|poison| poison.into_inner()).clone()
    }
}

/// Copies until either side ends; each direction closes on its own, so that a half-open client
/// stays half open.
fn forward(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 65_536];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                look(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_err() {
                    from.shutdown(Shutdown::Read).ok();
                    break;
                }
            }
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
