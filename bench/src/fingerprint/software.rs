//! Which build was measured.

use super::Section;

pub(super) fn section() -> Section {
    let mut section = Section::new();
    section.insert("weir-bench".into(), env!("CARGO_PKG_VERSION").into());
    section.insert("commit".into(), env!("WEIR_COMMIT").into());
    let profile = if cfg!(debug_assertions) {
        "debug: figures say nothing"
    } else {
        "release"
    };
    section.insert("weir-bench profile".into(), profile.into());
    section
}
