//! A link comes up: its place, its name, its welcome.

use std::net::{IpAddr, Shutdown};
use std::sync::Arc;

use super::connection::{HandOverFacts, Stage};
use super::Links;
use crate::admission::Customer;
use crate::certified::as_field;
use crate::context::Context;
use crate::mesh::{Mesh, Message};
use crate::names::InUse;
use crate::port::Io;
use crate::slab::Slot;
use weir_config::AnalyzerIds;
use weir_engine::{Change, Entry, Link, Reason};
use weir_protocol::text::Field;
use weir_protocol::WeightText;
use weir_sink::Sink;

/// Who took an id over without saying its instance keeps it so long.
const TAKEOVER_PAUSE_NS: u64 = 10_000_000_000;
/// And at most this often twice as long: 640 s.
const TAKEOVER_DOUBLINGS: u32 = 6;
/// Ids of which it is remembered that they were said to be in use; of more it is counted only.
const TOLD_MAX: usize = 256;

impl<I: Io> Links<I> {
    /// What it speaks is known, and this shard shall own the link: it gets messages from now on, or is refused.
    pub(super) fn bring_up(&mut self, cx: &mut Context<I>, slot: Slot, facts: HandOverFacts) {
        let (sink, name, weight) = (facts.sink, facts.name, facts.weight);
        let Some(peer) = self.table.get(slot).map(|it| cx.io.peer(&it.socket)) else {
            return;
        };
        let address: Arc<str> = peer.map_or("unknown".into(), |peer| peer.to_string().into());
        let host = peer.map(|peer| peer.ip());
        let certificate = self.table.get(slot).and_then(|it| it.certificate.clone());
        let Some(counted) = self.admit(cx, slot, sink, &name, host) else {
            return;
        };
        let (name, takeovers) = match sink.has_link_per_shard() {
            true => match self.claim(cx, slot, &name, facts.instance, &address) {
                Ok(takeovers) => (name, takeovers),
                Err(in_use) => {
                    self.leave_client(cx, counted);
                    self.refuse_name(cx, slot, sink, name, &address, &in_use);
                    return;
                }
            },
            false => {
                let policy = cx.config.tls.analyzers_tls_ids;
                let certificate = certificate.as_deref();
                let certificate = certificate.filter(|_| policy != AnalyzerIds::Any);
                (cx.shared.names.reference(host, certificate, &address), 0)
            }
        };
        let epoch = cx.next_link();
        let now_ns = cx.awake_ns;
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        connection.stage = Stage::Up;
        connection.epoch = epoch;
        connection.up_ns = now_ns;
        connection.takeovers = takeovers;
        connection.counted = counted;
        self.up.insert(epoch, slot);
        let link = Link::new(sink, now_ns);
        connection.link = match sink.facts().acks.numbers().wrap() {
            true => link.numbered_from(cx.io.first_link_number()),
            false => link,
        };
        connection.name = Arc::clone(&name);
        connection.window = facts.window;
        cx.engine.counters.links_up += 1;
        cx.shared.names.certified(&name, certificate.as_ref());
        log::info!(
            "analyzer up link={} analyzer={} dialect={sink} weight={} shard={} address={address}{}",
            epoch.0,
            Field(&name),
            WeightText(weight),
            cx.index,
            as_field(certificate.as_deref())
        );
        if !self.welcome(cx, slot, sink, epoch) {
            self.close_link(cx, slot, "WELCOME could not be written", None);
            return;
        }
        let change = Change::Up {
            epoch,
            sink,
            home: cx.index,
            name,
            weight,
        };
        cx.mesh.post(0, Message::Change(change));
        self.hear_first(cx, slot, weight, &facts.unread);
    }

