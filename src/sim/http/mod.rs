//! HTTP in the simulated world: clients that POST packets, servers that get them (analyzers over HTTP, and servers of
//! Fluent Forward, which get chunks), and the control side that tells the shards of servers.

mod chunk;
mod client;
mod control;
mod plan;
mod server;
mod text;

pub(super) use client::Client;
pub(super) use control::Control;
pub(super) use plan::{name_of_server, ClientFault, HttpPlan, ServerFault};
pub(super) use server::Server;

use super::kernel::Trouble;
use super::oracle::{Known, Oracle};
use super::plan::{OperatorFault, Plan, What, MS};
use super::world::{Event, World};
use weir_shard::Operator;

/// All peers that speak HTTP.
pub(super) struct Http {
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    control: Control,
    /// When each looks next; other looks in the queue are stale.
    client_ns: Vec<u64>,
    server_ns: Vec<u64>,
}

impl Http {
    pub(super) fn new(plan: &Plan, operator: Operator, base_ns: u64) -> Http {
        let (clients, servers) = (&plan.http.clients, &plan.http.servers);
        let client = |(index, one): (usize, &_)| Client::new(index, Clone::clone(one), plan.seed);
        let server =
            |(index, one): (usize, &_)| Server::new(index, Clone::clone(one), plan.seed, base_ns);
        Http {
            clients: clients.iter().enumerate().map(client).collect(),
            servers: servers.iter().enumerate().map(server).collect(),
            control: Control::new(operator, servers.len()),
            client_ns: vec![u64::MAX; clients.len()],
            server_ns: vec![u64::MAX; servers.len()],
        }
    }

    /// All clients have sent what they had.
    pub(super) fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.done)
    }

    /// Messages that servers took, and answers that clients read.
    pub(super) fn progress(&self) -> u64 {
        let taken = self.servers.iter().map(|server| server.deliveries);
        let answers = self.clients.iter().map(|client| client.answers);
        taken.chain(answers).sum()
    }

    pub(super) fn posts(&self) -> u64 {
        self.servers.iter().map(|server| server.posts).sum()
    }
}

impl World {
    pub(super) fn begin_http(&mut self, at_ns: u64) {
        for client in 0..self.http.clients.len() {
            self.wake_client(client, at_ns);
        }
        for server in 0..self.http.servers.len() {
            self.wake_server(server, at_ns);
        }
        if !self.plan.http.is_empty() {
            self.schedule(at_ns, Event::Control);
        }
    }

    pub(super) fn wake_client(&mut self, client: usize, at_ns: u64) {
        if at_ns < self.http.client_ns[client] {
            self.http.client_ns[client] = at_ns;
            self.schedule(at_ns, Event::Client(client));
        }
    }

    pub(super) fn wake_server(&mut self, server: usize, at_ns: u64) {
        if at_ns < self.http.server_ns[server] {
            self.http.server_ns[server] = at_ns;
            self.schedule(at_ns, Event::Server(server));
        }
    }

    /// False: the event is stale.
    pub(super) fn step_client(&mut self, index: usize, at_ns: u64) -> Result<bool, String> {
        if self.http.client_ns[index] != at_ns {
            return Ok(false);
        }
        self.http.client_ns[index] = u64::MAX;
        let stopping = self.is_stopping();
        let mut net = self.net.borrow_mut();
        let client = &mut self.http.clients[index];
        let next = client.step(&mut net, &mut self.oracle, &self.plan.noise, stopping);
        drop(net);
        if let Some(at_ns) = next.map_err(|what| format!("client {index}: {what}"))? {
            self.wake_client(index, at_ns);
        }
        Ok(true)
    }

