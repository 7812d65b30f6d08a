//! Files with secrets: a path, or `credential:NAME`, which is what a service manager hands over under that name (systemd's
//! `LoadCredential=`, in `$CREDENTIALS_DIRECTORY`).

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// What a value begins with that is no path.
pub const CREDENTIAL: &str = "credential:";
/// Where systemd says that they are.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Where those of the unit are, for root, who looks at its file while it runs.
const OF_UNIT: &str = "/run/credentials/weir.service";
/// Longest name, in bytes: that of a file.
const NAME_BYTES_MAX: usize = 255;

/// For flags.
pub fn secret_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some(text) => secret_path(text),
        None => Ok(path),
    })
}

/// Where the file is that a value names.
///
/// # Errors
/// What is allowed.
pub fn secret_path(text: &str) -> Result<PathBuf, String> {
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = folder.or_else(|| Some(OF_UNIT.into()).filter(|path: &PathBuf| path.is_dir()));
    in_folder(text, folder.as_deref())
}

fn in_folder(text: &str, folder: Option<&Path>) -> Result<PathBuf, String> {
    let Some(name) = text.strip_prefix(CREDENTIAL) else {
        return match text.is_empty() {
            true => Err("allowed: the path of a file, or credential:NAME".to_owned()),
            false => Ok(text.into()),
        };
    };
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.contains(['/', '\0'])
        && ![".", ".."].contains(&name);
    if !is_name {
        return Err(format!(
            "allowed: credential:NAME, a name of 1 to {NAME_BYTES_MAX} bytes without a slash"
        ));
    }
    let folder = folder.ok_or_else(|| {
        format!(
            "there is no ${VARIABLE} here; allowed: in a unit with LoadCredential={name}:FILE; elsewhere with {VARIABLE}=DIR in the environment"
        )
    })?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_of_the_service_managers_folder() {
        let folder = Some(Path::new("/run/credentials/weir.service"));
        for (text, path) in [
            ("/etc/weir/key", "/etc/weir/key"),
            ("tls/credential:x", "tls/credential:x"),
            (
                "credential:tls.key",
                "/run/credentials/weir.service/tls.key",
            ),
        ] {
            assert_eq!(in_folder(text, folder), Ok(path.into()));
        }
        for bad in [
            "",
            "credential:",
            "credential:../key",
            "credential:..",
            "credential:a/b",
        ] {
            assert!(in_folder(bad, folder).is_err_and(|why| why.starts_with("allowed: ")));
        }
        let why = in_folder("credential:tls.key", None).expect_err("no folder");
        assert!(why.contains("LoadCredential=tls.key:FILE"), "{why}");
    }
}
