//! Who belongs to a distributor and for how long: analyzers that come back while it drains, a process that
//! was stopped, drains that outlive links, names that two claim.

#[path = "../common/mod.rs"]
mod common;
mod drain;
#[path = "../http/rig.rs"]
#[allow(dead_code)] // its other half runs the distributor inside the test
mod http;
mod names;
mod pause;
#[path = "../operate/site.rs"]
#[allow(dead_code)]
mod site;
mod standing;
