//! Accepts: a few under way for each listener, so that a turn takes so many of a crowd that comes at once.

use std::io;

use super::port::Io;
use super::slab::{bare, numbered, untoken, Kind};
use super::worker::{Listeners, Phase, Worker};
use crate::port::Completion;
use weir_engine::Reason;

impl<L> Listeners<L> {
    /// The one that a kind of accept is for.
    fn of(&self, accept: Kind) -> Option<&L> {
        match accept {
            Kind::AcceptEmitter => self.emitters.as_ref(),
            Kind::AcceptAnalyzer => Some(&self.analyzers),
            _ => self.http.as_ref(),
        }
    }
}

impl<I: Io> Worker<I> {
    pub(super) fn start_accepts(&mut self) {
        for kind in [Kind::AcceptEmitter, Kind::AcceptAnalyzer, Kind::AcceptHttp] {
            for nth in 0..self.accepts_of(kind) {
                self.accept(numbered(kind, nth));
            }
        }
    }

    /// Accepts of a kind that are under way while it is listened for.
    fn accepts_of(&self, kind: Kind) -> u32 {
        let listener = self.listeners.as_ref().and_then(|all| all.of(kind));
        listener.map_or(0, I::accepts_at_once)
    }

    /// Whether peers of a kind are still let in.
    fn is_wanted(&self, kind: Kind) -> bool {
        let outlives = self.listeners.as_ref().is_some_and(|all| all.outlives);
        match kind {
            Kind::AcceptEmitter if !outlives => self.takes_in(),
            Kind::AcceptAnalyzer => true,
            _ => self.phase == Phase::Running,
        }
    }

    pub(super) fn accept(&mut self, token: u64) {
        let Some(kind) = untoken(token).0.filter(|kind| self.is_wanted(*kind)) else {
            return;
        };
        let listener = self.listeners.as_ref().and_then(|all| all.of(kind));
        let Some(listener) = listener else {
            return;
        };
        self.accepting += u32::from(kind == Kind::AcceptEmitter);
        self.io.accept(listener, token);
    }

    /// An accept has ended: the next takes its place, after a failure not before the next housekeeping.
    pub(super) fn accept_next(&mut self, completion: &Completion) {
        if completion.result < 0 {
            self.accept_retry.push(completion.token);
            return;
        }
        self.accept(completion.token);
        // Each brings one connection: when many wait, they shall not wait for a gathering each.
        self.hurry = true;
    }

    pub(super) fn on_accept_error(&mut self, error: &io::Error) {
        if error.raw_os_error() == Some(libc::ECANCELED) {
            return;
        }
        if let Some(overdue) = self.places.overdue(self.awake_ns) {
            // Perhaps descriptors have run out: who has not spoken at the analyzers' port needs none.
            let why = "it had not spoken, and a connection could not be accepted";
            self.kill(overdue, why, Some(Reason::HandshakeDisplaced));
        }
        if self.engine.counters.of(Reason::AcceptFailed) == 0 {
            log::error!(
                "shard {}: cannot accept a connection: {error}; peers wait in the backlog (raise LimitNOFILE if descriptors ran out)",
                self.index
            );
        }
        self.engine.counters.count(Reason::AcceptFailed);
    }

    pub(super) fn cancel_accepts(&mut self, kind: Kind) {
        for nth in 0..self.accepts_of(kind) {
            self.io.cancel(numbered(kind, nth), bare(Kind::Cancel));
        }
    }
}
