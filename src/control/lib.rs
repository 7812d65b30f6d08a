//! Everything that an operator looks at and turns. Nothing of it is on the path of a message.
//!
//! ```text
//! lib.rs       starts it and ends it
//! http_api/    what is asked over HTTP: answers, orders, event streams
//! health/      analyzers over HTTP: checks, who comes and who goes; weights on their way
//! core.rs      what all of these share; data_plane.rs: the shards, as it sees them; admin_port.rs: TLS of operators
//! executor/    the thread that they run on, and what wakes it
//! view/        what is shown: state, events, metrics, table; pure
//! settings.rs  what it is told
//! ```
//!
//! The mod.rs of each room draws what is in it. No two files use each other, and rooms look down only
//! (tests/layers.rs).

mod admin_port;
pub mod core;
pub mod data_plane;
mod executor;
pub mod health;
pub mod http_api;
mod lock;
mod settings;
pub mod view;

#[cfg(test)]
mod fake;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use self::core::Core;
use self::executor::bell::News;
use self::executor::time::sleep;
use self::executor::Context;
use self::http_api::listener::Listener;
use self::http_api::Questions;
use self::lock::lock;
use weir_shard::Operator;

pub use self::admin_port::AdminPort;
pub use self::settings::{AdminAt, Reloader, Settings, TapSource, Tapped};

/// The control side while it runs; ends with [`Running::end`].
pub struct Running {
    core: Arc<Core>,
    /// Where the admin API is, with the port that was chosen.
    pub admin: Option<AdminAt>,
    thread: JoinHandle<()>,
}

impl Running {
    /// The distributor is on its way out: not ready from now on.
    pub fn drain(&self) {
        self.core.drain();
    }

    /// What all share: for whoever adds analyzers or gives orders from inside.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Ends all tasks and threads, and removes the admin socket. Connections have half a second to end.
    pub fn end(self) {
        self.core.end();
        let patience = self.core.checks.end_local();
        // If it panicked, it has said so.
        let _ = self.thread.join();
        self.core.checks.wait_local(patience);
    }
}

/// Starts the control side of a distributor.
///
/// # Errors
/// The admin address cannot be had, a thread cannot, or an analyzer over HTTP cannot be added.
pub fn serve(operator: Operator, settings: Settings) -> io::Result<Running> {
    let mut settings = settings;
    let http_analyzers = std::mem::take(&mut settings.http_analyzers);
    let listener = match &settings.admin {
        _ if settings.admin_socket.is_some() => {
            let socket = settings.admin_socket.take();
            let adopt = |socket| Listener::adopt(socket, settings.token.is_some());
            socket.map(adopt).transpose()?
        }
        Some(at) => Some(Listener::bind(at, settings.token.is_some())?),
        None => None,
    };
    let is_tcp = |it: &Listener| matches!(it.at, AdminAt::Tcp(_));
    if !listener.as_ref().is_some_and(is_tcp) {
        settings.admin_tls = None; // a Unix socket needs none
    }
    let listener = listener.map(|it| it.with_tls(settings.admin_tls.clone()));
    let admin = listener.as_ref().map(|listener| listener.at.clone());
    let core = Arc::new(Core::new(Box::new(operator.clone()), settings));
    let questions = operator.questions(core.bell.waker());
    let thread = executor::start(&core, move |context| {
        let answers = Questions::new(context, operator);
        context.spawn_to_its_end("questions", answers.run(questions));
        context.spawn("ramps", step_ramps(context.clone()));
        context.spawn("health checks", health::run(context.clone()));
        context.spawn("groups", health::groups::run(context.clone()));
        if let Some(listener) = listener {
            context.spawn("admin listener", listener.serve(context.clone()));
        }
    })?;
    let running = Running {
        core,
        admin,
        thread,
    };
    for analyzer in &http_analyzers {
        if let Err(error) = health::add_at_start(&running.core, analyzer) {
            running.end();
            return Err(io::Error::other(error));
        }
    }
    Ok(running)
}

async fn step_ramps(context: Context) {
    let core = Arc::clone(&context.core);
    let is_any = || (!lock(&core.ramps).is_empty()).then_some(());
    loop {
        // Without one nothing is woken: a wake-up of the executor costs 0.1 ms.
        core.bell.until(News::Change, is_any).await;
        sleep(health::ramps::STEP).await;
        let core = Arc::clone(&core);
        context.hand.run(move || core.step_ramps()).await;
    }
}
