//! The simulated world: virtual time, shards, peers, and what happens to them.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::acked::AckedEmitter;
use super::analyzer::Analyzer;
use super::chained::ChainedSender;
use super::emitter::Emitter;
use super::http::Http;
use super::io::SimIo;
use super::kernel::{share_of_completions, Trouble};
use super::net::{analyzer_on, Net, Peer, SimSocket, Who};
use super::oracle::Oracle;
use super::plan::{EmitterPlan, Ending, Noise, Plan, What, MS};
use super::random::Random;
use super::shards;
use super::topology::{Part, Scene};
use weir_shard::mesh::{Inbox, Message};
use weir_shard::{Operator, ShardReport};
use weir_shard::{Shard, TURN_COMPLETIONS};
use weir_shard::{Shared, Stop};

/// Virtual time starts here: a clock that has run for a while.
const START_NS: u64 = 1_000_000 * MS;
/// After the faults something must get on within this.
const PATIENCE_NS: u64 = 100_000 * MS;
/// Time that a drain gets.
const DRAIN_NS: u64 = 60_000 * MS;
pub(super) const PEER_TIMEOUT_NS: u64 = 4_000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Turn(usize),
    Emitter(usize),
    Acked(usize),
    Chained(usize),
    Analyzer(usize),
    Client(usize),
    Server(usize),
    Control,
    Fault(usize),
    TimedOut(usize),
    Calm,
    Stop,
}

/// Messages between two shards, each with the time of its arrival.
type Mail = VecDeque<(u64, Message<SimSocket>)>;

/// Everything at one moment.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) net: Rc<RefCell<Net>>,
    pub(super) workers: Vec<Shard<SimIo>>,
    pub(super) trouble: Vec<Trouble>,
    pub(super) oracle: Oracle,
    pub(super) emitters: Vec<Emitter>,
    pub(super) acked: Vec<AckedEmitter>,
    pub(super) chained: Vec<ChainedSender>,
    pub(super) analyzers: Vec<Analyzer>,
    pub(super) http: Http,
    /// Last reports of the shards that have ended.
    pub(super) ended: Vec<Option<ShardReport>>,
    pub(super) watch: Vec<super::check::Watch>,
    pub(super) turns: u64,
    /// What was there when the time for faults was over.
    pub(super) scene: Option<Scene>,
    keeps_scene: bool,
    shared: Arc<Shared>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    /// When each shard turns next; other turns in the queue are stale.
    turn_ns: Vec<u64>,
    /// The same for analyzers.
    step_ns: Vec<u64>,
    paused_until_ns: Vec<u64>,
    /// Its next turn is the first after a pause: the wait ends, and nothing has been fetched yet.
    resumes: Vec<bool>,
    mesh_slow_until_ns: u64,
    /// Between any two shards, what is under way.
    mail: Vec<Vec<Mail>>,
    inbox: Inbox<SimSocket>,
    is_calm: bool,
    /// A message was sent after all had settled once.
    is_refreshed: bool,
    stopping: bool,
}

