//! Where distributors are asked, and asking several at once.
//!
//! ```text
//! --admin a,b,dns+c:3000 --> Reach --> one Client                       ctl, top, tap of one distributor
//!                                 `--> Fleet: names looked up, members --> a thread each --> answers     ctl --all
//!                                                                 `------> a thread each, again and again  top
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::secure::Secure;
use super::values;
use crate::config::Url;
use crate::control::http_api::client::{Client, Secured, Target};
use crate::control::view::fleet::Replica;
use crate::discover::{self, BadTarget, Endpoint, Resolver, Targets, Watch, REFRESH_EVERY};
use crate::tls::Connector;

/// Where a distributor is asked to be when nothing is said.
const SOCKET_DEFAULT: &str = "/run/weir/admin.sock";
/// An answer that is older than this, or than three looks, is no answer any more.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// The first picture waits so long for everybody.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// One place, or a name or a file for several.
#[derive(Clone, Debug)]
pub enum Admin {
    /// One distributor.
    One(Target),
    /// `dns+`, `dnssrv+`, `file+`.
    Several(discover::Target),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Admin, String> {
        const FORMS: [&str; 3] = ["dns+", "dnssrv+", "file+"];
        if FORMS.iter().any(|form| text.starts_with(form)) {
            let target = text.parse();
            return target
                .map(Admin::Several)
                .map_err(|error: BadTarget| error.why());
        }
        let one = text.parse().map(Admin::One);
        one.map_err(|why| {
            format!(
                "{why}, dns+HOST:PORT, dnssrv+_SERVICE._PROTO.NAME, file+PATH, or several with commas"
            )
        })
    }
}

/// How the admin API is reached.
#[derive(clap::Args, Clone, Debug)]
pub struct Reach {
    /// Path of the distributor's admin socket, or http://host:port (https:// with TLS); several with commas; dns+HOST:PORT: each address of
    /// the name, dnssrv+NAME: each target of the record, file+PATH: each line. Default: $RUNTIME_DIRECTORY/admin.sock
    /// if that is set, else /run/weir/admin.sock
    #[arg(long, value_name = "TARGET,...", value_parser = Admin::from_str, value_delimiter = ',', global = true)]
    pub admin: Vec<Admin>,
    /// File with the admin token, for http://; each distributor that --admin leads to is shown it
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Ask this nameserver for the names of dns+ and dnssrv+, and not those of the system; several with commas
    #[arg(long, value_name = "ADDR", value_parser = values::nameserver, value_delimiter = ',', global = true)]
    nameserver: Vec<SocketAddr>,
    #[command(flatten)]
    secure: Secure,
}

/// What all members of a fleet are asked with.
#[derive(Clone)]
struct With {
    token: Option<String>,
    tls: Option<Arc<Connector>>,
    /// `--tls`: also those whose address does not say so.
    is_secure: bool,
}

impl With {
    /// `host`: whose certificate is expected.
    fn client(&self, mut target: Target, host: Option<String>) -> Client {
        if let Target::Http(url) = &mut target {
            url.is_secure |= self.is_secure;
        }
        let tls = self.tls.clone();
        Client {
            target,
            token: self.token.clone(),
            tls: tls.map(|connector| Secured { connector, host }),
        }
    }

    /// Of one whose address the operator wrote.
    fn client_of(&self, target: &Target) -> Client {
        let host = match target {
            Target::Unix(_) => None,
            Target::Http(url) => Some(url.endpoint.host.clone()),
        };
        self.client(target.clone(), host)
    }
}

impl Reach {
    /// It may lead to more than one distributor.
    pub fn is_fleet(&self) -> bool {
        match &self.admin[..] {
            [] | [Admin::One(_)] => false,
            [Admin::Several(_)] | [_, _, ..] => true,
        }
    }

    /// A client for one distributor: the first that is named, if there are several.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn client(&self) -> Result<Client, String> {
        let target = self.admin.iter().find_map(|admin| match admin {
            Admin::One(target) => Some(target.clone()),
            Admin::Several(_) => None,
        });
        let target = target.unwrap_or_else(|| {
            let directory = std::env::var_os("RUNTIME_DIRECTORY").filter(|value| !value.is_empty());
            Target::Unix(directory.map_or_else(
                || SOCKET_DEFAULT.into(),
                |directory| Path::new(&directory).join("admin.sock"),
            ))
        });
        Ok(self.with()?.client_of(&target))
    }

    fn with(&self) -> Result<With, String> {
        let is_secure = |admin: &Admin| match admin {
            Admin::One(Target::Http(url)) => url.is_secure,
            _ => false,
        };
        Ok(With {
            token: self.token()?,
            tls: self.secure.connector(self.admin.iter().any(is_secure))?,
            is_secure: self.secure.is_asked(),
        })
    }

    fn token(&self) -> Result<Option<String>, String> {
        let token = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("--token-file {}: {error}", path.display()))?;
            Ok(text.trim().to_owned())
        };
        self.token_file.as_ref().map(token).transpose()
    }

    /// All that are named.
    ///
    /// # Errors
    /// The token file cannot be read, or there are too many.
    pub fn fleet(&self) -> Result<Fleet, String> {
        let mut fixed: Vec<Member> = Vec::new();
        let mut watched: Vec<Targets> = Vec::new();
        if self.admin.is_empty() {
            fixed.push(Member::new(self.client()?));
        }
        let with = self.with()?;
        for admin in &self.admin {
            match admin {
                Admin::Several(target) => watched.push(target.clone().into()),
                Admin::One(target) => {
                    let member = Member::new(with.client_of(target));
                    if !fixed.iter().any(|other| other.name == member.name) {
                        fixed.push(member);
                    }
                }
            }
        }
        if fixed.len() > discover::TARGETS_MAX {
            return Err(format!(
                "--admin: {} distributors; allowed: at most {}",
                fixed.len(),
                discover::TARGETS_MAX
            ));
        }
        let watch = match watched.is_empty() {
            true => None,
            false => {
                let targets = Targets::join(watched).map_err(|error| error.to_string())?;
                let resolver = Resolver::new(self.nameserver.clone());
                Some(Watch::new(targets, resolver))
            }
        };
        Ok(Fleet { with, fixed, watch })
    }
}

