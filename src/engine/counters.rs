//! What a shard counts, and the law that the counts obey.

use std::fmt;

/// The table of reasons: each line is a variant, and its label in metrics and answers.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Why something was refused, closed or ignored. The text is the metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // each says what its label says
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// Metric label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $word,)+
                }
            }
        }
    };
}

reasons! {
    FrameTooShort = "frame_too_short",
    FrameTooLong = "frame_too_long",
    FrameCutOff = "frame_cut_off",
    /// It had not arrived whole when its time was over.
    FrameTimeout = "frame_timeout",
    /// Bytes that its protocol does not have there.
    StreamMalformed = "stream_malformed",
    PartialMemoryFull = "partial_memory_full",
    FirstWeightInvalid = "first_weight_invalid",
    HandshakeTimeout = "handshake_timeout",
    HandshakeInvalid = "handshake_invalid",
    /// Another protocol spoke.
    ForeignProtocol = "foreign_protocol",
    /// Of those: TLS, where it is not spoken.
    TlsOnPlainPort = "tls_on_plain_port",
    /// Closed without having sent a byte.
    Probe = "probe",
    /// Had not spoken when others needed its place.
    HandshakeDisplaced = "handshake_displaced",
    WeightInvalid = "weight_invalid",
    AckBeyondSent = "ack_beyond_sent",
    AckStale = "ack_stale",
    ControlUnknownType = "control_unknown_type",
    AckStalled = "ack_stalled",
    LinkReplaced = "link_replaced",
    /// An analyzer came with the id of another that lives.
    IdInUse = "id_in_use",
    /// An analyzer's id is not a name of its certificate, or it has none to show.
    IdNotCertified = "id_not_certified",
    TooManyAnalyzers = "too_many_analyzers",
    ConnectionLimit = "connection_limit",
    /// An emitter's connection broke while nobody took messages, and its place was wanted: what it had sent is lost.
    ResetUnread = "reset_unread",
    AcceptFailed = "accept_failed",
    UnitTooLong = "unit_too_long",
    AddressNotAllowed = "address_not_allowed",
    /// The peer had reset the connection before it was accepted, and a rule asks for its address.
    AddressUnknown = "address_unknown",
    AddressLimit = "address_limit",
    TokenRefused = "token_refused",
    RefusedByAnalyzer = "refused_by_analyzer",
    /// A packet that an analyzer refused for good could not be written to the file of such packets.
    NotSetAside = "not_set_aside",
    /// More was un-ACKed on an emitter's link than its WELCOME allowed.
    WindowExceeded = "window_exceeded",
    /// An emitter that wants ACKs came, and what there is for such was granted to others.
    AckUnitsFull = "ack_units_full",
    /// An emitter that wants ACKs came, and an analyzer has only weak ones.
    WeakAcks = "weak_acks",
    /// An emitter did not read its ACKs.
    AnswersNotRead = "answers_not_read",
    /// A compressed part is not what it says it is, or ends within a message.
    PackedCorrupt = "packed_corrupt",
    /// More comes out of a compressed part than is allowed.
    PackedTooLarge = "packed_too_large",
    /// A place was not read from, for ACKs took too long for its senders' deadline.
    AcksLate = "acks_late",
    /// The rest of a line above the limit was skipped; what came before was delivered.
    LineCut = "line_cut",
    /// A connection began with no PROXY header, or one that cannot be read.
    ProxyHeader = "proxy_header",
    /// Who connected is no proxy, where each connection comes from one.
    NoProxy = "no_proxy",
    /// An entry above the limit of a message was delivered without what had no room.
    EntryCut = "entry_cut",
    /// A value that has no shape of a message was skipped.
    WrongShape = "wrong_shape",
    /// A mark around entries, as Fluent Bit sends them, was skipped.
    GroupMark = "group_mark",
    /// Metrics or traces were acked and not delivered.
    NotLogs = "not_logs",
    /// A client did not know the key of its input, or no name and password.
    KeyRefused = "key_refused",
    /// A datagram without a message.
    DatagramEmpty = "datagram_empty",
}

