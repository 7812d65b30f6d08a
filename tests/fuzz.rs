//! The fuzz targets without a fuzzer: replays every input of the corpus, and runs each target on
//! mutations of them. The same inputs on every run; `docs/FUZZING.md` says how to fuzz for hours.
//!
//! `FUZZ_ROUNDS=100 cargo test --test fuzz` runs so many times as many mutations.
//! `FUZZ_INPUT=file cargo test --test fuzz one_input` runs all targets named in the file's path on it.

use std::fs;
use std::path::{Path, PathBuf};

use weir_fuzz_targets::vectors::seeds;
use weir_fuzz_targets::{Target, TARGETS};
use weir_testkit::Random;

/// Mutated inputs of each target, in the order of `TARGETS`: some seconds in all, unoptimised.
const MUTATIONS: [usize; 27] = [
    1500, 3000, 8000, 8000, 8000, 8000, 150, 300, 3000, 300, 150, 8000, 8000, 8000, 3000, 3000,
    3000, 3000, 3000, 3000, 3000, 8000, 8000, 8000, 8000, 5000, 300,
];
/// Mutations may grow an input to this.
const INPUT_BYTES_MAX: usize = 1024;
/// The corpus as a whole stays a small part of the repository.
const CORPUS_BYTES_MAX: u64 = 300 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = files(&root().join("corpus").join(name));
    assert!(!files.is_empty(), "no corpus for {name}");
    let read = |file: &PathBuf| fs::read(file).expect("readable");
    files.iter().map(read).collect()
}

/// Says which input it was, if the target panics.
struct Running<'a> {
    target: &'static str,
    input: &'a [u8],
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self
                .input
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            eprintln!("finding in target {}: {hex}", self.target);
            eprintln!(
                "`echo {hex} | xxd -r -p` writes it: keep it in fuzz/corpus/{}",
                self.target
            );
        }
    }
}

fn run((target, run): Target, input: &[u8]) {
    let _running = Running { target, input };
    run(input);
}

/// One to four changes of the kinds that fuzzers make.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() + 1);
        let byte = [random.next_u64() as u8, 0, 1, 0x7F, 0x80, 0xFF][random.below(6)];
        match random.below(7) {
            0 => input.insert(at, byte),
            1 => input.truncate(at),
            2 if at < input.len() => drop(input.remove(at)),
            3 if at < input.len() => input[at] ^= 1 << random.below(8),
            4 if at < input.len() => input[at] = byte,
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let part = &other[from..from + random.below(other.len() - from + 1)];
                input.splice(at..at, part.iter().copied());
            }
            _ => input.extend((0..random.below(16)).map(|_| random.next_u64() as u8)),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn smoke(index: usize) {
    let target = TARGETS[index];
    let corpus = corpus(target.0);
    corpus.iter().for_each(|input| run(target, input));
    run(target, &[]);
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(1, |n| n.parse().expect("a number"));
    let mut random = Random::new(index as u64);
    for _ in 0..rounds * MUTATIONS[index] {
        run(target, &mutate(&corpus, &mut random));
    }
}

/// One test a target, so that they share the cores.
macro_rules! smoke_tests {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let index = TARGETS.iter().position(|(name, _)| *name == stringify!($name));
            smoke(index.expect("a target of this name"));
        }
    )*

        #[test]
        fn every_target_is_run() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), tested);
            let stem = |file: &PathBuf| file.file_stem().expect("a name").to_owned();
            for folder in ["fuzz_targets", "corpus"] {
                let found: Vec<_> = files(&root().join(folder)).iter().map(stem).collect();
                let mut names = tested;
                names.sort_unstable();
                assert_eq!(found, names, "fuzz/{folder}");
            }
        }
    };
}

smoke_tests!(frames sources control native detect values arguments tree link engine config http proxy dns syslog lines
    ndjson gelf forward lumberjack relp hear_forward hear_lumberjack hear_relp hear_lines requests tls);

#[test]
fn the_corpus_is_small() {
    let folders = files(&root().join("corpus"));
    let all = folders.iter().flat_map(|folder| files(folder));
    let bytes: u64 = all.map(|file| file.metadata().expect("there").len()).sum();
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

/// `FUZZ_SEEDS=write cargo test --test fuzz the_seeds` writes them.
#[test]
fn the_seeds_are_in_the_corpus() {
    let write = std::env::var_os("FUZZ_SEEDS").is_some();
    for (target, name, bytes) in seeds() {
        let file = root().join("corpus").join(target).join(name);
        if write {
            fs::write(&file, &bytes).expect("the folder is there");
        }
        let found = fs::read(&file).unwrap_or_default();
        assert_eq!(found, bytes, "{}: write the seeds anew", file.display());
    }
}

#[test]
fn one_input() {
    let Ok(file) = std::env::var("FUZZ_INPUT") else {
        return;
    };
    let input = fs::read(&file).expect("FUZZ_INPUT is a file");
    let named = TARGETS
        .into_iter()
        .filter(|(name, _)| file.split(['/', '-', '.']).any(|word| word == *name));
    let ran = named.map(|target| run(target, &input)).count();
    assert!(ran > 0, "no target is named in {file}");
}
