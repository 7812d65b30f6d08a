//! What connections bring, and what that means for the packets in flight.

use super::{Lag, Link, Outlets, Stage, PARTIAL_BYTES_MAX};
use crate::context::Context;
use crate::port::{Completion, Group, Io};
use crate::slab::{token, Kind, Slot};
use weir_engine::{LinkEpoch, Passed};
use weir_sink::outlet::Heard;

impl<I: Io> Outlets<I> {
    pub(crate) fn on_connected(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        cx.io.connected(completion.token);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.connecting = false;
        let epoch = connection.link;
        if connection.closing {
            self.bury(slot);
            return;
        }
        if let Err(error) = completion.count() {
            let why = cx.io.why(&connection.socket, &error);
            self.give_up(cx, epoch, &format!("cannot connect: {why}"));
            return;
        }
        if let Err(error) = cx.io.prepare_link(&connection.socket) {
            log::debug!("connection to an analyzer as it is: {error}");
        }
        self.on_open(cx, epoch, slot);
    }

    /// There is a connection: greetings, or messages at once.
    pub(super) fn on_open(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, slot: Slot) {
        self.receive(cx, slot);
        if let Some(link) = self.links.get_mut(&epoch) {
            link.stage = match link.outlet.hello(&mut link.out) {
                true => Stage::Open,
                false => Stage::Greeting,
            };
            link.heard_ns = cx.awake_ns;
        }
        self.want_pump(epoch);
    }

