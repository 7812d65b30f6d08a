//! A link: one connection of an analyzer. Numbers messages on the wire, knows which shard is owed
//! the next ACK, and tells a stalled analyzer from an idle one.
//!
//! ```text
//! wire     1 ........ acked ........ completed ........ submitted
//!          credited to their shards  | ACK waits for    | in the kernel's hands
//!                                    | the send's result|
//! owners   [shard 0 to 40][shard 2 to 75][shard 0 to 90]
//! ```

use std::collections::VecDeque;
use std::fmt;

use weir_sink::{AckBeyond, AckNumbers, AckStep, ControlError, Decoder, Sink};

/// Before the first ACK of an analyzer that keeps remainders nobody knows how many messages it collects.
const STRIDE_UNKNOWN: u64 = 1024;
/// One that ACKs every message may still pause for this many.
const STRIDE_MIN: u64 = 64;

/// Why a link must be closed. Recovered by re-routing what it has not ACKed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// It ACKed what it never got.
    Ack(AckBeyond),
    /// It sent a word that its sink does not have.
    Control(ControlError),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkError::Ack(error) => error.fmt(f),
            LinkError::Control(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

/// What makes the absence of ACKs a stall, see [`Link::stall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Bytes that were sent stay unread.
    Unread,
    /// More messages than it ever left open are un-ACKed.
    Unacked,
    /// Nothing more can be sent, so no ACK can be hoped for.
    WindowFull,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stall::Unread => "it does not read what it was sent",
            Stall::Unacked => "more are open than it ever left open",
            Stall::WindowFull => "its window is full",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    shard: u16,
    through: u64,
}

/// Numbering and ACK state of one connection.
#[derive(Clone)]
pub struct Link {
    sink: Sink,
    numbers: AckNumbers,
    keeps_remainder: bool,
    decoder: Decoder,
    submitted: u64,
    /// A message was submitted in part.
    begun: bool,
    completed: u64,
    acked: u64,
    credited: u64,
    owners: VecDeque<Owner>,
    /// Largest step of an ACK so far; 0 before the first.
    stride: u64,
    /// Last time that an ACK advanced, or that there was nothing to ACK.
    progress_at_ns: u64,
    /// Since when more than the tolerated number is un-ACKed.
    suspect_since_ns: Option<u64>,
    /// Last time that `stall` found nothing unread.
    read_at_ns: u64,
    /// Last time that `stall` found room in the window.
    room_at_ns: u64,
    /// Last time that something was sent or ACKed.
    traffic_at_ns: u64,
    /// Messages up to here were presumed, see [`Link::presume`].
    presumed: u64,
}

impl Link {
    /// A link that came up at `now_ns`, to an analyzer whose ACKs are cumulative.
    pub fn new(sink: Sink, now_ns: u64) -> Link {
        let acks = sink.facts().acks;
        Link {
            sink,
            numbers: acks.numbers(),
            keeps_remainder: acks.may_keep_remainder(),
            decoder: Decoder::new(sink),
            submitted: 0,
            begun: false,
            completed: 0,
            acked: 0,
            credited: 0,
            owners: VecDeque::new(),
            stride: 0,
            progress_at_ns: now_ns,
            suspect_since_ns: None,
            read_at_ns: now_ns,
            room_at_ns: now_ns,
            traffic_at_ns: now_ns,
            presumed: 0,
        }
    }

    /// The same link, but its next message is number `acked` + 1: ACKs wrap sooner. For the
    /// simulator.
    pub fn numbered_from(mut self, acked: u64) -> Link {
        self.submitted = acked;
        self.completed = acked;
        self.acked = acked;
        self.credited = acked;
        self.presumed = acked;
        self
    }

    /// What it speaks.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// Decoder of its control stream.
    pub fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// A range in which `messages` of `shard` end was given to the kernel; none: a piece of a split
    /// message, which goes on in the next range.
    pub fn submitted(&mut self, shard: u16, messages: u64, now_ns: u64) {
        if self.submitted == self.acked {
            self.progress_at_ns = now_ns;
        }
        self.begun = messages == 0;
        self.traffic_at_ns = now_ns;
        if self.begun {
            return;
        }
        self.submitted += messages;
        match self.owners.back_mut() {
            Some(last) if last.shard == shard => last.through = self.submitted,
            _ => self.owners.push_back(Owner {
                shard,
                through: self.submitted,
            }),
        }
        self.watch(now_ns);
    }

    /// Everything submitted so far was taken by the socket.
    pub fn completed(&mut self) {
        self.completed = self.submitted;
    }

