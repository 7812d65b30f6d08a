//! The event loop of a shard: read this first.
//!
//! ```text
//! turn:   1 wait         gather completions, as long as that pays (gather.rs); none when busy
//!         2 dispatch     accept, receive -> engine, ACK -> engine, send results
//!         3 mail         rosters, links, batches and ACKs from other shards
//!         4 re-route     messages of dead links
//!         5 resume       chunks that had to wait for room
//!         6 send         every lane that got something, unless more is there at once (hold.rs); flush the mesh
//!         7 housekeeping a few times a second
//! ```
//!
//! A shard is made of parts. Each owns its fields, gets the [`Context`], and knows no other part; what one does
//! for another is a value that it returns, and that is passed on here.

use std::sync::Arc;
use std::time::Duration;

use super::accepts::{input_of, Accepted, Accepts, Listeners};
use super::context::{Context, Passed, Phase, TICK_HANDSHAKE};
use super::hold::{Hold, Load};
use super::http_in::Clients;
use super::http_out::HttpEgress;
use super::intake::Intake;
use super::lifecycle::{all_drained, Lifecycle, Remains, Step};
use super::links::Links;
use super::membership::Membership;
use super::mesh::{Inbox, Mesh, Message};
use super::outlets::Outlets;
use super::port::Io;
use super::report::{serve_tap, Parts, Report};
use super::shared::{HttpReport, ShardReport, Shared, Stop};
use super::slab::{bare, untoken, Kind};
use crate::port::{Completion, Wait, Wake};
use weir_config::Config;
use weir_engine::{Reach, Roster, Window};

/// Completions handled before sends go out: bounds the time that a batch waits for its send.
pub const TURN_COMPLETIONS: usize = 512;
/// A turn that brought this many bytes is followed by the next at once: there is more.
pub const BUSY_BYTES: usize = 32 * 1024;
/// HTTP clients ask again as soon as they are answered: for so long after a request nothing is gathered.
const ASKED_NS: u64 = 500_000;
/// Longest sleep: housekeeping is due then.
const TICK: Duration = Duration::from_millis(100);
const SECOND_NS: u64 = 1_000_000_000;

/// One shard. Lives on its thread, owns everything that it touches.
pub struct Shard<I: Io> {
    /// What its parts work with.
    pub cx: Context<I>,
    accepts: Accepts<I>,
    intake: Intake<I>,
    links: Links<I>,
    clients: Clients<I>,
    egress: HttpEgress<I>,
    outlets: Outlets<I>,
    membership: Membership,
    lifecycle: Lifecycle,
    report: Report,
    next_second_ns: u64,
    /// Since the turn before.
    passed: Passed,
    /// Ends of links that wait since then.
    ended_before: usize,
    /// When lanes were sent last.
    sent_ns: u64,
    hold: Hold,
    /// [`BUSY_BYTES`], except in the simulator.
    busy_bytes: usize,
}

/// One turn is `begin_turn`, `handle`, `conclude_turn`, `finished`: the kernel's shards and the simulator's both
/// call nothing else.
impl<I: Io> Shard<I> {
    /// A shard that has not started yet. Shard 0 keeps the roster.
    pub fn new(
        index: u16,
        config: Arc<Config>,
        shared: Arc<Shared>,
        io: I,
        arena: I::Memory,
        mesh: I::Mesh,
        listeners: Listeners<I::Listener>,
    ) -> Shard<I> {
        let cx = Context::new(index, config, shared, io, arena, mesh);
        let address_most = cx.config.protection.connections_per_address_max;
        let instance = cx.config.instance;
        let seed = instance ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut membership = Membership::new(index, &cx.config.wanted(), cx.now_ns);
        membership.limit(cx.analyzers_max());
        Shard {
            accepts: Accepts::new(listeners),
            intake: Intake::new(seed.rotate_left(32), cx.shared.input_reports()),
            links: Links::new(cx.engine.lanes_max(), address_most, cx.now_ns),
            clients: Clients::new(&cx.config, seed),
            egress: HttpEgress::new(!seed, instance),
            outlets: Outlets::new(seed.rotate_left(16), instance),
            membership,
            lifecycle: Lifecycle::default(),
            report: Report::default(),
            next_second_ns: cx.now_ns,
            passed: Passed::default(),
            ended_before: 0,
            sent_ns: 0,
            hold: Hold::default(),
            busy_bytes: BUSY_BYTES,
            cx,
        }
    }