/// What an answer says that is no success.
pub fn refusal(status: u16, answer: &Value) -> String {
    let why = answer["error"].as_str().or(answer["reason"].as_str());
    format!("{} (status {status})", why.unwrap_or("no reason given"))
}

/// What a distributor answered.
///
/// # Errors
/// It is no JSON, or somebody else's: each answer of a distributor says which `worker` it is from.
pub fn read_answer(status: u16, bytes: &[u8]) -> Result<Value, String> {
    let answer: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("status {status}, and the answer is not JSON: {error}"))?;
    match answer["worker"].is_u64() {
        true => Ok(answer),
        false => Err(format!(
            "status {status}, and the answer is not that of a distributor: something else listens there"
        )),
    }
}

/// One distributor of several.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// One for each address; the first that can be connected to answers.
    clients: Vec<Client>,
}

impl Member {
    fn new(client: Client) -> Member {
        let name = match &client.target {
            Target::Unix(path) => path.display().to_string(),
            Target::Http(url) => url.endpoint.authority(),
        };
        Member {
            name,
            clients: vec![client],
        }
    }

    fn found(endpoint: &Endpoint, with: &With) -> Member {
        let client = |addr: &SocketAddr| {
            let url: Url = format!("http://{addr}").parse().ok()?;
            Some(with.client(Target::Http(url), endpoint.host.clone()))
        };
        Member {
            name: endpoint.name.clone(),
            clients: endpoint.addrs.iter().filter_map(client).collect(),
        }
    }

    /// Status and body, or why there are none: without the name, which whoever shows it has.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Value), String> {
        let mut failure = "it has no address".to_owned();
        for client in &self.clients {
            let (status, bytes) = match client.ask(method, path, body) {
                Ok(answer) => answer,
                Err(error) => {
                    let whole = error.to_string();
                    let name = format!("{}: ", client.target);
                    failure = whole.strip_prefix(&name).unwrap_or(&whole).to_owned();
                    continue;
                }
            };
            return read_answer(status, &bytes).map(|answer| (status, answer));
        }
        Err(failure)
    }

    /// As [`Member::ask`]; a refusal is no answer.
    fn order(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, String> {
        let (status, answer) = self.ask(method, path, body)?;
        if status < 300 {
            return Ok(answer);
        }
        Err(refusal(status, &answer))
    }
}

/// Several distributors.
pub struct Fleet {
    with: With,
    fixed: Vec<Member>,
    watch: Option<Watch>,
}

impl Fleet {
    /// Asks all of them at the same time. What a name stands for is looked up first; a name that stands for nothing is
    /// among the answers, as one that was not reached.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Vec<Replica> {
        let mut members = self.fixed.clone();
        let mut nameless = Vec::new();
        if let Some(watch) = &mut self.watch {
            watch.refresh();
            members.extend(found(watch.set(), &self.with, &members));
            nameless = watch.problems();
        }
        let mut all: Vec<Replica> = std::thread::scope(|scope| {
            let ask = |member: &Member| Replica {
                name: member.name.clone(),
                status: member.order(method, path, body),
            };
            let asked: Vec<_> = members
                .iter()
                .map(|member| scope.spawn(move || ask(member)))
                .collect();
            let answers = asked.into_iter().zip(&members);
            answers
                .map(|(thread, member)| {
                    thread.join().unwrap_or_else(|_| Replica {
                        name: member.name.clone(),
                        status: Err("asking it failed".to_owned()),
                    })
                })
                .collect()
        });
        all.extend(nameless.into_iter().map(unresolved));
        all
    }

    /// Asks them again and again from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn live(self, every: Duration) -> std::io::Result<Live> {
        let mut live = Live {
            with: self.with,
            fixed: self.fixed,
            lookout: self.watch.map(Lookout::start).transpose()?,
            every,
            pollers: BTreeMap::new(),
        };
        live.follow();
        let until = Instant::now() + FIRST_LOOK;
        while Instant::now() < until && live.pollers.values().any(Poller::is_waiting) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(live)
    }
}

