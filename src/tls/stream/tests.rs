//! Streams of both sides over a wire in memory that takes and gives as little as it likes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, Issuer, KeyPair};

use super::*;
use crate::client::{ClientFiles, Connector};
use crate::server::{ClientCertificates, Served, ServerFiles};

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// What it holds at most.
    room: usize,
    is_closed: bool,
}

/// One end of both directions; non-blocking.
struct End {
    to: Arc<Mutex<Pipe>>,
    from: Arc<Mutex<Pipe>>,
    /// Bytes that one call moves at most.
    step: usize,
}

fn wire(room: usize, step: usize) -> (End, End) {
    let pipe = || {
        Arc::new(Mutex::new(Pipe {
            room,
            ..Pipe::default()
        }))
    };
    let (a, b) = (pipe(), pipe());
    let end = |to: &Arc<Mutex<Pipe>>, from: &Arc<Mutex<Pipe>>| End {
        to: Arc::clone(to),
        from: Arc::clone(from),
        step,
    };
    (end(&a, &b), end(&b, &a))
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.to.lock().expect("no panic while held");
        let room = pipe.room - pipe.bytes.len();
        let count = bytes.len().min(room).min(self.step);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for End {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.from.lock().expect("no panic while held");
        let count = to.len().min(pipe.bytes.len()).min(self.step);
        if count == 0 && !pipe.is_closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, byte) in to.iter_mut().zip(pipe.bytes.drain(..count)) {
            *to = byte;
        }
        Ok(count)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Ok(mut pipe) = self.to.lock() {
            pipe.is_closed = true;
        }
    }
}

