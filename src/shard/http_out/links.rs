//! Analyzers over HTTP come and go.

use super::{End, HttpEgress, HttpLink, Outcome};
use crate::context::{Context, Phase};
use crate::port::Io;
use crate::shared::HttpAnalyzerReport;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_engine::{LinkEpoch, Passed, Reach, Roster};
use weir_protocol::text::{Field, Quoted};
use weir_protocol::WeightText;
use weir_sink::request::Format;
use weir_sink::Links;

/// A process that is killed closes its connections and its listener one after the other: what connects meanwhile is
/// reset as well. After so long nobody listens there any more.
const DYING_NS: u64 = 10_000_000;

/// A name that no other link has, in the form of a UUID, as Splunk demands it.
fn channel_of(instance: u64, epoch: LinkEpoch) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&instance.to_be_bytes());
    bytes[8..].copy_from_slice(&epoch.0.to_be_bytes());
    String::from_utf8_lossy(&weir_http::uuid_text(bytes)).into_owned()
}

impl<I: Io> HttpEgress<I> {
    /// The analyzer of a link asked what messages are.
    pub(crate) fn asks_forms(&self, epoch: LinkEpoch) -> bool {
        let link = self.links.get(&epoch);
        link.is_some_and(|link| link.target.forms)
    }

    /// Links for the analyzers of a roster that have none yet.
    pub(crate) fn open_links(&mut self, cx: &mut Context<I>, roster: &Roster) {
        for entry in &roster.entries {
            let Reach::Http { generation } = entry.reach else {
                continue;
            };
            let is_mine = entry.sink.facts().links == Links::Pool;
            if !is_mine || self.link_of(generation).is_some() {
                continue;
            }
            // Gone again already: a roster without it is on the way.
            let Some(target) = cx.shared.control_port.target(generation) else {
                continue;
            };
            let epoch = cx.next_link();
            let (name, address) = (&entry.name, &target.at);
            log::info!(
                "analyzer up link={} analyzer={} dialect={} weight={} address={address} shard={}",
                epoch.0,
                Field(name),
                entry.sink,
                WeightText(entry.weight),
                cx.index
            );
            cx.engine.counters.links_up += 1;
            let format = Format::of(entry.sink, &target.request);
            let channel = match target.request.indexer_acks {
                true => channel_of(self.instance, epoch),
                false => String::new(),
            };
            let link = HttpLink {
                generation,
                analyzer: entry.analyzer,
                target,
                range: None,
                unposted: Vec::new(),
                read: 0,
                posts: BTreeMap::new(),
                open: 0,
                next_post: 1,
                taken_until: 0,
                retries: Vec::new(),
                homeless: Vec::new(),
                paused_until_ns: 0,
                taken_newest: 0,
                retry_requests: 0,
                odd_said: None,
                connections: Vec::new(),
                format,
                channel,
                numbered: BTreeMap::new(),
                polled_ns: 0,
                report: HttpAnalyzerReport::default(),
            };
            self.links.insert(epoch, link);
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

    /// A post was not ACKed: again, after a pause that doubles, or at `soon_ns` the first time, and soon after that the second; too often,
    /// and the analyzer is down.
    pub(super) fn post_failed(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        why: &str,
        soon_ns: Option<u64>,
    ) {
        let http = &cx.config.http;
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.report.failures += 1;
        link.report.consecutive_failures += 1;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        post.failures += 1;
        let failures = post.failures;
        log::warn!(
            "analyzer {}: POST failed, try {failures} of {}: {why}",
            Field(&link.target.name),
            http.push_retries + 1
        );
        if failures > http.push_retries {
            let why = format!("POST failed {failures} times: {why}");
            self.give_up(cx, epoch, &why);
            return;
        }
        let at_ns = match soon_ns {
            Some(at_ns) if failures == 1 => at_ns,
            Some(at_ns) if failures == 2 => at_ns.saturating_add(DYING_NS),
            _ => cx.awake_ns.saturating_add(self.pause_ns(cx, failures)),
        };
        self.retry(epoch, number, at_ns);
    }

    /// The analyzer is down, and all shards shall know.
    pub(super) fn give_up(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.links.get(&epoch) else {
            return;
        };
        let (generation, name) = (link.generation, Arc::clone(&link.target.name));
        self.link_down(cx, epoch, why);
        cx.say_down(generation, &name, why);
    }

    /// The analyzer is down: what it has not ACKed goes to others.
    fn link_down(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.links.remove(&epoch) else {
            return;
        };
        log::info!(
            "analyzer down link={} analyzer={} why={} posts={}",
            epoch.0,
            Field(&link.target.name),
            Quoted(why),
            link.posts.len()
        );
        self.note_end(&link);
        cx.engine.counters.links_down += 1;
        if let Some(lane) = cx.engine.lane_of(epoch) {
            let mut before = 0;
            for post in link.posts.values() {
                let passed = match post.outcome {
                    Outcome::Open => {
                        for (offset, messages) in &post.arrived {
                            let skipped = before + offset;
                            cx.engine.through(lane, skipped, *messages, Passed::Acked);
                        }
                        None
                    }
                    Outcome::Acked => Some(Passed::Acked),
                    Outcome::Refused => Some(Passed::Refused),
                    Outcome::Moved => Some(Passed::Moved),
                };
                if let Some(passed) = passed {
                    cx.engine.through(lane, before, post.messages, passed);
                }
                before += post.messages;
            }
        }
        cx.ended.push(epoch);
        for slot in link.connections {
            self.end_connection(cx, slot, End::Fault, why);
            self.bury_connection(slot);
        }
    }

    /// An analyzer that asks to wait longer than the drain has time for: what it has goes to others, and back to
    /// it if it is the only one.
    pub(super) fn end_long_pauses(&mut self, cx: &mut Context<I>) {
        if cx.phase != Phase::Draining {
            return;
        }
        let left_ns = cx.shared.deadline_ns().saturating_sub(cx.now_ns);
        let last_ns = cx.awake_ns.saturating_add(left_ns);
        let links = self.links.iter();
        let long: Vec<LinkEpoch> = links
            .filter(|(_, link)| link.open > 0 && link.paused_until_ns >= last_ns)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in long {
            self.give_up(
                cx,
                epoch,
                "it asks to wait longer than the drain has time for",
            );
        }
    }
}
