//! Accepts: a few under way for each listener, so that a turn takes so many of a crowd that comes at once.

use super::context::{Context, Phase};
use super::port::Io;
use super::slab::{bare, numbered, untoken, Kind};
use crate::port::Completion;
use weir_engine::Reason;

/// Where a shard accepts connections.
pub struct Listeners<L> {
    /// None: the graceful close's time for new ones is over.
    pub emitters: Option<L>,
    /// Until the end: also while draining, whoever can ACK may come.
    pub analyzers: L,
    /// Not everybody wants HTTP.
    pub http: Option<L>,
    /// The emitters' socket stays open when this process ends: who is not accepted waits for the next one.
    pub outlives: bool,
}

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

/// What an accept has come to.
pub(super) enum Accepted<S> {
    Socket(S),
    /// Perhaps descriptors have run out.
    Failed,
    Cancelled,
}

/// A shard's listeners, and the accepts on them.
pub(super) struct Accepts<I: Io> {
    listeners: Option<Listeners<I::Listener>>,
    /// Emitters may still be accepted: so many requests have not ended.
    emitters_under_way: u32,
    /// Accepts that failed, by their tokens: they are tried again at the next housekeeping.
    retry: Vec<u64>,
}

impl<I: Io> Accepts<I> {
    pub(super) fn new(listeners: Listeners<I::Listener>) -> Accepts<I> {
        Accepts {
            listeners: Some(listeners),
            emitters_under_way: 0,
            retry: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, cx: &mut Context<I>) {
        for kind in [Kind::AcceptEmitter, Kind::AcceptAnalyzer, Kind::AcceptHttp] {
            for nth in 0..self.at_once(kind) {
                self.accept(cx, numbered(kind, nth));
            }
        }
    }

    /// Accepts of a kind that are under way while it is listened for.
    fn at_once(&self, kind: Kind) -> u32 {
        let listener = self.listeners.as_ref().and_then(|all| all.of(kind));
        listener.map_or(0, I::accepts_at_once)
    }

    /// Whether peers of a kind are still let in.
    fn is_wanted(&self, cx: &Context<I>, kind: Kind) -> bool {
        match kind {
            Kind::AcceptEmitter if !self.outlives() => cx.takes_in(),
            Kind::AcceptAnalyzer => true,
            _ => cx.phase == Phase::Running,
        }
    }

    fn accept(&mut self, cx: &mut Context<I>, token: u64) {
        let Some(kind) = untoken(token).0.filter(|kind| self.is_wanted(cx, *kind)) else {
            return;
        };
        let listener = self.listeners.as_ref().and_then(|all| all.of(kind));
        let Some(listener) = listener else {
            return;
        };
        self.emitters_under_way += u32::from(kind == Kind::AcceptEmitter);
        cx.io.accept(listener, token);
    }

    /// The connection that an accept brought.
    pub(super) fn take(
        &mut self,
        cx: &mut Context<I>,
        completion: &Completion,
    ) -> Accepted<I::Socket> {
        let error = match cx.io.accepted(completion) {
            Ok(socket) => return Accepted::Socket(socket),
            Err(error) => error,
        };
        if error.raw_os_error() == Some(libc::ECANCELED) {
            return Accepted::Cancelled;
        }
        if cx.engine.counters.of(Reason::AcceptFailed) == 0 {
            log::error!(
                "shard {}: cannot accept a connection: {error}; peers wait in the backlog (raise LimitNOFILE if descriptors ran out)",
                cx.index
            );
        }
        cx.engine.counters.count(Reason::AcceptFailed);
        Accepted::Failed
    }

    /// An accept has ended: the next takes its place, after a failure not before the next housekeeping.
    pub(super) fn next(&mut self, cx: &mut Context<I>, kind: Kind, completion: &Completion) {
        self.emitters_under_way -= u32::from(kind == Kind::AcceptEmitter);
        if completion.result < 0 {
            self.retry.push(completion.token);
            return;
        }
        self.accept(cx, completion.token);
        // Each brings one connection: when many wait, they shall not wait for a gathering each.
        cx.hurry = true;
    }

    /// Those that failed.
    pub(super) fn retry(&mut self, cx: &mut Context<I>) {
        for token in std::mem::take(&mut self.retry) {
            self.accept(cx, token);
        }
    }

    pub(super) fn cancel(&mut self, cx: &mut Context<I>, kind: Kind) {
        for nth in 0..self.at_once(kind) {
            cx.io.cancel(numbered(kind, nth), bare(Kind::Cancel));
        }
    }

    /// Nobody new is listened for but analyzers.
    pub(super) fn stop_listening(&mut self, cx: &mut Context<I>) {
        self.cancel(cx, Kind::AcceptEmitter);
        if let Some(listeners) = &mut self.listeners {
            listeners.emitters = None;
            listeners.http = None;
        }
    }

    /// Emitters may come.
    pub(super) fn listens(&self) -> bool {
        let listeners = self.listeners.as_ref();
        listeners.is_some_and(|all| all.emitters.is_some())
    }

    /// The emitters' socket outlives this process.
    pub(super) fn outlives(&self) -> bool {
        self.listeners.as_ref().is_some_and(|all| all.outlives)
    }

    /// No accept of an emitter is under way.
    pub(super) fn has_ended(&self) -> bool {
        self.emitters_under_way == 0
    }

    /// Closes all of them.
    pub(super) fn close(&mut self) {
        self.listeners = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, Asked};

    #[test]
    fn an_accept_that_failed_is_tried_again_later_and_another_takes_the_place_of_one_that_did_not()
    {
        let mut cx = context(1, 64);
        let mut accepts = Accepts::new(Listeners {
            emitters: Some(()),
            analyzers: (),
            http: None,
            outlives: false,
        });
        accepts.start(&mut cx);
        assert_eq!(cx.io.take_asked(), [Asked::Accept, Asked::Accept]);
        let token = numbered(Kind::AcceptEmitter, 0);
        let came = Completion::simulated(token, 9, false, false);
        assert!(matches!(accepts.take(&mut cx, &came), Accepted::Socket(9)));
        accepts.next(&mut cx, Kind::AcceptEmitter, &came);
        assert_eq!(cx.io.take_asked(), [Asked::Accept]);
        assert!(cx.hurry && !accepts.has_ended());

        let failed = Completion::simulated(token, -libc::EMFILE, false, false);
        assert!(matches!(accepts.take(&mut cx, &failed), Accepted::Failed));
        accepts.next(&mut cx, Kind::AcceptEmitter, &failed);
        assert_eq!(cx.engine.counters.of(Reason::AcceptFailed), 1);
        assert_eq!(cx.io.take_asked(), []);
        assert!(accepts.has_ended());
        accepts.retry(&mut cx);
        assert_eq!(cx.io.take_asked(), [Asked::Accept]);

        cx.phase = Phase::Draining;
        let cancelled = Completion::simulated(token, -libc::ECANCELED, false, false);
        let taken = accepts.take(&mut cx, &cancelled);
        assert!(matches!(taken, Accepted::Cancelled));
        accepts.next(&mut cx, Kind::AcceptEmitter, &cancelled);
        accepts.retry(&mut cx);
        assert_eq!(cx.io.take_asked(), [], "emitters are not wanted any more");
        assert!(accepts.has_ended());
    }
}