    /// What came with the handshake: its weight, and words behind it.
    fn hear_first(&mut self, cx: &mut Context<I>, slot: Slot, weight: f64, unread: &[u8]) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        connection.warn_of_far_weight(cx, weight);
        if unread.is_empty() {
            return;
        }
        let counters = &mut cx.engine.counters;
        let heard = connection.hear(unread, &cx.io, cx.awake_ns, counters);
        if let Some(over) = connection.heed(cx, heard) {
            self.close_link(cx, slot, &over.why, over.reason);
        }
    }

    /// Whether there is room for one more analyzer, and one more of its address. None: the connection was refused
    /// and closed.
    #[allow(clippy::option_option)] // refused; not counted; counted
    fn admit(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        name: &Arc<str>,
        host: Option<IpAddr>,
    ) -> Option<Option<(Customer, usize)>> {
        let known = |entry: &Entry| sink.has_link_per_shard() && entry.name == *name;
        let is_known = cx.roster.entries.iter().any(known);
        let (most, limit) = cx.analyzers_max();
        let taken = cx.roster.entries.len().max(self.up.len());
        if taken < most || is_known {
            return self.count_link(cx, slot, sink, host, is_known);
        }
        let why = format!("{most} analyzers are connected, {limit}");
        self.refuse(cx, slot, sink, &why, Reason::TooManyAnalyzers);
        None
    }

    /// Counts a link under its client, for `--max-per-address` analyzers: some have a link to each shard, others
    /// one alone. A known analyzer that comes again is not refused: the link that it had may not be gone
    /// yet. None: the connection was refused and closed.
    #[allow(clippy::option_option)] // refused; not counted; counted
    fn count_link(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        host: Option<IpAddr>,
        is_known: bool,
    ) -> Option<Option<(Customer, usize)>> {
        let analyzers = cx.config.protection.connections_per_address_max;
        if analyzers == 0 {
            return Some(None);
        }
        let shards = cx.config.shards;
        let parts = if sink.has_link_per_shard() { 1 } else { shards };
        let (why, reason) = match host {
            None => (
                "its address is not known any more".to_owned(),
                Reason::AddressUnknown,
            ),
            Some(host) => {
                let admission = &cx.shared.admission;
                let connection = self.table.get(slot);
                let certificate = connection.and_then(|it| it.certificate.as_deref());
                let customer = cx.customer(host, certificate);
                let fits = admission.enter_link(customer, parts, analyzers.saturating_mul(shards));
                if fits || is_known {
                    return Some(Some((customer, parts)));
                }
                admission.leave_link(customer, parts);
                let of = cx.counted_by(certificate);
                let why =
                    format!("{analyzers} analyzers of its {of} are connected (--max-per-address)");
                (why, Reason::AddressLimit)
            }
        };
        self.refuse(cx, slot, sink, &why, reason);
        None
    }

    /// The name is this link's from now on. A link of the same analyzer on this shard is a leftover of a
    /// network that broke, and goes. Returns how many went before it for want of an instance.
    ///
    /// Who does not say his instance can be another of the same id, and the two would put each other out for
    /// ever: the second time one has to wait, the next times twice as long each, see [`TAKEOVER_PAUSE_NS`].
    fn claim(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        name: &Arc<str>,
        instance: Option<u64>,
        address: &Arc<str>,
    ) -> Result<u32, InUse> {
        cx.shared.names.native_link(name, instance, address)?;
        let namesake = self.table.iter().find(|(other, connection)| {
            *other != slot
                && connection.is_up()
                && connection.link.sink().has_link_per_shard()
                && connection.name == *name
        });
        let Some((old, connection)) = namesake else {
            self.told_in_use.remove(name);
            return Ok(0);
        };
        let mut takeovers = 0;
        if instance.is_none() {
            takeovers = connection.takeovers + 1;
            let doublings = connection
                .takeovers
                .saturating_sub(1)
                .min(TAKEOVER_DOUBLINGS);
            let pause_ns = TAKEOVER_PAUSE_NS << doublings;
            let age_ns = cx.awake_ns.saturating_sub(connection.up_ns);
            let at = cx.io.peer(&connection.socket);
            let at = at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
            if connection.takeovers > 0 && age_ns < pause_ns {
                cx.shared.names.link_gone(name);
                let holder = format!("{at}, which took it over a moment ago");
                return Err(InUse { holder });
            }
            log::warn!(
                "analyzer id {name:?}: {address} takes it over from {at}, whose link is taken for dead; if both live, one needs another id"
            );
        }
        self.close_link(
            cx,
            old,
            "the analyzer connected again",
            Some(Reason::LinkReplaced),
        );
        Ok(takeovers)
    }

    /// The id is another's who lives: said to who asks, once to the log, and counted.
    fn refuse_name(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        name: Arc<str>,
        address: &str,
        in_use: &InUse,
    ) {
        cx.engine.counters.count(Reason::IdInUse);
        let holder = &in_use.holder;
        let why = format!("id {name:?} is in use by {holder}; this one waits until that has gone");
        self.say_refused(cx, slot, sink, &why);
        if self.told_in_use.len() < TOLD_MAX && self.told_in_use.insert(Arc::clone(&name)) {
            log::warn!(
                "analyzer id {name:?}: {address} asks for it, it is in use by {holder}; refused until that has gone, from now on counted only (id_in_use)"
            );
        }
        if let Some(connection) = self.table.get_mut(slot) {
            connection.stage = Stage::Closing;
            cx.io.shutdown(&connection.socket, Shutdown::Both);
        }
        self.reap(cx, slot);
    }
}