    /// The analyzer sent an ACK with this number on the wire. True when it advances, false when it
    /// repeats or goes back.
    ///
    /// # Errors
    /// The number was never sent.
    pub fn ack(&mut self, raw: u64, now_ns: u64) -> Result<bool, LinkError> {
        let step = self.numbers.resolve(raw, self.acked, self.submitted);
        match step.map_err(LinkError::Ack)? {
            AckStep::Advance(sequence) => {
                self.stride = self.stride.max(sequence - self.acked);
                self.acked = sequence;
                self.progress_at_ns = now_ns;
                self.traffic_at_ns = now_ns;
                self.suspect_since_ns = None;
                self.watch(now_ns);
                Ok(true)
            }
            AckStep::Stale => Ok(false),
        }
    }

    /// Which shard is to be told of how many ACKed messages next. An ACK counts only when the send
    /// has completed, so that no shard uses a buffer again which the kernel still reads.
    pub fn next_credit(&mut self) -> Option<(u16, u64)> {
        let through = self.acked.min(self.completed);
        let owner = *self.owners.front()?;
        let messages = owner.through.min(through).checked_sub(self.credited)?;
        if messages == 0 {
            return None;
        }
        self.credited += messages;
        if self.credited == owner.through {
            self.owners.pop_front();
        }
        Some((owner.shard, messages))
    }

    /// Messages sent and not ACKed.
    pub fn unacked(&self) -> u64 {
        self.submitted - self.acked
    }

    /// Messages sent.
    pub fn sent(&self) -> u64 {
        self.submitted
    }

    /// Whether the ACK timeout has struck. `unread`: a send is outstanding or the socket's send
    /// queue is not empty. `window_full`: this link may be sent nothing more.
    ///
    /// Some analyzers ACK every n-th message and never the remainder ([`weir_sink::Remainder`]), so un-ACKed
    /// messages alone are no sign of trouble. The rule, per `docs/PROTOCOL.md`: no ACK has advanced for the timeout
    /// although something is un-ACKed or half sent, and for all that time
    /// - the link had unread bytes, or
    /// - more than twice the largest ACK step seen was un-ACKed (at least 64; 1,024 before the first
    ///   ACK); any message, where the remainder is ACKed; or
    /// - its window was full.
    ///
    /// To be asked about once a second: between two calls everything is taken to be as it was found.
    pub fn stall(
        &mut self,
        now_ns: u64,
        timeout_ns: u64,
        unread: bool,
        window_full: bool,
    ) -> Option<Stall> {
        if !unread {
            self.read_at_ns = now_ns;
        }
        if !window_full {
            self.room_at_ns = now_ns;
        }
        let overdue = |since: u64| now_ns.saturating_sub(since) >= timeout_ns;
        if !self.is_overdue(now_ns, timeout_ns) {
            return None;
        }
        if unread && overdue(self.read_at_ns) {
            return Some(Stall::Unread);
        }
        if window_full && overdue(self.room_at_ns) {
            return Some(Stall::WindowFull);
        }
        self.suspect_since_ns
            .is_some_and(overdue)
            .then_some(Stall::Unacked)
    }

    /// No ACK has advanced for the timeout although something is un-ACKed or half sent.
    pub fn is_overdue(&self, now_ns: u64, timeout_ns: u64) -> bool {
        let awaited = self.unacked() > 0 || self.begun;
        awaited && now_ns.saturating_sub(self.progress_at_ns) >= timeout_ns
    }

    /// How many un-ACKed messages of each shard are presumed to have arrived, those that the shard was credited not
    /// counted: nothing was sent or ACKed on the link for `quiet_ns`. Asked when nothing is unsent and nothing
    /// unread. Once for each message; none where no remainder is kept, or a message was sent in part.
    ///
    /// A presumed message stays un-ACKed. It is only that its sender hears no more of it than it could: the analyzer
    /// will not ACK it before more comes, and the sender sends no more before it is ACKed.
    pub fn presume(&mut self, now_ns: u64, quiet_ns: u64) -> Vec<(u16, u64)> {
        let is_quiet = now_ns.saturating_sub(self.traffic_at_ns) >= quiet_ns;
        let is_new = self.presumed.max(self.acked) < self.submitted;
        if !is_quiet || !is_new || !self.keeps_remainder || self.begun {
            return Vec::new();
        }
        self.presumed = self.submitted;
        let (mut from, mut counts) = (self.credited, Vec::<(u16, u64)>::new());
        for owner in &self.owners {
            let messages = owner.through - from;
            from = owner.through;
            match counts.iter_mut().find(|(shard, _)| *shard == owner.shard) {
                Some((_, count)) => *count += messages,
                None => counts.push((owner.shard, messages)),
            }
        }
        counts
    }

    fn watch(&mut self, now_ns: u64) {
        if self.unacked() > self.tolerated() && self.suspect_since_ns.is_none() {
            self.suspect_since_ns = Some(now_ns);
        }
    }

