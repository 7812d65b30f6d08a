//! `weir.toml`: none panics; what is refused is told with a line that is there; what is accepted are
//! values that the flags take.
//!
//! Input: text.

use weir::cli::config::try_text;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match try_text(text) {
        Ok(args) => {
            let settings = &args.settings;
            assert!(settings
                .http
                .analyzers
                .iter()
                .all(|analyzer| analyzer.weight() >= 0.0));
            assert!(settings.frame_bytes_max >= 5 && settings.window_messages >= 1);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = text.split('\n').count();
            problems.iter().for_each(|problem| check(problem, lines));
        }
    }
}

/// `weir.toml:12: what is wrong`, on one line.
fn check(problem: &str, lines: usize) {
    let rest = problem.strip_prefix("weir.toml:");
    let (line, what) = rest
        .and_then(|rest| rest.split_once(": "))
        .unwrap_or_else(|| panic!("no line: {problem}"));
    let line: usize = line.parse().expect("a number");
    assert!((1..=lines).contains(&line), "{lines} lines: {problem}");
    assert!(!what.is_empty() && !problem.contains('\n'), "{problem:?}");
}
