//! What records hold is judged as rustls judges it: the same contents, sealed by the same hand, are opened by both.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::*;
use crate::records::{Records, EMPTY_RECORDS_MAX};

/// A client whose records are made here, and a server with or without records of our own.
struct Side {
    client: Session,
    server: Session,
    heard: Vec<u8>,
}

/// What one record has come to.
#[derive(Debug, PartialEq)]
struct Verdict {
    failed: Option<FailureKind>,
    has_ended: bool,
    /// Bytes of answers.
    answered: usize,
}

impl Side {
    fn new(ca: &Ca, served: &Served, is_own: bool) -> Side {
        let mut config = (*served.config).clone();
        config.enable_secret_extraction = is_own;
        let mut server = Session::server(Arc::new(config)).expect("settings");
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("PEM");
        roots.add(pem).expect("a CA");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("1.3");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = Session::client(Arc::new(config), name).expect("settings");
        let (mut up, mut down) = (Wire::new(), Wire::new());
        client.begin(&mut up).expect("a hello");
        while !(client.is_established() && server.is_established() && up.is_empty()) {
            let mut bytes = std::mem::take(&mut up).bytes().to_vec();
            server
                .open(&mut bytes, &mut |_| (), &mut down)
                .expect("open");
            let mut bytes = std::mem::take(&mut down).bytes().to_vec();
            client.open(&mut bytes, &mut |_| (), &mut up).expect("open");
        }
        assert!(matches!(client.side, super::super::Side::Records(_)));
        let is_converted = matches!(server.side, super::super::Side::Records(_));
        assert_eq!(is_converted, is_own);
        Side {
            client,
            server,
            heard: Vec::new(),
        }
    }

    fn records(&mut self) -> &mut Records {
        match &mut self.client.side {
            super::super::Side::Records(records) => records,
            _ => unreachable!("asserted in new"),
        }
    }

    /// A record of this type with these contents, and zeros behind the type.
    fn says(&mut self, kind: u8, contents: &[u8], zeros: usize) -> Verdict {
        let mut wire = Wire::new();
        let inner = [contents, &[kind], &vec![0; zeros]].concat();
        let (last, inner) = inner.split_last().expect("a type");
        self.records().put(*last, inner, &mut wire).expect("sealed");
        if kind == 22 && matches!(contents, [24, 0, 0, 1, 0 | 1]) {
            self.records().follow_own_update().expect("1.3");
        }
        let mut bytes = wire.bytes().to_vec();
        let (heard, mut answer) = (&mut self.heard, Wire::new());
        let opened = self.server.open(
            &mut bytes,
            &mut |bytes| heard.extend_from_slice(bytes),
            &mut answer,
        );
        Verdict {
            failed: opened.err().map(|failure| failure.kind),
            has_ended: self.server.has_ended(),
            answered: answer.len(),
        }
    }
}

/// A random number below `below`, of a small generator.
fn below(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    (*state >> 33) % below
}

/// Type, contents, zeros behind it.
fn any_record(state: &mut u64) -> (u8, Vec<u8>, usize) {
    let len = below(state, 400) as usize;
    let zeros = [0, 0, 0, 1, 100][below(state, 5) as usize];
    let data = vec![7; len];
    match below(state, 16) {
        0..=5 => (23, data, zeros),
        6 => (22, vec![24, 0, 0, 1, 0], zeros),
        7 => (22, vec![24, 0, 0, 1, 1], zeros),
        8 => (23, Vec::new(), zeros),
        9 => (21, vec![1, 0], zeros),
        10 => (
            21,
            vec![
                below(state, 3) as u8,
                [10, 90, 90, 42][below(state, 4) as usize],
            ],
            zeros,
        ),
        11 => (22, vec![24, 0, 0, 1, 2], zeros),
        12 => (22, vec![24, 0, 0, 1, 0, 24], zeros),
        13 => (
            below(state, 30) as u8,
            vec![1; below(state, 6) as usize],
            zeros,
        ),
        14 => (22, vec![below(state, 30) as u8, 0, 0, 2, 1, 1], zeros),
        _ => (0, vec![0; len], zeros),
    }
}

