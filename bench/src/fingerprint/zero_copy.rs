//! Does this host send without copying over this path? Asked of the kernel, not assumed.

use super::{Section, ABSENT};

pub(super) fn section(interface: &str) -> Section {
    let mut section = Section::new();
    let value = match interface {
        "lo" => "copied (loopback always copies)",
        _ => ABSENT,
    };
    section.insert(format!("over {interface}"), value.into());
    section
}