/// What was found, but for what is named by itself.
fn found(set: &[Endpoint], with: &With, fixed: &[Member]) -> Vec<Member> {
    let members = set.iter().map(|endpoint| Member::found(endpoint, with));
    members
        .filter(|member| !fixed.iter().any(|other| other.name == member.name))
        .collect()
}

/// `dns+weir:3000: no such name`.
fn unresolved(problem: String) -> Replica {
    let (name, why) = match problem.split_once(": ") {
        Some((name, why)) => (name.to_owned(), why.to_owned()),
        None => (problem.clone(), problem),
    };
    Replica {
        name,
        status: Err(why),
    }
}

/// Several distributors that are asked again and again, each by a thread of its own: one that is silent holds up nobody.
pub struct Live {
    with: With,
    fixed: Vec<Member>,
    lookout: Option<Lookout>,
    every: Duration,
    pollers: BTreeMap<String, Poller>,
}

/// The thread ends after this is dropped, once it has its answer.
struct Poller {
    member: Member,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    status: Option<Result<Value, String>>,
    at: Option<Instant>,
}

impl Live {
    /// What each said last.
    pub fn look(&mut self) -> Vec<Replica> {
        self.follow();
        let stale = STALE_AFTER.max(self.every * 3);
        let pollers = self.pollers.values();
        let mut all: Vec<Replica> = pollers
            .map(|poller| Replica {
                name: poller.member.name.clone(),
                status: poller.last(stale),
            })
            .collect();
        if let Some(lookout) = &self.lookout {
            let problems = lookout.found().1;
            all.extend(problems.into_iter().map(unresolved));
        }
        all
    }

    /// Whoever appeared is asked from now on, whoever left is not.
    fn follow(&mut self) {
        let mut members = self.fixed.clone();
        if let Some(lookout) = &self.lookout {
            let set = lookout.found().0;
            members.extend(found(&set, &self.with, &members));
        }
        self.pollers.retain(|name, poller| {
            let same = members.iter().find(|member| member.name == *name);
            same.is_some_and(|member| member.is_at(&poller.member))
        });
        for member in members {
            if !self.pollers.contains_key(&member.name) {
                let (name, every) = (member.name.clone(), self.every);
                self.pollers.insert(name, Poller::start(member, every));
            }
        }
    }
}

/// A thread that looks names up every 5 s. It ends after this is dropped, once the nameserver has answered.
struct Lookout {
    is_over: Arc<AtomicBool>,
    found: Arc<Mutex<Found>>,
}

/// What is there, and why names stand for nothing now.
type Found = (Vec<Endpoint>, Vec<String>);

impl Lookout {
    fn start(mut watch: Watch) -> std::io::Result<Lookout> {
        watch.refresh();
        let lookout = Lookout {
            is_over: Arc::default(),
            found: Arc::new(Mutex::new((watch.set().to_vec(), watch.problems()))),
        };
        let (is_over, found) = (Arc::clone(&lookout.is_over), Arc::clone(&lookout.found));
        let thread = std::thread::Builder::new().name("names".into());
        thread.spawn(move || loop {
            std::thread::sleep(REFRESH_EVERY);
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            watch.refresh();
            let new = (watch.set().to_vec(), watch.problems());
            *found.lock().unwrap_or_else(PoisonError::into_inner) = new;
        })?;
        Ok(lookout)
    }

    fn found(&self) -> Found {
        let found = self.found.lock();
        found.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Member {
    fn is_at(&self, other: &Member) -> bool {
        let targets = |member: &Member| {
            let clients = member.clients.iter();
            clients.map(|it| it.target.clone()).collect::<Vec<_>>()
        };
        targets(self) == targets(other)
    }
}

impl Poller {
    fn start(member: Member, every: Duration) -> Poller {
        let shared = Arc::new(Shared::default());
        let (of_thread, asked) = (Arc::clone(&shared), member.clone());
        let thread = std::thread::Builder::new().name("poll".into());
        let started = thread.spawn(move || {
            while !of_thread.is_over.load(Ordering::Relaxed) {
                let status = asked.order("GET", "/admin/status", b"");
                of_thread.note(status);
                std::thread::sleep(every);
            }
        });
        if let Err(error) = started {
            shared.note(Err(format!("no thread to ask it with: {error}")));
        }
        Poller { member, shared }
    }

    fn is_waiting(&self) -> bool {
        self.shared.lock().at.is_none()
    }

    fn last(&self, stale: Duration) -> Result<Value, String> {
        let last = self.shared.lock();
        match (&last.status, last.at) {
            (Some(status), Some(at)) if at.elapsed() <= stale => status.clone(),
            (Some(Err(why)), _) => Err(why.clone()),
            (_, Some(at)) => Err(format!("no answer for {} s", at.elapsed().as_secs())),
            _ => Err("no answer yet".to_owned()),
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, status: Result<Value, String>) {
        *self.lock() = Last {
            status: Some(status),
            at: Some(Instant::now()),
        };
    }
}
