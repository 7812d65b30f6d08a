//! A balancer of connections, as a service address of a cluster is one: each connection goes to a target by chance, and
//! stays there. Bytes and half-closes pass both ways.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Random;

/// Time to connect to a target.
const CONNECT: Duration = Duration::from_secs(2);

/// One that runs; its listener ends when dropped.
pub struct Forwarder {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    targets: Mutex<Vec<SocketAddr>>,
    random: Mutex<Random>,
    /// When each connection came.
    came: Mutex<Vec<Instant>>,
    has_ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// In front of these targets; the seed decides who goes where.
    pub fn start(targets: &[SocketAddr], seed: u64) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let shared = Arc::new(Shared {
            targets: Mutex::new(targets.to_vec()),
            random: Mutex::new(Random::new(seed)),
            came: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let forwarder = Forwarder {
            address: listener.local_addr().expect("an address"),
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.has_ended.load(Ordering::Acquire) {
                    return;
                }
                lock(&shared.came).push(Instant::now());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.forward(client));
            }
        });
        forwarder
    }

    /// From now on new connections go to these; those that there are stay where they are.
    pub fn set_targets(&self, targets: &[SocketAddr]) {
        *lock(&self.shared.targets) = targets.to_vec();
    }

    /// When each connection came.
    pub fn came(&self) -> Vec<Instant> {
        lock(&self.shared.came).clone()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
        // Ends the accept.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn forward(&self, client: TcpStream) {
        let targets = lock(&self.targets).clone();
        if targets.is_empty() {
            return;
        }
        let target = lock(&self.random).pick(&targets);
        let Ok(server) = TcpStream::connect_timeout(&target, CONNECT) else {
            return;
        };
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let back = thread::spawn(move || pass(&server_too, &client_too));
        pass(&client, &server);
        let _ = back.join();
    }
}

/// Until the end of the stream, which is passed on, or an error, which ends both.
fn pass(from: &TcpStream, to: &TcpStream) {
    let how = match copy(from, to) {
        Ok(()) => Shutdown::Write,
        Err(_) => {
            let _ = from.shutdown(Shutdown::Both);
            Shutdown::Both
        }
    };
    let _ = to.shutdown(how);
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            count => to.write_all(&bytes[..count])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_half_closes_pass_both_ways() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = server.local_addr().expect("an address");
        let forwarder = Forwarder::start(&[target], 1);
        let mut client = TcpStream::connect(forwarder.address).expect("connects");
        let (mut there, _) = server.accept().expect("a connection");
        there.shutdown(Shutdown::Write).expect("an open one");
        let mut nothing = [0; 1];
        assert_eq!(client.read(&mut nothing).expect("an end"), 0);
        client.write_all(b"after it").expect("sent");
        client.shutdown(Shutdown::Write).expect("an open one");
        let mut text = String::new();
        there.read_to_string(&mut text).expect("text");
        assert_eq!((text.as_str(), forwarder.came().len()), ("after it", 1));
    }
}
