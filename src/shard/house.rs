//! Mail from other shards, and what is done a few times a second: timers, reports, the way out.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::links::Connection;
use super::mesh::{Mesh, Message};
use super::port::Io;
use super::shared::{ShardReport, Stop};
use super::slab::Kind;
use super::worker::{Phase, Worker, TICK_HANDSHAKE};
use weir_engine::{Change, LinkEpoch, Reach, Registrar, Roster, Window};
use weir_protocol::Dialect;

const SECOND_NS: u64 = 1_000_000_000;
/// What a drain gets beyond its deadline when the process did not run meanwhile.
const LAST_READ_NS: u64 = 250_000_000;
/// Names of analyzers that are gone, kept for log lines about their messages.
const NAMES_MAX: usize = 4096;

impl<I: Io> Worker<I> {
    pub(super) fn on_message(&mut self, from: usize, message: Message<I::Socket>) {
        match message {
            Message::Change(change) => self.on_change(change),
            Message::Roster(roster) => self.on_roster(roster),
            Message::HandOver(hand_over) => self.on_hand_over(*hand_over),
            Message::Parcel(parcel) => self.on_parcel(from, parcel),
            Message::Credit { epoch, messages } => {
                if let Some(lane) = self.engine.lane_of(epoch) {
                    self.engine.acked(lane, messages, self.now_ns);
                }
            }
            Message::Stalled { epoch } => self.on_stalled(epoch),
            Message::LinkDown { epoch } => self.ended.push(epoch),
        }
    }

    /// Shard 0: the roster changes, everybody gets the whole of it.
    fn on_change(&mut self, change: Change) {
        let Some(registrar) = &mut self.registrar else {
            return;
        };
        self.roster_changed |= registrar.take(change);
    }

    /// The lanes of all links that ended in this turn. What the engine does for each table it does once:
    /// a thousand deaths at once must not stop the others ([ADR 0020](../../docs/adr/0020-deaths-of-a-turn.md)).
    pub(super) fn end_links(&mut self) {
        if !self.ended.is_empty() {
            let ended = std::mem::take(&mut self.ended);
            self.engine.links_down(&ended, self.now_ns);
        }
    }

    /// Shard 0: what the operator wants.
    pub(super) fn take_orders(&mut self) {
        let Some(registrar) = &mut self.registrar else {
            return;
        };
        if !self.shared.desk.has_slips() {
            return;
        }
        for slip in self.shared.desk.take_slips() {
            log::info!("order: {}", slip.order);
            let done = registrar.order(slip.order).map(|roster| {
                self.new_roster = roster.or(self.new_roster.take());
                registrar.epoch()
            });
            // Whoever asked may have given up.
            let _ = slip.result.try_send(done);
        }
    }

    /// Once a turn, however many changes there were.
    pub(super) fn broadcast_roster(&mut self) {
        if std::mem::take(&mut self.roster_changed) {
            self.new_roster = self.registrar.as_mut().map(Registrar::next_roster);
        }
        if let Some(roster) = self.new_roster.take() {
            self.mesh.post_roster(&roster);
        }
    }

    fn on_roster(&mut self, roster: Arc<Roster>) {
        self.open_http_links(&roster);
        let posts = &self.posts;
        let mut natives: BTreeMap<&str, (LinkEpoch, Window)> = BTreeMap::new();
        for (_, connection) in self.links.iter() {
            if connection.is_up() && connection.link.dialect() == Dialect::Native {
                let link = (connection.epoch, connection.window);
                natives.entry(&connection.name).or_insert(link);
            }
        }
        let applied = self.engine.apply_roster(&roster, |entry| {
            if let Reach::Http { generation } = entry.reach {
                return posts.link_of(generation).map(|epoch| (epoch, Window::ANY));
            }
            natives.get(&*entry.name).copied()
        });
        if !applied {
            return;
        }
        self.roster_applied_ns = self.io.now_ns();
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        for entry in &roster.entries {
            self.names.insert(entry.analyzer, Arc::clone(&entry.name));
        }
        self.log_roster(&roster);
        self.eject(&roster);
        self.close_http_links(&roster);
        self.roster = roster;
        self.publish();
    }

    /// Closes this shard's links of analyzers that the operator threw out.
    fn eject(&mut self, roster: &Roster) {
        for entry in roster.entries.iter().filter(|entry| entry.ejected) {
            for slot in self.links.slots() {
                let is_its = |link: &Connection<I>| match entry.reach {
                    Reach::LinkPerShard => {
                        link.link.dialect() == Dialect::Native && link.name == entry.name
                    }
                    Reach::SingleLink { epoch, .. } => link.epoch == epoch,
                    Reach::Http { .. } => false,
                };
                let link = self.links.get(slot);
                if link.is_some_and(|link| link.is_up() && is_its(link)) {
                    self.kill(slot, "ejected by the operator", None);
                }
            }
        }
    }

    /// What is routed to from now on, for tests and for whoever looks into a distribution.
    fn log_roster(&self, roster: &Roster) {
        if !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let lanes = self.engine.lane_reports().filter(|lane| !lane.down);
        log::debug!(
            "roster shard={} epoch={} analyzers={} lanes={} mono_ns={}",
            self.index,
            roster.epoch,
            roster.entries.len(),
            lanes.count(),
            self.io.now_ns(),
        );
    }

    pub(super) fn housekeeping(&mut self) {
        self.schedule_tick();
        if self.shared.live_changes() != self.live_number {
            (self.live_number, self.live) = self.shared.live();
        }
        self.serve_tap();
        if self.may_judge() {
            self.judge_peers();
        }
        for token in std::mem::take(&mut self.accept_retry) {
            self.accept(token);
        }
        self.publish();
    }

