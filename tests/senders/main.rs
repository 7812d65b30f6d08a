//! Unmodified programs that send logs, against a distributor: real processes and real sockets. `scripts/senders.sh` unpacks
//! those that are not installed; a test whose program is not there says so and is skipped.

mod proxy;
mod syslog;
mod udp;
