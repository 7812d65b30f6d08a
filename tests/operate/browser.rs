//! Headless Chromium, driven over its DevTools socket; nothing but the browser itself is needed.
//!
//! ```text
//! chromium --remote-debugging-port=0 -- "DevTools listening on ws://..." --> stderr
//! GET /json/list --> address of the page --> WebSocket: {"id", "method", "params"} and its answer
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Sender};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{json, Value};

use weir_testkit::http::Client;
use weir_testkit::{until, Scratch, PATIENCE};

/// Names under which it is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub struct Browser {
    child: Child,
    socket: TcpStream,
    messages: u64,
    _profile: Scratch,
}

impl Browser {
    /// None: there is none on this machine.
    pub fn start() -> Option<Browser> {
        let profile = Scratch::new("browser");
        let (mut child, address) = NAMES.iter().find_map(|name| launch(name, &profile))?;
        let mut client = Client::connect(address);
        let host = address.to_string();
        let mut page = None;
        until("the browser has a page", || {
            client.send(format!("GET /json/list HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            let targets = client.answer().json();
            let targets = targets.as_array().cloned().unwrap_or_default();
            page = targets.into_iter().find(|target| target["type"] == "page");
            page.is_some() || child.try_wait().expect("a child").is_some()
        });
        let url = page.expect("a page")["webSocketDebuggerUrl"].take();
        let url = url.as_str().expect("an address");
        let path = url.split_once(&host).expect("of this browser").1;
        Some(Browser {
            child,
            socket: upgrade(address, path),
            messages: 0,
            _profile: profile,
        })
    }

    /// Gives an order to the page; its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.messages += 1;
        let id = self.messages;
        let message = json!({ "id": id, "method": method, "params": params });
        send_text(&mut self.socket, message.to_string().as_bytes());
        loop {
            let text = read_text(&mut self.socket);
            let mut answer: Value = serde_json::from_slice(&text).expect("JSON");
            // Others are events.
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.enable", json!({}));
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Value of an expression in the page; null also while it cannot be had.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", params)["result"]["value"].take()
    }

    /// Waits until an expression is true; how long that took.
    pub fn until(&mut self, expression: &str) -> Duration {
        let began = Instant::now();
        until(expression, || self.value(expression) == true);
        began.elapsed()
    }

    /// Types into the element that this selector finds, then the Enter key.
    pub fn type_into(&mut self, selector: &str, text: &str) {
        let selector = json!(selector);
        self.value(&format!("document.querySelector({selector}).focus()"));
        self.call("Input.insertText", json!({ "text": text }));
        let key = |kind| {
            json!({ "type": kind, "key": "Enter", "code": "Enter", "text": "\r",
                "windowsVirtualKeyCode": 13 })
        };
        self.call("Input.dispatchKeyEvent", key("keyDown"));
        self.call("Input.dispatchKeyEvent", key("keyUp"));
    }

    /// Width and height in CSS pixels, colours of the system.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 2,
            "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// The page as a PNG, from top to bottom.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", params);
        let data = shot["data"].as_str().expect("an image");
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(data).expect("base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// None: it is not installed under this name.
fn launch(name: &str, profile: &Scratch) -> Option<(Child, SocketAddr)> {
    let mut child = Command::new(name)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--no-first-run", "--mute-audio"])
        .args(["--hide-scrollbars", "--remote-debugging-port=0"])
        .arg(format!(
            "--user-data-dir={}",
            profile.path("profile").display()
        ))
        .arg("about:blank")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let stderr = child.stderr.take().expect("piped");
    let (sender, address) = channel();
    std::thread::spawn(move || watch(stderr, &sender));
    let address = address.recv_timeout(PATIENCE);
    Some((child, address.expect("the browser listens")))
}

/// Finds the address, and reads on so that the browser does not stand still.
fn watch(stderr: impl Read, found: &Sender<SocketAddr>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let url = line.strip_prefix("DevTools listening on ws://");
        let address = url.and_then(|url| url.split('/').next()?.parse().ok());
        if let Some(address) = address {
            let _ = found.send(address);
        }
    }
}

fn upgrade(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    socket
}

/// One text frame. A client's frames have a mask; of zeros, it changes nothing.
fn send_text(socket: &mut TcpStream, text: &[u8]) {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()).expect("short") {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    socket.write_all(&frame).expect("written");
}

/// The next text, whole.
fn read_text(socket: &mut TcpStream) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let mut start = [0; 2];
        socket.read_exact(&mut start).expect("a frame");
        let length = match start[1] {
            126 => {
                let mut length = [0; 2];
                socket.read_exact(&mut length).expect("a length");
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                socket.read_exact(&mut length).expect("a length");
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        let mut piece = vec![0; usize::try_from(length).expect("fits")];
        socket.read_exact(&mut piece).expect("a payload");
        // 0: more of a text, 1: a text; others are pings.
        if start[0] & 0x0F <= 1 {
            text.extend_from_slice(&piece);
            if start[0] & 0x80 != 0 {
                return text;
            }
        }
    }
}
