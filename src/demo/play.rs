//! The plan, step by step: start everything, follow it, end it in order, judge.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use super::account::Account;
use super::parts::{Parts, ANALYZERS, CHANGED, CHANGED_WEIGHT, EMITTERS, KILLED, PAYLOAD_BYTES};
use super::programs::{Ended, Program};
use super::screen::{self, moment, Paint, Screen};
use super::verdict::{self, Check};
use super::{Failure, Options};
use weir_clock::monotonic_ns;
use weir_config::Config;
use weir_control::view::books::{self, Closing};
use weir_control::view::{row::Standing, state::State};
use weir_control::{Running, Settings};
use weir_ledger::audit;
use weir_ledger::run_report::{self, Stamp};
use weir_protocol::text::Time;
use weir_runtime::Distributor;
use weir_shard::ShardReport;
use weir_streams::grouped;

/// How often reports are looked at. They are made ten times a second, and at every change.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// For all analyzers to connect, and for the killed one to connect again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// For emitters to end after their duration; they allow a blocked connection 11 s.
const EMITTER_PATIENCE: Duration = Duration::from_secs(15);
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// For the shards to end beyond that, and for an order to be given.
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

/// What of the plan was seen to happen.
#[derive(Default)]
struct Seen {
    gone: bool,
    back: bool,
    changed: bool,
}

/// Everything that runs beside the distributor, and what is known.
struct Demo {
    options: Options,
    stop: Arc<AtomicBool>,
    screen: Screen,
    parts: Parts,
    config: Config,
    emitters: Vec<Program>,
    analyzers: Vec<Program>,
    state: State,
    account: Account,
    /// When the emitters were started.
    started: Instant,
    /// When, and the number that the analyzer had.
    killed: Option<(u64, Option<u32>)>,
    is_back_asked: bool,
    is_change_asked: bool,
    seen: Seen,
    /// The newest event that was shown.
    told: u64,
    /// Messages received at the last table, and when that was.
    last_table: (u64, Instant),
}

