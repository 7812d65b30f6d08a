//! The data ring: the only place with io_uring and unsafe code.
