//! Analyzers over HTTP: `GET {endpoint}/health` again and again, and what follows from it.
//!
//! ```text
//!                      healthy, not in the roster          not healthy, in the roster
//!   check, one thread -----------------------------> up, down <-----------------------
//!   per analyzer        weight at once the first time,
//!                       a slow start after a recovery
//! ```
//!
//! An analyzer that is healthy and refuses everything is taken out for a while, or until too few others are
//! left: outlier.rs.
//!
//! It goes by states, not by events: shards that gave an analyzer up after failed POSTs took it out of the
//! roster, and the next check that is well brings it back. What the operator ejected stays out until
//! it is resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::core::{lock, Core};
use super::exchange::unix_ms;
use super::outlier::{may_go, may_return, Counts, EjectRule, Streak};
use super::probe::Probe;
use super::ramps::Ramp;
use super::resolver::Resolver;
use super::state::{HttpStatus, State};
use super::Settings;
use crate::certificate::Stamp;
use crate::engine::Reach;
use crate::shard::config::{Endpoint, HttpAnalyzer, HTTP_ANALYZERS_MAX};
use crate::shard::HttpTarget;

/// Part of its weight that an analyzer begins with after a recovery.
const SLOW_START_FROM: f64 = 0.1;
/// A roster that was ordered is seen in every report after this.
const ROSTER_SETTLES: Duration = Duration::from_secs(2);

/// One of them, over time.
struct Checked {
    id: Arc<str>,
    endpoint: Endpoint,
    /// That it comes back with.
    weight: f64,
    /// Changes when it is removed and added again: the thread of the old one ends.
    number: u64,
    /// In the roster under this generation, since then.
    up: Option<(u64, Instant)>,
    /// Where it was well last, and POSTs go while it is in the roster.
    at: Option<SocketAddr>,
    was_up: bool,
    is_healthy: Option<bool>,
    last_check_ms: Option<u64>,
    failures: u64,
    ejected: bool,
    error: Option<String>,
    streak: Streak,
    /// Why it cannot be taken in though it is well, and how often that was tried.
    kept_out: Option<(String, u64)>,
    /// Out until then, for what it refused, and why.
    out: Option<(Instant, String)>,
    ejections: u64,
    /// Of those: in a row, without a packet that it took.
    ejections_in_a_row: u32,
}

/// All of them.
pub struct Checks {
    table: Mutex<Table>,
    changed: Condvar,
    interval: Duration,
    probe: Probe,
    /// Threads that check, those included whose analyzer was removed and whose last check is not over.
    threads: Arc<AtomicUsize>,
    slow_start: Mutex<Duration>,
    eject: EjectRule,
}

/// Most of these threads.
const THREADS_MAX: usize = HTTP_ANALYZERS_MAX + 64;

#[derive(Default)]
struct Table {
    checked: BTreeMap<Arc<str>, Checked>,
    numbers: u64,
}

impl Table {
    /// Those that are out now, for what they refused.
    fn out(&self) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let is_out = |one: &&Checked| one.out.as_ref().is_some_and(|(until, _)| now < *until);
        let out = self.checked.values().filter(is_out);
        out.map(|one| Arc::clone(&one.id)).collect()
    }
}

impl Checks {
    pub(super) fn new(settings: &Settings) -> Checks {
        Checks {
            table: Mutex::default(),
            changed: Condvar::new(),
            interval: settings.health_interval,
            probe: Probe {
                timeout: settings.health_timeout,
                resolver: Resolver::system(),
                own: settings.own.clone(),
                via: settings.via.clone(),
            },
            threads: Arc::default(),
            slow_start: Mutex::new(settings.slow_start),
            eject: settings.eject,
        }
    }

    /// For whoever looks.
    pub fn status(&self) -> Vec<HttpStatus> {
        let table = lock(&self.table);
        let status = |checked: &Checked| HttpStatus {
            id: Arc::clone(&checked.id),
            endpoint: checked.endpoint.to_string(),
            weight: checked.weight,
            is_healthy: checked.is_healthy,
            last_health_check: checked.last_check_ms,
            consecutive_failures: checked.failures,
            ejected: checked.ejected,
            ejections: checked.ejections,
            error: checked.error.clone(),
        };
        table.checked.values().map(status).collect()
    }