/// A CA, and files of it in a folder that goes away.
struct Files {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    fn new(name: &str) -> Files {
        let folder =
            std::env::temp_dir().join(format!("weir-stream-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        std::fs::write(folder.join("ca.pem"), pem).expect("written");
        Files {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let pem = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let [chain, path] = ["pem", "key"].map(|end| self.folder.join(format!("{name}.{end}")));
        std::fs::write(&chain, pem).expect("written");
        std::fs::write(&path, key.serialize_pem()).expect("written");
        (chain, path)
    }

    fn client(&self, pair: Option<(PathBuf, PathBuf)>) -> Connector {
        let files = ClientFiles {
            ca: Some(self.ca()),
            pair,
            ..ClientFiles::default()
        };
        Connector::new(files).expect("files that fit")
    }

    fn server(&self, clients: ClientCertificates) -> Served {
        let files = ServerFiles {
            pairs: vec![self.pair("localhost")],
            client_ca: Some(self.ca()),
            clients,
            ..ServerFiles::default()
        };
        Served::read(&files).expect("files that fit")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn serve(socket: End, served: &Served) -> Stream<End> {
    let session = Session::server(Arc::clone(&served.config)).expect("settings");
    Stream::begin(socket, session).expect("a socket")
}

/// Both sides by turns, until both are done.
fn shake(client: &mut Stream<End>, server: &mut Stream<End>) -> io::Result<()> {
    for _ in 0..100_000 {
        let is_client_done = client.progress()?;
        let is_server_done = server.progress()?;
        if is_client_done && is_server_done {
            return Ok(());
        }
    }
    panic!("no end of it");
}

fn read_all(stream: &mut Stream<End>, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut some = [0; 700];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return Ok(false),
            Ok(count) => to.extend(&some[..count]),
            Err(error) if is_wait(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn all_arrives_in_order_whatever_the_socket_takes() {
    let files = Files::new("order");
    let served = files.server(ClientCertificates::Required);
    let connector = files.client(Some(files.pair("web1")));
    for (room, step) in [(1 << 20, 1 << 20), (100_000, 1_000), (500, 77), (64, 1)] {
        let (near, far) = wire(room, step);
        let mut client = connector.connect(near, Some("localhost")).expect("begun");
        let mut server = serve(far, &served);
        shake(&mut client, &mut server).expect("a handshake");
        assert_eq!(server.session().peer().expect("shown").name(), "web1");
        let sent: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut at, mut got) = (0, Vec::new());
        let mut is_open = true;
        while is_open {
            if at < sent.len() {
                match client.write(&sent[at..]) {
                    Ok(count) => at += count,
                    Err(error) => assert!(is_wait(&error), "{error}"),
                }
            } else {
                client.end().expect("said");
                client.send_unsent().expect("sent");
            }
            assert!(client.unsent_bytes() < 2 * SEALED_BYTES_MAX, "bounded");
            is_open = read_all(&mut server, &mut got).expect("read");
        }
        assert!(
            got == sent,
            "{room} {step}: {} of {}",
            got.len(),
            sent.len()
        );
        // It may still answer.
        let mut answer = Vec::new();
        while server.write(b"bye").is_err() {
            read_all(&mut client, &mut answer).expect("read");
        }
        server.end().expect("said");
        while read_all(&mut client, &mut answer).expect("read") {
            server.send_unsent().expect("sent");
        }
        assert_eq!(answer, b"bye");
        assert_eq!(
            (client.unsent.capacity(), client.opened.capacity()),
            (0, 0),
            "idle"
        );
    }
}

#[test]
fn an_end_that_nobody_said_is_an_error() {
    let files = Files::new("cut");
    let served = files.server(ClientCertificates::Off);
    let (near, far) = wire(1 << 20, 1 << 20);
    let mut client = files
        .client(None)
        .connect(near, Some("localhost"))
        .expect("begun");
    let mut server = serve(far, &served);
    shake(&mut client, &mut server).expect("a handshake");
    server.write_all(b"abc").expect("written");
    server.is_ended = true; // it does not say so
    drop(server);
    let mut got = Vec::new();
    let error = read_all(&mut client, &mut got).expect_err("cut off");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(got, b"abc", "what came before counts");
}

#[test]
fn a_client_is_not_ready_before_it_is_let_in() {
    let files = Files::new("verdict");
    let strangers = Files::new("verdict-strangers");
    let served = files.server(ClientCertificates::Required);
    for pair in [None, Some(strangers.pair("web1"))] {
        let (near, far) = wire(1 << 20, 1 << 20);
        let mut client = files
            .client(pair)
            .connect(near, Some("localhost"))
            .expect("begun");
        let mut server = serve(far, &served);
        while !client.session().is_established() {
            assert!(!client.progress().expect("no word of a refusal yet"));
            if !client.session().is_established() {
                server.progress().expect("it has not seen the certificate");
            }
        }
        assert!(!client.is_ready());
        assert!(server.progress().is_err());
        let error = client.progress().expect_err("refused").to_string();
        assert!(error.contains("alert"), "{error}");
    }
    // Who was not asked need not wait, nor who comes with a ticket.
    let open = files.server(ClientCertificates::Off);
    let (near, far) = wire(1 << 20, 1 << 20);
    let mut client = files
        .client(None)
        .connect(near, Some("localhost"))
        .expect("begun");
    let mut server = serve(far, &open);
    server.progress().expect("hello");
    assert!(client.progress().expect("a handshake"));
}

#[test]
fn a_server_that_is_silent_about_a_certificate_is_believed_after_a_second() {
    let files = Files::new("silent");
    let served = files.server(ClientCertificates::Required);
    let mut config = (*served.config).clone();
    config.send_tls13_tickets = 0;
    let (near, far) = wire(1 << 20, 1 << 20);
    let connector = files.client(Some(files.pair("web1")));
    let mut client = connector.connect(near, Some("localhost")).expect("begun");
    let session = Session::server(Arc::new(config)).expect("settings");
    let mut server = Stream::begin(far, session).expect("begun");
    let began = Instant::now();
    while !client.progress().expect("a handshake") {
        server.progress().expect("a handshake");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= VERDICT_PATIENCE);
}

#[test]
fn what_is_no_tls_is_named() {
    let files = Files::new("plain");
    let (near, mut far) = wire(1 << 20, 1 << 20);
    let mut client = files
        .client(None)
        .connect(near, Some("localhost"))
        .expect("begun");
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n")
        .expect("written");
    let error = client.progress().expect_err("no TLS").to_string();
    assert!(
        error.contains("its answer begins with HTTP/1.1 400"),
        "{error}"
    );
    let (near, far) = wire(1 << 20, 1 << 20);
    let mut client = files
        .client(None)
        .connect(near, Some("localhost"))
        .expect("begun");
    drop(far);
    let error = client.progress().expect_err("closed").to_string();
    assert!(error.contains("is TLS spoken at that port?"), "{error}");
}

#[test]
fn names_and_files_that_cannot_be_used_are_refused() {
    let files = Files::new("files");
    let connector = files.client(None);
    for (host, said) in [
        (Some("a b"), "no name that a certificate can have"),
        (None, "--tls-name"),
    ] {
        let (near, _far) = wire(1, 1);
        let error = connector
            .connect(near, host)
            .expect_err("nobody")
            .to_string();
        assert!(error.contains(said), "{host:?}: {error}");
    }
    let (chain, key) = files.pair("web1");
    let (_, other) = files.pair("web2");
    let with = |change: &dyn Fn(&mut ClientFiles)| {
        let mut of = ClientFiles {
            ca: Some(files.ca()),
            ..ClientFiles::default()
        };
        change(&mut of);
        Connector::new(of).expect_err("it does not fit")
    };
    let wrong_key = with(&|of| of.pair = Some((chain.clone(), other.clone())));
    assert!(
        wrong_key.contains("web2.key: it is not the key of"),
        "{wrong_key}"
    );
    let no_ca = with(&|of| of.ca = Some(key.clone()));
    assert!(no_ca.contains("web1.key: no certificate in it"), "{no_ca}");
    let missing = with(&|of| of.ca = Some(files.folder.join("no.pem")));
    assert!(missing.contains("no.pem: No such file"), "{missing}");
}

#[test]
fn files_that_change_are_read_again_and_what_does_not_fit_is_told_once() {
    let files = Files::new("renewed");
    let connector = files.client(Some(files.pair("web1")));
    let shown = |connector: &Connector| {
        let served = files.server(ClientCertificates::Required);
        let (near, far) = wire(1 << 20, 1 << 20);
        let mut client = connector.connect(near, Some("localhost")).expect("begun");
        let mut server = serve(far, &served);
        shake(&mut client, &mut server).expect("a handshake");
        server.session().peer().expect("shown").fingerprint
    };
    let first = shown(&connector);
    std::fs::write(files.folder.join("web1.key"), "half of a").expect("written");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(shown(&connector), first, "what was read before stays");
    let told = connector.take_refusal().expect("told");
    assert!(told.contains("web1.key"), "{told}");
    assert_eq!(connector.take_refusal(), None, "once");
    files.pair("web1");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_ne!(shown(&connector), first, "the new one");
}