/// Plays it.
///
/// # Errors
/// It could not go on; every process has been stopped.
pub fn play(options: &Options, stop: Arc<AtomicBool>) -> Result<Outcome, Failure> {
    let parts = Parts::new(options)?;
    let config = parts.config()?;
    let distributor = Distributor::start(config.clone()).map_err(Failure::Start)?;
    let (now, stamp) = (Instant::now(), Stamp::now());
    let mut demo = Demo {
        options: *options,
        stop,
        screen: Screen::new(),
        state: State::new(stamp, u64::from(config.batch_bytes)),
        account: Account::default(),
        parts,
        config,
        emitters: Vec::new(),
        analyzers: Vec::new(),
        started: now,
        killed: None,
        is_back_asked: false,
        is_change_asked: false,
        seen: Seen::default(),
        told: 0,
        last_table: (0, now),
    };
    let settings = Settings::of(&demo.config, stamp);
    let control = weir_control::serve(distributor.operator(), settings);
    let ran = control.map_err(Failure::from).and_then(|control| {
        let ran = demo.run(&distributor);
        ran.map(|emitters| (control, emitters))
    });
    let (control, emitters) = match ran {
        Ok(ran) => ran,
        Err(failure) => {
            // Programs fail when the distributor has; then that is what to tell.
            distributor.stopper().stop_now();
            let joined = join(distributor, STOP_PATIENCE);
            return Err(joined.err().unwrap_or(failure));
        }
    };
    demo.end(distributor, control, &emitters)
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
            for name in EMITTERS {
                self.emitters.push(self.parts.emitter(name, distributor)?);
            }
            self.started = Instant::now();
            self.last_table = (0, self.started);
            self.account.begin();
            self.follow(distributor)?;
        }
        self.emitters.iter_mut().for_each(Program::ask_to_stop);
        end_all(std::mem::take(&mut self.emitters), EMITTER_PATIENCE)
    }

    fn introduce(&mut self) -> io::Result<()> {
        let look = self.screen.look();
        let at = |part: f64| self.options.duration.as_secs_f64() * part;
        let weights = ANALYZERS
            .map(|(name, weight)| format!("{name} {weight}"))
            .join("   ");
        let (killed, changed) = (ANALYZERS[KILLED].0, ANALYZERS[CHANGED].0);
        let title = match self.options.http {
            true => "weir demo --http:",
            false => "weir demo:",
        };
        let shards = self.config.shards;
        let lines = [
            format!(
                "{} two emitters, one distributor, four analyzers, all on this machine",
                look.paint(Paint::Bold, title)
            ),
            String::new(),
            format!(
                "emitters     {}   {} messages/s each, {PAYLOAD_BYTES} bytes a message, for {} s",
                EMITTERS.join("   "),
                grouped(self.options.rate.round() as u64), // a rate is at most a billion
                self.options.duration.as_secs_f64(),
            ),
            format!(
                "distributor  this process, pid {}, {shards} shard{}",
                std::process::id(),
                if shards == 1 { "" } else { "s" },
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
            let analyzer = self.parts.analyzer(index, true, distributor)?;
            self.analyzers.push(analyzer);
        }
        let deadline = Instant::now() + CONNECT_PATIENCE;
        while !self.are_up() && !self.is_interrupted() {
            self.look(distributor.reports());
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
        // That they came is no news.
        self.told = self.state.events.newest();
        Ok(())
    }

    /// How an analyzer stands, and its weight.
    fn standing(&self, name: &str) -> Option<(Standing, f64)> {
        let row = self.state.rows.iter().find(|row| *row.id == *name)?;
        Some((row.standing, row.weight))
    }

    fn are_up(&self) -> bool {
        let mut analyzers = ANALYZERS.iter();
        analyzers.all(|(name, weight)| self.standing(name) == Some((Standing::Up, *weight)))
    }

    /// Does what the plan has and shows what happens, until the emitters have ended.
    fn follow(&mut self, distributor: &Distributor) -> Result<(), Failure> {
        let mut next_table = TABLE_EVERY;
        while !self.is_over()? {
            self.act(distributor)?;
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
    fn act(&mut self, distributor: &Distributor) -> Result<(), Failure> {
        let at = self.started.elapsed();
        let (name, _) = ANALYZERS[KILLED];
        if self.killed.is_none() && at >= self.options.duration / 3 {
            let mut analyzers = self.analyzers.iter();
            if let Some(index) = analyzers.position(|analyzer| analyzer.name == name) {
                let analyzer = self.analyzers.remove(index);
                let pid = analyzer.pid();
                let number = self.state.entry(name).map(|entry| entry.analyzer);
                self.killed = Some((monotonic_ns(), number));
                analyzer.kill()?;
                self.say(Paint::Red, &format!("{name} killed (SIGKILL, pid {pid})"))?;
            }
        }
        if !self.is_back_asked && self.killed.is_some() && at >= self.options.duration / 2 {
            self.is_back_asked = true;
            let analyzer = self.parts.analyzer(KILLED, false, distributor)?;
            let pid = analyzer.pid();
            self.analyzers.push(analyzer);
            self.say(Paint::Yellow, &format!("{name} started again (pid {pid})"))?;
        }
        let is_due = self.options.http && at >= self.options.duration.mul_f64(2.0 / 3.0);
        if is_due && !self.is_change_asked {
            self.is_change_asked = true;
            end_all(vec![self.parts.change_weight()?], STOP_PATIENCE)?;
            let name = ANALYZERS[CHANGED].0;
            self.say(
                Paint::Green,
                &format!("weir ctl weight {name} {CHANGED_WEIGHT}"),
            )?;
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Takes the newest reports.
    fn look(&mut self, reports: Vec<ShardReport>) {
        self.state.note(Stamp::now(), reports);
        self.account.note(self.seconds(), &self.state);
        let killed = self.standing(ANALYZERS[KILLED].0);
        let standing = killed.map(|(standing, _)| standing);
        self.seen.gone |= self.killed.is_some() && standing == Some(Standing::Offline);
        self.seen.back |= self.seen.gone && standing == Some(Standing::Up);
        let changed = self.standing(ANALYZERS[CHANGED].0);
        self.seen.changed |= changed.is_some_and(|(_, weight)| weight == CHANGED_WEIGHT);
    }

    /// Takes the newest reports, and tells what happened.
    fn note(&mut self, reports: Vec<ShardReport>) -> io::Result<()> {
        self.look(reports);
        let after = self.state.events.after(self.told);
        let events: Vec<(Paint, String)> = after
            .map(|event| {
                let paint = match event.tone {
                    "good" => Paint::Green,
                    "bad" => Paint::Red,
                    _ => Paint::Yellow,
                };
                let is_end = *event.analyzer == *ANALYZERS[KILLED].0 && event.tone == "bad";
                let seen = is_end.then(|| self.seen_after()).flatten();
                let seen = seen.unwrap_or_default();
                (paint, format!("{} {}{seen}", event.analyzer, event.text))
            })
            .collect();
        self.told = self.state.events.newest();
        events
            .into_iter()
            .try_for_each(|(paint, text)| self.say(paint, &text))
    }

    /// How long after the signal a shard saw the end of a link.
    fn seen_after(&self) -> Option<String> {
        let (killed_ns, number) = self.killed?;
        let ended = self.state.reports.iter().flat_map(|report| &report.ended);
        let ended = ended.filter(|ended| Some(ended.analyzer) == number);
        let seen_ns = ended.map(|ended| ended.detected_ns).min()?;
        let ms = seen_ns.saturating_sub(killed_ns) as f64 / 1e6;
        Some(format!(" (seen after {ms:.2} ms)"))
    }

    fn say(&mut self, paint: Paint, what: &str) -> io::Result<()> {
        let look = self.screen.look();
        let what = look.paint(paint, what);
        self.screen.say(&moment(self.seconds(), &what, look))
    }

    fn show_table(&mut self) -> io::Result<()> {
        let received = self.state.totals.counters.received;
        let (before, since) = std::mem::replace(&mut self.last_table, (received, Instant::now()));
        let rate = (received - before) as f64 / since.elapsed().as_secs_f64();
        let errors = self.state.rows.iter();
        let errors = errors.map(|row| row.share.share_error.abs());
        let what = format!(
            "{} messages/s, conservation {}, shares within {:.1} messages",
            grouped(rate.round() as u64), // far below 2^64
            match self.state.totals.balance.holds() {
                true => "holds",
                false => "BROKEN",
            },
            errors.fold(0.0, f64::max),
        );
        self.table(&what)
    }

    /// The table under its title.
    fn table(&mut self, what: &str) -> io::Result<()> {
        let look = self.screen.look();
        let mut lines = vec![moment(self.seconds(), what, look)];
        lines.extend(screen::rows(&self.state, look));
        lines.push(String::new());
        self.screen.table(lines)
    }

    /// Ends everything in order, and judges.
    fn end(
        mut self,
        distributor: Distributor,
        control: Running,
        emitters: &[Ended],
    ) -> Result<Outcome, Failure> {
        let is_interrupted = self.is_interrupted();
        distributor.stopper().drain(DRAIN_PATIENCE);
        let reports = join(distributor, DRAIN_PATIENCE + STOP_PATIENCE);
        control.end();
        let reports = reports?;
        let closing = Closing {
            started: self.state.started,
            at_once: false,
            failed: false,
        };
        let report = books::run_report(&self.config, &reports, closing);
        run_report::write(&self.parts.report(), &report)?;
        self.note(reports)?;
        self.account.end(self.seconds(), &self.state.ledger);
        self.analyzers.iter_mut().for_each(Program::ask_to_stop);
        let analyzers = end_all(std::mem::take(&mut self.analyzers), GOODBYE_PATIENCE)?;

        self.show_end(is_interrupted)?;
        let mut checks = self.judge(emitters, &analyzers)?;
        if !is_interrupted {
            checks.push(verdict::plan_was_kept(&self.not_seen()));
        }
        let holds = verdict::say(&checks, &mut self.screen)?;
        Ok(match (holds, is_interrupted) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Interrupted,
            (true, false) => Outcome::Held,
        })
    }

    fn show_end(&mut self, is_interrupted: bool) -> io::Result<()> {
        let received = grouped(self.state.totals.counters.received);
        let how = match is_interrupted {
            true => "interrupted",
            false => "ended and drained",
        };
        self.table(&format!("{how}, {received} messages received"))?;
        self.screen.leave_table();
        let look = self.screen.look();
        let title = "Shares in per cent, between changes of weights or membership";
        self.screen.say(&look.paint(Paint::Bold, title))?;
        let account = self.account.lines(look);
        account.iter().try_for_each(|line| self.screen.say(line))?;
        self.screen.say("")
    }

    /// What the books say, and what `weir audit` says of all run reports.
    fn judge(&self, emitters: &[Ended], analyzers: &[Ended]) -> Result<Vec<Check>, Failure> {
        let balance = &self.state.totals.balance;
        let mut checks = vec![
            verdict::conservation(balance),
            verdict::nothing_abandoned(balance),
        ];
        for program in emitters.iter().filter(|emitter| !emitter.status.success()) {
            checks.push(Err(program.to_string()));
        }
        if emitters.is_empty() {
            checks.push(Ok("no emitter was started".into()));
            return Ok(checks);
        }
        let bad = |bad: Vec<audit::BadFile>| {
            let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
            Failure::Program(format!("weir audit: {}", bad.join("; ")))
        };
        let evidence = audit::load(&self.parts.evidence()?).map_err(bad)?;
        let audit = audit::audit(&evidence, true)?;
        let names: Vec<&str> = emitters.iter().map(|emitter| emitter.name).collect();
        checks.insert(0, verdict::sent_is_received(&names, &audit));
        checks.push(verdict::analyzers_agree(analyzers, &audit));
        checks.push(verdict::shares_are_exact(&audit));
        checks.push(self.account.check());
        checks.push(verdict::balanced(&audit));
        Ok(checks)
    }

    /// What the plan has and the shards have not reported.
    fn not_seen(&self) -> Vec<String> {
        let (killed, changed) = (ANALYZERS[KILLED].0, ANALYZERS[CHANGED].0);
        let plan = [
            (self.seen.gone, format!("the end of {killed}")),
            (self.seen.back, format!("{killed} coming back")),
            (self.seen.changed, format!("{changed} changing its weight")),
        ];
        let missing = plan.into_iter().filter(|(is_seen, _)| !is_seen);
        missing.map(|(_, what)| what).collect()
    }
}

/// Waits for all to end.
///
/// # Errors
/// One did not end in time; it was killed.
fn end_all(programs: Vec<Program>, patience: Duration) -> Result<Vec<Ended>, Failure> {
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
