//! What a service tells its manager: datagrams of `NAME=value` lines to the socket in `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

/// A manager that reads nothing for so long misses a line: it is never worth a thread that stands still.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest status line, in bytes.
const STATUS_BYTES_MAX: usize = 512;

/// The way to the manager, if there is one.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    failed: AtomicBool,
}

impl Notifier {
    /// To the socket that the environment names; without one, nothing is ever sent. One that cannot be used
    /// is worth a warning: a variable that was left over from somebody else shall not prevent a start.
    pub fn from_environment() -> Notifier {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let Some(name) = name else {
            return Notifier::nobody();
        };
        Notifier::to(&name).unwrap_or_else(|error| {
            log::warn!("NOTIFY_SOCKET={name:?}: {error}; the service manager is told nothing");
            Notifier::nobody()
        })
    }

    /// Nobody listens.
    pub fn nobody() -> Notifier {
        Notifier {
            socket: None,
            failed: AtomicBool::new(false),
        }
    }

    /// To a socket: an absolute path, or `@name` in the abstract namespace.
    ///
    /// # Errors
    /// It is neither, or nobody has it.
    pub fn to(name: &OsStr) -> io::Result<Notifier> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = "allowed: an absolute path, or @name for an abstract socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Notifier {
            socket: Some(socket),
            failed: AtomicBool::new(false),
        })
    }

    /// Somebody listens.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Up: everything that was configured is done. Also the end of a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.mention(&status_line(status));
    }

    /// A reload begins; [`Notifier::ready`] ends it. `monotonic_us`: CLOCK_MONOTONIC in microseconds, by which
    /// the manager tells this reload from an earlier one.
    pub fn reloading(&self, monotonic_us: u64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}"));
    }

    /// On the way out.
    pub fn stopping(&self, status: &str) {
        self.mention(&format!("STOPPING=1\n{}", status_line(status)));
    }

    /// A stop takes at least this much longer, and is still under way.
    pub fn extend(&self, by: Duration) {
        self.mention(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// Alive.
    pub fn feed_watchdog(&self) {
        self.mention("WATCHDOG=1");
    }

    /// What must arrive: waits for a manager that does not read.
    fn send(&self, text: &str) {
        self.say(text, 0);
    }

    /// What comes again, or is no loss: waits for nobody.
    fn mention(&self, text: &str) {
        self.say(text, libc::MSG_DONTWAIT);
    }

    fn say(&self, text: &str, flags: i32) {
        let Some(socket) = &self.socket else {
            return;
        };
        let sent = SockRef::from(socket).send_with_flags(text.as_bytes(), flags);
        match sent {
            Ok(_) => self.failed.store(false, Ordering::Relaxed),
            // One line for each time that the manager is lost.
            Err(error) if !self.failed.swap(true, Ordering::Relaxed) => {
                log::warn!("the service manager is not reached (NOTIFY_SOCKET): {error}");
            }
            Err(_) => {}
        }
    }
}

/// One line, whatever the text.
fn status_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while line.len() > STATUS_BYTES_MAX {
        line.pop();
    }
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> UnixDatagram {
        let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("short");
        UnixDatagram::bind_addr(&address).expect("free")
    }

    fn told(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let read = manager.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..read].to_vec()).expect("text")
    }

    #[test]
    fn lines_are_those_of_sd_notify() {
        let name = format!("weir-notify-{}", std::process::id());
        let manager = manager(&name);
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).expect("there");
        notifier.ready("up");
        assert_eq!(told(&manager), "READY=1\nSTATUS=up");
        notifier.reloading(17);
        assert_eq!(told(&manager), "RELOADING=1\nMONOTONIC_USEC=17");
        notifier.stopping("draining");
        assert_eq!(told(&manager), "STOPPING=1\nSTATUS=draining");
        notifier.extend(Duration::from_secs(5));
        assert_eq!(told(&manager), "EXTEND_TIMEOUT_USEC=5000000");
        notifier.feed_watchdog();
        assert_eq!(told(&manager), "WATCHDOG=1");
        // What an analyzer calls itself must not become a notification.
        notifier.status("a\nMAINPID=1");
        assert_eq!(told(&manager), "STATUS=a MAINPID=1");
        notifier.status(&"x".repeat(1000));
        assert_eq!(told(&manager).len(), "STATUS=".len() + STATUS_BYTES_MAX);
    }

    #[test]
    fn bad_sockets_are_named() {
        for bad in ["relative", "vsock:2:1234", "/nowhere/notify"] {
            assert!(Notifier::to(OsStr::new(bad)).is_err(), "{bad}");
        }
        let nobody = Notifier::nobody();
        nobody.ready("to nobody");
        assert!(!nobody.is_there());
    }
}
