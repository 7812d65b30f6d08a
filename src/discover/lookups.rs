//! Lookups at once, so that a name that nobody answers for holds up no other.
//!
//! ```text
//!   ask --waiting--> a thread each, LOOKUPS_MAX at a time --> hear
//! ```
//!
//! Threads are not waited for: a program that ends does not wait for a nameserver.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::Duration;

use crate::resolve::{Look, Resolver, Unresolved};
use crate::target::{HostPort, Target};

/// Threads of one watch.
const LOOKUPS_MAX: usize = 16;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    /// A target that was given.
    Given(Target),
    /// Where a target of this SRV record is.
    Of(Target, HostPort),
}

/// What came of it.
pub(crate) type Told = (Question, Result<Look, Unresolved>);

/// Questions that are asked, each once at a time.
pub(crate) struct Lookups {
    resolver: Resolver,
    waiting: VecDeque<Question>,
    under_way: BTreeSet<Question>,
    sender: Sender<Told>,
    told: Receiver<Told>,
}

impl Lookups {
    pub(crate) fn new(resolver: Resolver) -> Lookups {
        let (sender, told) = channel();
        Lookups {
            resolver,
            waiting: VecDeque::new(),
            under_way: BTreeSet::new(),
            sender,
            told,
        }
    }

    /// No answer is to come.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Asks, unless that is asked already.
    pub(crate) fn ask(&mut self, question: Question) {
        if !self.under_way.contains(&question) && !self.waiting.contains(&question) {
            self.waiting.push_back(question);
        }
        self.begin();
    }

    /// Of what nobody is asked for: no need to wait.
    pub(crate) fn answer_here(&self, question: &Question) -> Result<Look, Unresolved> {
        self.resolver.answer(question)
    }

    /// The next answer, if there is one within this time.
    pub(crate) fn hear(&mut self, patience: Duration) -> Option<Told> {
        if self.is_idle() {
            return None;
        }
        let told = self.told.recv_timeout(patience).ok()?;
        self.under_way.remove(&told.0);
        self.begin();
        Some(told)
    }

    fn begin(&mut self) {
        while self.under_way.len() < LOOKUPS_MAX {
            let Some(question) = self.waiting.pop_front() else {
                return;
            };
            let (resolver, sender) = (self.resolver.clone(), self.sender.clone());
            let asked = question.clone();
            let look = move || {
                let found = resolver.answer(&asked);
                // Nobody is there any more to hear it.
                let _ = sender.send((asked, found));
            };
            let thread = std::thread::Builder::new().name("lookup".into());
            if let Err(error) = thread.spawn(look) {
                let why = Unresolved(format!("no thread for the lookup: {error}"));
                let _ = self.sender.send((question.clone(), Err(why)));
            }
            self.under_way.insert(question);
        }
    }
}
