//! A distributor with one input, and an analyzer that keeps what it gets.

use std::net::SocketAddr;

use weir_testkit::{until, Distributor, FrameSink};

/// The analyzers of these tests ACK all that they read, or are silent for longer than a test.
pub fn flags(protocol: &str, listen: &str) -> String {
    format!("--shards 1 --ack-presume 1h --input {protocol}@{listen}?name=shippers")
}

pub struct Site {
    pub distributor: Distributor,
    pub sink: FrameSink,
    pub input: SocketAddr,
}

impl Site {
    /// An input of a protocol, with its options.
    pub fn start(protocol: &str) -> Site {
        let distributor = Distributor::start(&flags(protocol, "127.0.0.1:0"));
        let input = distributor.input("shippers");
        let sink = FrameSink::of(distributor.analyzers, 1.0);
        distributor.wait_lanes(1);
        Site {
            distributor,
            sink,
            input,
        }
    }

    pub fn port(&self) -> String {
        self.input.port().to_string()
    }

    /// Waits for so many messages, and that no more come.
    pub fn messages(self, count: usize) -> Vec<(u8, String)> {
        until("all messages", || self.sink.frames().len() >= count);
        let Site {
            distributor, sink, ..
        } = self;
        let balance = distributor.stop().assert_clean();
        let messages = sink.frames();
        assert_eq!(messages.len(), count, "{messages:#?}");
        assert_eq!(balance.received, count as u64);
        messages
    }
}
