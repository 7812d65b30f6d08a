//! An analyzer's connection: how far it has come, what it says, what it ACKs.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::permits::Turn;
use crate::admission::Customer;
use crate::context::Context;
use crate::mesh::{ForwardedBatch, Mesh, Message};
use crate::port::Io;
use weir_engine::LaneId;
use weir_engine::{Change, Counters, Entry, Link, LinkEpoch, Reason, Span, Window};
use weir_protocol::native::HelloReader;
use weir_protocol::text::Field;
use weir_protocol::WeightText;
use weir_sink::detect::Detector;
use weir_sink::{Control, Sink};

/// A weight that differs from the nearest other by this factor is worth a warning.
const FAR: f64 = 1_000.0;

/// How far a connection has come.
pub(super) enum Stage {
    /// What it speaks is not known yet.
    Detecting {
        detector: Detector,
        first_byte_ns: Option<u64>,
        last_byte_ns: u64,
    },
    /// A HELLO is arriving.
    Greeting {
        sink: Sink,
        reader: Box<HelloReader>,
        first_byte_ns: u64,
    },
    /// Known, but another shard shall own it: waits for its receive to end.
    Leaving {
        to: usize,
        hand_over: Box<HandOverFacts>,
    },
    /// About to come up, or to be refused.
    Settling,
    /// It gets messages.
    Up,
    /// Dead; waits for the kernel to be through with it.
    Closing,
}

/// What a hand-over says beside the socket.
pub(super) struct HandOverFacts {
    pub(super) sink: Sink,
    pub(super) name: Arc<str>,
    /// Of a native analyzer that says so: the number of its run.
    pub(super) instance: Option<u64>,
    pub(super) weight: f64,
    pub(super) window: Window,
    pub(super) unread: Vec<u8>,
}

/// A range that is being sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// Whose arena it is sent from.
    pub(super) shard: usize,
    pub(super) span: Span,
    /// Own lane and segment to release, unless the batch came from another shard.
    pub(super) own: Option<(LaneId, u64)>,
}

/// The send of a link: what is in flight, if anything is.
#[derive(Default)]
pub(super) struct Sending<V> {
    pub(super) ranges: Vec<Range>,
    pub(super) vector: V,
}

impl<V> Sending<V> {
    /// Nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// An analyzer's connection.
pub(super) struct Connection<I: Io> {
    pub(super) socket: I::Socket,
    pub(super) stage: Stage,
    pub(super) accepted_ns: u64,
    /// Where it comes from, when that could be told.
    pub(super) peer: Option<SocketAddr>,
    /// Its place among those that have not spoken.
    pub(super) turn_to_speak: Option<Turn>,
    /// Whom its certificate names.
    pub(super) certificate: Option<Arc<str>>,
    /// Who it counts as, and for how much, when connections are limited by client.
    pub(super) counted: Option<(Customer, usize)>,
    pub(super) receiving: bool,
    /// Its address, and once it is up its id or the name that it was given.
    pub(super) name: Arc<str>,
    /// When it came up.
    pub(super) up_ns: u64,
    /// How many links before it were put out by a link of the same id that does not say its instance.
    pub(super) takeovers: u32,
    pub(super) epoch: LinkEpoch,
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) sending: Sending<I::Vector>,
    /// Batches of other shards, by shard.
    pub(super) forwarded: Vec<VecDeque<ForwardedBatch>>,
    /// Whose batch goes next, when several shards have some.
    pub(super) turn: usize,
    /// A split message of this shard must be finished first.
    pub(super) must_continue: Option<usize>,
    pub(super) zero_copy: bool,
    /// In the pump list.
    pub(super) pumped: bool,
    /// Something waits for the end of the send that is in flight.
    pub(super) is_behind: bool,
    /// DRAIN was sent, and nothing since.
    pub(super) drain_sent: bool,
    /// It has sent a weight that is none; more of them are counted only.
    pub(super) bad_weight_logged: bool,
    /// What other shards are told when the kernel is through with a dead link.
    pub(super) last_credits: Vec<(u16, u64)>,
}

/// What an analyzer has said in one read, its ACKs aside: the link has those.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Of several weights the last: a flood of them costs one change.
    weight: Option<f64>,
    /// Of several DRAINs one. A DRAIN in a later read counts again: the operator may have resumed the analyzer
    /// meanwhile.
    asks_to_drain: bool,
    /// The link is over.
    end: Option<Over>,
}

/// Why a link is over.
#[derive(Debug, PartialEq)]
pub(super) struct Over {
    pub(super) why: String,
    pub(super) reason: Option<Reason>,
}

