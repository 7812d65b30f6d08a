//! Routing tree.
