//! The table, and what must hold for every line of it.

use super::*;

fn named(name: &str) -> Sink {
    let mut all = Sink::ALL.iter().copied();
    all.find(|sink| sink.as_str() == name)
        .expect("in the table")
}

#[test]
fn the_table_says_what_the_documents_say() {
    let listed = |sink: Sink| {
        let facts = sink.facts();
        let bits = match facts.acks.numbers() {
            AckNumbers::Wrapping { bits } => bits,
            AckNumbers::Whole => 64,
        };
        (
            facts.layout,
            facts.links,
            bits,
            facts.acks.may_keep_remainder(),
        )
    };
    use {Layout::*, Links::*};
    assert_eq!(listed(named("typed")), (Frames, Single, 32, true));
    assert_eq!(listed(named("compact")), (Frames, Single, 31, true));
    assert_eq!(listed(named("native")), (Batches, PerShard, 64, false));
    assert_eq!(listed(named("http")), (Records, Pool, 64, false));
    assert_eq!(named("http").facts().acks, Acks::PerItem);
    for (name, acks) in [
        ("forward", Acks::PerItem),
        ("lumberjack", Acks::PerItem),
        ("relp", Acks::PerItem),
        ("syslog", Acks::Lagged),
        ("file", Acks::Durable),
        ("exec", Acks::PerItem),
    ] {
        assert_eq!(listed(named(name)), (Records, Outlet, 64, false));
        assert_eq!(named(name).facts().acks, acks);
        let is_weak = acks.worth() == Worth::Weak;
        assert_eq!(is_weak, name == "syslog");
    }
    for requests in ["ndjson", "json", "elasticsearch", "otlp", "loki", "hec"] {
        let sink = named(requests);
        assert_eq!(listed(sink), (Records, Pool, 64, false));
        assert_eq!(sink.facts().acks, Acks::PerItem);
        let format = request::Format::of(sink, &Default::default());
        assert!(format.is_some(), "{sink}");
    }
    assert_eq!(Sink::ALL.len(), 16, "a line more: say here what it is");
}

#[test]
fn native_analyzers_alone_can_be_told_something() {
    for sink in Sink::ALL.iter().copied() {
        let Told {
            welcome,
            drain,
            goodbye,
        } = sink.facts().told;
        let has_ears = [welcome.is_some(), drain.is_some(), goodbye.is_some()];
        assert_eq!(has_ears, [sink == Sink::Native; 3], "{sink}");
    }
    let told = &Sink::Native.facts().told;
    assert_eq!(told.drain, Some(&weir_protocol::native::DRAIN[..]));
    assert_eq!(told.goodbye, Some(&weir_protocol::native::GOODBYE[..]));
}

#[test]
fn names_are_told_apart_and_are_fit_for_labels() {
    let names: std::collections::BTreeSet<_> = Sink::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(names.len(), Sink::ALL.len());
    for name in names {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
    }
}

/// Half a turn of the numbers must hold all that can be open, or an ACK that advances reads as one that goes back.
#[test]
fn every_wrapping_number_has_room_for_what_may_be_open() {
    for sink in Sink::ALL {
        if let AckNumbers::Wrapping { bits } = sink.facts().acks.numbers() {
            assert!(1 << (bits - 1) >= UNACKED_MESSAGES_MAX, "{sink}");
        }
    }
}

#[test]
fn a_dialect_is_a_sink_that_connects() {
    for dialect in Dialect::ALL {
        let sink = Sink::from(dialect);
        assert_eq!(sink.dialect(), Some(dialect));
        assert_eq!(sink.to_string(), dialect.to_string());
        assert_ne!(sink.facts().links, Links::Pool);
        assert_eq!(sink.has_link_per_shard(), dialect == Dialect::Native);
    }
    assert_eq!(Sink::Http.dialect(), None);
}

#[test]
fn answers_to_posts_are_no_words() {
    let mut decoder = Decoder::new(Sink::Http);
    let mut bytes: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(decoder.next(&mut bytes), None);
    assert_eq!((bytes.len(), decoder.partial_bytes()), (0, 0));
}

#[test]
fn a_word_keeps_to_its_place_in_every_decoder() {
    for sink in Sink::ALL.iter().copied() {
        let mut decoder = Decoder::new(sink);
        for byte in 0..=u8::MAX {
            let mut bytes = &[byte; 40][..];
            while decoder.next(&mut bytes).is_some() {}
            assert!(
                bytes.is_empty(),
                "{sink} {byte}: `None` means that all is consumed"
            );
            assert!(decoder.partial_bytes() <= 16, "{sink} {byte}");
        }
    }
}
