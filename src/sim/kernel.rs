//! The simulated kernel: gets on with a shard's requests, as far and as evenly as the noise lets it.

use super::io::Request;
use super::net::{ConnId, Port, Read};
use super::plan::MS;
use super::random::Random;
use super::world::World;
use weir_engine::{Memory, Span};
use weir_shard::port::{Completion, Group};

/// What breaks in a shard's kernel until a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) no_memory_until_ns: u64,
    pub(super) no_descriptors_until_ns: u64,
    /// The next send fails.
    pub(super) send_fails: bool,
}

/// What came of looking at a request.
enum Outcome {
    /// It waits for something that will wake the shard.
    Waits(Request),
    /// It could go on now.
    GoesOn(Request),
    Over,
}

impl World {
    /// Looks at every request of a shard once. True when some could go on at once.
    pub(super) fn run_kernel(&mut self, shard: usize) -> Result<bool, String> {
        let mut again = false;
        for _ in 0..self.workers[shard].cx.io.requests.len() {
            let Some((token, request)) = self.workers[shard].cx.io.requests.pop_front() else {
                break;
            };
            if self.random.chance(self.plan.noise.lazy) {
                self.workers[shard]
                    .cx
                    .io
                    .requests
                    .push_back((token, request));
                again = true;
                continue;
            }
            let outcome = match request {
                Request::Accept { port } => self.try_accept(shard, token, port),
                Request::Receive {
                    conn,
                    group,
                    multishot,
                } => self.try_receive(shard, token, (conn, group, multishot)),
                request @ Request::Send { .. } => self.try_send(shard, token, request)?,
                request @ Request::Release { .. } => self.try_release(shard, token, request)?,
                Request::SendBytes { conn, bytes, done } => {
                    self.try_send_bytes(shard, token, (conn, bytes, done))
                }
                Request::Connect { conn, at_ns } => self.try_connect(shard, token, (conn, at_ns)),
            };
            match outcome {
                Outcome::Waits(request) => {
                    self.workers[shard]
                        .cx
                        .io
                        .requests
                        .push_back((token, request));
                }
                Outcome::GoesOn(request) => {
                    self.workers[shard]
                        .cx
                        .io
                        .requests
                        .push_back((token, request));
                    again = true;
                }
                Outcome::Over => {}
            }
        }
        Ok(again)
    }

    fn try_accept(&mut self, shard: usize, token: u64, port: Port) -> Outcome {
        let request = Request::Accept { port };
        if !self.net.borrow().has_backlog(shard, port) {
            return Outcome::Waits(request);
        }
        if self.now_ns() < self.trouble[shard].no_descriptors_until_ns {
            self.workers[shard]
                .cx
                .io
                .complete(token, -libc::EMFILE, false);
            return Outcome::Over;
        }
        let conn = self.net.borrow_mut().accept(shard, port);
        let Some(conn) = conn else {
            return Outcome::Waits(request);
        };
        let descriptor = conn as i32; // far fewer
        self.workers[shard].cx.io.complete(token, descriptor, false);
        Outcome::Over
    }

    fn try_receive(
        &mut self,
        shard: usize,
        token: u64,
        (conn, group, multishot): (usize, Group, bool),
    ) -> Outcome {
        let request = Request::Receive {
            conn,
            group,
            multishot,
        };
        let net = std::rc::Rc::clone(&self.net);
        let mut net = net.borrow_mut();
        if !net.shard_can_read(conn) {
            return Outcome::Waits(request);
        }
        let crumbs = self.random.chance(self.plan.noise.crumbs);
        let few = self.random.range(1, 12) as usize;
        let starved = group != Group::Control
            && net.now_ns < self.trouble[shard].no_memory_until_ns
            && self.random.chance(70);
        let io = &mut self.workers[shard].cx.io;
        let room = match starved {
            true => 0,
            false => io.group(group).room(),
        };
        if room == 0 {
            io.complete(token, -libc::ENOBUFS, false);
            return Outcome::Over;
        }
        let max = if crumbs { room.min(few) } else { room };
        match net.shard_read(conn, max) {
            Read::Data(bytes) => {
                io.group(group).fill(&bytes);
                let more = multishot && !self.random.chance(self.plan.noise.whims);
                io.complete(token, bytes.len() as i32, more); // of one buffer
                match more {
                    true => Outcome::GoesOn(request),
                    false => Outcome::Over,
                }
            }
            Read::End => {
                io.complete(token, 0, false);
                Outcome::Over
            }
            Read::Broken(errno) => {
                io.complete(token, -errno, false);
                Outcome::Over
            }
            Read::Nothing => Outcome::Waits(request),
        }
    }

