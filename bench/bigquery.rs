//! Both ends of `bench/bigquery.sh`: a service that answers queries at once, and clients that keep
//! asking. Only the standard library, so that `rustc -O` makes it in seconds.
//!
//! `bigquery serve ADDRESS` answers `POST …/queries` with one row and `GET …/queries/…` with a page of
//! 10 MiB; `bigquery ask ADDRESS SECONDS CLIENTS` asks one query over and over and prints requests a
//! second and the 50th and 99th percentile in microseconds; `bigquery read ADDRESS PAGES` reads pages
//! and prints the bytes. The token is in the environment as TOKEN.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: usize = 10 << 20;
const QUERY: &str = r#"{"query":"SELECT id, name FROM app.customers WHERE id = 7","useLegacySql":false,"maxResults":1}"#;
const RESULT: &str = r#"{"kind":"bigquery#queryResponse","jobReference":{"projectId":"acme-prod","jobId":"j","location":"US"},"jobComplete":true,"schema":{"fields":[{"name":"id","type":"INTEGER"},{"name":"name","type":"STRING"}]},"rows":[{"f":[{"v":"7"},{"v":"x"}]}],"totalRows":"1","totalBytesProcessed":"0","totalBytesBilled":"0","cacheHit":false}"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address] => serve(address),
        ["ask", address, seconds, clients] => {
            ask(address, seconds.parse().unwrap(), clients.parse().unwrap());
        }
        ["read", address, pages] => read(address, pages.parse().unwrap()),
        _ => panic!("serve ADDRESS | ask ADDRESS SECONDS CLIENTS | read ADDRESS PAGES"),
    }
}

/// Reads a message: its first line, and its body in full; `None` at the end of the connection.
fn message(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Option<String> {
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return None;
    }
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    body.resize(length, 0);
    reader.read_exact(body).ok()?;
    Some(first)
}

fn serve(address: &str) {
    let mut row = String::from(r#"{"f":[{"v":""#);
    row.extend(std::iter::repeat_n('x', 1000));
    row.push_str(r#""}]}"#);
    let rows = vec![row; PAGE / 1012].join(",");
    let page = format!(
        r#"{{"kind":"bigquery#getQueryResultsResponse","jobReference":{{"projectId":"acme-prod","jobId":"j","location":"US"}},"jobComplete":true,"schema":{{"fields":[{{"name":"x","type":"STRING"}}]}},"totalRows":"1000000","pageToken":"more","rows":[{rows}]}}"#
    );
    let page: Arc<str> = page.into();
    for stream in TcpListener::bind(address).unwrap().incoming() {
        let (mut stream, page) = (stream.unwrap(), Arc::clone(&page));
        thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut body = Vec::new();
            while let Some(first) = message(&mut reader, &mut body) {
                let answer = if first.starts_with("POST") { RESULT } else { &page };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                let sent = stream.write_all(head.as_bytes());
                if sent.and_then(|()| stream.write_all(answer.as_bytes())).is_err() {
                    return;
                }
            }
        });
    }
}

/// A connection of one client.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    token: String,
    body: Vec<u8>,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let token = std::env::var("TOKEN").unwrap_or_default();
        Self { stream, reader, token, body: Vec::new() }
    }

    fn ask(&mut self, line: &str, body: &str) {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        let first = message(&mut self.reader, &mut self.body).expect("an answer");
        let good = first.contains(" 200 ");
        assert!(good, "{first}{}", String::from_utf8_lossy(&self.body));
    }

    fn query(&mut self) {
        self.ask("POST /bigquery/v2/projects/acme-prod/queries", QUERY);
    }
}

fn ask(address: &str, seconds: u64, clients: usize) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..clients)
        .map(|_| {
            let (mut client, all) = (Client::new(address), Arc::clone(&all));
            thread::spawn(move || {
                (0..50).for_each(|_| client.query());
                let end = Instant::now() + Duration::from_secs(seconds);
                let mut taken = Vec::new();
                while Instant::now() < end {
                    let begun = Instant::now();
                    client.query();
                    taken.push(begun.elapsed());
                }
                all.lock().unwrap().extend(taken);
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let mut all = all.lock().unwrap();
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100].as_micros();
    println!("{} {} {}", all.len() as u64 / seconds, at(50), at(99));
}

fn read(address: &str, pages: usize) {
    let mut client = Client::new(address);
    client.query();
    let text = String::from_utf8_lossy(&client.body).into_owned();
    let job = text.split(r#""jobId":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let mut bytes = 0;
    for _ in 0..pages {
        client.ask(
            &format!("GET /bigquery/v2/projects/acme-prod/queries/{job}?location=US&maxResults=10000"),
            "",
        );
        bytes += client.body.len();
    }
    println!("{bytes}");
}
