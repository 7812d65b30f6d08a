//! The plan, step by step: start everything, follow it, end it in order, judge.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use super::programs::{Ended, Program};
use super::screen::{moment, Screen};
use super::shares::Shares;
use super::table::{self, Paint};
use super::watch::{Event, Row, Watch};
use super::{verdict, Failure, Options};
use weir_clock::monotonic_ns;
use weir_protocol::text::Time;
use weir_runtime::Distributor;
use weir_shard::ShardReport;
use weir_streams::grouped;

/// Analyzers and their weights.
pub const ANALYZERS: [(&str, f64); 4] = [("a1", 0.4), ("a2", 0.3), ("a3", 0.2), ("a4", 0.1)];
pub const EMITTERS: [&str; 2] = ["e1", "e2"];
/// Is killed, and comes back.
pub const KILLED: usize = 1;
/// Changes its weight.
pub const CHANGED: usize = 2;
pub const CHANGED_WEIGHT: f64 = 0.5;

/// Enough connections that the kernel gives some to each shard of a small machine.
const CONNECTIONS: u32 = 8;
const PAYLOAD_BYTES: u32 = 256;
/// Messages per write: emitters leave the cores to the others.
const BATCH: u32 = 4;

/// How often reports are looked at. They are made ten times a second, and at every change.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// For all analyzers to connect, and for the killed one to connect again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// For emitters to end after their duration; they allow a blocked connection 11 s.
const EMITTER_PATIENCE: Duration = Duration::from_secs(15);
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// For the shards to end beyond that.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// For analyzers to end after the distributor's goodbye.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every check held.
    Held,
    /// Some check failed.
    Failed,
    /// A signal ended it early; what could be checked held.
    Interrupted,
}

/// Everything that runs beside the distributor, and what is known.
struct Demo {
    options: Options,
    stop: Arc<AtomicBool>,
    screen: Screen,
    shards: usize,
    emitters_at: SocketAddr,
    analyzers_at: SocketAddr,
    emitters: Vec<Program>,
    analyzers: Vec<Program>,
    watch: Watch,
    shares: Shares,
    /// When the emitters were started.
    started: Instant,
    started_ns: u64,
    killed_ns: Option<u64>,
    is_back_asked: bool,
    seen: Vec<Event>,
    /// Messages received at the last table, and when that was.
    last_table: (u64, Instant),
}

/// Plays it on a distributor that has just started.
///
/// # Errors
/// It could not go on; every process has been stopped.
pub fn play(
    options: &Options,
    distributor: Distributor,
    stop: Arc<AtomicBool>,
) -> Result<Outcome, Failure> {
    let now = Instant::now();
    let mut demo = Demo {
        options: *options,
        stop,
        screen: Screen::new(),
        shards: distributor.reports().len(),
        emitters_at: distributor.emitters,
        analyzers_at: distributor.analyzers,
        emitters: Vec::new(),
        analyzers: Vec::new(),
        watch: Watch::default(),
        shares: Shares::default(),
        started: now,
        started_ns: monotonic_ns(),
        killed_ns: None,
        is_back_asked: false,
        seen: Vec::new(),
        last_table: (0, now),
    };
    let emitters = match demo.run(&distributor) {
        Ok(emitters) => emitters,
        Err(failure) => {
            // Programs fail when the distributor has; then that is what to tell.
            distributor.stopper().stop_now();
            let joined = join(distributor, STOP_PATIENCE);
            return Err(joined.err().unwrap_or(failure));
        }
    };
    let seconds = demo.started.elapsed().as_secs_f64();
    let is_interrupted = demo.is_interrupted();
    distributor.stopper().drain(DRAIN_PATIENCE);
    let last = join(distributor, DRAIN_PATIENCE + STOP_PATIENCE)?;
    demo.note(last)?;
    demo.shares.finish();
    let analyzers = demo.end_analyzers()?;

    demo.show_end(seconds, is_interrupted)?;
    let holds = demo.judge(&emitters, &analyzers, is_interrupted)?;
    Ok(match (holds, is_interrupted) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Interrupted,
        (true, false) => Outcome::Held,
    })
}

/// Waits for the shards, but not for ever: one that died at its start keeps the others waiting.
fn join(distributor: Distributor, patience: Duration) -> Result<Vec<ShardReport>, Failure> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new()
        .name("join".into())
        .spawn(move || tell.send(distributor.join()))?;
    match told.recv_timeout(patience) {
        Ok(reports) => Ok(reports.map_err(|error| Failure::Program(error.to_string()))?),
        Err(_) => Err(Failure::Program(format!(
            "the shards did not end within {}",
            Time(patience)
        ))),
    }
}

