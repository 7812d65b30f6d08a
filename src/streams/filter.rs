//! `RUST_LOG`, read so that a slip of the pen does not mute a program.
//!
//! env_logger takes a word that is no level for the name of a module: `RUST_LOG=informative` then means
//! "nothing but what that module says", which is nothing. So names are compared with those that there are.

use log::LevelFilter;

/// Modules of Weir that log, or may: what stands below `src`.
const MODULES: [&str; 17] = [
    "audit",
    "awake",
    "certificate",
    "cli",
    "client",
    "control",
    "demo",
    "doctor",
    "engine",
    "http",
    "journal",
    "protocol",
    "service",
    "shard",
    "sim",
    "streams",
    "uring",
];
/// Other crates whose lines somebody may want.
const CRATES: [&str; 3] = ["glommio", "mio", "weir_bench"];
/// In force beside what can be used when nothing of that is about Weir.
const FALLBACK: &str = "info";

/// What a value of the variable asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// As env_logger reads it; none when nothing of it can be used.
    pub(super) usable: Option<String>,
    /// Each names the piece, and what is allowed.
    pub(super) problems: Vec<String>,
}

/// Reads a value that is not empty.
pub(super) fn read(text: &str) -> Asked {
    let (directives, pattern) = match text.split_once('/') {
        Some((directives, pattern)) => (directives, Some(pattern)),
        None => (text, None),
    };
    let mut good = Vec::new();
    let mut problems = Vec::new();
    let mut is_about_weir = false;
    for piece in directives.split(',').map(str::trim) {
        if piece.is_empty() {
            continue;
        }
        match check(piece) {
            Ok(is_about) => {
                is_about_weir |= is_about;
                good.push(piece);
            }
            Err(why) => problems.push(format!("{piece:?}: {why}; it is not heeded")),
        }
    }
    if pattern.is_some_and(|pattern| pattern.contains('/')) {
        problems.push(format!(
            "{text:?}: allowed: at most one / with a text behind it"
        ));
        good.clear();
    }
    if good.is_empty() {
        return Asked {
            usable: None,
            problems,
        };
    }
    if !is_about_weir && !problems.is_empty() {
        good.insert(0, FALLBACK);
    }
    let mut usable = good.join(",");
    if let Some(pattern) = pattern {
        usable.push('/');
        usable.push_str(pattern);
    }
    Asked {
        usable: Some(usable),
        problems,
    }
}

/// Whether a piece is about Weir, or why it cannot be used.
fn check(piece: &str) -> Result<bool, String> {
    let levels = "off, error, warn, info, debug, trace";
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    if is_level(piece) {
        return Ok(true);
    }
    let (name, level) = piece.split_once('=').unwrap_or((piece, ""));
    let (name, level) = (name.trim(), level.trim());
    if !level.is_empty() && !is_level(level) {
        return Err(format!("allowed behind the =: {levels}"));
    }
    let mut parts = name.split("::");
    match (parts.next(), parts.next()) {
        (Some("weir"), None) => Ok(true),
        (Some("weir"), Some(module)) if MODULES.contains(&module) => Ok(true),
        (Some(name), _) if CRATES.contains(&name) => Ok(name == "weir_bench"),
        _ => Err(format!(
            "neither a level nor a part of this program; allowed: {levels}, weir=LEVEL, or weir::MODULE=LEVEL with {}",
            MODULES.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_stays_as_it_is() {
        for good in [
            "info",
            "WARN",
            "off",
            "weir=debug",
            "weir::shard=trace,warn",
            "weir::shard::egress",
            "glommio=debug",
            "info/closed",
        ] {
            let asked = read(good);
            assert_eq!(asked.usable.as_deref(), Some(good));
            assert_eq!(asked.problems, [""; 0], "{good}");
        }
    }

    #[test]
    fn slips_are_named_and_do_not_mute() {
        for (slip, usable) in [
            ("informative", None),
            ("weir=chatty", None),
            ("weir::shrad=debug", None),
            ("wier=debug", None),
            ("weir=debug=x", None),
            ("info/a/b", None),
            ("informative,weir::http=debug", Some("weir::http=debug")),
            ("wier=debug,glommio=warn", Some("info,glommio=warn")),
        ] {
            let asked = read(slip);
            assert_eq!(asked.usable.as_deref(), usable, "{slip}");
            assert_eq!(asked.problems.len(), 1, "{slip}");
            assert!(asked.problems[0].contains("allowed"), "{asked:?}");
        }
    }

    #[test]
    fn every_module_is_known() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut modules: Vec<String> = std::fs::read_dir(src)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|name| !["lib", "main"].contains(&name.as_str()))
            .collect();
        modules.sort();
        let mut known = MODULES.to_vec();
        known.sort_unstable();
        assert_eq!(modules, known);
    }
}
