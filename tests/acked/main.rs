//! The acked emitter link, end to end: real processes and real sockets. What was ACKed has been ACKed by analyzers; what
//! was not goes to another distributor; nothing is missing whoever is killed.

mod kills;
mod link;
mod welcome;
