//! Every link leads somewhere, the README stays short, and no document is out of reach.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{files, read, root};

/// Lines and words that the README may have: two minutes of reading.
const README_LINES: usize = 130;
const README_WORDS: usize = 1_000;

#[test]
fn the_readme_is_read_in_two_minutes() {
    let text = read("README.md");
    let (lines, words) = (text.lines().count(), text.split_whitespace().count());
    assert!(
        lines <= README_LINES,
        "{lines} lines, {README_LINES} allowed"
    );
    assert!(
        words <= README_WORDS,
        "{words} words, {README_WORDS} allowed"
    );
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for path in documents() {
        for link in links(&prose(&path)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().expect("in a folder").join(file)
            };
            let is_there = if anchor.is_empty() {
                target.exists()
            } else {
                target.is_file() && anchors(&target).contains(anchor)
            };
            if !is_there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let mut reached = BTreeSet::new();
    let mut open = vec![root().join("README.md")];
    while let Some(path) = open.pop() {
        let Ok(path) = path.canonicalize() else {
            continue; // the test above names it
        };
        if path.extension().is_some_and(|it| it == "md") && reached.insert(path.clone()) {
            let folder = path.parent().expect("in a folder");
            let text = prose(&path);
            let files = links(&text).into_iter().filter(|it| !it.contains("://"));
            open.extend(files.map(|it| folder.join(it.split('#').next().expect("one part"))));
        }
    }
    let lost: Vec<PathBuf> = documents()
        .into_iter()
        .filter(|path| !reached.contains(&path.canonicalize().expect("it is there")))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:#?}");
}

#[test]
fn documents_that_code_names_are_there() {
    let mut missing = Vec::new();
    for path in files(
        "",
        &[".rs", ".sh", ".py", ".toml", ".service", ".yml", ".md"],
    ) {
        let text = std::fs::read_to_string(&path).expect("text");
        for part in text.split("docs/").skip(1) {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)));
            let name = part[..end.unwrap_or(part.len())].trim_end_matches('.');
            // Names in capitals and decisions are ours; others belong to other projects.
            let is_ours = name.ends_with(".md")
                && (name.starts_with("adr/") || name.starts_with(|c: char| c.is_ascii_uppercase()));
            if is_ours && !root().join("docs").join(name).exists() {
                missing.push(format!("{}: docs/{name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Decisions are left out: they tell how things were.
#[test]
fn files_that_documents_name_are_there() {
    const FOLDERS: [&str; 9] = [
        "src/",
        "tests/",
        "bench/",
        "scripts/",
        "tuning/",
        "systemd/",
        "deploy/",
        "examples/",
        "fuzz/",
    ];
    // What a fuzzer leaves behind.
    const MADE: [&str; 2] = ["fuzz/artifacts", "fuzz/work"];
    let is_of_a_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut missing = Vec::new();
    for path in documents() {
        if path.components().any(|part| part.as_os_str() == "adr") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        for word in text.split(|c: char| !is_of_a_path(c)) {
            let word = word.trim_end_matches('.');
            let is_ours = FOLDERS.iter().any(|folder| word.starts_with(folder))
                && !MADE.iter().any(|made| word.starts_with(made));
            if is_ours && !root().join(word).exists() {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

fn documents() -> Vec<PathBuf> {
    files("", &[".md"])
}

/// A document without its blocks of code, in which nothing is a link.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("text");
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !line.starts_with("    ") {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// What stands in the round brackets of `[text](target)`, also where a line ends within the text.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|part| part.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Names by which headings are reached, as GitHub makes them.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = prose(path);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| -> String {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}
