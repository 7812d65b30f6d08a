//! Command line: one binary, four programs.