#[test]
fn what_records_hold_is_judged_as_rustls_judges_it() {
    let ca = Ca::new("judged");
    let served = ca.served(|_| ());
    let mut state = 1;
    for round in 0..300 {
        let mut own = Side::new(&ca, &served, true);
        let mut theirs = Side::new(&ca, &served, false);
        for nth in 0..20 {
            let (kind, contents, zeros) = any_record(&mut state);
            let verdict = own.says(kind, &contents, zeros);
            let expected = theirs.says(kind, &contents, zeros);
            let what = format!("{round}.{nth}: type {kind}, {contents:?}, {zeros} zeros");
            assert_eq!(verdict.failed, expected.failed, "{what}");
            assert_eq!(verdict.has_ended, expected.has_ended, "{what}");
            if verdict.failed.is_none() {
                assert_eq!(own.heard, theirs.heard, "{what}");
                // Both answer a change of the key with their next words.
                assert_eq!(verdict.answered, expected.answered, "{what}");
            }
            if verdict.failed.is_some() || verdict.has_ended {
                break;
            }
        }
    }
}

#[test]
fn limits_are_kept() {
    let ca = Ca::new("limits");
    let served = ca.served(|_| ());
    let new = || Side::new(&ca, &served, true);

    // A record of full length, and one that is longer.
    let mut side = new();
    assert_eq!(side.says(23, &[1; 16_384], 0).failed, None);
    assert_eq!(side.says(23, &[1; 16_384], 200).failed, None, "padding");
    let verdict = side.says(23, &[1; 16_385], 0);
    assert_eq!(verdict.failed, Some(FailureKind::Protocol));
    assert_eq!(side.heard.len(), 2 * 16_384);

    // 32 changes of the key without a word between them, and as many with.
    let mut side = new();
    let update = [24, 0, 0, 1, 0];
    for nth in 0..100 {
        assert_eq!(side.says(22, &update, 0).failed, None, "{nth}");
        assert_eq!(side.says(23, b"word", 0).failed, None, "{nth}");
    }
    let many = (0..40).find(|_| side.says(22, &update, 0).failed.is_some());
    assert_eq!(many, Some(32));

    // A header that says too much is refused before the rest comes, and so is what nobody has sealed.
    for header in [[23, 3, 3, 0xff, 0xff], [22, 3, 3, 0, 40]] {
        let mut side = new();
        for byte in header {
            let opened = side.server.open(&mut [byte], &mut |_| (), &mut Wire::new());
            if opened.is_err() {
                break;
            }
        }
        assert!(side.server.has_failed(), "{header:?}");
        assert!(side.server.carried_bytes() <= 5);
    }

    // A message about the connection that never ends.
    let mut side = new();
    assert_eq!(side.says(22, &[24, 0], 0).failed, None);
    assert_eq!(side.says(22, &[0, 1, 0], 0).failed, None, "in two records");
    let verdict = side.says(22, &[4, 0xff, 0xff, 0xff], 0);
    assert_eq!(verdict.failed, Some(FailureKind::Protocol));
}

#[test]
fn a_key_that_has_sealed_enough_is_followed_by_another() {
    let ca = Ca::new("enough");
    let served = ca.served(|_| ());
    let mut side = Side::new(&ca, &served, false);
    side.records().limit(3);
    let (mut wire, mut heard) = (Wire::new(), Vec::new());
    let said: Vec<u8> = (0..100_000_u32).map(|nth| nth as u8).collect();
    side.client.seal(&said, &mut wire).expect("open");
    let mut bytes = wire.bytes().to_vec();
    let opened = side.server.open(
        &mut bytes,
        &mut |bytes| heard.extend_from_slice(bytes),
        &mut Wire::new(),
    );
    opened.expect("as rustls has it");
    assert!(heard == said);
    // Seven records, and two changes of the key.
    assert_eq!(wire.len(), said.len() + 7 * 22 + 2 * 27);
}

