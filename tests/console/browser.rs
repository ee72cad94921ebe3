//! The page in headless Chromium, by its DevTools protocol over a pipe. Where there is no Chromium
//! the test says so.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::hostile::hostile;
use crate::site::{Site, block_on, write};

/// A browser with one open page.
struct Browser {
    child: Child,
    input: File,
    output: BufReader<File>,
    session: String,
    next: u64,
    /// What the page complained about: exceptions, blocked loads, foreign requests.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
    })
}

impl Browser {
    fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (to, from) = (profile.path().join("to"), profile.path().join("from"));
        assert!(Command::new("mkfifo").arg(&to).arg(&from).status().unwrap().success());
        // File descriptors 3 and 4 are the pipe; a shell puts them there.
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
                  --disable-dev-shm-usage --no-first-run --window-size=1280,900 \
                  --user-data-dir=\"$1/profile\" --remote-debugging-pipe about:blank 3<\"$1/to\" 4>\"$1/from\"")
            .arg(program)
            .arg(profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = File::options().write(true).open(&to).unwrap();
        let output = BufReader::new(File::open(&from).unwrap());
        let mut browser = Self {
            child,
            input,
            output,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.answer(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The method's result, or the browser's error.
    fn answer(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.read();
            if message["id"] == id {
                let error = &message["error"];
                return error.is_null().then(|| message["result"].clone()).ok_or(error.clone());
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        let (method, parameters) = (message["method"].as_str(), &message["params"]);
        match method {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => {
                self.complaints.push(parameters.to_string());
            }
            Some("Network.requestWillBeSent") => {
                let address = parameters["request"]["url"].as_str().unwrap_or_default();
                if !address.starts_with("http://127.0.0.1:") && !address.starts_with("about:") {
                    self.complaints.push(format!("a request to {address}"));
                }
            }
            Some(_) | None => {}
        }
        message
    }

    fn evaluate(&mut self, script: &str) -> Value {
        self.value(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    fn value(&mut self, script: &str) -> Result<Value, Value> {
        let parameters = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        Ok(self.answer("Runtime.evaluate", parameters)?["result"]["value"].clone())
    }

    /// Waits for a script to be true. A page that gives way to the next in that moment answers with an
    /// error, which says "not yet" here.
    fn until(&mut self, script: &str) {
        let began = Instant::now();
        while self.value(script) != Ok(Value::Bool(true)) {
            assert!(began.elapsed() < Duration::from_secs(30), "never: {script}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
        let path = address.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap().1;
        let here = format!(
            "document.readyState === 'complete' && location.href.endsWith({})",
            json!(format!("/{path}"))
        );
        self.until(&here);
    }

    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key});
            if key == "Enter" {
                event = json!({"type": kind, "key": key, "code": key, "text": "\r",
                    "windowsVirtualKeyCode": 13});
            } else if key == "Tab" {
                event = json!({"type": kind, "key": key, "code": key,
                    "windowsVirtualKeyCode": 9});
            } else if kind == "keyDown" && key.len() == 1 {
                event["text"] = key.into();
            }
            // A key that leads to another page may be answered by the page's end.
            if let Err(error) = self.answer("Input.dispatchKeyEvent", event) {
                assert_eq!(error["message"], "Inspected target navigated or closed", "{key}");
            }
        }
    }

    /// As the reader's setting is: `light` or `dark`.
    fn scheme(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    fn screenshot(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"}));
        base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }
}

/// A browser, or a line about why there is none.
fn browser() -> Option<Browser> {
    let found = chromium();
    if found.is_none() {
        eprintln!("skipped: there is no Chromium here (Debian's package `chromium`)");
    }
    found.map(|program| Browser::start(&program))
}

#[test]
fn every_page_opens_is_clicked_and_complains_of_nothing() {
    let Some(mut browser) = browser() else { return };
    let root = tempfile::tempdir().unwrap();
    let (end, span) = (jiff::Timestamp::now(), Duration::from_secs(86_400));
    block_on(crate::audit_data::write(root.path(), 8_000, span, end, 1 << 20));
    let site = Site::over(root.path());
    site.until_home_says("4 chains intact");
    let home = format!("http://{}/", site.address);
    browser.open(&home);
    assert!(
        browser.evaluate("document.querySelectorAll('svg.bars rect').length").as_u64() > Some(20)
    );
    // Without sideways scrolling at the usual widths.
    let wide = "document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.evaluate(wide), Value::Bool(true));

    // A rule, a bar of the plot, a window, a group: each is a link that leads on.
    for selector in [
        ".list a[href*='code=HR1011']",
        ".bars a[href*='since=']:not([tabindex])",
        ".chips a[href*='since=24h']",
        ".tile.alarm",
        "nav a[href='/?by=statement']",
        "nav a[href='/sources']",
    ] {
        browser.open(&home);
        let click = format!(
            "(() => {{ const a = document.querySelector({selector:?}); if (!a) return false; \
             a.dispatchEvent(new MouseEvent('click', {{bubbles: true, cancelable: true}})); return true; }})()"
        );
        assert_eq!(browser.evaluate(&click), Value::Bool(true), "{selector}");
        browser.until(&format!(
            "document.readyState === 'complete' && location.href !== {}",
            json!(home)
        ));
        assert_eq!(browser.evaluate(wide), Value::Bool(true), "{selector}");
        assert_ne!(
            browser.evaluate("document.querySelector('main').innerText.length > 50"),
            Value::Bool(false)
        );
    }

    // Keys: search, move, open, back.
    browser.open(&home);
    browser.press("/");
    assert_eq!(browser.evaluate("document.activeElement.id"), "q");
    browser.press("Escape");
    browser.press("j");
    browser.press("j");
    browser.press("k");
    assert_eq!(
        browser.evaluate("[...document.querySelectorAll('[data-row]')].findIndex(r => r.classList.contains('at'))"),
        0
    );
    browser.press("Enter");
    browser.until("location.pathname.startsWith('/record/') && document.readyState === 'complete'");
    assert!(browser.evaluate("document.querySelector('h1').innerText").as_str().is_some());
    browser.press("u");
    browser.until("location.pathname === '/' && document.readyState === 'complete'");

    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        let bright =
            "parseInt(getComputedStyle(document.body).backgroundColor.split('(')[1]) > 128";
        assert_eq!(browser.evaluate(bright), Value::Bool(scheme == "light"));
        assert!(browser.screenshot().len() > 10_000);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_live_view_shows_a_denial_as_it_happens() {
    let Some(mut browser) = browser() else { return };
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    write(&directory, hostile());
    let site = Site::over(root.path());
    site.until_home_says("1 chain intact");
    browser.open(&format!("http://{}/?code=HR1005", site.address));
    browser.press("l");
    browser.until("document.querySelector('[data-live]').getAttribute('aria-pressed') === 'true'");
    let mut fresh = hostile().remove(0);
    fresh.code = Some(hedgerow::error::DenialCode::Function);
    fresh.time = jiff::Timestamp::now();
    write(&directory, vec![fresh]);
    browser.until("document.querySelectorAll('[data-rows] tr.fresh').length === 1");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn hostile_records_run_nothing_in_a_real_browser() {
    let Some(mut browser) = browser() else { return };
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("audit"), hostile());
    let site = Site::over(root.path());
    let home = site.until_home_says("1 chain intact");
    let mut pages = home.links("/record/");
    pages.truncate(12);
    pages.extend(["/", "/?by=statement", "/sources", "/?show=all"].map(str::to_owned));
    for page in pages {
        browser.open(&format!("http://{}{page}", site.address));
        let title = browser.evaluate("document.title");
        assert!(title.as_str().unwrap().ends_with("· Hedgerow"), "{page}: {title}");
        let made = "document.querySelectorAll('main img, iframe, main script').length";
        assert_eq!(browser.evaluate(made), 0, "{page}");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}