impl World {
    pub(super) fn new(plan: Plan) -> World {
        let shards = plan.shards;
        let net = Rc::new(RefCell::new(Net::new(&plan, START_NS)));
        let config = Arc::new(shards::config(&plan));
        let shared = Arc::new(Shared::new(&config, Vec::new()));
        let workers = (0..shards).map(|shard| shards::worker(&plan, shard, &config, &shared, &net));
        let workers: Vec<_> = workers.collect();
        let emitters = plan.emitters.iter().enumerate();
        let emitters = emitters.map(|(index, e)| Emitter::new(index, e.clone(), plan.seed));
        let emitters = emitters.collect();
        let acked = plan.acked.iter().enumerate();
        let acked = acked.map(|(index, e)| AckedEmitter::new(index, e.clone(), plan.seed));
        let acked = acked.collect();
        let chained = plan.chained.iter().enumerate();
        let chained = chained.map(|(index, e)| ChainedSender::new(index, e.clone(), plan.seed));
        let chained = chained.collect();
        let analyzers = plan.analyzers.iter().enumerate();
        let number = plan.host.first_number;
        let analyzers = analyzers
            .map(|(index, a)| {
                let mut a = a.clone();
                a.joins_ms += START_NS / MS;
                Analyzer::new(index, a, plan.seed, number)
            })
            .collect();
        let mut world = World {
            random: Random::stream(plan.seed, 2),
            net,
            workers,
            trouble: vec![Trouble::default(); shards],
            oracle: Oracle::default(),
            emitters,
            acked,
            chained,
            analyzers,
            http: Http::new(&plan, Operator::new(Arc::clone(&shared)), START_NS),
            ended: vec![None; shards],
            watch: (0..shards).map(|_| Default::default()).collect(),
            turns: 0,
            scene: None,
            keeps_scene: false,
            shared,
            events: BinaryHeap::new(),
            event_count: 0,
            turn_ns: vec![u64::MAX; shards],
            step_ns: vec![u64::MAX; plan.analyzers.len()],
            paused_until_ns: vec![0; shards],
            resumes: vec![false; shards],
            mesh_slow_until_ns: 0,
            mail: (0..shards)
                .map(|_| (0..shards).map(|_| Mail::new()).collect())
                .collect(),
            inbox: Inbox::new(),
            is_calm: false,
            is_refreshed: false,
            stopping: false,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for shard in 0..self.workers.len() {
            self.workers[shard].start();
            self.wake_shard(shard, START_NS);
        }
        for emitter in 0..self.emitters.len() {
            self.schedule(START_NS, Event::Emitter(emitter));
        }
        for emitter in 0..self.acked.len() {
            self.schedule(START_NS, Event::Acked(emitter));
        }
        for sender in 0..self.chained.len() {
            self.schedule(START_NS, Event::Chained(sender));
        }
        for analyzer in 0..self.analyzers.len() {
            self.wake_analyzer(analyzer, START_NS);
        }
        self.begin_http(START_NS);
        for fault in 0..self.plan.faults.len() {
            let at_ns = START_NS + self.plan.faults[fault].at_ms * MS;
            self.schedule(at_ns, Event::Fault(fault));
        }
        let calm_ns = START_NS + self.plan.calm_ms * MS;
        self.schedule(calm_ns, Event::Calm);
        if let Ending::Drain { at_ms } | Ending::Now { at_ms } = self.plan.ending {
            self.schedule(START_NS + at_ms * MS, Event::Stop);
        }
    }

    /// Have [`World::scene`] filled.
    pub(super) fn keep_scene(&mut self) {
        self.keeps_scene = true;
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.net.borrow().now_ns
    }

    pub(super) fn schedule(&mut self, at_ns: u64, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((at_ns, self.event_count, event)));
    }

    /// Sees to it that a shard turns at this time or before.
    pub(super) fn wake_shard(&mut self, shard: usize, at_ns: u64) {
        if self.ended[shard].is_none() && at_ns < self.turn_ns[shard] {
            self.turn_ns[shard] = at_ns;
            self.schedule(at_ns, Event::Turn(shard));
        }
    }