#[test]
fn who_asks_for_other_keys_again_and_again_gets_one_with_the_next_words() {
    let ca = Ca::new("asks");
    let served = ca.served(|_| ());
    for is_own in [true, false] {
        let mut side = Side::new(&ca, &served, is_own);
        for nth in 0..40 {
            let verdict = side.says(22, &[24, 0, 0, 1, 1], 0);
            assert_eq!((verdict.failed, verdict.answered), (None, 0), "{nth}");
            assert_eq!(side.says(23, b"word", 0).failed, None, "{nth}");
        }
        let (mut wire, mut heard) = (Wire::new(), Vec::new());
        side.server.seal(b"x", &mut wire).expect("open");
        assert_eq!(wire.len(), 27 + 23, "an update, and what is said");
        let mut bytes = wire.bytes().to_vec();
        let opened = side.client.open(
            &mut bytes,
            &mut |bytes| heard.extend_from_slice(bytes),
            &mut Wire::new(),
        );
        opened.expect("one update");
        assert_eq!(heard, b"x");
    }
}

#[test]
fn beginnings_of_messages_are_counted_and_no_longer_than_messages() {
    let ca = Ca::new("beginnings");
    let served = ca.served(|_| ());
    // A key update of 24,572 bytes, and what no client says behind its handshake: told by the header.
    for begins in [[24, 0, 0x5f, 0xfc], [4, 0, 1, 0], [11, 0, 1, 0]] {
        let mut side = Side::new(&ca, &served, true);
        assert_eq!(side.says(22, &begins[..3], 0).failed, None);
        assert!(side.server.is_amid_message() && side.server.held_bytes() < 64);
        let verdict = side.says(22, &begins[3..], 0);
        assert_eq!(verdict.failed, Some(FailureKind::Protocol), "{begins:?}");
    }
    // A server's ticket may be long.
    let mut side = Side::new(&ca, &served, true);
    let mut wire = Wire::new();
    let begins = [&[4, 0, 0x50, 0][..], &[0; 8000]].concat();
    match &mut side.server.side {
        super::super::Side::Records(records) => records.put(22, &begins, &mut wire),
        _ => unreachable!("asserted in new"),
    }
    .expect("sealed");
    let mut bytes = wire.bytes().to_vec();
    let opened = side.client.open(&mut bytes, &mut |_| (), &mut Wire::new());
    opened.expect("its beginning");
    assert!(side.client.is_amid_message() && side.client.held_bytes() >= 8000);
    side.client.give_up();
    assert_eq!(side.client.held_bytes(), 0);
}

#[test]
fn records_that_hold_nothing_but_padding_are_counted() {
    let ca = Ca::new("padding");
    let served = ca.served(|_| ());
    let mut side = Side::new(&ca, &served, true);
    for round in 0..3 {
        for nth in 0..EMPTY_RECORDS_MAX {
            assert_eq!(side.says(23, &[], 100).failed, None, "{round} {nth}");
        }
        assert_eq!(side.says(23, &[7], 100).failed, None, "{round}");
    }
    let failed = (0..=EMPTY_RECORDS_MAX).find_map(|_| side.says(23, &[], 100).failed);
    assert_eq!(failed, Some(FailureKind::Protocol));
    // Between updates of the key they are nothing.
    let mut side = Side::new(&ca, &served, true);
    let failed = (0..40).find_map(|nth| {
        let is_with_empty = nth % 2 == 0;
        let empty = is_with_empty
            .then(|| side.says(23, &[], 1).failed)
            .flatten();
        empty.or(side.says(22, &[24, 0, 0, 1, 0], 0).failed)
    });
    assert_eq!(failed, Some(FailureKind::Protocol));
}

#[test]
fn what_came_before_too_many_empty_records_is_opened() {
    let ca = Ca::new("before");
    let served = ca.served(|_| ());
    for is_own in [true, false] {
        let mut side = Side::new(&ca, &served, is_own);
        let mut wire = Wire::new();
        for nth in 0..40 + EMPTY_RECORDS_MAX {
            let contents: &[u8] = if nth < 3 { b"one" } else { b"" };
            side.records().put(23, contents, &mut wire).expect("sealed");
        }
        let (mut bytes, mut heard, mut answer) = (wire.bytes().to_vec(), Vec::new(), Wire::new());
        let mut put = |bytes: &[u8]| heard.extend_from_slice(bytes);
        let failure = side.server.open(&mut bytes, &mut put, &mut answer);
        let failure = failure.expect_err("too many");
        assert!(failure.text.contains("without contents"), "{failure}");
        assert_eq!(heard, b"oneoneone", "{is_own}");
        // rustls does not say it.
        assert_eq!(is_own, !answer.is_empty());
    }
}