    fn receive(&mut self, cx: &mut Context<I>, slot: Slot) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.receiving = true;
            let token = token(Kind::OutletReceive, slot);
            cx.io.receive(&connection.socket, Group::Http, token);
        }
    }

    pub(crate) fn on_sent(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let mut bytes = cx.io.sent_bytes(completion.token);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.sending = false;
        let epoch = connection.link;
        if connection.closing {
            self.bury(slot);
            return;
        }
        match completion.count() {
            Ok(sent) if sent == bytes.len() => {
                if let Some(link) = self.links.get_mut(&epoch) {
                    link.lag.sent_bytes += sent as u64;
                }
            }
            Ok(sent) => {
                let len = bytes.len();
                return self.lost(cx, epoch, slot, &format!("{sent} of {len} bytes were sent"));
            }
            Err(error) => {
                let why = cx.io.why(&connection.socket, &error);
                return self.lost(cx, epoch, slot, &format!("send: {why}"));
            }
        }
        if let Some(link) = self.links.get_mut(&epoch) {
            if link.out.is_empty() {
                bytes.clear();
                link.out = bytes;
            }
        }
        self.look_at_lag(cx, epoch);
        self.want_pump(epoch);
    }

    pub(crate) fn on_receive(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let chunk = cx.io.chunk(Group::Http, &completion);
        let mut end = None;
        let mut epoch = None;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.receiving = completion.more();
            epoch = Some(connection.link).filter(|_| !connection.closing);
            if let Some(chunk) = chunk.filter(|_| !connection.closing) {
                connection
                    .partial
                    .extend_from_slice(cx.io.bytes_of(Group::Http, chunk));
            } else if completion.result == 0 {
                end = Some("closed by the analyzer".to_owned());
            } else if let Err(error) = completion.count() {
                let goes_on = matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
                );
                end = (!goes_on).then(|| cx.io.why(&connection.socket, &error));
            }
        }
        if let Some(chunk) = chunk {
            cx.io.release(Group::Http, chunk);
        }
        if let Some(epoch) = epoch {
            match end {
                Some(why) => self.lost(cx, epoch, slot, &why),
                None => self.hear(cx, epoch, slot),
            }
        }
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.closing {
            self.bury(slot);
        } else if !connection.receiving {
            self.receive(cx, slot);
        }
    }

    /// Reads all answers that are there.
    fn hear(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let mut bytes = std::mem::take(&mut connection.partial);
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let (mut rest, mut refused) = (&bytes[..], Vec::new());
        let mut broken = loop {
            match link.outlet.hear(&mut rest, &mut link.out) {
                Ok(Some(heard)) => {
                    if let Err(why) = link.take(heard, cx.awake_ns, &mut refused) {
                        break Some(why);
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error.detail),
            }
        };
        let left = rest.len();
        if broken.is_none() && left > PARTIAL_BYTES_MAX {
            broken = Some(format!("its answer does not end within {left} bytes"));
        }
        self.advance(cx, epoch);
        for (message, status) in refused {
            self.find_another(cx, epoch, message, status);
        }
        if let Some(why) = broken {
            if let Some(link) = self.links.get_mut(&epoch) {
                link.report.failures += 1;
            }
            return self.give_up(cx, epoch, &why);
        }
        bytes.drain(..bytes.len() - left);
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.partial = bytes;
        }
        let link = self.links.get(&epoch);
        if link.is_some_and(|link| link.stage == Stage::Closing && !link.owes()) {
            return self.lost(cx, epoch, slot, "it said goodbye");
        }
        self.want_pump(epoch);
    }

    /// What is through from the front on is through in the lane.
    pub(super) fn advance(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return;
        };
        while let Some((messages, passed)) = link.flight.take_passed() {
            link.heard_ns = cx.awake_ns;
            link.report.consecutive_failures = 0;
            match passed {
                Passed::Acked => cx.engine.acked(lane, messages, cx.now_ns),
                Passed::Refused => cx.engine.refused(lane, messages, cx.now_ns),
                Passed::Moved => cx.engine.moved_past(lane, messages, cx.now_ns),
            }
        }
    }

    /// A connection is over. With nothing in flight that says nothing of the analyzer: some close what is idle. But who
    /// ends it before a packet went over it, while there is one to send, would do so for ever, and its share would wait.
    pub(super) fn lost(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, slot: Slot, why: &str) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return self.close_connection(cx, slot);
        };
        let was_open = matches!(link.stage, Stage::Open | Stage::Closing);
        let local = link.target.at.local().cloned();
        let is_wanted = link.range.is_some()
            || cx
                .engine
                .lane_of(epoch)
                .is_some_and(|lane| cx.engine.has_unsent(lane));
        let is_useless = is_wanted && link.flight.is_new_connection();
        if !was_open || link.owes() || is_useless || local.is_some() {
            link.report.failures += 1;
            let ended = local.as_ref().and_then(|ends| ends.why_ended());
            return self.give_up(cx, epoch, ended.unwrap_or(why));
        }
        self.disconnect(cx, epoch, slot);
    }

    /// Nothing is in flight. What comes next makes a connection.
    pub(super) fn disconnect(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, slot: Slot) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let salt = weir_http::Ids::next(&mut self.salts);
        match weir_sink::outlet::Outlet::new(link.target.sink, &link.target.outlet, salt) {
            Some(outlet) => link.outlet = outlet,
            None => debug_assert!(false, "it had one"),
        }
        link.stage = Stage::Away;
        link.connection = None;
        link.out.clear();
        link.lag = Lag::default();
        link.flight.begin_connection();
        self.close_connection(cx, slot);
        self.want_pump(epoch);
    }
}

impl Link {
    /// What an answer means for what is in flight. Refused messages and their statuses go to `refused`.
    ///
    /// # Errors
    /// It is about what is not in flight.
    fn take(
        &mut self,
        heard: Heard,
        awake_ns: u64,
        refused: &mut Vec<(u64, u16)>,
    ) -> Result<(), String> {
        let open = self.flight.messages();
        match heard {
            Heard::Ready => self.stage = Stage::Open,
            Heard::Alive => self.heard_ns = awake_ns,
            Heard::Closing => self.stage = Stage::Closing,
            Heard::Acked(messages) => {
                let ended = self.flight.through(messages);
                self.report.acked += ended.ok_or_else(|| {
                    format!("it acks {messages} messages, and {open} are on their way")
                })?;
            }
            Heard::Done(first) if self.flight.done(first) => self.report.acked += 1,
            Heard::Done(first) => {
                return Err(format!(
                    "it acks the packet of message {first}, which is not on its way"
                ));
            }
            Heard::Refused(status) => {
                let message = self.flight.refuse();
                let message = message.ok_or("it refuses a message, and none is on its way")?;
                self.report.refused += 1;
                refused.push((message, status));
            }
        }
        Ok(())
    }
}
