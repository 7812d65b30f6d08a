//! The distributor's control side, made of its configuration.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::manager::Manager;
use super::reload::Reload;
use crate::cli::config::Loaded;
use crate::control::{self, Reloader, Running, Settings, TapSource, Tapped};
use crate::ledger::certificate::Stamp;
use crate::service::sockets::AdminSocket;
use crate::shard::Operator;

/// A tap asks the shards so often for what has passed.
const TAP_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// The control side of a running distributor.
pub(super) struct Control {
    pub(super) running: Running,
    pub(super) reload: Arc<Reload>,
}

/// What it is made from.
pub(super) struct From {
    pub(super) loaded: Loaded,
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
        started,
        admin,
        manager,
    } = from;
    let reload = Reload::start(operator.clone(), manager, loaded.clone())?;
    let mut settings = Settings::of(&loaded.config, started);
    settings.admin_socket = admin;
    settings.reloader = Some(Arc::clone(&reload) as Arc<dyn Reloader>);
    settings.tap = Some(Box::new(Tap(operator.clone())));
    let running = control::serve(operator.clone(), settings)?;
    reload.set_core(running.core());
    Ok(Control { running, reload })
}

/// The shards' samples.
struct Tap(Operator);

impl TapSource for Tap {
    fn tap(
        &self,
        rate: u32,
        until: Instant,
        each: &mut dyn FnMut(&Tapped) -> bool,
    ) -> Result<(), String> {
        let tap = self.0.begin_tap(rate);
        let mut allowance = 0.0;
        let mut goes_on = true;
        while goes_on && Instant::now() < until {
            std::thread::sleep(TAP_EVERY);
            allowance =
                (allowance + f64::from(rate) * TAP_EVERY.as_secs_f64()).min(f64::from(rate));
            let Some(messages) = self.0.tapped(tap) else {
                return Err("another tap has taken over; one at a time looks".to_owned());
            };
            for message in messages {
                if allowance < 1.0 {
                    break;
                }
                allowance -= 1.0;
                goes_on = each(&Tapped {
                    at: message.at_ms,
                    shard: message.shard,
                    analyzer: message.analyzer,
                    severity: message.severity,
                    bytes: message.bytes,
                    payload: String::from_utf8_lossy(&message.payload).into_owned(),
                });
                if !goes_on {
                    break;
                }
            }
        }
        self.0.end_tap(tap);
        Ok(())
    }
}
