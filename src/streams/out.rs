//! Standard output, for every program: [`out!`](crate::out) in place of `println!`, which panics when nobody reads.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::OnceLock;
use std::time::Duration;

use super::complain;

/// What a program that has ended waits for whoever reads its report.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// The first write that failed.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes a line to standard output, with the arguments of `format!`. When that fails, nothing more is written,
/// and [`status`] says so at the end.
#[macro_export]
macro_rules! out {
    () => { $crate::out(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::out(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Writes to standard output, at once; whether somebody could still read it.
pub fn out(text: fmt::Arguments<'_>) -> bool {
    // In one piece: a line is not torn by those of other processes.
    write(text.to_string().as_bytes())
}

/// The same with bytes.
pub fn write(bytes: &[u8]) -> bool {
    let mut stdout = io::stdout().lock();
    if FAILED.get().is_none() {
        let written = stdout.write_all(bytes);
        if let Err(error) = written.and_then(|()| stdout.flush()) {
            let _ = FAILED.set(error);
        }
    }
    FAILED.get().is_none()
}

/// The exit status of a program whose output is what it is for: `status`, or `lost` when what it had to say did
/// not arrive and was not unwanted. A reader that has gone (`| head`) has what it wants.
pub fn status(status: ExitCode, lost: u8) -> ExitCode {
    let Some(error) = FAILED
        .get()
        .filter(|error| error.kind() != ErrorKind::BrokenPipe)
    else {
        return status;
    };
    complain(&format!("standard output: {error}"));
    match status == ExitCode::SUCCESS {
        true => ExitCode::from(lost),
        false => status,
    }
}

/// The last lines of a program whose work is done and whose exit status says how. Waits for at most a second; what
/// cannot be written is complained of, and changes nothing.
pub fn report(text: String) {
    let (done, is_done) = std::sync::mpsc::channel();
    let print = move || {
        out(format_args!("{text}"));
        // Nobody waits any longer.
        let _ = done.send(());
    };
    let thread = std::thread::Builder::new()
        .name("stdout".into())
        .spawn(print);
    let waited = thread.map(|_| is_done.recv_timeout(REPORT_PATIENCE));
    match (waited, FAILED.get()) {
        (Ok(Err(RecvTimeoutError::Timeout)), _) => {
            complain("standard output: nobody reads it: the report is not written");
        }
        (Err(error), _) => complain(&format!("standard output: no thread to write it: {error}")),
        (_, Some(error)) => complain(&format!(
            "standard output: {error}: the report is not written"
        )),
        _ => {}
    }
}
