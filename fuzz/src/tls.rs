//! The side of TLS that listens: what arrives is cut at any place, and changed on its way.
//!
//! Input: u8 settings (bit 0: 1.2 and not 1.3; bit 1: garbage before any hello), then operations: what a client does, how
//! its bytes are cut, which of them are changed. The client is rustls' own.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use weir::tls::{whole_records, Served, ServerFiles, Session, Wire, CARRIED_BYTES_MAX};
use weir_testkit::Authority;

use super::input::Input;

/// Operations of one input.
const OPERATIONS_MAX: usize = 64;
/// Key updates of one input. A session takes so many with nothing between them, and a client as many in answer.
const UPDATES_MAX: usize = 32;

struct Ground {
    served: Served,
    clients: [Arc<ClientConfig>; 2],
}

/// Made once: a key takes longer than an input.
fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let authority = Authority::new("fuzz-tls");
        let pair = authority.pair("localhost");
        let files = ServerFiles {
            pairs: vec![(pair.cert, pair.key)],
            ..ServerFiles::default()
        };
        let served = Served::read(&files).expect("a pair");
        let clients = [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_file(authority.ca()).expect("PEM");
            roots.add(ca).expect("a CA");
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider);
            let builder = builder.with_protocol_versions(&[version]).expect("known");
            Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
        });
        Ground { served, clients }
    })
}

/// A client and a session, and what went between them.
struct Talk {
    client: ClientConnection,
    session: Session,
    said: Vec<u8>,
    heard: Vec<u8>,
    updates: usize,
    is_changed: bool,
    is_over: bool,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let settings = input.u8();
    let ground = ground();
    let session = Session::server(Arc::clone(&ground.served.config)).expect("settings");
    let config = Arc::clone(&ground.clients[usize::from(settings & 1)]);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("settings");
    // What it has said before its handshake is done waits.
    client.set_buffer_limit(None);
    let mut talk = Talk {
        client,
        session,
        said: Vec::new(),
        heard: Vec::new(),
        updates: 0,
        is_changed: settings & 2 != 0,
        is_over: false,
    };
    if settings & 2 != 0 {
        let len = usize::from(input.u8());
        let mut garbage: Vec<u8> = (0..len).map(|_| input.u8()).collect();
        assert!(whole_records(&garbage) <= garbage.len());
        talk.arrives(&mut garbage);
    }
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() || talk.is_over {
            break;
        }
        talk.step(&mut input);
    }
    match talk.is_changed {
        // Whatever was changed: what was heard before is the beginning of what was said.
        true => assert!(talk.said.starts_with(&talk.heard)),
        false => {
            while !talk.is_over && talk.deliver(&mut Input::new(&[255, 255]), 0) {}
            assert_eq!(talk.heard.len(), talk.said.len());
            assert!(talk.heard == talk.said && !talk.is_over);
        }
    }
}

impl Talk {
    fn step(&mut self, input: &mut Input) {
        match input.u8() % 8 {
            0..=2 => {
                let len = usize::from(input.u16()) % 20_000;
                let bytes = vec![input.u8(); len];
                self.client.writer().write_all(&bytes).expect("memory");
                self.said.extend_from_slice(&bytes);
            }
            3 if self.updates < UPDATES_MAX => {
                self.updates += 1;
                // Before the handshake is done there are no keys.
                let _ = self.client.refresh_traffic_keys();
            }
            4 if self.session.is_established() => self.answers(usize::from(input.u16())),
            5 => {
                let changes = usize::from(input.u8());
                self.deliver(input, changes);
            }
            _ => {
                self.deliver(input, 0);
            }
        }
    }

    /// The session says something, and the client hears it.
    fn answers(&mut self, len: usize) {
        let mut wire = Wire::default();
        let sealed = self.session.seal(&vec![7; len], &mut wire);
        assert!(sealed.is_ok() || self.is_changed, "{sealed:?}");
        self.client_hears(&wire);
    }

    /// What the client has said arrives, in pieces, with `changes` of its bytes changed. False: it has said nothing.
    fn deliver(&mut self, input: &mut Input, changes: usize) -> bool {
        let mut bytes = Vec::new();
        while self.client.wants_write() && self.client.write_tls(&mut bytes).is_ok() {}
        let piece = usize::from(input.u16()).max(1);
        for _ in 0..changes.min(4) {
            let at = usize::from(input.u16());
            let by = input.u8();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= by;
                self.is_changed |= by != 0;
            }
        }
        let has_said = !bytes.is_empty();
        for part in bytes.chunks_mut(piece) {
            self.arrives(part);
        }
        has_said
    }

    fn arrives(&mut self, bytes: &mut [u8]) {
        let mut wire = Wire::default();
        let heard = &mut self.heard;
        let opened = self.session.open(
            bytes,
            &mut |bytes| heard.extend_from_slice(bytes),
            &mut wire,
        );
        assert!(self.session.carried_bytes() <= CARRIED_BYTES_MAX + bytes.len());
        if let Err(failure) = opened {
            assert!(self.is_changed, "{failure}");
            self.is_over = true;
        }
        self.client_hears(&wire);
    }

    fn client_hears(&mut self, wire: &Wire) {
        let mut bytes = wire.bytes();
        while !bytes.is_empty() {
            if self.client.read_tls(&mut bytes).is_err() {
                return;
            }
            let processed = self.client.process_new_packets();
            assert!(processed.is_ok() || self.is_changed, "{processed:?}");
            let mut part = [0; 4096];
            while let Ok(1..) = self.client.reader().read(&mut part) {}
            if processed.is_err() {
                self.is_over = true;
                return;
            }
        }
    }
}
