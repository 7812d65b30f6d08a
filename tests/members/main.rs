//! Who belongs to a distributor and for how long: analyzers that come back while it drains, a process that
//! was stopped, drains that outlive links, names that two claim, connections that are asked to go.

mod age;
mod drain;
mod names;
mod pause;
mod standing;
