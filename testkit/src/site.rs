//! A distributor process with an admin socket and a configuration file, and `weir ctl` beside it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Answer, HttpAnalyzer};
use crate::process::{run, signal};
use crate::{until, Distributor, Ended, Scratch, PATIENCE};

/// A distributor with an admin socket.
pub struct Site {
    /// The process.
    pub distributor: Distributor,
    /// Its files: `weir.toml`, `admin.sock`.
    pub scratch: Scratch,
}

impl Site {
    /// With `weir.toml` of this text, and `flags` separated by white space.
    pub fn start(name: &str, toml: &str, flags: &str) -> Site {
        let start = Distributor::start_as_configured;
        Site::start_by(Scratch::new(name), toml, flags, start)
    }

    /// The same, started by `start`, with a folder that was made before.
    pub fn start_by(
        scratch: Scratch,
        toml: &str,
        flags: &str,
        start: impl FnOnce(&str) -> Distributor,
    ) -> Site {
        let config = scratch.write("weir.toml", toml);
        let flags = format!(
            "--http 127.0.0.1:0 --config {} --admin {} {flags}",
            config.display(),
            scratch.path("admin.sock").display()
        );
        let distributor = start(&flags);
        Site {
            distributor,
            scratch,
        }
    }

    /// Where HTTP clients connect.
    pub fn http(&self) -> std::net::SocketAddr {
        self.distributor.http.expect("it listens")
    }

    /// Answer of the admin socket, which no rate limit holds up.
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.text(path)).expect("JSON")
    }

    /// The same as bytes.
    pub fn text(&self, path: &str) -> Vec<u8> {
        let mut socket = UnixStream::connect(self.scratch.path("admin.sock")).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).expect("an answer");
        let (answer, _) = Answer::parse(&bytes).expect("a whole answer");
        answer.body.into_bytes()
    }

    /// Another text of `weir.toml`, not read yet.
    pub fn rewrite(&self, toml: &str) {
        self.scratch.write("weir.toml", toml);
    }

    /// SIGHUP: it reads its configuration again.
    pub fn hang_up(&self) {
        signal("-HUP", self.distributor.pid());
    }

    /// `weir <arguments>` against the admin socket; its output, which must be a success.
    pub fn weir(&self, arguments: &str) -> String {
        let output = self.try_weir(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same, which may fail.
    pub fn try_weir(&self, arguments: &str) -> Output {
        let socket = self.scratch.path("admin.sock");
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        words.extend(["--admin", path_text(&socket)]);
        run(&words)
    }

    /// `weir ctl --json ...`
    pub fn ctl(&self, arguments: &str) -> Value {
        let text = self.weir(&format!("ctl --json {arguments}"));
        serde_json::from_str(&text).expect("JSON")
    }

    /// One analyzer in `/stats`, `Null` if it is not there.
    pub fn stats_of(&self, id: &str) -> Value {
        self.get("/stats")["analyzers"][id].take()
    }

    /// One analyzer in `/analyzers`, `Null` if it is not there.
    pub fn analyzer(&self, id: &str) -> Value {
        let answer = self.get("/analyzers");
        let rows = answer["analyzers"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["id"] == id);
        row.cloned().unwrap_or_default()
    }

    /// Waits until it stands so.
    pub fn until_standing(&self, id: &str, standing: &str) -> Duration {
        let began = Instant::now();
        until(&format!("{id} is {standing}"), || {
            self.analyzer(id)["standing"] == standing
        });
        began.elapsed()
    }

    /// SIGTERM, and what it left behind.
    pub fn stop(self) -> Ended {
        self.distributor.stop()
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// Its table in a configuration file.
pub fn toml_of(analyzer: &HttpAnalyzer, weight: f64) -> String {
    let HttpAnalyzer { name, address, .. } = analyzer;
    format!(
        "[[http_analyzers]]\nid = \"{name}\"\nendpoint = \"http://{address}\"\nweight = {weight}\n"
    )
}
