//! Analyzers come and go.

use std::net::Shutdown;
use std::sync::Arc;

use super::flight::Flight;
use super::{Lag, Link, Outlets, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::shared::HttpAnalyzerReport;
use crate::slab::{bare, token, Kind, Slot};
use weir_engine::{Entry, LinkEpoch, Reach, Roster};
use weir_http::Ids;
use weir_protocol::text::{Field, Quoted};
use weir_protocol::WeightText;
use weir_sink::outlet::Outlet;
use weir_sink::Worth;

/// ACKs of this analyzer may not answer emitters that want to know what analyzers have.
fn is_too_weak<I: Io>(cx: &Context<I>, entry: &Entry) -> bool {
    let Reach::Http { generation } = entry.reach else {
        return false;
    };
    let is_allowed = || {
        let target = cx.shared.control_port.target(generation);
        target.is_none_or(|target| target.outlet.allows_weak_acks)
    };
    entry.sink.facts().acks.worth() == Worth::Weak && !is_allowed()
}

impl<I: Io> Outlets<I> {
    /// Links for the analyzers of a roster that have none yet.
    pub(crate) fn open_links(&mut self, cx: &mut Context<I>, roster: &Roster) {
        let is_too_weak = roster.entries.iter().any(|entry| is_too_weak(cx, entry));
        cx.engine.set_weak_acks(is_too_weak);
        for entry in &roster.entries {
            let Reach::Http { generation } = entry.reach else {
                continue;
            };
            if self.link_of(generation).is_some() {
                continue;
            }
            // Gone again already: a roster without it is on the way.
            let Some(target) = cx.shared.control_port.target(generation) else {
                continue;
            };
            let Some(outlet) = Outlet::new(entry.sink, &target.outlet, self.salts.next()) else {
                continue;
            };
            let epoch = cx.next_link();
            log::info!(
                "analyzer up link={} analyzer={} dialect={} weight={} address={} shard={}",
                epoch.0,
                Field(&entry.name),
                entry.sink,
                WeightText(entry.weight),
                target.at,
                cx.index
            );
            cx.engine.counters.links_up += 1;
            let link = Link {
                generation,
                analyzer: entry.analyzer,
                target,
                stage: Stage::Away,
                connection: None,
                outlet,
                range: None,
                partial: Vec::new(),
                flight: Flight::new(),
                lag: Lag::default(),
                homeless: Vec::new(),
                out: Vec::new(),
                heard_ns: cx.awake_ns,
                report: HttpAnalyzerReport::default(),
            };
            self.links.insert(epoch, link);
            self.connect(cx, epoch);
        }
    }

    /// Links of analyzers that a roster does not have any more.
    pub(crate) fn close_links(&mut self, cx: &mut Context<I>, roster: &Roster) {
        let links = self.links.iter();
        let gone: Vec<LinkEpoch> = links
            .filter(|(_, link)| !roster.has_generation(link.generation))
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in gone {
            self.link_down(cx, epoch, "taken out of the roster");
        }
    }

    /// The analyzer is down, and all shards shall know.
    pub(super) fn give_up(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.links.get(&epoch) else {
            return;
        };
        log::warn!("analyzer {}: {why}", Field(&link.target.name));
        let (generation, name) = (link.generation, Arc::clone(&link.target.name));
        if let Some(ends) = link.target.at.local() {
            ends.give_up(why);
        }
        self.link_down(cx, epoch, why);
        cx.say_down(generation, &name, why);
    }

    /// The analyzer is down: what it has not ACKed goes to others.
    fn link_down(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, why: &str) {
        let Some(mut link) = self.links.remove(&epoch) else {
            return;
        };
        log::info!(
            "analyzer down link={} analyzer={} why={} packets={}",
            epoch.0,
            Field(&link.target.name),
            Quoted(why),
            link.flight.packets()
        );
        cx.engine.counters.links_down += 1;
        if let Some(lane) = cx.engine.lane_of(epoch) {
            for (skipped, messages, passed) in link.flight.passed() {
                cx.engine.through(lane, skipped, messages, passed);
            }
        }
        cx.ended.push(epoch);
        if let Some(ends) = link.target.at.local() {
            ends.leave();
        }
        if let Some(slot) = link.connection {
            self.leave(cx, &mut link);
            self.close_connection(cx, slot);
        }
    }

    /// What is said to an analyzer that has answered everything. What does not fit is not waited for.
    fn leave(&self, cx: &mut Context<I>, link: &mut Link) {
        let connection = link.connection.and_then(|slot| self.connections.get(slot));
        let Some(connection) = connection.filter(|it| !it.sending) else {
            return;
        };
        if link.stage == Stage::Open && !link.owes() {
            let mut last = Vec::new();
            link.outlet.goodbye(&mut last);
            let _ = cx.io.send_now(&connection.socket, &last);
        }
    }

    /// The last words of a shard that ends.
    pub(crate) fn say_goodbye(&mut self, cx: &mut Context<I>) {
        let mut links = std::mem::take(&mut self.links);
        for link in links.values_mut() {
            self.leave(cx, link);
            if let Some(ends) = link.target.at.local() {
                ends.leave();
            }
        }
        self.links = links;
    }

    /// A connection is not needed any more.
    pub(super) fn close_connection(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !std::mem::replace(&mut connection.closing, true) {
            cx.io.shutdown(&connection.socket, Shutdown::Both);
            if connection.connecting {
                cx.io
                    .cancel(token(Kind::OutletConnect, slot), bare(Kind::Cancel));
            }
        }
        self.bury(slot);
    }

    pub(super) fn bury(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let is_idle = !connection.receiving && !connection.sending && !connection.connecting;
        if is_idle && connection.closing {
            self.connections.remove(slot);
        }
    }
}
