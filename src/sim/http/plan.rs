//! What a run has of HTTP: clients, servers (analyzers over HTTP), and what befalls them.

use std::time::Duration;

use crate::host::{HostPlan, MS};
use crate::random::Random;

/// Of 100 runs so many have HTTP.
const SHARE: u64 = 40;

/// Of 100 servers so many take chunks of Forward.
const FORWARD: u64 = 40;

/// The name of a server.
pub(crate) fn name_of_server(server: usize) -> String {
    format!("h{server}")
}

/// HTTP in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpPlan {
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) servers: Vec<ServerPlan>,
    /// Connections to each server, per shard.
    pub(crate) pool: u16,
    pub(crate) push_timeout_ms: u64,
    pub(crate) push_retries: u32,
    pub(crate) backoff_ms: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) memory_bytes: usize,
    /// Servers are looked at this often.
    pub(crate) check_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) packets: u32,
    /// Messages of a packet, at most.
    pub(crate) messages_max: u32,
    pub(crate) size: Size,
    /// Time between writes, at most.
    pub(crate) pause_ns: u64,
    pub(crate) write_max: usize,
    /// Requests that it sends before it has an answer.
    pub(crate) ahead: usize,
    /// Of 100 packets: those that wait for the ACK; of these, those that take 202 as well.
    pub(crate) waits: u64,
    pub(crate) asyncs: u64,
    /// Of 100 packets: those whose messages go their own ways.
    pub(crate) splits: u64,
    /// Of 100 requests: those of JSON lines, of chunks, those that are none, those that are the last.
    pub(crate) lines: u64,
    pub(crate) chunks: u64,
    pub(crate) bad: u64,
    pub(crate) last: u64,
}

/// Bytes of a message's frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// Any up to so many.
    UpTo(u32),
    /// A little less than these: a buffer takes one, and nothing else.
    JustBelow(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) weight: f64,
    pub(crate) joins_ms: u64,
    /// From the last byte of a request to its answer, at most.
    pub(crate) think_ns: u64,
    pub(crate) read_max: usize,
    /// Of 100 answers: those that are the connection's last.
    pub(crate) last: u64,
    /// What it takes.
    pub(crate) takes: Takes,
}

/// What a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// POSTs.
    Http,
    /// Chunks of Fluent Forward of at most so many bytes, so many of them un-ACKed.
    Forward { packet_bytes: u32, in_flight: u32 },
}

/// What befalls a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientFault {
    /// It breaks off, wherever it is, and goes on with another connection.
    Crash { reset: bool },
    /// Its host dies.
    Vanish,
    /// It reads no answers.
    Deaf { for_ms: u64 },
}

/// What befalls a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerFault {
    Crash {
        reset: bool,
        back_ms: u64,
    },
    Vanish {
        back_ms: u64,
    },
    /// It answers this status.
    Answers {
        status: u16,
        for_ms: u64,
    },
    /// It does nothing.
    Stall {
        for_ms: u64,
    },
    /// It takes no new connections, and goes on with those that it has.
    Shut {
        for_ms: u64,
    },
    /// It reads half of its next requests and closes.
    HalfReads {
        requests: u32,
    },
    /// It takes its next requests and closes without an answer.
    Mute {
        requests: u32,
    },
}

