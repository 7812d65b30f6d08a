//! Unmodified shippers whose protocols have acks, Lumberjack and RELP, against a distributor: real processes and real
//! sockets. `scripts/senders.sh` fetches them; a test whose program is not there says so and is skipped.

mod found;
mod kills;
mod lumberjack;
mod relp;
mod site;
mod wire;