    /// A turn that brings so many bytes counts as busy. For the simulator, whose turns bring little.
    pub fn busy_from(mut self, bytes: usize) -> Shard<I> {
        self.busy_bytes = bytes;
        self
    }

    /// A file, opened to append, that refused packets are set aside in, and whether it ends within a line.
    pub fn set_refused_file(&mut self, file: I::Socket, is_torn: bool) {
        self.egress.set_refused_file(file, is_torn);
    }

    /// Sockets where datagrams come, each with the number of its input: 1 for the first of the configuration.
    pub fn set_datagram_sockets(&mut self, sockets: Vec<(usize, I::Socket)>) {
        self.intake.set_datagram_sockets(self.cx.now_ns, sockets);
    }

    /// Starts to accept.
    pub fn start(&mut self) {
        self.accepts.start(&mut self.cx);
        self.intake.receive_datagrams(&mut self.cx);
        self.cx.io.arm_wake(bare(Kind::Wake));
    }

    /// A turn begins. `is_full`: with as many completions as a turn takes, so that more may be there.
    pub fn begin_turn(&mut self, is_full: bool) {
        self.passed = self.cx.begin_turn(is_full);
        self.ended_before = self.links.ends();
        self.intake.begin_turn(&mut self.cx, self.passed.awake_ns);
    }

    /// First half of a turn: what the requests have come to, all at once, piece by piece, or nothing.
    pub fn handle(&mut self, completions: &mut Vec<Completion>) {
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
    }

    /// Second half of a turn: what other shards said, then everything that follows from both. True
    /// when housekeeping was due.
    pub fn conclude_turn(&mut self, inbox: &mut Inbox<I::Socket>) -> bool {
        let received = self.cx.engine.counters.received;
        self.cx.gather.turn(self.passed.real_ns, received);
        self.links.see_to_ends(&mut self.cx, self.ended_before);
        for (from, message) in inbox.drain(..) {
            self.on_message(from, message);
        }
        self.membership.take_orders(&self.cx);
        self.clients.take_replies(&mut self.cx);
        self.membership.broadcast(&mut self.cx);
        self.cx.end_links();
        self.cx.engine.reroute();
        self.intake.resume_pending(&mut self.cx);
        self.clients.answer_receipts(&mut self.cx);
        self.intake.answer(&mut self.cx);
        self.set_aside();
        if !self.holds_sends() {
            let due = self.lanes_due();
            self.send(due);
        }
        self.clients.send_answers(&mut self.cx);
        self.cx.mesh.flush();
        let due = self.cx.now_ns >= self.cx.next_tick_ns;
        if due {
            self.housekeeping();
        }
        self.cx.end_links();
        self.report.note_turn(&self.cx);
        due
    }

    #[inline]
    fn dispatch(&mut self, completion: Completion) {
        let (kind, slot) = untoken(completion.token);
        let Some(kind) = kind else {
            return;
        };
        let cx = &mut self.cx;
        match kind {
            Kind::EmitterReceive => self.intake.on_receive(cx, slot, completion),
            Kind::Datagrams => self.intake.on_datagram(cx, slot, completion),
            Kind::EmitterSend => self.intake.on_answers_sent(cx, slot, completion),
            Kind::LinkReceive => self.links.on_receive(cx, slot, completion),
            Kind::LinkSend if completion.result < 0 => self.links.on_failed_send(completion),
            Kind::LinkSend => self.links.on_send(cx, slot, completion),
            Kind::ZeroCopySend => self.links.on_zero_copy(cx, slot, completion),
            Kind::HttpReceive => self.clients.on_receive(cx, slot, completion),
            Kind::HttpSend => self.clients.on_sent(cx, slot, completion),
            Kind::PostConnect => self.egress.on_connected(cx, slot, completion),
            Kind::PostReceive => self.egress.on_receive(cx, slot, completion),
            Kind::PostSend => self.egress.on_sent(cx, slot, completion),
            Kind::OutletConnect => self.outlets.on_connected(cx, slot, completion),
            Kind::OutletReceive => self.outlets.on_receive(cx, slot, completion),
            Kind::OutletSend => self.outlets.on_sent(cx, slot, completion),
            Kind::DeadLetter => self.egress.on_dead_letter(cx, slot, completion),
            Kind::AcceptEmitter | Kind::AcceptAnalyzer | Kind::AcceptHttp => {
                self.on_accept(kind, &completion);
            }
            Kind::Wake => cx.io.arm_wake(bare(Kind::Wake)),
            Kind::Cancel => {}
        }
    }