impl HttpPlan {
    /// None in most runs.
    pub(crate) fn draw(random: &mut Random, host: &HostPlan, calm_ms: u64) -> HttpPlan {
        if !random.chance(SHARE) {
            return HttpPlan::default();
        }
        let clients = random.range(0, 4);
        let servers = random.range(u64::from(clients == 0), 4);
        HttpPlan {
            clients: (0..clients)
                .map(|_| ClientPlan::draw(random, host))
                .collect(),
            servers: (0..servers)
                .map(|_| ServerPlan::draw(random, calm_ms))
                .collect(),
            pool: random.pick(&[1, 2, 8]),
            push_timeout_ms: random.pick(&[300, 1_000, 5_000]),
            push_retries: random.pick(&[0, 1, 3]),
            backoff_ms: random.pick(&[10, 100, 1_000]),
            request_timeout_ms: random.pick(&[500, 3_000, 30_000]),
            memory_bytes: random.pick(&[1 << 19, 1 << 20, 1 << 26]),
            check_ms: random.pick(&[20, 200, 1_000]),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.servers.is_empty()
    }

    /// What clients wish of answers, and of the ways of their messages.
    pub(crate) fn draw_wishes(&mut self, random: &mut Random) {
        for client in &mut self.clients {
            client.asyncs = random.pick(&[0, 0, 50]);
            client.splits = random.pick(&[0, 0, 30, 100]);
        }
    }

    /// What servers take.
    pub(crate) fn draw_sinks(&mut self, random: &mut Random) {
        for server in &mut self.servers {
            if random.chance(FORWARD) {
                let packet_bytes = random.pick(&[1 << 10, 1 << 14, 1 << 18]);
                server.takes = Takes::Forward {
                    packet_bytes,
                    in_flight: packet_bytes * random.pick(&[1, 4, 16]),
                };
            }
        }
    }

    /// Messages of the largest packet that goes whole: shares are as exact as that.
    pub(crate) fn unit_max(&self) -> u32 {
        let whole = self.clients.iter().filter(|client| client.splits < 100);
        whole
            .map(|client| client.messages_max)
            .max()
            .unwrap_or(1)
            .max(1)
    }
}

impl ClientPlan {
    fn draw(random: &mut Random, host: &HostPlan) -> ClientPlan {
        let size = match random.chance(40) {
            true => Size::JustBelow(host.batch_bytes),
            false => Size::UpTo(random.pick(&[150, 400, 3_000])),
        };
        ClientPlan {
            packets: random.pick(&[3, 10, 30, 60]),
            messages_max: random.pick(&[1, 3, 10, 14]),
            size,
            pause_ns: random.pick(&[20_000, 500_000, 10 * MS]),
            write_max: random.pick(&[7, 300, 5_000, 100_000, 100_000]),
            ahead: random.pick(&[1, 1, 2, 8]),
            waits: random.pick(&[0, 30, 100]),
            asyncs: 0,
            splits: 0,
            lines: random.pick(&[0, 30]),
            chunks: random.pick(&[0, 30]),
            bad: random.pick(&[0, 0, 10]),
            last: random.pick(&[0, 5, 100]),
        }
    }
}

impl ServerPlan {
    fn draw(random: &mut Random, calm_ms: u64) -> ServerPlan {
        ServerPlan {
            weight: random.pick(&[0.0, 0.1, 0.4, 1.0, 1.0, 3.0]),
            joins_ms: match random.chance(75) {
                true => 0,
                false => random.range(0, calm_ms),
            },
            think_ns: random.pick(&[1_000, 200_000, 20 * MS]),
            read_max: random.pick(&[60, 4096, 1 << 20, 1 << 20]),
            last: random.pick(&[0, 0, 5, 100]),
            takes: Takes::Http,
        }
    }
}

impl ServerPlan {
    /// How long one may be silent that owes an answer: more than it thinks.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.think_ns) + Duration::from_millis(500)
    }
}

impl ClientFault {
    pub(crate) fn draw(random: &mut Random) -> ClientFault {
        match random.range(0, 4) {
            0 | 1 => ClientFault::Crash {
                reset: random.chance(50),
            },
            2 => ClientFault::Vanish,
            _ => ClientFault::Deaf {
                for_ms: random.pick(&[10, 400, 4_000]),
            },
        }
    }
}

impl ServerFault {
    pub(crate) fn draw(random: &mut Random) -> ServerFault {
        let for_ms = random.pick(&[1, 30, 400, 4_000]);
        let back_ms = random.pick(&[1, 20, 300, 100_000]);
        let requests = random.pick(&[1, 2, 8]);
        match random.range(0, 10) {
            0..=2 => ServerFault::Crash {
                reset: random.chance(50),
                back_ms,
            },
            3 => ServerFault::Vanish { back_ms },
            4 => ServerFault::Answers {
                status: random.pick(&[400, 413, 422, 404, 429]),
                for_ms,
            },
            5 => ServerFault::Answers {
                status: random.pick(&[500, 502, 503]),
                for_ms,
            },
            6 => ServerFault::Stall { for_ms },
            7 => ServerFault::Shut { for_ms },
            8 => ServerFault::HalfReads { requests },
            _ => ServerFault::Mute { requests },
        }
    }
}
