//! Messages that an analyzer does not take: another is asked, each once, and what nobody takes is set aside
//! (`src/shard/http_out/dead_letter.rs`).
//!
//! ```text
//! refused -> another lane: through here               Passed::Moved
//!         -> no lane has room: asked again, later     it holds up its lane
//!         -> nobody is left: set aside                Passed::Refused, once it is written
//! ```

use std::sync::Arc;

use super::Outlets;
use crate::context::Context;
use crate::port::Io;
use weir_engine::{LinkEpoch, Move, Onward, Passed};
use weir_protocol::text::Field;

const LOG_EVERY_NS: u64 = 1_000_000_000;
/// Messages that are being set aside at once, each a copy.
const ASIDES_OUT_MAX: usize = 8;

/// A message that nobody takes.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) link: LinkEpoch,
    /// The lane's number of it.
    pub(crate) message: u64,
    /// Who refused it last, and how.
    pub(crate) analyzer: Arc<str>,
    pub(crate) status: u16,
    /// It, as the lane has it.
    pub(crate) record: Vec<u8>,
}

impl<I: Io> Outlets<I> {
    /// Another analyzer gets a refused message, or nobody does.
    pub(super) fn find_another(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        message: u64,
        status: u16,
    ) {
        let (Some(lane), Some(link)) = (cx.engine.lane_of(epoch), self.links.get_mut(&epoch))
        else {
            return;
        };
        let name = Arc::clone(&link.target.name);
        let what = Move {
            first: message,
            messages: 1,
            rounds: 0,
        };
        let became = match cx.engine.move_on(lane, what) {
            Onward::Moved => {
                link.flight.settle(message, Passed::Moved);
                "another analyzer has it"
            }
            Onward::NoRoom => return link.homeless.push((message, status)),
            Onward::Nowhere => {
                self.asides.push_back((epoch, message, status));
                "nobody takes it"
            }
        };
        self.said.unlogged += 1;
        if cx.now_ns.saturating_sub(self.said.at_ns) >= LOG_EVERY_NS {
            self.said.at_ns = cx.now_ns;
            let count = std::mem::take(&mut self.said.unlogged);
            log::warn!(
                "analyzer {} refused a message (status {status}): {became}; {count} since the last such line",
                Field(&name)
            );
        }
        self.advance(cx, epoch);
    }

    /// Refused messages for which other lanes had no room.
    pub(super) fn find_homes(&mut self, cx: &mut Context<I>) {
        let links = self.links.iter();
        let homeless: Vec<LinkEpoch> = links
            .filter(|(_, link)| !link.homeless.is_empty())
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in homeless {
            let link = self.links.get_mut(&epoch);
            let waiting = link.map(|link| std::mem::take(&mut link.homeless));
            for (message, status) in waiting.unwrap_or_default() {
                self.find_another(cx, epoch, message, status);
            }
            // They held places of its window.
            self.want_pump(epoch);
        }
    }

    /// What is to be set aside next: a copy, of which few are made at once. Those of a link that is down have gone to
    /// others.
    pub(crate) fn next_aside(&mut self, cx: &Context<I>) -> Option<Aside> {
        while self.asides_out < ASIDES_OUT_MAX {
            let (epoch, message, status) = self.asides.pop_front()?;
            let (Some(link), Some(lane)) = (self.links.get(&epoch), cx.engine.lane_of(epoch))
            else {
                continue;
            };
            self.asides_out += 1;
            return Some(Aside {
                link: epoch,
                message,
                analyzer: Arc::clone(&link.target.name),
                status,
                record: cx.engine.records_of(lane, message, 1),
            });
        }
        None
    }

    /// A message is set aside: it is through.
    pub(crate) fn on_aside(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, message: u64) {
        debug_assert!(self.asides_out > 0);
        self.asides_out -= 1;
        if let Some(link) = self.links.get_mut(&epoch) {
            link.flight.settle(message, Passed::Refused);
            self.advance(cx, epoch);
            self.want_pump(epoch);
        }
    }
}

/// When a refusal was last said.
#[derive(Debug, Default)]
pub(super) struct Said {
    at_ns: u64,
    unlogged: u64,
}