    fn on_accept(&mut self, kind: Kind, completion: &Completion) {
        let cx = &mut self.cx;
        let input = input_of(untoken(completion.token).1);
        match (self.accepts.take(cx, completion), kind) {
            (Accepted::Socket(socket), Kind::AcceptEmitter) => self.intake.add(cx, input, socket),
            (Accepted::Socket(socket), Kind::AcceptAnalyzer) => self.links.add(cx, socket),
            (Accepted::Socket(socket), _) => self.clients.add(cx, socket),
            (Accepted::Failed, _) => self.links.let_overdue_go(cx),
            (Accepted::Cancelled, _) => {}
        }
        self.accepts.next(cx, kind, completion);
    }

    fn on_message(&mut self, from: usize, message: Message<I::Socket>) {
        let cx = &mut self.cx;
        match message {
            Message::Change(change) => self.membership.take(change),
            Message::Roster(roster) => self.follow(&roster),
            Message::HandOver(hand_over) => self.links.on_hand_over(cx, *hand_over),
            Message::ForwardedBatch(batch) => self.links.on_forwarded(cx, from, batch),
            Message::Credit { epoch, messages } => {
                if let Some(lane) = cx.engine.lane_of(epoch) {
                    cx.engine.acked(lane, messages, cx.now_ns);
                }
            }
            Message::Presumed { epoch, messages } => {
                if let Some(lane) = cx.engine.lane_of(epoch) {
                    cx.engine.presumed(lane, messages);
                }
            }
            Message::Stalled { epoch } => self.links.on_stalled(cx, epoch),
            Message::LinkDown { epoch } => cx.ended.push(epoch),
        }
    }

    /// Routes by a new roster.
    fn follow(&mut self, roster: &Arc<Roster>) {
        let cx = &mut self.cx;
        self.egress.open_links(cx, roster);
        self.outlets.open_links(cx, roster);
        let own_links = self.links.own_links();
        let (posts, outlets) = (&self.egress, &self.outlets);
        let is_new = self.membership.follow(cx, roster, |entry| {
            if let Reach::Http { generation } = entry.reach {
                let link = posts.link_of(generation);
                let link = link.or_else(|| outlets.link_of(generation));
                return link.map(|epoch| {
                    let wish = Window {
                        described: posts.asks_forms(epoch),
                        ..Window::ANY
                    };
                    (epoch, wish)
                });
            }
            own_links.get(&entry.name).copied()
        });
        if is_new {
            self.links.eject(cx, roster);
            self.egress.close_links(cx, roster);
            self.outlets.close_links(cx, roster);
            self.publish();
        }
    }

    /// Messages that no analyzer with an outlet takes go where refused packets are.
    fn set_aside(&mut self) {
        let cx = &mut self.cx;
        loop {
            while let Some(aside) = self.outlets.next_aside(cx) {
                self.egress.set_aside(cx, aside);
            }
            let through = self.egress.take_set_aside();
            if through.is_empty() {
                break;
            }
            for (link, message) in through {
                self.outlets.on_aside(cx, link, message);
            }
        }
    }

    /// Sends what is in the `due` lanes that have waited longest, and what waited behind other sends.
    fn send(&mut self, due: usize) {
        let cx = &mut self.cx;
        if due > 0 || !cx.engine.has_dirty() {
            self.sent_ns = cx.now_ns;
        }
        for _ in 0..due {
            let Some(lane) = cx.engine.next_dirty() else {
                break;
            };
            if let Some(epoch) = self.links.want_send(cx, lane) {
                self.egress.want_send(epoch);
                self.outlets.want_send(epoch);
            }
        }
        self.links.send(cx);
        self.membership.note_rerouted(cx);
        self.egress.send(cx);
        self.outlets.send(cx);
    }