    /// False: the event is stale.
    pub(super) fn step_server(&mut self, index: usize, at_ns: u64) -> Result<bool, String> {
        if self.http.server_ns[index] != at_ns {
            return Ok(false);
        }
        self.http.server_ns[index] = u64::MAX;
        // A shard that is slow to look at what came, or had no memory for it, takes an answer for none.
        let had_no_memory = |trouble: &Trouble| trouble.no_memory_until_ns > 0;
        let is_lenient = self.plan.noise.delays_reads() || self.trouble.iter().any(had_no_memory);
        let mut net = self.net.borrow_mut();
        let server = &mut self.http.servers[index];
        let next = server.step(&mut net, &mut self.oracle, is_lenient);
        drop(net);
        if let Some(at_ns) = next.map_err(|what| format!("server {index}: {what}"))? {
            self.wake_server(index, at_ns);
        }
        Ok(true)
    }

    /// The control side looks at the servers.
    pub(super) fn look_at_servers(&mut self) {
        let now_ns = self.now_ns();
        let roster = self.workers[0].roster();
        let http = &mut self.http;
        if http.control.look(now_ns, &http.servers, roster) {
            self.wake_shard(0, now_ns);
        }
        self.schedule(now_ns + self.plan.http.check_ms * MS, Event::Control);
    }

    pub(super) fn suffer_http(&mut self, what: &What) -> Result<Vec<usize>, String> {
        let mut hanging = Vec::new();
        let net = std::rc::Rc::clone(&self.net);
        let (http, oracle) = (&mut self.http, &mut self.oracle);
        let now_ns = net.borrow().now_ns;
        match *what {
            What::Client { client, fault } => {
                let one = &mut http.clients[client];
                one.suffer(fault, &mut net.borrow_mut(), oracle, &mut hanging)?;
                self.wake_client(client, now_ns);
            }
            What::Server { server, fault } => {
                let one = &mut http.servers[server];
                one.suffer(fault, &mut net.borrow_mut(), oracle, &mut hanging);
                self.wake_server(server, now_ns);
            }
            What::Operator(ref fault) => self.say(fault),
            _ => {}
        }
        Ok(hanging)
    }

    fn say(&mut self, fault: &OperatorFault) {
        self.http.control.say(fault);
        self.wake_shard(0, self.now_ns());
    }

    pub(super) fn calm_http(&mut self) {
        let now_ns = self.now_ns();
        self.http.control.take_back();
        self.wake_shard(0, now_ns);
        for client in 0..self.http.clients.len() {
            self.http.clients[client].calm();
            self.wake_client(client, now_ns);
        }
        for server in 0..self.http.servers.len() {
            self.http.servers[server].calm(now_ns);
            self.wake_server(server, now_ns);
        }
    }

    /// What the operator said holds on this shard.
    pub(super) fn check_word(&mut self, shard: usize) -> Result<(), String> {
        let checked = self.http.control.check(self.workers[shard].roster());
        checked.map_err(|what| format!("shard {shard}: {what}"))
    }

    /// Packets are whole: all of one was taken in, or nothing; and what was answered is true. Returns the
    /// messages that were taken in.
    pub(super) fn check_packets(&self) -> Result<u64, String> {
        let mut taken = 0;
        for (number, packet) in self.oracle.packets.iter().enumerate() {
            let messages = &packet.messages;
            let is_through = |id: &u32| self.oracle.is_through(*id);
            let through = messages.clone().filter(is_through).count();
            let right = match packet.known {
                Known::Open => through == 0 || through == messages.len(),
                Known::Taken => through == messages.len(),
                Known::Refused => through == 0,
            };
            if !right {
                return Err(format!(
                    "packet {number} has {} messages, {through} of them are through, its client knows: {:?}",
                    messages.len(),
                    packet.known
                ));
            }
            taken += through as u64; // a packet's
        }
        let of = |world: &World, shard: usize| world.workers[shard].http_report().messages;
        let counted = self.total(of);
        if counted != taken {
            return Err(format!(
                "{counted} messages of packets count as received, {taken} are through"
            ));
        }
        Ok(taken)
    }
}

impl Oracle {
    /// An analyzer has ACKed it, or it was refused and may have been set aside.
    pub(super) fn is_through(&self, id: u32) -> bool {
        let message = &self.messages[id as usize];
        message.acked || message.refused && self.set_aside > 0
    }
}
