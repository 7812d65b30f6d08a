//! The values that are asked for: those of `tuning/thresholds.conf`, which the tuning stages read as well. They are
//! read when this is compiled; a name that is missing there does not compile.

const FILE: &str = include_str!("../../tuning/thresholds.conf");

/// Longest queue of connections that wait for accept, in connections.
pub const SOMAXCONN_MIN: u64 = number("SOMAXCONN_MIN");
/// Longest queue of handshakes that are not finished, in connections.
pub const SYN_BACKLOG_MIN: u64 = number("SYN_BACKLOG_MIN");
/// Packets that wait for a CPU.
pub const DEVICE_BACKLOG_MIN: u64 = number("DEVICE_BACKLOG_MIN");
/// Largest TCP buffer, in bytes.
pub const TCP_BUFFER_BYTES_MIN: u64 = number("TCP_BUFFER_BYTES_MIN");
/// Entries of the table of RFS.
pub const RFS_ENTRIES_MIN: u64 = number("RFS_ENTRIES_MIN");
/// Descriptors of a process that the stage gives.
pub const NOFILE_MIN: u64 = number("NOFILE_MIN");
/// Descriptors of a process below which it is a complaint.
pub const NOFILE_LEAST: u64 = number("NOFILE_LEAST");
/// Longest time that an idle core may need to wake up, in microseconds.
pub const EXIT_LATENCY_US_MAX: u64 = number("EXIT_LATENCY_US_MAX");

// The stage raises what Weir's listeners ask for, no less and no more.
const _: () = assert!(SOMAXCONN_MIN == weir_runtime::LISTEN_BACKLOG as u64);
const _: () = assert!(NOFILE_LEAST <= NOFILE_MIN);

/// The number behind `name=` at the start of a line.
const fn number(name: &str) -> u64 {
    let (file, name) = (FILE.as_bytes(), name.as_bytes());
    let mut at = 0;
    while at < file.len() {
        if starts_with(file, at, name) && file[at + name.len()] == b'=' {
            return digits(file, at + name.len() + 1);
        }
        while at < file.len() && file[at] != b'\n' {
            at += 1;
        }
        at += 1;
    }
    panic!("no such name in thresholds.conf")
}

const fn starts_with(file: &[u8], at: usize, name: &[u8]) -> bool {
    let mut n = 0;
    while n < name.len() {
        // A value follows: the name does not end the file.
        if at + n + 1 >= file.len() || file[at + n] != name[n] {
            return false;
        }
        n += 1;
    }
    true
}

const fn digits(file: &[u8], mut at: usize) -> u64 {
    let mut value = 0;
    while at < file.len() && file[at] != b'\n' {
        assert!(file[at].is_ascii_digit(), "not a number");
        value = value * 10 + (file[at] - b'0') as u64;
        at += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_file() {
        assert_eq!(SOMAXCONN_MIN, 16_384);
        assert_eq!(EXIT_LATENCY_US_MAX, 50);
        let names = FILE.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = names.filter_map(|l| Some(l.split_once('=')?.0)).collect();
        assert_eq!(names.len(), 9, "{names:?}: is each of them read above?");
    }
}