impl Demo {
    /// From the first word to the end of the emitters.
    fn run(&mut self, distributor: &Distributor) -> Result<Vec<Ended>, Failure> {
        self.introduce()?;
        self.start_analyzers(distributor)?;
        if !self.is_interrupted() {
            self.start_emitters()?;
            self.follow(distributor)?;
        }
        self.end_emitters()
    }

    fn introduce(&mut self) -> io::Result<()> {
        let look = self.screen.look();
        let at = |part: f64| self.options.duration.as_secs_f64() * part;
        let weights = ANALYZERS
            .map(|(name, weight)| format!("{name} {weight}"))
            .join("   ");
        let (killed, changed) = (ANALYZERS[KILLED].0, ANALYZERS[CHANGED].0);
        let lines = [
            format!(
                "{} two emitters, one distributor, four analyzers, all on this machine",
                look.paint(Paint::Bold, "weir demo:")
            ),
            String::new(),
            format!(
                "emitters     {}   {} messages/s each, {PAYLOAD_BYTES} bytes a message, for {} s",
                EMITTERS.join("   "),
                grouped(self.options.rate.round() as u64), // a rate is at most a billion
                self.options.duration.as_secs_f64(),
            ),
            format!(
                "distributor  this process, pid {}, {} shard{}",
                std::process::id(),
                self.shards,
                if self.shards == 1 { "" } else { "s" },
            ),
            format!("analyzers    {weights}   (weights)"),
            format!(
                "plan         {:.1} s {killed} is killed   {:.1} s it comes back   {:.1} s {changed} weighs {CHANGED_WEIGHT}",
                at(1.0 / 3.0),
                at(1.0 / 2.0),
                at(2.0 / 3.0),
            ),
            String::new(),
        ];
        lines.iter().try_for_each(|line| self.screen.say(line))
    }