    /// Threads look whether they shall end, or check at once.
    pub(super) fn wake(&self) {
        // Whoever is about to wait has the lock.
        drop(lock(&self.table));
        self.changed.notify_all();
    }

    /// It stays out, or may come back. None: no analyzer over HTTP of that name is configured; else
    /// the generation that is to be taken out now, if it is in.
    pub fn eject(&self, id: &str, ejected: bool) -> Option<Option<u64>> {
        let mut table = lock(&self.table);
        let checked = table.checked.get_mut(id)?;
        checked.ejected = ejected;
        if !ejected {
            checked.out = None;
        }
        let up = if ejected { checked.up.take() } else { None };
        Some(up.map(|(generation, _)| generation))
    }

    /// Time in which one that comes back gets its whole weight.
    pub fn slow_start(&self) -> Duration {
        *lock(&self.slow_start)
    }

    /// Another, for those that come back from now on.
    pub fn set_slow_start(&self, slow_start: Duration) {
        *lock(&self.slow_start) = slow_start;
    }

    /// The weight that it comes back with.
    pub fn set_weight(&self, id: &str, weight: f64) {
        if let Some(checked) = lock(&self.table).checked.get_mut(id) {
            checked.weight = weight;
        }
    }

    /// Still this one, and what of it a check needs.
    fn look(&self, id: &str, number: u64) -> Option<(Endpoint, Option<SocketAddr>)> {
        let table = lock(&self.table);
        let checked = table.checked.get(id)?;
        (checked.number == number).then(|| (checked.endpoint.clone(), checked.at))
    }

