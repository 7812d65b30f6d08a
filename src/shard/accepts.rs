//! Accepts: a few under way for each listener, so that a turn takes so many of a crowd that comes at once.

use super::context::{Context, Phase};
use super::port::Io;
use super::slab::{bare, numbered, untoken, Kind, Slot};
use crate::port::Completion;
use weir_engine::Reason;

/// Where a shard accepts connections.
pub struct Listeners<L> {
    /// That of `--emitters`, then one for each input. Empty: the graceful close's time for new ones is over.
    pub emitters: Vec<EmitterListener<L>>,
    /// Until the end: also while draining, whoever can ACK may come.
    pub analyzers: L,
    /// Not everybody wants HTTP.
    pub http: Option<L>,
}

/// One of those where emitters connect.
pub struct EmitterListener<L> {
    /// The socket; none where datagrams come, see [`crate::Shard::set_datagram_sockets`].
    pub listener: Option<L>,
    /// It stays open when this process ends: who is not accepted waits for the next one.
    pub outlives: bool,
}

impl<L> Listeners<L> {
    /// The one that a kind of accept is for; of emitters that of this input.
    fn of(&self, accept: Kind, input: usize) -> Option<&L> {
        match accept {
            Kind::AcceptEmitter => self.emitters.get(input)?.listener.as_ref(),
            Kind::AcceptAnalyzer => Some(&self.analyzers),
            _ => self.http.as_ref(),
        }
    }

    /// Listeners of a kind of accept.
    fn count(&self, accept: Kind) -> usize {
        match accept {
            Kind::AcceptEmitter => self.emitters.len(),
            Kind::AcceptAnalyzer => 1,
            _ => usize::from(self.http.is_some()),
        }
    }
}

/// Accepts under way at one listener have numbers below this.
const AT_ONCE_MAX: u32 = 256;

/// The token of an accept: which input, and which of those under way there.
fn token_of(kind: Kind, input: usize, nth: u32) -> u64 {
    let input = u32::try_from(input).unwrap_or(u32::MAX / AT_ONCE_MAX);
    numbered(kind, input * AT_ONCE_MAX + nth)
}

/// The input that an accept's token is of.
pub(super) fn input_of(slot: Slot) -> usize {
    slot.index() / AT_ONCE_MAX as usize
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
            for token in self.tokens(kind, |_| true) {
                self.accept(cx, token);
            }
        }
    }

    /// The accepts of a kind that are under way while it is listened for, of these inputs.
    fn tokens(&self, kind: Kind, is_meant: impl Fn(usize) -> bool) -> Vec<u64> {
        let Some(all) = &self.listeners else {
            return Vec::new();
        };
        let of_input = |input: usize| {
            let at_once = all.of(kind, input).map_or(0, I::accepts_at_once);
            (0..at_once.min(AT_ONCE_MAX)).map(move |nth| token_of(kind, input, nth))
        };
        let inputs = (0..all.count(kind)).filter(|input| is_meant(*input));
        inputs.flat_map(of_input).collect()
    }

    /// Whether peers of a kind are still let in, of emitters at this input.
    fn is_wanted(&self, cx: &Context<I>, kind: Kind, input: usize) -> bool {
        match kind {
            Kind::AcceptEmitter if !self.outlives(input) => cx.takes_in(),
            Kind::AcceptAnalyzer => true,
            _ => cx.phase == Phase::Running,
        }
    }

    fn accept(&mut self, cx: &mut Context<I>, token: u64) {
        let (kind, slot) = untoken(token);
        let input = input_of(slot);
        let Some(kind) = kind.filter(|kind| self.is_wanted(cx, *kind, input)) else {
            return;
        };
        let listener = self.listeners.as_ref().and_then(|all| all.of(kind, input));
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
        for token in self.tokens(kind, |_| true) {
            cx.io.cancel(token, bare(Kind::Cancel));
        }
    }

    /// Those of emitters where the socket outlives this process: who waits there has the next one.
    pub(super) fn cancel_outliving(&mut self, cx: &mut Context<I>) {
        for token in self.tokens(Kind::AcceptEmitter, |input| self.outlives(input)) {
            cx.io.cancel(token, bare(Kind::Cancel));
        }
    }

    /// Nobody new is listened for but analyzers.
    pub(super) fn stop_listening(&mut self, cx: &mut Context<I>) {
        self.cancel(cx, Kind::AcceptEmitter);
        if let Some(listeners) = &mut self.listeners {
            listeners.emitters.clear();
            listeners.http = None;
        }
    }

    /// Emitters may come.
    pub(super) fn listens(&self) -> bool {
        let listeners = self.listeners.as_ref();
        listeners.is_some_and(|all| !all.emitters.is_empty())
    }

    /// The socket of this input outlives this process.
    fn outlives(&self, input: usize) -> bool {
        let listeners = self.listeners.as_ref();
        let listener = listeners.and_then(|all| all.emitters.get(input));
        listener.is_some_and(|listener| listener.outlives)
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

    fn listener(outlives: bool) -> EmitterListener<()> {
        EmitterListener {
            listener: Some(()),
            outlives,
        }
    }

    #[test]
    fn each_input_has_accepts_of_its_own_and_those_that_outlive_end_first() {
        let mut cx = context(1, 64);
        let mut accepts = Accepts::new(Listeners {
            emitters: vec![listener(false), listener(true), listener(false)],
            analyzers: (),
            http: None,
        });
        accepts.start(&mut cx);
        assert_eq!(cx.io.take_asked().len(), 4);
        let inputs = accepts.tokens(Kind::AcceptEmitter, |_| true);
        let inputs: Vec<usize> = { inputs.into_iter() }
            .map(|it| input_of(untoken(it).1))
            .collect();
        assert_eq!(inputs, [0, 1, 2]);

        cx.phase = Phase::GracefulClose;
        accepts.cancel_outliving(&mut cx);
        let outliving = token_of(Kind::AcceptEmitter, 1, 0);
        assert_eq!(cx.io.take_asked(), [Asked::Cancel(outliving)]);
        for (input, comes) in [(0, true), (1, false), (2, true)] {
            let token = token_of(Kind::AcceptEmitter, input, 0);
            let came = Completion::simulated(token, 9, false, false);
            accepts.next(&mut cx, Kind::AcceptEmitter, &came);
            assert_eq!(!cx.io.take_asked().is_empty(), comes, "input {input}");
        }
        accepts.stop_listening(&mut cx);
        assert!(!accepts.listens());
    }

    #[test]
    fn an_accept_that_failed_is_tried_again_later_and_another_takes_the_place_of_one_that_did_not()
    {
        let mut cx = context(1, 64);
        let mut accepts = Accepts::new(Listeners {
            emitters: vec![listener(false)],
            analyzers: (),
            http: None,
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
