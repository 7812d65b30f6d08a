//! `RUST_LOG`, read so that a slip of the pen does not mute a program.
//!
//! env_logger takes a word that is no level for the name of a module: `RUST_LOG=informative` then means
//! "nothing but what that module says", which is nothing. So names are compared with those that there are.

use log::LevelFilter;

/// Parts of Weir that log, or may, as they are asked for (`weir::NAME`), and where their code lies.
const MODULES: [(&str, &str); 28] = [
    ("audit", "weir_ledger::audit"),
    ("awake", "weir_clock::awake"),
    ("certificate", "weir_ledger::run_report"),
    ("cli", "weir::cli"),
    ("client", "weir_client"),
    ("clock", "weir_clock"),
    ("config", "weir_config"),
    ("control", "weir_control"),
    ("demo", "weir_demo"),
    ("discover", "weir_discover"),
    ("doctor", "weir_doctor"),
    ("engine", "weir_engine"),
    ("host", "weir_host"),
    ("http", "weir_http"),
    ("inflate", "weir_inflate"),
    ("journal", "weir_ledger::journal"),
    ("local", "weir_local"),
    ("protocol", "weir_protocol"),
    ("run_report", "weir_ledger::run_report"),
    ("runtime", "weir_runtime"),
    ("service", "weir_service"),
    ("shard", "weir_shard"),
    ("sim", "weir_sim"),
    ("sink", "weir_sink"),
    ("source", "weir_source"),
    ("streams", "weir_streams"),
    ("tls", "weir_tls"),
    ("uring", "weir_runtime::uring"),
];
/// Other crates whose lines somebody may want.
const CRATES: [&str; 3] = ["glommio", "mio", "weir_bench"];
/// In force beside what can be used when nothing of that is about Weir.
const FALLBACK: &str = "info";

/// What a value of the variable asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// As env_logger reads it, with crates for parts; none when nothing of it can be used.
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
            Ok((piece, is_about)) => {
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
        good.insert(0, FALLBACK.to_owned());
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

/// A piece as env_logger reads it, and whether it is about Weir; or why it cannot be used.
fn check(piece: &str) -> Result<(String, bool), String> {
    let levels = "off, error, warn, info, debug, trace";
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    if is_level(piece) {
        return Ok((piece.to_owned(), true));
    }
    let (name, level) = piece.split_once('=').unwrap_or((piece, ""));
    let (name, level) = (name.trim(), level.trim());
    if !level.is_empty() && !is_level(level) {
        return Err(format!("allowed behind the =: {levels}"));
    }
    let mut parts = name.splitn(3, "::");
    match (parts.next(), parts.next(), parts.next()) {
        // Every crate's name begins with it.
        (Some("weir"), None, _) => Ok((piece.to_owned(), true)),
        (Some("weir"), Some(module), below) => {
            let found = MODULES.iter().find(|(name, _)| *name == module);
            let (_, path) = found.ok_or_else(|| not_a_part(levels))?;
            let below = below.map_or(String::new(), |below| format!("::{below}"));
            let level = match level {
                "" => String::new(),
                level => format!("={level}"),
            };
            Ok((format!("{path}{below}{level}"), true))
        }
        (Some(name), ..) if CRATES.contains(&name) => Ok((piece.to_owned(), name == "weir_bench")),
        _ => Err(not_a_part(levels)),
    }
}

fn not_a_part(levels: &str) -> String {
    let names = MODULES.map(|(name, _)| name).join(", ");
    format!(
        "neither a level nor a part of this program; allowed: {levels}, weir=LEVEL, or weir::MODULE=LEVEL with {names}"
    )
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
            "glommio=debug",
            "info/closed",
        ] {
            let asked = read(good);
            assert_eq!(asked.usable.as_deref(), Some(good));
            assert_eq!(asked.problems, [""; 0], "{good}");
        }
    }

    #[test]
    fn parts_are_looked_for_where_their_code_lies() {
        for (good, usable) in [
            ("weir::shard=trace,warn", "weir_shard=trace,warn"),
            ("weir::shard::egress", "weir_shard::egress"),
            ("weir::uring::ring=debug", "weir_runtime::uring::ring=debug"),
        ] {
            let asked = read(good);
            assert_eq!(asked.usable.as_deref(), Some(usable));
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
            ("informative,weir::http=debug", Some("weir_http=debug")),
            ("wier=debug,glommio=warn", Some("info,glommio=warn")),
        ] {
            let asked = read(slip);
            assert_eq!(asked.usable.as_deref(), usable, "{slip}");
            assert_eq!(asked.problems.len(), 1, "{slip}");
            assert!(asked.problems[0].contains("allowed"), "{asked:?}");
        }
    }

    #[test]
    fn every_part_is_known() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in std::fs::read_dir(src).expect("readable") {
            let folder = folder.expect("readable").path();
            let name = folder.file_name().and_then(|name| name.to_str());
            let name = name.expect("plain names").to_owned();
            // What its folders hold of other names is known as well; the other is inputs that tests have failed by.
            let is_part = !["ledger", "proptest-regressions"].contains(&&name[..]);
            if folder.is_dir() && is_part {
                assert!(MODULES.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
        for (name, path) in MODULES {
            let is_crate = path == format!("weir_{name}");
            let is_part = path.ends_with(&format!("::{name}"));
            // The old name of run_report.
            assert!(is_crate || is_part || name == "certificate", "{path}");
        }
    }
}