    fn wake_analyzer(&mut self, analyzer: usize, at_ns: u64) {
        if at_ns < self.step_ns[analyzer] {
            self.step_ns[analyzer] = at_ns;
            self.schedule(at_ns, Event::Analyzer(analyzer));
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What was found to be wrong.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut patient_until_ns = u64::MAX;
        let mut progress = 0;
        while let Some(Reverse((at_ns, _, event))) = self.events.pop() {
            let now_ns = at_ns.max(self.now_ns());
            self.net.borrow_mut().now_ns = now_ns;
            if self.happens(event, at_ns)? {
                self.follow_wakes();
            }
            if self.ended.iter().all(Option::is_some) {
                return self.check_end();
            }
            if !self.is_calm {
                patient_until_ns = now_ns + PATIENCE_NS;
            } else if now_ns > patient_until_ns {
                let so_far = self.progress();
                if so_far == progress {
                    return Err(self.what_is_missing());
                }
                progress = so_far;
                patient_until_ns = now_ns + PATIENCE_NS;
            }
            let calm = self.is_calm && !self.stopping;
            if calm && self.plan.ending == Ending::Calm && self.is_settled() {
                self.check_settled()?;
                match std::mem::replace(&mut self.is_refreshed, true) {
                    false => self.add_emitter(),
                    true => self.stop(Stop::Drain),
                }
            }
        }
        Err("nothing happens any more".into())
    }

    /// False: the event is stale.
    fn happens(&mut self, event: Event, at_ns: u64) -> Result<bool, String> {
        match event {
            Event::Turn(shard) => {
                if self.turn_ns[shard] != at_ns || self.ended[shard].is_some() {
                    return Ok(false);
                }
                self.turn_ns[shard] = u64::MAX;
                self.turn(shard)?;
            }
            Event::Emitter(index) => {
                let noise = &self.plan.noise;
                let mut net = self.net.borrow_mut();
                let emitter = &mut self.emitters[index];
                let next = emitter.step(&mut net, &mut self.oracle, noise, self.stopping);
                drop(net);
                if let Some(at_ns) = next {
                    self.schedule(at_ns, Event::Emitter(index));
                }
            }
            Event::Acked(index) => {
                let noise = &self.plan.noise;
                let mut net = self.net.borrow_mut();
                let emitter = &mut self.acked[index];
                let next = emitter.step(&mut net, &mut self.oracle, noise, self.stopping);
                drop(net);
                let next = next.map_err(|what| format!("acked emitter {index}: {what}"))?;
                if let Some(at_ns) = next {
                    self.schedule(at_ns, Event::Acked(index));
                }
            }
            Event::Chained(index) => {
                let noise = &self.plan.noise;
                let mut net = self.net.borrow_mut();
                let sender = &mut self.chained[index];
                let next = sender.step(&mut net, &mut self.oracle, noise, self.stopping);
                drop(net);
                let next = next.map_err(|what| format!("chained sender {index}: {what}"))?;
                if let Some(at_ns) = next {
                    self.schedule(at_ns, Event::Chained(index));
                }
            }
            Event::Analyzer(index) => {
                if self.step_ns[index] != at_ns {
                    return Ok(false);
                }
                self.step_ns[index] = u64::MAX;
                let noise = &self.plan.noise;
                let mut net = self.net.borrow_mut();
                let analyzer = &mut self.analyzers[index];
                let next = analyzer.step(&mut net, &mut self.oracle, noise);
                drop(net);
                let next = next.map_err(|what| format!("analyzer {index}: {what}"))?;
                if let Some(at_ns) = next {
                    self.wake_analyzer(index, at_ns);
                }
            }
            Event::Client(index) => return self.step_client(index, at_ns),
            Event::Server(index) => return self.step_server(index, at_ns),
            Event::Control => self.look_at_servers(),
            Event::Fault(index) => {
                let what = self.plan.faults[index].what.clone();
                self.suffer(&what)?;
            }
            Event::TimedOut(conn) => self.net.borrow_mut().time_out(conn),
            Event::Calm => self.calm_down(),
            Event::Stop => {
                let stop = match self.plan.ending {
                    Ending::Now { .. } => Stop::Now,
                    _ => Stop::Drain,
                };
                self.stop(stop);
            }
        }
        Ok(true)
    }

    /// Emitters look again by themselves.
    fn follow_wakes(&mut self) {
        let wakes = std::mem::take(&mut self.net.borrow_mut().wakes);
        for (at_ns, who) in wakes {
            match who {
                Who::Shard(shard) => {
                    let late = self.random.range(0, self.plan.noise.turn_ns);
                    self.wake_shard(shard, at_ns + late);
                }
                Who::Peer(Peer::Analyzer(index)) => self.wake_analyzer(index, at_ns),
                Who::Peer(Peer::Server(index)) => self.wake_server(index, at_ns),
                Who::Peer(Peer::Emitter(_) | Peer::Client(_)) => {}
            }
        }
    }

    fn turn(&mut self, shard: usize) -> Result<(), String> {
        let now_ns = self.now_ns();
        if now_ns < self.paused_until_ns[shard] {
            self.wake_shard(shard, self.paused_until_ns[shard]);
            return Ok(());
        }
        self.turns += 1;
        let again = std::mem::take(&mut self.resumes[shard]) || self.run_kernel(shard)?;
        let there = self.workers[shard].cx.io.completions.len();
        let take = share_of_completions(&mut self.random, there, self.plan.noise.lazy);
        let mut completions: Vec<_> = self.workers[shard]
            .cx
            .io
            .completions
            .drain(..take)
            .collect();
        self.workers[shard].begin_turn(completions.len() >= TURN_COMPLETIONS);
        self.workers[shard].handle(&mut completions);
        self.deliver_mail(shard);
        let mut inbox = std::mem::take(&mut self.inbox);
        self.workers[shard].cx.mesh.receive(&mut inbox);
        self.workers[shard].conclude_turn(&mut inbox);
        self.inbox = inbox;
        if self.workers[shard].finished() {
            let report = self.workers[shard].end();
            self.ended[shard] = Some(report);
        }
        self.collect_mail(shard);
        self.check_turn(shard)?;
        let worker = &mut self.workers[shard];
        let busy = again || !worker.cx.io.completions.is_empty() || worker.has_work();
        let soon = 1_000 + self.random.range(0, self.plan.noise.turn_ns);
        // With a latency budget it wakes up for what it holds.
        let due_ns = match self.plan.host.latency_budget_us {
            0 => worker.next_tick_ns(),
            _ => now_ns + worker.next_wait().timeout.as_nanos() as u64, // a tick at most
        };
        let tick = due_ns.max(now_ns + 1_000);
        self.wake_shard(shard, if busy { now_ns + soon } else { tick });
        Ok(())
    }

    fn collect_mail(&mut self, from: usize) {
        let now_ns = self.now_ns();
        let slow = now_ns < self.mesh_slow_until_ns;
        for (to, message) in std::mem::take(&mut self.workers[from].cx.mesh.sent) {
            let most = match slow {
                true => 300 * MS,
                false => self.plan.noise.mesh_delay_ns,
            };
            let queue = &mut self.mail[from][to];
            let before = queue.back().map_or(0, |(at_ns, _)| *at_ns);
            let at_ns = (now_ns + self.random.range(100, most)).max(before);
            queue.push_back((at_ns, message));
            self.wake_shard(to, at_ns);
        }
    }

    fn deliver_mail(&mut self, to: usize) {
        let now_ns = self.now_ns();
        for from in 0..self.workers.len() {
            while self.mail[from][to]
                .front()
                .is_some_and(|(at, _)| *at <= now_ns)
            {
                if let Some((_, message)) = self.mail[from][to].pop_front() {
                    self.workers[to].cx.mesh.arrived.push_back((from, message));
                    self.workers[from].cx.mesh.taken_by(to);
                }
            }
        }
    }

    pub(super) fn mail_under_way(&self) -> bool {
        self.mail.iter().flatten().any(|queue| !queue.is_empty())
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn suffer(&mut self, what: &What) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let now_ns = self.now_ns();
        let mut hanging = Vec::new();
        match *what {
            What::EmitterCrash { emitter, reset } => {
                let mut net = self.net.borrow_mut();
                self.emitters[emitter].crash(&mut net, reset);
            }
            What::EmitterVanish { emitter } => {
                let mut net = self.net.borrow_mut();
                hanging.extend(self.emitters[emitter].vanish(&mut net));
            }
            What::AckedLinkLost { emitter, reset } => {
                let mut net = self.net.borrow_mut();
                self.acked[emitter].cut(&mut net, reset);
            }
            What::ChainedLinkLost { sender, reset } => {
                let mut net = self.net.borrow_mut();
                self.chained[sender].cut(&mut net, reset);
            }
            What::NoReceiveMemory { shard, for_ms } => {
                self.trouble[shard].no_memory_until_ns = now_ns + for_ms * MS;
            }
            What::NoDescriptors { shard, for_ms } => {
                let until_ns = now_ns + for_ms * MS;
                self.trouble[shard].no_descriptors_until_ns = until_ns;
                self.workers[shard].cx.io.no_descriptors_until_ns = until_ns;
            }
            What::SendFails { shard } => self.trouble[shard].send_fails = true,
            What::ShardPause { shard, for_ms } => {
                self.paused_until_ns[shard] = now_ns + for_ms * MS;
                self.resumes[shard] = true;
            }
            What::MeshSlow { for_ms } => self.mesh_slow_until_ns = now_ns + for_ms * MS,
            What::ClockJump { by_ms } => {
                self.net.borrow_mut().now_ns += by_ms * MS;
                self.resumes.fill(true);
            }
            What::Client { .. } | What::Server { .. } | What::Operator(_) => {
                hanging = self.suffer_http(what)?;
            }
            _ => {
                let Some(analyzer) = what.analyzer() else {
                    return Ok(());
                };
                let mut net = self.net.borrow_mut();
                self.analyzers[analyzer].suffer(what, &mut net, &mut self.oracle, &mut hanging);
            }
        }
        for conn in hanging {
            let at_ns = now_ns + PEER_TIMEOUT_NS + self.random.range(0, 2_000 * MS);
            self.schedule(at_ns, Event::TimedOut(conn));
        }
        Ok(())
    }

    fn calm_down(&mut self) {
        if self.keeps_scene {
            self.scene = Some(self.look());
        }
        self.is_calm = true;
        self.mesh_slow_until_ns = 0;
        self.trouble = vec![Trouble::default(); self.workers.len()];
        self.plan.noise = Noise {
            lazy: self.plan.noise.lazy.min(10),
            turn_ns: self.plan.noise.turn_ns.min(50_000),
            delay_ns: self.plan.noise.delay_ns.min(200_000),
            ..self.plan.noise
        };
        for worker in &mut self.workers {
            worker.cx.io.no_descriptors_until_ns = 0;
        }
        let none_takes = self
            .analyzers
            .iter()
            .all(|a| a.is_twin() || a.weight() == 0.0)
            && self.http.servers.iter().all(|s| s.weight() == 0.0);
        self.calm_http();
        let now_ns = self.now_ns();
        for index in 0..self.analyzers.len() {
            let mut net = self.net.borrow_mut();
            self.analyzers[index].calm(&mut net, none_takes && index == 0);
            drop(net);
            self.wake_analyzer(index, now_ns);
        }
        self.emitters.iter_mut().for_each(Emitter::calm);
        self.acked.iter_mut().for_each(AckedEmitter::calm);
        self.chained.iter_mut().for_each(ChainedSender::calm);
    }

    /// What each analyzer and the distributor have now.
    fn look(&self) -> Scene {
        let mut scene = Scene {
            seconds: (self.now_ns() - START_NS) as f64 / 1e9,
            shards: self.workers.len(),
            ..Scene::default()
        };
        let mut latencies = Vec::new();
        for analyzer in &self.analyzers {
            scene
                .parts
                .push(Part::new(analyzer.weight(), analyzer.deliveries));
            latencies.push(Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("3 digits")));
        }
        for worker in &self.workers {
            let (free_min, total) = (worker.cx.engine.buffers().1, worker.cx.engine.buffers().2);
            scene.buffers += total;
            scene.buffers_used_max += total - free_min;
            let balance = worker.cx.engine.balance();
            scene.received += balance.received;
            scene.acked += balance.acked;
            scene.open += balance.open();
            scene.rerouted += worker.cx.engine.counters.rerouted;
            scene.stalled_ns += worker.cx.engine.counters.stalled_ns;
            let ended = worker.cx.engine.ended();
            scene
                .reroutes
                .extend(ended.filter(|e| e.left() > 0).map(|e| {
                    let took_ns = e.rerouted_ns.map(|at| at.saturating_sub(e.detected_ns));
                    (e.left(), took_ns)
                }));
            for account in worker.cx.engine.accounts() {
                if let Some(analyzer) = self.analyzer_called(&account.name) {
                    scene.parts[analyzer].assigned += account.assigned;
                    scene.parts[analyzer].due += account.due;
                }
            }
            for lane in worker.cx.engine.lane_reports().filter(|lane| !lane.down) {
                let entries = &worker.roster().entries;
                let entry = entries.iter().find(|entry| entry.analyzer == lane.analyzer);
                let analyzer = entry.and_then(|e| self.analyzer_called(&e.name));
                if let Some(analyzer) = analyzer {
                    scene.parts[analyzer].in_flight += lane.in_flight;
                    let _ = latencies[analyzer].add(lane.latency_us.histogram());
                }
            }
        }
        for (part, latency) in scene.parts.iter_mut().zip(&latencies) {
            part.ack_p50_us = latency.value_at_quantile(0.5);
            part.ack_p99_us = latency.value_at_quantile(0.99);
        }
        scene
    }

    /// Native analyzers are known by their names, others by their hosts.
    fn analyzer_called(&self, name: &str) -> Option<usize> {
        let by_name = self.analyzers.iter().position(|a| a.name() == name);
        by_name.or_else(|| analyzer_on(name))
    }

    fn stop(&mut self, stop: Stop) {
        self.stopping = true;
        let deadline_ns = self.now_ns() + DRAIN_NS;
        self.shared.ask(stop, deadline_ns);
        for shard in 0..self.workers.len() {
            let at_ns = self.now_ns() + self.random.range(0, 2 * MS);
            self.wake_shard(shard, at_ns);
        }
    }

    /// A message that comes when all is calm.
    pub(super) fn add_emitter(&mut self) {
        let plan = EmitterPlan {
            messages: 1,
            payload_max: 4,
            pause_ns: 1_000,
            write_max: 100,
            every_ns: None,
            garbage_after: None,
            polite: true,
        };
        let index = self.emitters.len();
        self.emitters
            .push(Emitter::new(index, plan, self.plan.seed));
        self.schedule(self.now_ns(), Event::Emitter(index));
    }
}