    fn housekeeping(&mut self) {
        self.schedule_tick();
        self.cx.look_at_settings();
        serve_tap(&mut self.cx, &self.membership);
        if self.cx.may_judge() {
            self.judge_peers();
        }
        self.accepts.retry(&mut self.cx);
        self.intake.look_at_datagrams(&mut self.cx);
        self.publish();
    }

    /// Whose time is over, after all that it may have said has been read.
    fn judge_peers(&mut self) {
        let cx = &mut self.cx;
        self.links.check_handshakes(cx);
        self.links.check_quiet(cx);
        self.intake.look_at_unread(cx);
        self.intake.look_at_ages(cx);
        self.intake.look_at_answers(cx);
        self.intake.look_at_deadlines(cx);
        self.intake.settle_undecided(cx);
        self.clients.check_waits(cx);
        self.egress.check_waits(cx);
        self.outlets.check_waits(cx);
        if cx.now_ns < self.next_second_ns {
            return;
        }
        self.next_second_ns = match self.links.check_stalls(cx) {
            true => cx.now_ns + SECOND_NS,
            false => cx.now_ns,
        };
        self.intake.check_frames(cx);
        self.links.check_remote_lanes(cx);
        let balance = cx.engine.balance();
        assert!(balance.holds(), "shard {}: {balance}", cx.index);
    }

    fn schedule_tick(&mut self) {
        let tick = if self.links.has_handshakes() || self.cx.phase != Phase::Running {
            TICK_HANDSHAKE
        } else {
            TICK
        };
        self.cx.next_tick_ns = self.cx.now_ns + tick.as_nanos() as u64; // a constant below a second
    }

    fn publish(&mut self) {
        let report = self.report();
        self.cx.shared.publish(usize::from(self.cx.index), report);
    }

    fn report(&mut self) -> ShardReport {
        let parts = Parts {
            intake: &self.intake,
            links: &self.links,
            clients: &self.clients,
            posts: &self.egress,
            outlets: &self.outlets,
            membership: &self.membership,
        };
        self.report.of(&mut self.cx, &parts)
    }

    /// Goes on with stopping, if that was asked for. True: the loop ends.
    pub fn finished(&mut self) -> bool {
        match self.cx.shared.stop() {
            Stop::No => return false,
            Stop::Now => return true,
            Stop::Drain => {}
        }
        loop {
            let remains = self.remains();
            let Some(step) = self.lifecycle.advance(&mut self.cx, remains) else {
                break;
            };
            self.take_step(step);
        }
        if self.cx.phase == Phase::GracefulClose {
            self.intake.go_on_with_farewells(&mut self.cx);
            self.clients.go_on_with_farewells(&mut self.cx);
        }
        if self.cx.phase == Phase::Draining && !self.intake.may_bring_more() {
            self.links.ask_for_acks(&mut self.cx);
        }
        self.lifecycle.is_over(&self.cx)
    }

    fn remains(&self) -> Remains {
        Remains {
            listens: self.accepts.listens(),
            accepts: !self.accepts.has_ended(),
            emitters: self.intake.remains(),
            clients: self.clients.remain(),
        }
    }

    fn take_step(&mut self, step: Step) {
        let cx = &mut self.cx;
        match step {
            Step::GracefulClose => {
                // Closed a moment later: a request that was queued in this turn still names the socket.
                self.accepts.cancel_outliving(cx);
                self.intake.begin_farewells(cx, self.lifecycle.spread());
                self.accepts.cancel(cx, Kind::AcceptHttp);
                self.clients.begin_farewells(cx, self.lifecycle.spread());
                self.schedule_tick();
            }
            Step::StopListening => {
                self.accepts.stop_listening(cx);
                self.intake.stop_datagrams();
            }
            Step::CutOff => {
                self.intake.stop_receiving(cx);
                self.intake.cut_off_datagrams(cx);
                self.clients.cut_off_clients(cx);
                self.schedule_tick();
            }
        }
    }

