//! Programs of others: where they are, and what they need to run from a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `scripts/senders.sh` unpacks.
pub fn unpacked() -> PathBuf {
    if let Some(folder) = std::env::var_os("WEIR_SENDERS") {
        return folder.into();
    }
    let program = Path::new(crate::process::weir());
    let built = program.ancestors().nth(2).unwrap_or(program);
    built.join("senders")
}

/// A command for a program: unpacked, or in the PATH. None, and a line that says so: it is not there.
pub fn program(name: &str) -> Option<Command> {
    let folder = unpacked();
    let places = ["usr/sbin", "usr/bin"].map(|place| folder.join(place).join(name));
    if let Some(program) = places.iter().find(|program| program.is_file()) {
        let mut command = Command::new(program);
        let libraries = folder.join("usr/lib");
        let arch = format!("{}-linux-gnu", std::env::consts::ARCH);
        let own = folder.join("lib").join(&arch);
        let paths = [
            libraries.join(&arch),
            libraries.join("syslog-ng"),
            libraries.join(&arch).join("blas"),
            own,
        ];
        let paths = paths.map(|path| path.display().to_string());
        command.env("LD_LIBRARY_PATH", paths.join(":"));
        command.env("SYSLOGNG_PREFIX", folder.join("usr"));
        return Some(command);
    }
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&in_path).chain(["/usr/sbin".into()]);
    if let Some(program) = folders.find(|folder| folder.join(name).is_file()) {
        return Some(Command::new(program.join(name)));
    }
    println!("skipped: there is no {name}; scripts/senders.sh unpacks it");
    None
}