impl<I: Io> Connection<I> {
    /// It gets messages.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Words of a link that is up, read where they lie.
    pub(super) fn hear(
        &mut self,
        mut bytes: &[u8],
        io: &I,
        now_ns: u64,
        counters: &mut Counters,
    ) -> Heard {
        let mut heard = Heard::default();
        while let Some(word) = self.link.decoder().next(&mut bytes) {
            match word {
                Ok(Control::Ack(raw)) => match self.link.ack(raw, now_ns) {
                    Ok(true) => {}
                    Ok(false) => counters.count(Reason::AckStale),
                    Err(error) => {
                        return heard.over(error.to_string(), Some(Reason::AckBeyondSent));
                    }
                },
                Ok(Control::Weight(weight)) => {
                    log::debug!(
                        "weight link={} analyzer={} weight={} mono_ns={}",
                        self.epoch.0,
                        Field(&self.name),
                        WeightText(weight),
                        io.now_ns()
                    );
                    heard.weight = Some(weight);
                }
                Ok(Control::BadWeight(weight)) => {
                    if !std::mem::replace(&mut self.bad_weight_logged, true) {
                        log::warn!(
                            "analyzer {}: weight {} ignored (allowed: finite, at least 0); further ones are counted only",
                            Field(&self.name),
                            WeightText(weight)
                        );
                    }
                    counters.count(Reason::WeightInvalid);
                }
                Ok(Control::Drain) => heard.asks_to_drain = true,
                Ok(Control::Goodbye { sequence }) => {
                    // One that ACKs what was never sent is a graceful close all the same.
                    let _ = self.link.ack(sequence, now_ns);
                    return heard.over("goodbye".to_owned(), None);
                }
                Err(error) => {
                    return heard.over(error.to_string(), Some(Reason::ControlUnknownType));
                }
            }
        }
        heard
    }

    /// What follows for the roster, and for the shards whose messages were ACKed. Returns why the link is over, if
    /// it is: then nothing has been passed on yet.
    pub(super) fn heed(&mut self, cx: &mut Context<I>, heard: Heard) -> Option<Over> {
        if heard.end.is_some() {
            return heard.end;
        }
        let epoch = self.epoch;
        if let Some(weight) = heard.weight {
            self.warn_of_far_weight(cx, weight);
            let change = Change::Weight { epoch, weight };
            cx.mesh.post(0, Message::Change(change));
        }
        if heard.asks_to_drain {
            cx.mesh.post(0, Message::Change(Change::Drain { epoch }));
        }
        self.pay_credits(cx);
        None
    }

    /// Tells the shards what was ACKed.
    #[inline]
    pub(super) fn pay_credits(&mut self, cx: &mut Context<I>) {
        let epoch = self.epoch;
        while let Some((shard, messages)) = self.link.next_credit() {
            if shard == cx.index {
                if let Some(lane) = cx.engine.lane_of(epoch) {
                    cx.engine.acked(lane, messages, cx.now_ns);
                }
            } else {
                cx.mesh
                    .post(usize::from(shard), Message::Credit { epoch, messages });
            }
        }
    }

    /// What a dying link has ACKed is not re-routed, though the send that it came in has not
    /// completed. This shard's lane knows which buffers the kernel still reads; the other shards are
    /// told when it reads none, see `Links::reap`.
    pub(super) fn pay_last_credits(&mut self, cx: &mut Context<I>) {
        self.pay_credits(cx);
        let epoch = self.epoch;
        self.link.completed();
        while let Some((shard, messages)) = self.link.next_credit() {
            if shard != cx.index {
                self.last_credits.push((shard, messages));
            } else if let Some(lane) = cx.engine.lane_of(epoch) {
                cx.engine.acked(lane, messages, cx.now_ns);
            }
        }
    }

    /// Somebody should know of a weight beside which no other counts, or that counts beside no other.
    pub(super) fn warn_of_far_weight(&self, cx: &Context<I>, weight: f64) {
        let name = &self.name;
        let others = cx.roster.entries.iter();
        let others = others.filter(|entry| entry.name != *name);
        let Some(nearest) = far_from(weight, others.map(Entry::effective_weight)) else {
            return;
        };
        let from = self
            .peer
            .map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let address = self.peer.map(|peer| peer.ip());
        let notice = cx
            .shared
            .notice("analyzers", address, "weight_far", cx.now_ns);
        if let Some(tail) = notice {
            log::warn!(
                "analyzer {}, peer {from}: weight {} is far from those of all others, the nearest is {}{tail}",
                Field(name),
                WeightText(weight),
                WeightText(nearest)
            );
        }
    }
}

impl Heard {
    fn over(mut self, why: String, reason: Option<Reason>) -> Heard {
        self.end = Some(Over { why, reason });
        self
    }
}

/// The weight among `others` that is nearest to `weight`, if even that is far; 0 counts as none.
fn far_from(weight: f64, others: impl Iterator<Item = f64>) -> Option<f64> {
    let ratio = |other: f64| (weight / other).max(other / weight);
    let others = others.filter(|other| *other > 0.0);
    let nearest = others.min_by(|a, b| ratio(*a).total_cmp(&ratio(*b)))?;
    (weight > 0.0 && ratio(nearest) >= FAR).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_far_from_all_others_or_it_is_not() {
        let far = |weight, others: &[f64]| far_from(weight, others.iter().copied());
        assert_eq!(far(50_516.0, &[0.4, 0.6]), Some(0.6));
        assert_eq!(far(1e-9, &[0.4, 0.6]), Some(0.4));
        assert_eq!(far(500.0, &[0.4, 0.6]), None);
        assert_eq!(far(50_516.0, &[0.4, 40_000.0]), None);
        assert_eq!(far(50_516.0, &[]), None);
        assert_eq!(
            far(50_516.0, &[0.0]),
            None,
            "who gets nothing does not count"
        );
        assert_eq!(far(0.0, &[0.4]), None);
        assert_eq!(far(1e308, &[1e-308]), Some(1e-308), "the ratio is infinite");
    }
}