    fn tolerated(&self) -> u64 {
        match self.stride {
            _ if !self.keeps_remainder => 0,
            0 => STRIDE_UNKNOWN,
            stride => (2 * stride).max(STRIDE_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TIMEOUT: u64 = 30 * SECOND;

    #[test]
    fn credits_go_to_the_shards_in_the_order_of_the_wire() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 4, 0);
        link.submitted(2, 3, 0);
        link.submitted(2, 1, 0);
        link.submitted(0, 2, 0);
        assert_eq!(link.ack(5, 0), Ok(true));
        assert_eq!(
            link.next_credit(),
            None,
            "not before the send has completed"
        );
        link.completed();
        assert_eq!(link.next_credit(), Some((0, 4)));
        assert_eq!(link.next_credit(), Some((2, 1)));
        assert_eq!(link.next_credit(), None);
        assert_eq!(link.ack(10, 0), Ok(true));
        assert_eq!(link.next_credit(), Some((2, 3)));
        assert_eq!(link.next_credit(), Some((0, 2)));
        assert_eq!(link.next_credit(), None);
        assert!(link.owners.is_empty());
    }

    #[test]
    fn what_a_quiet_link_keeps_is_presumed_once() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 4, 0);
        link.submitted(2, 3, 0);
        link.submitted(0, 2, 5);
        link.completed();
        assert_eq!(link.ack(2, 10), Ok(true));
        assert_eq!(link.next_credit(), Some((0, 2)));
        assert_eq!(link.presume(14, 5), [], "an ACK came a moment ago");
        assert_eq!(link.presume(15, 5), [(0, 4), (2, 3)]);
        assert_eq!(link.presume(99, 5), [], "once");
        link.submitted(2, 1, 100);
        assert_eq!(link.presume(104, 5), []);
        assert_eq!(link.presume(105, 5), [(0, 4), (2, 4)]);
        assert_eq!(link.unacked(), 8, "they are un-ACKed all the same");
        link.submitted(1, 0, 110);
        assert_eq!(link.presume(999, 5), [], "a message is sent in part");
        let mut native = Link::new(Sink::Native, 0);
        native.submitted(0, 1, 0);
        assert_eq!(native.presume(999, 5), [], "it ACKs every message");
    }

    #[test]
    fn acks_that_repeat_are_stale_and_acks_beyond_are_errors() {
        let mut link = Link::new(Sink::Typed, 0);
        link.submitted(0, 10, 0);
        assert_eq!(link.ack(10, 0), Ok(true));
        assert_eq!(link.ack(10, 0), Ok(false));
        assert_eq!(link.ack(7, 0), Ok(false));
        assert!(matches!(link.ack(11, 0), Err(LinkError::Ack(_))));
    }

    #[test]
    fn an_idle_reference_client_may_keep_its_remainder_for_ever() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 19, 0);
        assert_eq!(link.ack(10, 0), Ok(true));
        assert_eq!(link.stall(3600 * SECOND, TIMEOUT, false, false), None);
        // One message a minute does not make it stalled either.
        for minute in 0..40 {
            link.submitted(0, 1, minute * 60 * SECOND);
            assert_eq!(
                link.stall((minute + 1) * 60 * SECOND, TIMEOUT, false, false),
                None
            );
        }
    }

    #[test]
    fn a_client_that_stops_acking_under_traffic_is_stalled() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 10, 0);
        assert_eq!(link.ack(10, 0), Ok(true));
        link.submitted(0, STRIDE_MIN + 1, 5 * SECOND);
        assert_eq!(link.stall(34 * SECOND, TIMEOUT, false, false), None);
        assert_eq!(
            link.stall(35 * SECOND, TIMEOUT, false, false),
            Some(Stall::Unacked)
        );
        assert_eq!(link.ack(11, 35 * SECOND), Ok(true));
        assert_eq!(link.stall(60 * SECOND, TIMEOUT, false, false), None);
    }

    #[test]
    fn unread_bytes_and_a_full_window_count_from_the_first_message() {
        let mut link = Link::new(Sink::Typed, 0);
        link.submitted(0, 1, 10 * SECOND);
        let at = |second: u64, unread, window_full| {
            let mut link = link.clone();
            assert_eq!(link.stall(39 * SECOND, TIMEOUT, unread, window_full), None);
            link.stall(second * SECOND, TIMEOUT, unread, window_full)
        };
        assert_eq!(at(40, true, false), Some(Stall::Unread));
        assert_eq!(at(40, false, true), Some(Stall::WindowFull));
        assert_eq!(at(40, false, false), None);
    }

    #[test]
    fn a_burst_after_a_long_pause_is_no_stall() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 19, 0);
        assert_eq!(link.ack(10, 0), Ok(true));
        for second in 0..3600 {
            assert_eq!(link.stall(second * SECOND, TIMEOUT, false, false), None);
        }
        // Nine are un-ACKed since an hour; only now something is unread, and the window full.
        for second in 3600..3629 {
            assert_eq!(link.stall(second * SECOND, TIMEOUT, true, true), None);
        }
        let mut other = link.clone();
        let stall = other.stall(3629 * SECOND, TIMEOUT, true, false);
        assert_eq!(stall, Some(Stall::Unread));
        let mut other = link.clone();
        let stall = other.stall(3629 * SECOND, TIMEOUT, false, true);
        assert_eq!(stall, Some(Stall::WindowFull));
        for second in 3629..3660 {
            let (unread, window_full) = (second % 10 == 0, second % 7 == 0);
            let stall = link.stall(second * SECOND, TIMEOUT, unread, window_full);
            assert_eq!(stall, None);
        }
    }

    #[test]
    fn a_message_that_is_stuck_half_sent_counts() {
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, 10, 0);
        assert_eq!(link.ack(10, 0), Ok(true));
        link.submitted(0, 0, 5 * SECOND);
        assert_eq!(link.stall(34 * SECOND, TIMEOUT, true, true), None);
        assert_eq!(
            link.stall(35 * SECOND, TIMEOUT, true, false),
            Some(Stall::Unread)
        );
        // Its next piece could be sent, so the one before was read.
        link.submitted(0, 0, 35 * SECOND);
        assert_eq!(link.stall(64 * SECOND, TIMEOUT, true, false), None);
        link.submitted(0, 1, 36 * SECOND);
        assert_eq!(link.ack(11, 37 * SECOND), Ok(true));
        assert_eq!(link.stall(99 * SECOND, TIMEOUT, true, true), None);
    }

    #[test]
    fn as_much_as_two_of_the_largest_steps_may_be_open() {
        let is_stalled = |link: &Link, second: u64| {
            let stall = link.clone().stall(second * SECOND, TIMEOUT, false, false);
            stall == Some(Stall::Unacked)
        };
        let mut link = Link::new(Sink::Compact, 0);
        link.submitted(0, STRIDE_UNKNOWN, 0);
        assert!(!is_stalled(&link, 1000), "its step may be larger");
        link.submitted(0, 1, SECOND);
        assert!(!is_stalled(&link, 30) && is_stalled(&link, 31));

        assert_eq!(link.ack(100, 40 * SECOND), Ok(true));
        assert_eq!(link.ack(200, 40 * SECOND), Ok(true));
        assert_eq!((link.unacked(), link.sent()), (825, 1025));
        assert_eq!(link.ack(250, 40 * SECOND), Ok(true));
        assert_eq!(link.ack(350, 40 * SECOND), Ok(true));
        assert!(
            !is_stalled(&link, 69) && is_stalled(&link, 70),
            "since the ACK"
        );
        for sequence in (400..=800).step_by(50) {
            assert_eq!(link.ack(sequence, 50 * SECOND), Ok(true));
        }
        assert_eq!(link.ack(825, 50 * SECOND), Ok(true));
        assert!(
            !is_stalled(&link, 1000),
            "200 are open, its largest step was 100"
        );
        link.submitted(0, 1, 60 * SECOND);
        link.submitted(0, 1, 80 * SECOND);
        assert!(
            !is_stalled(&link, 89) && is_stalled(&link, 90),
            "since the first too many"
        );
    }

    #[test]
    fn a_link_may_be_numbered_from_anywhere() {
        let turn = 1 << 31;
        let mut link = Link::new(Sink::Compact, 0).numbered_from(turn - 2);
        assert_eq!((link.unacked(), link.sent()), (0, turn - 2));
        link.submitted(5, 4, 0);
        link.completed();
        assert_eq!(link.ack(1, 0), Ok(true));
        assert_eq!(link.next_credit(), Some((5, 3)));
        assert_eq!((link.next_credit(), link.unacked()), (None, 1));
    }

    #[test]
    fn an_error_says_what_its_cause_says() {
        let mut link = Link::new(Sink::Typed, 0);
        let error = link.ack(7, 0).expect_err("nothing was sent");
        let cause = AckBeyond { raw: 7, sent: 0 };
        assert_eq!(error, LinkError::Ack(cause));
        assert_eq!(error.to_string(), cause.to_string());
        assert!(error.to_string().contains("ACK 7"));
    }

    #[test]
    fn a_native_link_must_ack_everything() {
        let mut link = Link::new(Sink::Native, 0);
        link.submitted(0, 1, 10 * SECOND);
        assert_eq!(
            link.stall(40 * SECOND, TIMEOUT, false, false),
            Some(Stall::Unacked)
        );
    }
}
