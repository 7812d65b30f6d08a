//! `--report FILE`: a name that may hold `{instance}`, so that a program that is started again, as in a pod with a
//! volume, does not write over what it said at its last end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

const INSTANCE: &str = "{instance}";
const ALLOWED: &str =
    "allowed: the path of a file; {instance} in its name stands for the number of the run";

/// Reads the flag.
pub fn report_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(check)
}

/// The path for a run; `instance` is 16 hexadecimal digits in it.
pub fn with_instance(path: &Path, instance: u64) -> PathBuf {
    let name = path.file_name().and_then(OsStr::to_str);
    match name.filter(|name| name.contains(INSTANCE)) {
        Some(name) => path.with_file_name(name.replace(INSTANCE, &format!("{instance:016x}"))),
        None => path.to_owned(),
    }
}

/// A typing error would make one file of many runs, which is seen when it is too late.
fn check(path: PathBuf) -> Result<PathBuf, String> {
    let folder = path.parent().unwrap_or(Path::new("")).to_string_lossy();
    if folder.contains(INSTANCE) {
        return Err(format!(
            "{INSTANCE} stands in a folder's name, and no folder is made; {ALLOWED}"
        ));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let rest = name.replace(INSTANCE, "");
    let Some(at) = rest.find(['{', '}']) else {
        return Ok(path);
    };
    let odd = match rest[at..].find('}') {
        Some(end) => &rest[at..=at + end],
        None => &rest[at..],
    };
    Err(format!("{odd} is no placeholder; {ALLOWED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_filled_in_and_other_placeholders_are_refused_by_name() {
        let filled = |text: &str| check(text.into()).map(|path| with_instance(&path, 0xab));
        for (text, path) in [
            ("/r/d-{instance}.json", "/r/d-00000000000000ab.json"),
            ("{instance}", "00000000000000ab"),
            (
                "a{instance}b{instance}",
                "a00000000000000abb00000000000000ab",
            ),
            ("/r/d.json", "/r/d.json"),
            // Whoever has such a folder has had it before.
            ("/r{x}/d.json", "/r{x}/d.json"),
        ] {
            assert_eq!(filled(text), Ok(path.into()));
        }
        for (text, word) in [
            ("/r/{pod}.json", "{pod} is no placeholder"),
            ("/r/{Instance}.json", "{Instance} is no placeholder"),
            ("/r/{instance}-{}.json", "{} is no placeholder"),
            ("/r/{instance.json", "{instance.json is no placeholder"),
            ("/r/a}.json", "} is no placeholder"),
            ("/r/{instance}/d.json", "a folder's name"),
        ] {
            let why = filled(text).expect_err(text);
            assert!(why.contains(word) && why.contains("allowed: "), "{why}");
        }
    }

    #[test]
    fn a_path_that_is_no_text_stays() {
        use std::os::unix::ffi::OsStringExt;
        let path = std::ffi::OsString::from_vec(b"/r/\xff.json".to_vec());
        assert_eq!(check(path.clone().into()), Ok(path.into()));
    }
}
