//! What the control side does in a running distributor: looks at servers and tells the shards which of them
//! are up; and the operator, whose word must outlive the links of those whom it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use std::sync::Arc;

use super::plan::name_of_server;
use super::server::Server;
use crate::net::address_of_server;
use crate::plan::{OperatorFault, Word, MS};
use weir_engine::{Order, Roster};
use weir_shard::{At, HttpTarget, Operator, OrderDone};

/// A roster that was ordered is there after this, or the order has got lost.
const SETTLES_NS: u64 = 2_000 * MS;

/// What the operator has said of one analyzer, and the roster that has it first.
#[derive(Default)]
struct Said {
    drained: Option<u64>,
    pinned: Option<(f64, u64)>,
}

/// An order that is under way.
struct Sent {
    name: Arc<str>,
    word: Word,
    done: Receiver<OrderDone>,
}

/// Stands for the control side of a distributor.
pub(crate) struct Control {
    operator: Operator,
    /// Of each server: its generation while it counts as up, and since when.
    up: Vec<Option<(u64, u64)>>,
    ejected: BTreeSet<Arc<str>>,
    said: BTreeMap<Arc<str>, Said>,
    sent: Vec<Sent>,
}

impl Control {
    pub(super) fn new(operator: Operator, servers: usize) -> Control {
        Control {
            operator,
            up: vec![None; servers],
            ejected: BTreeSet::new(),
            said: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// Looks at all servers once. True: shard 0 has an order.
    pub(super) fn look(&mut self, now_ns: u64, servers: &[Server], roster: &Roster) -> bool {
        let mut has_ordered = false;
        for (index, server) in servers.iter().enumerate() {
            let name: Arc<str> = name_of_server(index).into();
            let is_healthy = server.is_healthy(now_ns) && !self.ejected.contains(&name);
            let up = self.up[index];
            let settles = up.is_some_and(|(_, since_ns)| now_ns < since_ns + SETTLES_NS);
            let is_listed = up.is_some_and(|(generation, _)| roster.has_generation(generation));
            match (is_healthy, up) {
                (true, Some(_)) if is_listed || settles => {}
                (true, _) => {
                    let weight = server.weight();
                    let (sink, outlet) = server.delivery();
                    let generation = self.operator.announce(HttpTarget {
                        name: Arc::clone(&name),
                        at: At::Address(address_of_server(index)),
                        host: name.to_string(),
                        path: String::new(),
                        sink,
                        outlet: Arc::new(outlet),
                        forms: false,
                        request: Arc::default(),
                        secured: None,
                    });
                    let order = Order::HttpUp {
                        name,
                        sink,
                        weight,
                        generation,
                    };
                    if self.operator.order_later(order).is_ok() {
                        self.up[index] = Some((generation, now_ns));
                        has_ordered = true;
                    }
                }
                (false, Some((generation, _))) => {
                    let down = Order::HttpDown { generation };
                    has_ordered |= self.operator.order_later(down).is_ok();
                    self.operator.forget(generation);
                    self.up[index] = None;
                }
                (false, None) => {}
            }
        }
        has_ordered
    }

    /// The operator says something about an analyzer.
    pub(super) fn say(&mut self, fault: &OperatorFault) {
        let name: Arc<str> = fault.name().into();
        if fault.is_server && fault.word == Word::Eject {
            self.ejected.insert(Arc::clone(&name));
        }
        self.order(&name, fault.word);
    }

    fn order(&mut self, name: &Arc<str>, word: Word) {
        let said = self.said.entry(Arc::clone(name)).or_default();
        match word {
            Word::Resume => {
                said.drained = None;
                self.ejected.remove(name);
            }
            Word::Pin(_) | Word::Unpin => said.pinned = None,
            Word::Drain | Word::Eject => {}
        }
        let known = Arc::clone(name);
        let name = Arc::clone(name);
        let order = match word {
            Word::Drain => Order::Drain { name },
            Word::Resume => Order::Resume { name },
            Word::Eject => Order::Eject { name },
            Word::Unpin => Order::Unpin { name },
            Word::Pin(weight) => Order::Weight {
                name,
                weight,
                pin: true,
            },
        };
        if let Ok(done) = self.operator.order_later(order) {
            let name = known;
            self.sent.push(Sent { name, word, done });
        }
    }

    /// Everything that the operator has said is taken back.
    pub(super) fn take_back(&mut self) {
        let names: Vec<Arc<str>> = self.said.keys().cloned().collect();
        for name in names {
            self.order(&name, Word::Resume);
            self.order(&name, Word::Unpin);
        }
    }

    /// What has become of the orders.
    fn hear(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|one| {
            let Ok(done) = one.done.try_recv() else {
                return true;
            };
            let said = self.said.entry(Arc::clone(&one.name)).or_default();
            match (one.word, done) {
                (Word::Drain, Ok(epoch)) => said.drained = Some(epoch),
                (Word::Pin(weight), Ok(epoch)) => said.pinned = Some((weight, epoch)),
                // Resumes and pins that follow each other are carried out in their order.
                (Word::Resume, _) => said.drained = None,
                (Word::Unpin, _) => said.pinned = None,
                _ => {}
            }
            false
        });
        self.sent = sent;
    }

    /// What the operator said holds in a shard's roster.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn check(&mut self, roster: &Roster) -> Result<(), String> {
        self.hear();
        for entry in &roster.entries {
            let Some(said) = self.said.get(&entry.name) else {
                continue;
            };
            let is_there = |epoch: u64| roster.epoch >= epoch;
            let (name, weight) = (&entry.name, entry.effective_weight());
            if said.drained.is_some_and(is_there) && weight > 0.0 {
                return Err(format!("{name} was drained and has weight {weight}"));
            }
            match said.pinned {
                Some((pin, epoch)) if is_there(epoch) && entry.weight != pin => {
                    let own = entry.weight;
                    return Err(format!("{name} was pinned to {pin} and has weight {own}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
