//! Several distributors: clients that find them all, and hosts that vanish. Everything is real processes.

mod balancer;
mod groups;
mod places;
mod replicas;
mod resolver;
mod silent;