    /// The last words and the last report.
    pub fn end(&mut self) -> ShardReport {
        self.links.say_goodbye(&mut self.cx);
        self.outlets.say_goodbye(&mut self.cx);
        self.intake.look_at_datagrams(&mut self.cx);
        let report = self.report();
        self.accepts.close();
        // Each by its token: of all requests only these are many.
        let (intake, links, clients) = (&self.intake, &self.links, &self.clients);
        let receives = intake.receives().chain(links.receives());
        for receive in receives.chain(clients.receives()) {
            self.cx.io.cancel(receive, bare(Kind::Cancel));
        }
        self.cx.io.quiesce();
        report
    }

    /// The analyzers and weights that it routes by.
    pub fn roster(&self) -> &Roster {
        &self.cx.roster
    }

    /// What HTTP clients have brought so far.
    pub fn http_report(&self) -> &HttpReport {
        self.clients.counts()
    }

    /// Bytes that were read and that the engine has not taken.
    pub fn pending_bytes(&self) -> u64 {
        self.intake.pending_bytes()
    }

    /// When housekeeping is due next.
    pub fn next_tick_ns(&self) -> u64 {
        self.cx.next_tick_ns
    }

    /// What ends this shard's wait from another thread.
    pub fn wake(&self) -> &Arc<Wake> {
        &self.cx.shared.wakes[usize::from(self.cx.index)]
    }

    /// How long the next wait may be.
    pub fn next_wait(&mut self) -> Wait {
        if self.has_work() {
            return Wait {
                gather: Duration::ZERO,
                timeout: Duration::ZERO,
            };
        }
        let cx = &self.cx;
        let now_ns = cx.io.now_ns();
        let busy = cx.turn_bytes >= self.busy_bytes || cx.hurry || self.is_asked(now_ns);
        let mut until_ns = cx.next_tick_ns;
        let posts_wait = self.egress.is_waiting() || self.outlets.is_waiting();
        if cx.engine.has_dirty() || self.links.wants_to_send() || posts_wait {
            until_ns = until_ns.min(self.sent_ns + cx.latency_budget_ns());
        }
        until_ns = until_ns.min(self.intake.answers_due_ns());
        let until_tick = until_ns.saturating_sub(now_ns);
        Wait {
            gather: if busy {
                Duration::ZERO
            } else {
                Duration::from_nanos(cx.gather.wait_ns(cx.latency_budget_ns()))
            },
            timeout: Duration::from_nanos(until_tick),
        }
    }

    /// HTTP clients have asked a moment ago.
    fn is_asked(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.clients.asked_ns()) < ASKED_NS
    }

    /// Turns come quickly only because HTTP clients are answered at once: analyzers get what these have
    /// sent in fewer and larger sends, within the latency budget all the same.
    fn holds_sends(&self) -> bool {
        let cx = &self.cx;
        cx.phase == Phase::Running
            && self.is_asked(cx.now_ns)
            && cx.now_ns.saturating_sub(self.sent_ns) < cx.latency_budget_ns()
            && !cx.engine.is_rerouting()
    }

    /// How many lanes are sent in this turn.
    fn lanes_due(&mut self) -> usize {
        let cx = &self.cx;
        let load = Load {
            is_busy: cx.turn_bytes >= self.busy_bytes || cx.hurry,
            is_at_ease: cx.phase == Phase::Running && cx.engine.is_at_ease(),
            lanes: cx.engine.dirty_lanes(),
            received_bytes: cx.engine.counters.received_bytes,
            budget_ns: cx.latency_budget_ns(),
        };
        self.hold.due(&load, cx.now_ns)
    }

    /// Something can be done without a completion.
    pub fn has_work(&mut self) -> bool {
        let cx = &mut self.cx;
        let has_more = self.intake.has_pending() || self.intake.has_turns();
        let takes_more = has_more && cx.engine.can_ingest();
        let shared = &cx.shared;
        takes_more
            || self.hold.is_holding()
            || cx.mesh.has_mail()
            || cx.mesh.is_busy()
            || self.links.ends() > 0
            || self.membership.has_orders(cx)
            || shared.control_port.has_replies(usize::from(cx.index))
            || (shared.stop() != Stop::No && cx.phase == Phase::Running)
            || shared.stop() == Stop::Now
            || (cx.phase == Phase::Drained && all_drained(cx))
    }
}

#[cfg(test)]
mod tests;
