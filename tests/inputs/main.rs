//! Inputs: more places where emitters connect, on real sockets and with real processes.

mod datagrams;
mod flood;
mod forms;
mod mix;
mod overload;
mod places;
mod reload;
mod settings;
