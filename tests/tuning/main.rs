//! `tuning/tune.sh` and `weir doctor`: on a tree of files that looks like a host, and for real in a network
//! namespace.

mod crash;
mod datagrams;
mod doctor;
mod namespace;
mod outside;
mod stages;
mod text;
mod tree;
