//! Signals of programs that stop in their own way: which of them stop, and which are only told.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
};
use signal_hook::iterator::Signals;

/// Not among signal-hook's names; the same on every Linux that Weir runs on.
const SIGSTKFLT: i32 = 16;
const SIGPWR: i32 = 30;

/// These stop: by hand, by a manager, as nginx does it, and because the limit on CPU time (RLIMIT_CPU) is reached and
/// SIGKILL is next.
pub const STOPPING: [i32; 4] = [SIGTERM, SIGINT, SIGQUIT, SIGXCPU];
/// These would end a process without a word. Other daemons have a meaning for some; here they have none, which is
/// worth a line and nobody's messages.
pub const IGNORED: [i32; 8] = [
    SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT,
];

/// `IGNORED`, and all real-time signals: container runtimes and systemd ask some programs to end with `SIGRTMIN+3`.
pub fn ignored() -> impl Iterator<Item = i32> {
    IGNORED
        .into_iter()
        .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Is it one of `ignored`?
pub fn is_ignored(signal: i32) -> bool {
    ignored().any(|known| known == signal)
}

/// `SIGUSR1`, `SIGRTMIN+3`.
pub fn name(signal: i32) -> Cow<'static, str> {
    let first = libc::SIGRTMIN();
    match signal {
        SIGSTKFLT => "SIGSTKFLT".into(),
        SIGPWR => "SIGPWR".into(),
        _ if signal >= first => format!("SIGRTMIN+{}", signal - first).into(),
        _ => signal_hook::low_level::signal_name(signal)
            .unwrap_or("a signal")
            .into(),
    }
}

/// A flag that SIGTERM, SIGINT, SIGQUIT, SIGXCPU and SIGHUP (the terminal is gone) raise; a second one ends the
/// process at once. Others that would end it are told.
///
/// # Errors
/// Signals cannot be handled, or there is no thread.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in STOPPING.into_iter().chain([SIGHUP]) {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut ignored = Signals::new(ignored())?;
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        for signal in ignored.forever() {
            log::warn!("{}: ignored; SIGTERM ends", name(signal));
        }
    })?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_its_name() {
        assert_eq!(IGNORED.map(name)[6..], ["SIGPWR", "SIGSTKFLT"]);
        let all = STOPPING.into_iter().chain(ignored());
        assert!(all.map(name).all(|name| name.starts_with("SIG")));
        assert_eq!(name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
        assert!(is_ignored(libc::SIGRTMAX()) && !is_ignored(SIGTERM));
        assert_eq!((SIGPWR, SIGSTKFLT), (libc::SIGPWR, libc::SIGSTKFLT));
    }
}