/// Counters of one shard since its start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Whole messages taken in.
    pub received: u64,
    /// Their bytes, frame headers included.
    pub received_bytes: u64,
    /// Messages ACKed.
    pub acked: u64,
    /// Messages that an analyzer refused for good and that were set aside.
    pub dropped: u64,
    /// Messages given to another lane because theirs died. A message may count more than once.
    pub rerouted: u64,
    /// Of those: sent before, so the dead analyzer may have seen them. And what was posted again to an analyzer over HTTP
    /// that had not answered.
    pub duplicates_possible: u64,
    /// Messages that their emitter had sent before, to this distributor or another.
    pub resent: u64,
    /// Sends that answered emitters.
    pub answers: u64,
    /// Messages whose senders were answered although their analyzer had not ACKed them, see [`crate::Link::presume`].
    pub presumed: u64,
    /// Messages of units that their sender sent again while the first were un-ACKed: not routed, answered with those.
    pub joined: u64,
    /// Re-routed messages whose identity was forgotten: a duplicate of theirs cannot be recognised.
    pub identities_lost: u64,
    /// Messages that came by HTTP, go as frames, and would reach an HTTP analyzer as text.
    pub pieces_lost: u64,
    /// Datagrams that the kernel dropped: nobody here has seen them, and they are in no balance.
    pub lost_before_receipt: u64,
    /// Receives that brought emitter data.
    pub receives: u64,
    /// Sends to analyzers, their bytes, and how many of the sends were zero-copy.
    pub sends: u64,
    /// Bytes put on the wire to analyzers.
    pub sent_bytes: u64,
    /// Sends from registered memory.
    pub sends_zero_copy: u64,
    /// Of those: the kernel copied all the same.
    pub zero_copy_copied: u64,
    /// Batches forwarded to the shard that owns the analyzer's only link.
    pub forwarded: u64,
    /// Times that receiving stopped because no lane could take more.
    pub stalls: u64,
    /// Nanoseconds that receiving was stopped.
    pub stalled_ns: u64,
    /// Kernel entries of the data ring.
    pub enters: u64,
    /// Emitter connections accepted.
    pub emitters_accepted: u64,
    /// Emitters asked to finish and close.
    pub farewells: u64,
    /// Of those: because of their age.
    pub farewells_at_age: u64,
    /// Analyzer links that came up.
    pub links_up: u64,
    /// Analyzer links that went down.
    pub links_down: u64,
    reasons: Reasons,
}

/// How often each was counted.
#[derive(Clone, Debug)]
struct Reasons([u64; Reason::ALL.len()]);

impl Default for Reasons {
    fn default() -> Reasons {
        Reasons([0; Reason::ALL.len()])
    }
}

impl Counters {
    /// Counts one more of `reason`.
    pub fn count(&mut self, reason: Reason) {
        self.reasons.0[reason as usize] += 1;
    }

    /// How often `reason` was counted.
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons.0[reason as usize]
    }

    /// Adds another shard's counters.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            received,
            received_bytes,
            acked,
            dropped,
            rerouted,
            duplicates_possible,
            resent,
            answers,
            presumed,
            joined,
            identities_lost,
            pieces_lost,
            lost_before_receipt,
            receives,
            sends,
            sent_bytes,
            sends_zero_copy,
            zero_copy_copied,
            forwarded,
            stalls,
            stalled_ns,
            enters,
            emitters_accepted,
            farewells,
            farewells_at_age,
            links_up,
            links_down,
            reasons: Reasons(reasons),
        } = other;
        self.received += received;
        self.received_bytes += received_bytes;
        self.acked += acked;
        self.dropped += dropped;
        self.rerouted += rerouted;
        self.duplicates_possible += duplicates_possible;
        self.resent += resent;
        self.answers += answers;
        self.presumed += presumed;
        self.joined += joined;
        self.identities_lost += identities_lost;
        self.pieces_lost += pieces_lost;
        self.lost_before_receipt += lost_before_receipt;
        self.receives += receives;
        self.sends += sends;
        self.sent_bytes += sent_bytes;
        self.sends_zero_copy += sends_zero_copy;
        self.zero_copy_copied += zero_copy_copied;
        self.forwarded += forwarded;
        self.stalls += stalls;
        self.stalled_ns += stalled_ns;
        self.enters += enters;
        self.emitters_accepted += emitters_accepted;
        self.farewells += farewells;
        self.farewells_at_age += farewells_at_age;
        self.links_up += links_up;
        self.links_down += links_down;
        for (mine, theirs) in self.reasons.0.iter_mut().zip(reasons) {
            *mine += theirs;
        }
    }
}