/// Says this to the client as messages of a handshake, in records of so many bytes.
fn tell(side: &mut Side, contents: &[u8], piece: usize) -> Result<Vec<u8>, Failure> {
    let mut wire = Wire::new();
    let super::super::Side::Records(records) = &mut side.server.side else {
        unreachable!("asserted in new");
    };
    for part in contents.chunks(piece) {
        records.put(22, part, &mut wire).expect("sealed");
    }
    records.put(23, b"x", &mut wire).expect("sealed");
    let (mut bytes, mut heard) = (wire.bytes().to_vec(), Vec::new());
    let mut put = |bytes: &[u8]| heard.extend_from_slice(bytes);
    let opened = side.client.open(&mut bytes, &mut put, &mut Wire::new());
    opened.map(|()| heard)
}

/// NewSessionTicket with a ticket and one extension of so many bytes.
fn ticket(ticket: u16, extension: u16) -> Vec<u8> {
    let mut body = [&[0, 0, 0, 9, 1, 2, 3, 4, 1, 0][..], &ticket.to_be_bytes()].concat();
    body.resize(body.len() + usize::from(ticket), 7);
    body.extend((extension + 4).to_be_bytes());
    body.extend([0xfa, 0xfa]);
    body.extend(extension.to_be_bytes());
    body.resize(body.len() + usize::from(extension), 8);
    let len = u32::try_from(body.len())
        .expect("three bytes")
        .to_be_bytes();
    [&[4], &len[1..], &body].concat()
}

#[test]
fn a_ticket_of_any_length_breaks_nothing_and_holds_little() {
    let ca = Ca::new("long-ticket");
    let served = ca.served(|_| ());
    for piece in [16_384, 1000, 3] {
        let mut side = Side::new(&ca, &served, true);
        for (len, extension) in [(65_535, 65_530), (100, 0), (30_000, 0), (24_000, 0)] {
            let said = ticket(len, extension);
            // Two of them, the second right behind the first.
            let heard = tell(&mut side, &[&said[..], &said].concat(), piece);
            assert_eq!(heard.ok(), Some(b"x".to_vec()), "{len} in {piece}");
            assert_eq!(side.client.held_bytes(), 0);
        }
        // Half of one is no memory, and nothing else may come within.
        let said = ticket(65_535, 0);
        let failure = tell(&mut side, &said[..40_000], piece);
        assert!(failure.is_err() && side.client.held_bytes() < 64 * 1024);
    }
    // Longer than a ticket can be.
    let mut side = Side::new(&ca, &served, true);
    assert!(tell(&mut side, &[4, 2, 1, 10], 4).is_err());
}

#[test]
fn tickets_are_counted_between_data() {
    let ca = Ca::new("tickets");
    let served = ca.served(|_| ());
    for len in [100, 40_000] {
        let mut side = Side::new(&ca, &served, true);
        let many = |count| ticket(len, 0).repeat(count);
        for _ in 0..3 {
            tell(&mut side, &many(32), 16_384).expect("as many as may come");
        }
        let failure = tell(&mut side, &many(33), 16_384).expect_err("one more");
        assert!(failure.text.contains("tickets (more than 32"), "{failure}");
        // A server that only listens may send one now and then.
        let mut side = Side::new(&ca, &served, true);
        for _ in 0..100 {
            let mut wire = Wire::new();
            side.client.seal(b"y", &mut wire).expect("open");
            let super::super::Side::Records(records) = &mut side.server.side else {
                unreachable!("asserted in new");
            };
            let mut wire = Wire::new();
            for part in many(1).chunks(16_384) {
                records.put(22, part, &mut wire).expect("sealed");
            }
            let mut bytes = wire.bytes().to_vec();
            let opened = side.client.open(&mut bytes, &mut |_| (), &mut Wire::new());
            opened.expect("a ticket");
        }
    }
}