    fn try_send(&mut self, shard: usize, token: u64, request: Request) -> Result<Outcome, String> {
        let Request::Send {
            conn,
            spans,
            seen,
            mut done,
            zero_copy,
        } = request
        else {
            return Ok(Outcome::Waits(request));
        };
        let bytes = self.bytes_of(&spans);
        if seen.as_ref().is_some_and(|seen| *seen != bytes) {
            return Err("memory changed while the kernel was sending it".into());
        }
        let fails = std::mem::take(&mut self.trouble[shard].send_fails);
        let error = self.net.borrow().shard_send_error(conn);
        let error = if fails { Some(libc::ENOBUFS) } else { error };
        if let Some(errno) = error {
            let result = if done > 0 { done as i32 } else { -errno };
            self.end_send(shard, token, result, zero_copy, (spans, bytes));
            return Ok(Outcome::Over);
        }
        let room = self.net.borrow().shard_room(conn);
        let left = bytes.len() - done;
        let mut len = left.min(room);
        if self.random.chance(self.plan.noise.crumbs) {
            len = len.min(self.random.range(1, 12) as usize);
        }
        if len > 0 {
            self.net
                .borrow_mut()
                .shard_write(conn, &bytes[done..done + len]);
            done += len;
        }
        let short = done > 0 && self.random.chance(self.plan.noise.short_sends);
        if done == bytes.len() || short {
            let result = done as i32; // a few batches
            self.end_send(shard, token, result, zero_copy, (spans, bytes));
            return Ok(Outcome::Over);
        }
        let request = Request::Send {
            conn,
            spans,
            seen: Some(bytes),
            done,
            zero_copy,
        };
        Ok(match len < left.min(room) {
            true => Outcome::GoesOn(request),
            false => Outcome::Waits(request),
        })
    }

    fn try_connect(&mut self, shard: usize, token: u64, (conn, at_ns): (ConnId, u64)) -> Outcome {
        let request = Request::Connect { conn, at_ns };
        if self.now_ns() < at_ns {
            return Outcome::Waits(request);
        }
        match self.net.borrow_mut().knocked(conn) {
            None => return Outcome::Waits(request),
            Some(errno) => self.workers[shard].cx.io.complete(token, -errno, false),
        }
        Outcome::Over
    }

    fn try_send_bytes(
        &mut self,
        shard: usize,
        token: u64,
        (conn, bytes, mut done): (ConnId, Vec<u8>, usize),
    ) -> Outcome {
        let mut net = self.net.borrow_mut();
        let error = net.shard_send_error(conn);
        if error.is_none() {
            let len = net.shard_room(conn).min(bytes.len() - done);
            if len > 0 {
                net.shard_write(conn, &bytes[done..done + len]);
            }
            done += len;
            if done < bytes.len() {
                return Outcome::Waits(Request::SendBytes { conn, bytes, done });
            }
        }
        // An error that comes when some bytes are gone is told by the next send.
        let result = match (error, done) {
            (Some(errno), 0) => -errno,
            _ => done as i32, // a few responses, or a packet
        };
        let io = &mut self.workers[shard].cx.io;
        io.sent.insert(token, bytes);
        io.complete(token, result, false);
        Outcome::Over
    }

    fn end_send(
        &mut self,
        shard: usize,
        token: u64,
        result: i32,
        zero_copy: bool,
        (spans, seen): (Vec<(usize, Span)>, Vec<u8>),
    ) {
        let released = !zero_copy || result < 0 && self.random.chance(50);
        let late = self.random.chance(self.plan.noise.late_release);
        let wait_ns = if late {
            self.random.range(0, 50 * MS)
        } else {
            0
        };
        let copied = self.random.chance(self.plan.noise.copied);
        let at_ns = self.now_ns() + wait_ns;
        let io = &mut self.workers[shard].cx.io;
        io.complete(token, result, !released);
        if !released {
            let release = Request::Release {
                spans,
                seen,
                at_ns,
                copied,
            };
            io.requests.push_back((token, release));
            self.wake_shard(shard, at_ns);
        }
    }

    fn try_release(
        &mut self,
        shard: usize,
        token: u64,
        request: Request,
    ) -> Result<Outcome, String> {
        let Request::Release {
            ref spans,
            ref seen,
            at_ns,
            copied,
        } = request
        else {
            return Ok(Outcome::Waits(request));
        };
        if *seen != self.bytes_of(spans) {
            return Err("memory changed before the kernel had let it go".into());
        }
        if self.now_ns() < at_ns {
            return Ok(Outcome::Waits(request));
        }
        let usage = if copied { i32::MIN } else { 0 };
        let release = Completion::simulated(token, usage, false, true);
        self.workers[shard].cx.io.completions.push_back(release);
        Ok(Outcome::Over)
    }

    fn bytes_of(&self, spans: &[(usize, Span)]) -> Vec<u8> {
        let parts = spans
            .iter()
            .map(|(shard, span)| self.workers[*shard].cx.engine.memory().read(*span));
        parts.collect::<Vec<_>>().concat()
    }
}

/// How many of `there` completions a turn takes.
pub(super) fn share_of_completions(random: &mut Random, there: usize, lazy: u64) -> usize {
    if random.chance(lazy) {
        return random.range(0, there as u64 + 1) as usize;
    }
    there
}