    fn start_analyzers(&mut self, distributor: &Distributor) -> Result<(), Failure> {
        for index in 0..ANALYZERS.len() {
            let analyzer = self.start_analyzer(index, true)?;
            self.analyzers.push(analyzer);
        }
        let deadline = Instant::now() + CONNECT_PATIENCE;
        while !self.watch.are_up(&ANALYZERS) && !self.is_interrupted() {
            self.note(distributor.reports())?;
            self.check_analyzers()?;
            if Instant::now() > deadline {
                let why = "the analyzers did not all connect";
                return Err(Failure::Program(format!(
                    "{why} within {}",
                    Time(CONNECT_PATIENCE)
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn start_emitters(&mut self) -> Result<(), Failure> {
        for name in EMITTERS {
            let emitter = Program::start("emitter", name, &self.emitter_args())?;
            self.emitters.push(emitter);
        }
        self.started = Instant::now();
        self.started_ns = monotonic_ns();
        self.last_table = (0, self.started);
        Ok(())
    }

    /// Does what the plan has and shows what happens, until the emitters have ended.
    fn follow(&mut self, distributor: &Distributor) -> Result<(), Failure> {
        let mut next_table = TABLE_EVERY;
        while !self.is_over()? {
            self.act()?;
            self.note(distributor.reports())?;
            if self.started.elapsed() >= next_table {
                self.show_table()?;
                next_table += TABLE_EVERY;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.note(distributor.reports())?;
        Ok(())
    }

    fn start_analyzer(&self, index: usize, is_first: bool) -> io::Result<Program> {
        let (name, weight) = ANALYZERS[index];
        let mut args = vec![
            format!("--addr={}", self.analyzers_at),
            format!("--weight={weight}"),
            // The end of the distributor is the end of the demonstration.
            "--reconnect=false".to_owned(),
        ];
        if index == CHANGED && is_first {
            let after = self.options.duration.mul_f64(2.0 / 3.0).as_secs_f64();
            args.push(format!("--weight-after={after:.3}s={CHANGED_WEIGHT}"));
        }
        Program::start("analyzer", name, &args)
    }

    fn emitter_args(&self) -> [String; 6] {
        [
            format!("--addr={}", self.emitters_at),
            format!("--rate={}", self.options.rate),
            format!("--duration={:.3}s", self.options.duration.as_secs_f64()),
            format!("--connections={CONNECTIONS}"),
            format!("--batch={BATCH}"),
            format!("--size={PAYLOAD_BYTES}"),
        ]
    }

    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The emitters have ended, by themselves or because they were asked to.
    fn is_over(&mut self) -> Result<bool, Failure> {
        if self.is_interrupted() {
            return Ok(true);
        }
        self.check_analyzers()?;
        let mut ended = true;
        for emitter in &mut self.emitters {
            ended &= emitter.has_ended()?;
        }
        if !ended && self.started.elapsed() > self.options.duration + EMITTER_PATIENCE {
            return Err(Failure::Program(format!(
                "the emitters have not ended {} after their time",
                Time(EMITTER_PATIENCE)
            )));
        }
        Ok(ended)
    }

    /// An analyzer that ends by itself is not part of the plan.
    fn check_analyzers(&mut self) -> Result<(), Failure> {
        for index in 0..self.analyzers.len() {
            if self.analyzers[index].has_ended()? {
                let ended = self.analyzers.remove(index).end(Duration::ZERO)?;
                let what = ended.map_or_else(String::new, |ended| ended.to_string());
                return Err(Failure::Program(format!("an analyzer left: {what}")));
            }
        }
        Ok(())
    }

    /// What the plan has for now.
    fn act(&mut self) -> Result<(), Failure> {
        let at = self.started.elapsed();
        let (name, _) = ANALYZERS[KILLED];
        if self.killed_ns.is_none() && at >= self.options.duration / 3 {
            let index = self
                .analyzers
                .iter()
                .position(|analyzer| analyzer.name == name);
            if let Some(index) = index {
                let analyzer = self.analyzers.remove(index);
                let pid = analyzer.pid();
                let killed_ns = monotonic_ns();
                self.killed_ns = Some(killed_ns);
                analyzer.kill()?;
                let what = format!("{name} killed (SIGKILL, pid {pid})");
                self.say_at(killed_ns, Paint::Red, &what)?;
            }
        }
        if !self.is_back_asked && self.killed_ns.is_some() && at >= self.options.duration / 2 {
            self.is_back_asked = true;
            let analyzer = self.start_analyzer(KILLED, false)?;
            let pid = analyzer.pid();
            self.analyzers.push(analyzer);
            let what = format!("{name} started again (pid {pid})");
            self.say_at(monotonic_ns(), Paint::Yellow, &what)?;
        }
        Ok(())
    }

    /// Takes the newest reports, and tells what happened.
    fn note(&mut self, reports: Vec<ShardReport>) -> io::Result<()> {
        let now_ns = monotonic_ns();
        for report in reports {
            self.shares.note(&report, now_ns);
            self.watch.note(report);
        }
        for event in self.watch.events() {
            let mut text = event.to_string();
            let (at_ns, paint) = match (&event, self.killed_ns) {
                (Event::Down { detected_ns, .. }, Some(killed_ns)) => {
                    let seen_ms = detected_ns.saturating_sub(killed_ns) as f64 / 1e6;
                    text.push_str(&format!(" (seen after {seen_ms:.2} ms)"));
                    (*detected_ns, Paint::Yellow)
                }
                _ => (now_ns, Paint::Green),
            };
            self.say_at(at_ns, paint, &text)?;
            self.seen.push(event);
        }
        Ok(())
    }

    fn say_at(&mut self, at_ns: u64, paint: Paint, what: &str) -> io::Result<()> {
        let look = self.screen.look();
        let what = look.paint(paint, what);
        let seconds = at_ns.saturating_sub(self.started_ns) as f64 / 1e9;
        self.screen.say(&moment(seconds, &what, look))
    }

    fn show_table(&mut self) -> io::Result<()> {
        let received = self.watch.counters().received;
        let (before, since) = std::mem::replace(&mut self.last_table, (received, Instant::now()));
        let rate = (received - before) as f64 / since.elapsed().as_secs_f64();
        let balance = self.watch.balance();
        let mut what = format!("{} messages/s", grouped(rate.round() as u64)); // far below 2^64
        what.push_str(if balance.holds() {
            ", conservation holds"
        } else {
            ", conservation BROKEN"
        });
        if let Some(worst) = self.shares.worst() {
            what.push_str(&format!(", shares within {:.1} messages", worst.distance));
        }
        let title = moment(
            self.started.elapsed().as_secs_f64(),
            &what,
            self.screen.look(),
        );
        let rows = self.watch.rows();
        let table = self.table(&rows, &title);
        self.watch.forget_latencies();
        self.screen.table(table)
    }

    /// The table under its title, with each analyzer's part of what was given out since the last
    /// change.
    fn table(&self, rows: &[Row], title: &str) -> Vec<String> {
        let given = self.shares.given_since_change();
        let all: u64 = given.values().sum();
        let part = |name| {
            given
                .get(name)
                .map(|given| *given as f64 / all.max(1) as f64)
        };
        let real: Vec<Option<f64>> = rows.iter().map(|row| part(&row.name)).collect();
        let mut lines = vec![title.to_owned()];
        lines.extend(table::lines(rows, &real, self.screen.look()));
        lines.push(String::new());
        lines
    }

    /// Waits for the emitters, and for what they sent to be read.
    fn end_emitters(&mut self) -> Result<Vec<Ended>, Failure> {
        self.emitters.iter_mut().for_each(Program::ask_to_stop);
        end_all(std::mem::take(&mut self.emitters), EMITTER_PATIENCE)
    }

    /// The distributor said goodbye: analyzers end by themselves.
    fn end_analyzers(&mut self) -> Result<Vec<Ended>, Failure> {
        end_all(std::mem::take(&mut self.analyzers), GOODBYE_PATIENCE)
    }

    fn show_end(&mut self, seconds: f64, is_interrupted: bool) -> io::Result<()> {
        self.watch.all_latencies();
        let rows = self.watch.rows();
        let look = self.screen.look();
        let received = self.watch.counters().received;
        let how = if is_interrupted {
            "interrupted"
        } else {
            "ended and drained"
        };
        let what = format!("{how}, {} messages received", grouped(received));
        let table = self.table(&rows, &moment(seconds, &what, look));
        self.screen.table(table)?;
        self.screen.leave_table();
        let stretches = self.shares.stretches();
        let account = verdict::account(stretches, self.started_ns, look);
        let title = "Shares in per cent, between changes of weights or membership";
        self.screen.say(&look.paint(Paint::Bold, title))?;
        account.iter().try_for_each(|line| self.screen.say(line))?;
        self.screen.say("")
    }

    fn judge(
        &mut self,
        emitters: &[Ended],
        analyzers: &[Ended],
        is_interrupted: bool,
    ) -> io::Result<bool> {
        let mut checks = vec![
            verdict::sent_is_received(emitters, &self.watch),
            verdict::conservation(&self.watch),
            verdict::nothing_abandoned(&self.watch),
            verdict::analyzers_agree(analyzers, &self.watch),
            verdict::shares_are_exact(&self.shares, &self.watch),
        ];
        if !is_interrupted {
            checks.push(verdict::plan_was_kept(&self.not_seen()));
        }
        verdict::say(&checks, &mut self.screen)
    }

    /// What the plan has and the shards have not reported.
    fn not_seen(&self) -> Vec<String> {
        let (killed, (changed, from)) = (ANALYZERS[KILLED].0, ANALYZERS[CHANGED]);
        let seen = |is: &dyn Fn(&Event) -> bool| self.seen.iter().any(is);
        let plan = [
            (
                seen(&|event| matches!(event, Event::Down { name, .. } if &**name == killed)),
                format!("the end of {killed}"),
            ),
            (
                seen(&|event| matches!(event, Event::Back { name } if &**name == killed)),
                format!("{killed} coming back"),
            ),
            (
                seen(&|event| {
                    matches!(event, Event::Weight { name, from: was, to }
                        if &**name == changed && *was == from && *to == CHANGED_WEIGHT)
                }),
                format!("{changed} changing its weight"),
            ),
        ];
        let missing = plan.into_iter().filter(|(is_seen, _)| !is_seen);
        missing.map(|(_, what)| what).collect()
    }
}

/// Waits for all to end.
///
/// # Errors
/// One did not end in time; it was killed.
pub fn end_all(programs: Vec<Program>, patience: Duration) -> Result<Vec<Ended>, Failure> {
    let mut all = Vec::new();
    for program in programs {
        let name = program.name;
        match program.end(patience)? {
            Some(ended) => all.push(ended),
            None => {
                let patience = Time(patience);
                let what = format!("{name} did not end within {patience} and was killed");
                return Err(Failure::Program(what));
            }
        }
    }
    Ok(all)
}
