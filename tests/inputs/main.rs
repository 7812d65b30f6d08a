//! Inputs: more places where emitters connect, on real sockets and with real processes.

mod places;
mod settings;