/// Both sides of the conservation law at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Whole messages taken in.
    pub received: u64,
    /// ACKed by an analyzer.
    pub acked: u64,
    /// Sent, not yet ACKed.
    pub in_flight: u64,
    /// Not yet sent, those waiting to be re-routed included.
    pub queued: u64,
    /// Refused by an analyzer for good, and set aside.
    pub dropped: u64,
}

impl Balance {
    /// received = acked + in flight + queued + dropped.
    pub fn holds(&self) -> bool {
        self.received == self.acked + self.in_flight + self.queued + self.dropped
    }

    /// Messages that no analyzer has ACKed.
    pub fn open(&self) -> u64 {
        self.in_flight + self.queued
    }

    /// Adds another shard's balance.
    pub fn add(&mut self, other: &Balance) {
        self.received += other.received;
        self.acked += other.acked;
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        self.dropped += other.dropped;
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "holds" } else { "BROKEN" };
        write!(
            f,
            "conservation {verdict}: received {} = acked {} + in flight {} + queued {} + dropped {}",
            self.received, self.acked, self.in_flight, self.queued, self.dropped
        )
    }
}

/// State of one lane, for tables and metrics.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// Which link it feeds.
    pub epoch: super::LinkEpoch,
    /// Which analyzer, see `Roster`.
    pub analyzer: u32,
    /// Messages routed to it.
    pub assigned: u64,
    /// Of those: before the last change of weights or membership.
    pub assigned_before: u64,
    /// Messages that it ACKed.
    pub acked: u64,
    /// Sent, not ACKed.
    pub in_flight: u64,
    /// Not sent.
    pub queued: u64,
    /// Cannot take more until it ACKs.
    pub full: bool,
    /// Its link is gone.
    pub down: bool,
    /// Bytes of arena that it holds.
    pub held_bytes: u64,
    /// ACK latency per message, in microseconds: up to now, not up to the report.
    pub latency_us: std::sync::Arc<super::Latencies>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_order_and_have_distinct_labels() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn the_law_is_the_sum() {
        let mut balance = Balance {
            received: 10,
            acked: 5,
            in_flight: 3,
            queued: 2,
            dropped: 0,
        };
        assert!(balance.holds());
        assert_eq!(balance.open(), 5);
        assert_eq!(
            balance.to_string(),
            "conservation holds: received 10 = acked 5 + in flight 3 + queued 2 + dropped 0"
        );
        balance.acked = 4;
        assert!(balance.to_string().contains("BROKEN"));
        balance.dropped = 1;
        assert!(balance.holds());
    }

    #[test]
    fn adding_up_misses_no_count() {
        let counters = |factor: u64| {
            let mut reasons = [0; Reason::ALL.len()];
            reasons
                .iter_mut()
                .zip(100..)
                .for_each(|(reason, n)| *reason = n * factor);
            Counters {
                received: factor,
                received_bytes: 2 * factor,
                acked: 3 * factor,
                dropped: 19 * factor,
                rerouted: 4 * factor,
                duplicates_possible: 5 * factor,
                resent: 21 * factor,
                answers: 22 * factor,
                presumed: 23 * factor,
                joined: 24 * factor,
                identities_lost: 18 * factor,
                pieces_lost: 20 * factor,
                lost_before_receipt: 25 * factor,
                receives: 6 * factor,
                sends: 7 * factor,
                sent_bytes: 8 * factor,
                sends_zero_copy: 9 * factor,
                zero_copy_copied: 10 * factor,
                forwarded: 11 * factor,
                stalls: 12 * factor,
                stalled_ns: 13 * factor,
                enters: 14 * factor,
                emitters_accepted: 15 * factor,
                farewells: 21 * factor,
                farewells_at_age: 22 * factor,
                links_up: 16 * factor,
                links_down: 17 * factor,
                reasons: Reasons(reasons),
            }
        };
        let mut sum = counters(10);
        sum.add(&counters(7));
        assert_eq!(format!("{sum:?}"), format!("{:?}", counters(17)));

        let balance = |factor: u64| Balance {
            received: factor,
            acked: 2 * factor,
            in_flight: 3 * factor,
            queued: 4 * factor,
            dropped: 5 * factor,
        };
        let mut sum = balance(10);
        sum.add(&balance(7));
        assert_eq!(sum, balance(17));
    }
}
