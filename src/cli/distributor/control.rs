//! The distributor's control side, made of its configuration.

use std::io;
use std::sync::Arc;

use super::manager::Manager;
use super::reload::Reload;
use super::watch;
use crate::cli::config::Loaded;
use crate::control::{self, AdminPort, Reloader, Running, Settings, TapSource, Tapped};
use crate::ledger::run_report::Stamp;
use crate::runtime::ServedPorts;
use crate::service::sockets::AdminSocket;
use crate::shard::{Operator, TappedMessage};

/// The control side of a running distributor.
pub(super) struct Control {
    pub(super) running: Running,
    pub(super) reload: Arc<Reload>,
}

/// What it is made from.
pub(super) struct From {
    pub(super) loaded: Loaded,
    /// What is served where TLS is spoken.
    pub(super) served: ServedPorts,
    pub(super) started: Stamp,
    /// An admin socket that was opened for it.
    pub(super) admin: Option<AdminSocket>,
    pub(super) manager: Arc<Manager>,
}

/// Starts it.
///
/// # Errors
/// The admin address cannot be had, an analyzer over HTTP cannot be added, or there is no thread: each says which.
pub(super) fn start(operator: &Operator, from: From) -> io::Result<Control> {
    let From {
        loaded,
        served,
        started,
        admin,
        manager,
    } = from;
    let reload = Reload::start(operator.clone(), served.clone(), manager, loaded.clone())?;
    let mut settings = Settings::of(&loaded.config, started);
    settings.admin_socket = admin;
    let of_admin = |port: &Arc<_>| AdminPort::new(loaded.config.tls.admin_tls, Arc::clone(port));
    settings.admin_tls = served.get("admin").map(of_admin).map(Arc::new);
    settings.reloader = Some(Arc::clone(&reload) as Arc<dyn Reloader>);
    settings.tap = Some(Box::new(Tap(operator.clone())));
    let running = control::serve(operator.clone(), settings)?;
    reload.set_core(running.core());
    match loaded.config.watch_config {
        true => watch::start(&reload)?,
        false => reload.follow_certificates()?,
    }
    Ok(Control { running, reload })
}

/// The shards' samples.
struct Tap(Operator);

impl TapSource for Tap {
    fn begin(&self, rate: u32) -> u64 {
        self.0.begin_tap(rate)
    }

    fn take(&self, look: u64) -> Option<Vec<Tapped>> {
        let shown = |message: TappedMessage| Tapped {
            at: message.at_ms,
            shard: message.shard,
            analyzer: message.analyzer,
            severity: message.severity,
            bytes: message.bytes,
            payload: String::from_utf8_lossy(&message.payload).into_owned(),
            form: message.about.form,
            input: message.about.input,
            protocol: message.about.protocol,
            peer: message.about.peer,
            certificate: message.about.certificate,
            tag: message.about.tag,
        };
        let messages = self.0.tapped(look)?;
        Some(messages.into_iter().map(shown).collect())
    }

    fn end(&self, look: u64) {
        self.0.end_tap(look);
    }
}