    /// Sleeps until the next check is due. False: it was removed, or all end.
    fn rest(&self, core: &Core, id: &str, number: u64) -> bool {
        let due = Instant::now() + self.interval;
        let mut table = lock(&self.table);
        loop {
            let stays = table
                .checked
                .get(id)
                .is_some_and(|one| one.number == number);
            if core.is_over() || !stays {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let woken = self.changed.wait_timeout(table, left);
            table = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread that is counted while it runs.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(threads: &Arc<AtomicUsize>) -> Result<Counted, String> {
        let counted = Counted(Arc::clone(threads));
        if threads.fetch_add(1, Ordering::Relaxed) >= THREADS_MAX {
            return Err(format!(
                "{THREADS_MAX} health checks are under way, those of removed analyzers included; try again in a moment"
            ));
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds an analyzer and checks it from now on.
///
/// # Errors
/// There is one of that id, there are too many, or no thread could be had.
pub fn add(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, true)
}

/// The same at the start: another kind of analyzer that was quicker to take the id keeps it, and this one comes
/// up when that has gone. A start does not fail for it.
///
/// # Errors
/// As [`add`] otherwise.
pub fn add_at_start(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, false)
}

fn add_if(core: &Arc<Core>, analyzer: &HttpAnalyzer, must_be_free: bool) -> Result<(), String> {
    let id: Arc<str> = analyzer.id().into();
    core.checks.probe.own.check_endpoint(analyzer.endpoint())?;
    let thread = Counted::new(&core.checks.threads)?;
    let number = {
        let mut table = lock(&core.checks.table);
        if let Some(there) = table.checked.get(&id) {
            let endpoint = &there.endpoint;
            return Err(format!(
                "id {id:?}: in use by {endpoint}; allowed: another id"
            ));
        }
        if table.checked.len() >= HTTP_ANALYZERS_MAX {
            return Err(format!(
                "analyzers over HTTP: {HTTP_ANALYZERS_MAX} are configured, which is the most"
            ));
        }
        let holder = core.deck.claim(&id, analyzer.endpoint().to_string());
        if let Some(holder) = holder.filter(|_| must_be_free) {
            core.deck.unclaim(&id);
            return Err(format!(
                "id {id:?}: in use by {holder}; allowed: another id"
            ));
        }
        table.numbers += 1;
        let number = table.numbers;
        let checked = Checked {
            id: Arc::clone(&id),
            endpoint: analyzer.endpoint().clone(),
            weight: analyzer.weight(),
            number,
            up: None,
            at: None,
            was_up: false,
            is_healthy: None,
            last_check_ms: None,
            failures: 0,
            ejected: false,
            error: None,
            streak: Streak::default(),
            kept_out: None,
            out: None,
            ejections: 0,
            ejections_in_a_row: 0,
        };
        table.checked.insert(Arc::clone(&id), checked);
        number
    };
    let shared = Arc::clone(core);
    let name = Arc::clone(&id);
    let spawned = std::thread::Builder::new()
        .name(format!("health-{number}"))
        .spawn(move || {
            let _thread = thread;
            while let Some((endpoint, at)) = shared.checks.look(&name, number) {
                let stays = || !shared.is_over() && shared.checks.look(&name, number).is_some();
                let result = shared.checks.probe.check(&endpoint, at, stays);
                apply(&shared, &name, number, result);
                if !shared.checks.rest(&shared, &name, number) {
                    return;
                }
            }
        });
    spawned.map(drop).map_err(|error| {
        lock(&core.checks.table).checked.remove(&id);
        core.deck.unclaim(&id);
        format!("thread for the checks of {id:?}: {error}")
    })
}

/// Removes an analyzer; what it has not ACKed goes to others. False: there is none of that id.
pub fn remove(core: &Core, id: &str) -> bool {
    let removed = lock(&core.checks.table).checked.remove(id);
    core.checks.changed.notify_all();
    let Some(removed) = removed else {
        return false;
    };
    core.deck.unclaim(id);
    lock(&core.ramps).end(id);
    if let Some((generation, _)) = removed.up {
        if let Err(error) = core.deck.http_down(generation) {
            log::warn!("analyzer {id:?} was removed, but: {error}");
        }
    }
    true
}

/// What a check leads to.
#[derive(Debug, PartialEq)]
enum Move {
    Nothing,
    Up {
        slowly: bool,
        weight: f64,
        target: HttpTarget,
    },
    /// It is well at another address than POSTs go to.
    Elsewhere(u64, HttpTarget),
    Down(u64),
}

/// Takes the result of a check; the roster follows.
fn apply(core: &Core, id: &Arc<str>, number: u64, result: Result<SocketAddr, String>) {
    let (in_roster, returns, next) = {
        let state = core.state();
        let mut entries = state.entries().iter();
        let in_roster = entries.find_map(|entry| match entry.reach {
            Reach::Http { generation } if entry.name == *id => Some(generation),
            _ => None,
        });
        let slow = !core.checks.slow_start().is_zero();
        let mut table = lock(&core.checks.table);
        let out = table.out();
        let out = out.iter().map(|id| &**id).collect();
        let may_return = may_return(&takers(&state), &out);
        let Some(checked) = table.checked.get_mut(id).filter(|one| one.number == number) else {
            return;
        };
        let returns = may_return && !checked.ejected && result.is_ok();
        let returns = returns && checked.out.take().is_some();
        checked.note(&result);
        (
            in_roster,
            returns,
            checked.next(in_roster, result.ok(), slow),
        )
    };
    if returns {
        let text = "back before its time: more were out for what they refused than were left";
        log::warn!("analyzer {id} is {text} (--eject-refusals)");
        core.tell("note", id, format!("is {text}"));
    }
    let next = match (next, in_roster) {
        (Move::Nothing, Some(generation)) => refuses_all(core, id, number, generation),
        (next, _) => next,
    };
    match next {
        Move::Nothing => {}
        Move::Elsewhere(generation, target) => {
            log::info!("analyzer moved id={id:?} to={}", target.address);
            core.tell("note", id, format!("is at {} now", target.address));
            core.deck.http_move(generation, target);
        }
        Move::Down(generation) => {
            lock(&core.ramps).end(id);
            if let Err(error) = core.deck.http_down(generation) {
                log::warn!("analyzer {id:?} cannot be taken out: {error}");
            }
        }
        Move::Up {
            slowly,
            weight,
            target,
        } => bring_up(core, id, number, target, weight, slowly),
    }
}

/// Who takes messages.
fn takers(state: &State) -> BTreeSet<&str> {
    let entries = state.entries().iter();
    let takers = entries.filter(|entry| entry.effective_weight() > 0.0);
    takers.map(|entry| &*entry.name).collect()
}

/// Takes one out that refuses everything while others take what they get.
fn refuses_all(core: &Core, id: &Arc<str>, number: u64, generation: u64) -> Move {
    let rule = &core.checks.eject;
    let (text, time) = {
        let state = core.state();
        let counts = Counts::of(&state, id, generation);
        let mut table = lock(&core.checks.table);
        let out = table.out();
        let Some(checked) = table.checked.get_mut(id).filter(|one| one.number == number) else {
            return Move::Nothing;
        };
        if counts.taken > 0 {
            checked.ejections_in_a_row = 0;
        }
        let is_mine = checked.up.is_some_and(|(mine, _)| mine == generation);
        let Some(refused) = checked.streak.note(counts, rule).filter(|_| is_mine) else {
            return Move::Nothing;
        };
        let out = out.iter().map(|id| &**id).collect();
        if !may_go(id, &takers(&state), &out) {
            return Move::Nothing;
        }
        checked.ejections += 1;
        checked.ejections_in_a_row += 1;
        checked.up = None;
        let time = rule.time_out(checked.ejections_in_a_row);
        let text = format!("refused {refused} packets and took none, while others took theirs");
        checked.out = Some((Instant::now() + time, text.clone()));
        (text, time)
    };
    log::warn!("analyzer {id} {text}: out for {time:?} (--eject-refusals)");
    core.tell("bad", id, format!("{text}: out for {time:?}"));
    Move::Down(generation)
}

fn bring_up(
    core: &Core,
    id: &Arc<str>,
    number: u64,
    target: HttpTarget,
    weight: f64,
    slowly: bool,
) {
    let _one_at_a_time = lock(&core.orders);
    let first = if slowly {
        weight * SLOW_START_FROM
    } else {
        weight
    };
    let generation = match core.deck.http_up(target, first) {
        Ok(generation) => generation,
        Err(error) => return keep_out(core, id, number, error.to_string()),
    };
    {
        let mut table = lock(&core.checks.table);
        let checked = table.checked.get_mut(id);
        let checked = checked.filter(|one| one.number == number && !one.ejected);
        let Some(checked) = checked else {
            // Removed or ejected meanwhile.
            drop(table);
            let _ = core.deck.http_down(generation);
            return;
        };
        checked.up = Some((generation, Instant::now()));
        checked.was_up = true;
        if let Some((_, tries)) = checked.kept_out.take() {
            log::info!("analyzer {id:?} is taken in, after {tries} tries that were refused");
        }
    }
    if slowly {
        let ramp = Ramp {
            from: first,
            to: weight,
            began_ns: Stamp::now().mono_ns,
            over: core.checks.slow_start(),
            pin: false,
            is_slow_start: true,
        };
        if let Err(error) = lock(&core.ramps).begin(Arc::clone(id), ramp) {
            log::warn!("slow start of {id:?}: {error}");
        }
    }
}

/// It is well and cannot be taken in: said when the reason is another one, else counted. The next check tries
/// again.
fn keep_out(core: &Core, id: &Arc<str>, number: u64, why: String) {
    {
        let mut table = lock(&core.checks.table);
        let checked = table.checked.get_mut(id);
        let Some(checked) = checked.filter(|one| one.number == number) else {
            return;
        };
        let text = format!("it is well and cannot be taken in: {why}");
        checked.error = Some(text.clone());
        match &mut checked.kept_out {
            Some((said, tries)) if *said == text => {
                *tries += 1;
                return;
            }
            other => *other = Some((text, 1)),
        }
    }
    log::warn!("analyzer {id:?} cannot be taken in: {why}; tried again with each health check, and said when it changes");
    core.tell("bad", id, format!("cannot be taken in: {why}"));
}

impl Checked {
    fn note(&mut self, result: &Result<SocketAddr, String>) {
        self.last_check_ms = Some(unix_ms(Stamp::now()));
        let is_healthy = result.is_ok();
        if self.is_healthy != Some(is_healthy) {
            let id = &self.id;
            match result {
                Ok(address) => log::info!("analyzer healthy id={id:?} address={address}"),
                Err(error) => log::warn!("analyzer unhealthy id={id:?}: {error}"),
            }
        }
        self.is_healthy = Some(is_healthy);
        self.failures = if is_healthy { 0 } else { self.failures + 1 };
        let now = Instant::now();
        if self.out.as_ref().is_some_and(|(until, _)| now >= *until) {
            self.out = None;
        }
        let out = self.out.as_ref().map(|(until, why)| {
            let left = until.saturating_duration_since(now).as_secs_f64();
            format!("{why}; back in {left:.0} s")
        });
        let kept_out = self.kept_out.as_ref().map(|(why, _)| why.clone());
        self.error = result.as_ref().err().cloned().or(out).or(kept_out);
    }

    fn next(&mut self, in_roster: Option<u64>, at: Option<SocketAddr>, slow: bool) -> Move {
        let is_settled = |since: &Instant| since.elapsed() >= ROSTER_SETTLES;
        if self.up.is_some_and(|(_, since)| is_settled(&since)) && in_roster.is_none() {
            // The shards gave it up.
            self.up = None;
        }
        let before = at.and_then(|address| self.at.replace(address));
        let target = |address| HttpTarget {
            name: Arc::clone(&self.id),
            address,
            host: self.endpoint.authority(),
            path: self.endpoint.path.clone(),
        };
        match (self.up, at) {
            (Some((generation, _)), None) => {
                self.up = None;
                Move::Down(generation)
            }
            (Some((generation, _)), Some(address)) if before != Some(address) => {
                Move::Elsewhere(generation, target(address))
            }
            (None, Some(address)) if !self.ejected && self.out.is_none() => Move::Up {
                slowly: self.was_up && slow,
                weight: self.weight,
                target: target(address),
            },
            _ => Move::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::AtomicU16;

    use super::super::fake::{Fake, FakeDeck};
    use super::*;

    /// Answers every connection with a status; 0: not at all.
    fn server(status: u16) -> (Arc<AtomicU16>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let at = listener.local_addr().expect("bound");
        let shown = Arc::new(AtomicU16::new(status));
        let answers = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for socket in listener.incoming() {
                let mut socket = socket.expect("accepted");
                let mut request = [0; 1024];
                let len = socket.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..len]).into_owned();
                assert!(
                    request.starts_with("GET /in/health HTTP/1.1\r\nHost: 127.0.0.1:"),
                    "{request}"
                );
                match answers.load(Ordering::Relaxed) {
                    0 => silent.push(socket),
                    status => {
                        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                        let _ = socket.write_all(answer.as_bytes());
                    }
                }
            }
        });
        (shown, format!("http://{at}/in/"))
    }

    fn analyzer(endpoint: &str) -> HttpAnalyzer {
        let endpoint = endpoint.parse().expect("an endpoint");
        HttpAnalyzer::new("h", endpoint, 0.5).expect("valid")
    }

    fn core(slow_start: Duration) -> (Arc<Core>, Arc<FakeDeck>) {
        let deck = Arc::new(FakeDeck::default());
        *lock(&deck.reports) = Fake::new(&[1.0]).reports;
        let mut settings = Settings::new(Stamp::now());
        settings.health_interval = Duration::from_millis(40);
        settings.health_timeout = Duration::from_millis(250);
        settings.slow_start = slow_start;
        (
            Arc::new(Core::new(Box::new(Arc::clone(&deck)), settings)),
            deck,
        )
    }

    fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_check_says_what_is_wrong() {
        let timeout = Duration::from_millis(250);
        let probe = Probe {
            timeout,
            resolver: Resolver::system(),
            own: crate::shard::config::OwnListeners::default(),
            via: "weir-test".into(),
        };
        let check = |endpoint: &Endpoint, _| probe.check(endpoint, None, || true);
        for (status, word) in [
            (500, "status 500"),
            (302, "status 302"),
            (508, "this distributor itself"),
            (0, "no answer within 250ms"),
        ] {
            let (_, endpoint) = server(status);
            let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
            let error = check(&endpoint, timeout).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
        let (_, endpoint) = server(204);
        assert!(check(&endpoint.parse().expect("an endpoint"), timeout).is_ok());
        let closed = "http://127.0.0.1:1/in".parse().expect("an endpoint");
        assert!(check(&closed, timeout)
            .expect_err("closed")
            .contains("refused"));
    }

    #[test]
    fn up_at_once_down_when_it_fails_slowly_back() {
        let (core, deck) = core(Duration::from_secs(3600));
        let (status, endpoint) = server(200);
        let analyzer = analyzer(&endpoint);
        add(&core, &analyzer).expect("added");
        assert!(add(&core, &analyzer).expect_err("twice").contains("in use"));
        let last = || lock(&deck.orders).last().cloned().unwrap_or_default();
        eventually("up with its whole weight", || last() == "up h 0.5");
        assert!(lock(&core.ramps).status(0).is_empty());
        status.store(503, Ordering::Relaxed);
        eventually("down", || last() == "down h");
        eventually("failures count", || {
            core.checks.status()[0].consecutive_failures > 2
        });
        status.store(200, Ordering::Relaxed);
        eventually("back with a tenth", || last() == "up h 0.05");
        eventually("a ramp", || !lock(&core.ramps).status(0).is_empty());
        assert!(remove(&core, "h"));
        assert_eq!(last(), "down h");
        assert!(lock(&core.ramps).status(0).is_empty() && core.checks.status().is_empty());
        core.end();
    }

    #[test]
    fn ejected_by_the_operator_it_stays_out_until_it_is_resumed() {
        let (core, deck) = core(Duration::ZERO);
        let (_, endpoint) = server(200);
        add(&core, &analyzer(&endpoint)).expect("added");
        let last = || lock(&deck.orders).last().cloned().unwrap_or_default();
        eventually("up", || last() == "up h 0.5");
        eventually("noted", || {
            matches!(core.checks.eject("h", false), Some(None))
        });
        let out = core.checks.eject("h", true).expect("configured");
        core.deck
            .http_down(out.expect("was in"))
            .expect("taken out");
        let before = core.checks.status()[0].last_health_check;
        eventually("checked again", || {
            core.checks.status()[0].last_health_check > before
        });
        std::thread::sleep(Duration::from_millis(200));
        let orders = lock(&deck.orders).clone();
        assert_eq!(orders, ["up h 0.5", "down h"], "not even for a moment");
        core.checks.eject("h", false);
        eventually("back", || last() == "up h 0.5");
        core.end();
    }

    #[test]
    fn who_is_well_and_cannot_be_taken_in_is_told_of_once_a_change() {
        let (core, deck) = core(Duration::ZERO);
        let (_, endpoint) = server(200);
        let tries = || lock(&deck.refused_ups).len();
        *lock(&deck.holder) = Some("one".into());
        add(&core, &analyzer(&endpoint)).expect("added");
        eventually("tried again and again", || tries() > 5);
        let error = core.checks.status()[0].error.clone().unwrap_or_default();
        assert!(error.contains("in use by one"), "{error}");
        *lock(&deck.holder) = Some("two".into());
        eventually("another holds it", || {
            lock(&deck.refused_ups)
                .iter()
                .filter(|h| *h == "two")
                .count()
                > 5
        });
        *lock(&deck.holder) = None;
        eventually("up", || !lock(&deck.up).is_empty());
        eventually("all is well", || core.checks.status()[0].error.is_none());
        let state = core.state();
        let told = state.events.all().map(|event| event.text.clone());
        let told: Vec<String> = told
            .filter(|text| text.contains("cannot be taken in"))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        drop(state);
        assert!(told[0].contains("by one") && told[1].contains("by two"));
        core.end();
    }

    #[test]
    fn what_the_shards_gave_up_comes_back_with_a_healthy_check() {
        let (core, deck) = core(Duration::ZERO);
        let (_, endpoint) = server(200);
        add(&core, &analyzer(&endpoint)).expect("added");
        let ups = || {
            lock(&deck.orders)
                .iter()
                .filter(|order| *order == "up h 0.5")
                .count()
        };
        eventually("up", || ups() == 1);
        lock(&deck.up).clear();
        eventually("up again", || ups() == 2);
        core.end();
    }
}