    /// Whose time is over, after all that it may have said has been read.
    fn judge_peers(&mut self) {
        self.check_handshakes();
        self.look_at_unread();
        self.check_clients();
        self.check_posts();
        if self.now_ns < self.next_second_ns {
            return;
        }
        self.next_second_ns = self.now_ns + SECOND_NS;
        if !self.check_stalls() {
            self.next_second_ns = self.now_ns;
        }
        self.check_frames();
        self.check_remote_lanes();
        let balance = self.engine.balance();
        assert!(balance.holds(), "shard {}: {balance}", self.index);
    }

    fn publish(&mut self) {
        let report = self.report();
        self.shared.publish(usize::from(self.index), report);
    }

    pub(super) fn report(&mut self) -> ShardReport {
        self.engine.counters.enters = self.io.enters();
        ShardReport {
            shard: self.index,
            balance: self.engine.balance(),
            counters: self.engine.counters.clone(),
            lanes: self.engine.lane_reports().collect(),
            accounts: self.engine.accounts(),
            ended: self.engine.ended().copied().collect(),
            table_changes: self.engine.table_changes(),
            roster: Arc::clone(&self.roster),
            roster_applied_ns: self.roster_applied_ns,
            kept: self.registrar.as_ref().map_or((0, 0), Registrar::kept),
            emitters: self.emitters_placed,
            links: self.links_up.len(),
            links_unread_bytes: self.links_unread_bytes,
            buffers: self.engine.buffers(),
            unrouted_bytes: self.pending_bytes(),
            unfinished_emitters: self.unfinished_emitters(),
            stalled: self.stalled_since_ns.is_some(),
            share_bound: self.engine.share_bound(),
            share_bound_max: self.engine.share_bound_max(),
            pace: self.pace,
            http: self.clients.report(self.engine.receipts_waiting()),
            http_analyzers: self.posts.reports(),
        }
    }

    /// Goes on with stopping, if that was asked for. True: the loop ends.
    pub fn finished(&mut self) -> bool {
        match self.shared.stop() {
            Stop::No => return false,
            Stop::Now => return true,
            Stop::Drain => {}
        }
        if self.phase == Phase::Running {
            self.start_farewell();
        }
        if self.phase == Phase::Farewell && self.farewell_is_over() {
            self.start_draining();
        }
        if self.phase == Phase::Draining && self.nothing_left() {
            self.phase = Phase::Drained;
            self.shared.drained.fetch_add(1, Ordering::AcqRel);
            for wake in &self.shared.wakes {
                wake.wake();
            }
        }
        if self.phase == Phase::Draining && self.emitters.len() == 0 && self.pending.is_empty() {
            self.ask_for_acks();
        }
        self.all_drained() || self.is_time_up()
    }

    /// The deadline of a drain is in real time, as the service manager's is. After a pause what has arrived
    /// meanwhile is read first, though: the first turn beyond it gets a moment for that.
    fn is_time_up(&mut self) -> bool {
        let deadline_ns = self.shared.deadline_ns();
        if self.now_ns < deadline_ns {
            return false;
        }
        let last_ns = match self.has_caught_up() {
            true => deadline_ns,
            false => self.now_ns + LAST_READ_NS,
        };
        self.now_ns >= *self.ends_ns.get_or_insert(last_ns)
    }

    pub(super) fn all_drained(&self) -> bool {
        self.shared.drained.load(Ordering::Acquire) >= self.config.shards
    }

    /// Emitters are told to go by a half-close. Those that understand finish their message and close:
    /// all that they sent is read. Connections that wait to be accepted are told as well, unless their
    /// socket outlives this process: then they wait for the next one.
    fn start_farewell(&mut self) {
        self.phase = Phase::Farewell;
        self.farewell_ns = self.awake_ns;
        if self.listeners.as_ref().is_some_and(|l| l.outlives) {
            // Closed a moment later: a request that was queued in this turn still names the socket.
            self.cancel_accepts(Kind::AcceptEmitter);
        }
        for slot in self.emitters.slots() {
            self.tell_to_go(slot);
        }
        self.dismiss_clients();
        self.schedule_tick();
    }

    /// Every emitter has gone, or their time is over. Soon after the beginning nobody new is listened for
    /// but analyzers: what waits for an ACK may need one that comes back.
    fn farewell_is_over(&mut self) -> bool {
        let since = Duration::from_nanos(self.awake_ns - self.farewell_ns);
        let mut listens = self
            .listeners
            .as_ref()
            .is_some_and(|l| l.emitters.is_some());
        if since >= TICK_HANDSHAKE.min(self.config.farewell) && listens {
            self.cancel_accepts(Kind::AcceptEmitter);
            if let Some(listeners) = &mut self.listeners {
                listeners.emitters = None;
                listeners.http = None;
            }
            listens = false;
        }
        let gone = self.emitters.len() == 0 && self.pending.is_empty();
        !listens && gone || since >= self.config.farewell
    }

    fn start_draining(&mut self) {
        self.phase = Phase::Draining;
        self.stop_receiving();
        self.cut_off_clients();
        self.schedule_tick();
    }

    fn nothing_left(&self) -> bool {
        self.accepting == 0
            && self.emitters.len() == 0
            && self.pending.is_empty()
            && self.engine.balance().open() == 0
            && self.clients.table.len() == 0
    }
}
