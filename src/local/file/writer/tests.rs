use std::os::unix::fs::symlink;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weir-local-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a folder");
        Folder(path)
    }

    fn options(&self) -> FileOptions {
        FileOptions {
            path: self.0.join("out"),
            rotate_bytes: None,
            rotate_every: None,
            keep: None,
        }
    }

    /// Names of its files, in order, and what is in them.
    fn files(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(&self.0).expect("there");
        let mut files: Vec<(String, String)> = entries
            .map(|entry| {
                let entry = entry.expect("there");
                let text = fs::read_to_string(entry.path()).expect("a file");
                (entry.file_name().into_string().expect("UTF-8"), text)
            })
            .collect();
        files.sort();
        files
    }

    fn texts(&self) -> Vec<String> {
        self.files().into_iter().map(|(_, text)| text).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(options: &FileOptions) -> Writer {
    Writer::open(options).expect("it opens")
}

fn error(options: &FileOptions) -> String {
    Writer::open(options).err().expect("it does not open")
}

#[test]
fn lines_are_whole_in_every_file() {
    let folder = Folder::new("rotate");
    let options = FileOptions {
        rotate_bytes: Some(10),
        ..folder.options()
    };
    let mut writer = open(&options);
    // 5 and 5 fit, 12 never does and is alone, 3 and 3 fit.
    writer
        .append(b"aaaa\nbbbb\nccccccccccc\nddd\n")
        .expect("room");
    writer.append(b"eee\n").expect("room");
    writer.sync().expect("synced");
    assert_eq!(
        folder.texts(),
        ["ddd\neee\n", "aaaa\nbbbb\n", "ccccccccccc\n"]
    );
    let mode = fs::metadata(&options.path).expect("there").mode() & 0o777;
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn the_oldest_are_deleted_and_nothing_else() {
    let folder = Folder::new("keep");
    let options = FileOptions {
        rotate_bytes: Some(4),
        keep: Some(2),
        ..folder.options()
    };
    fs::write(folder.0.join("out.gz"), "other").expect("written");
    let mut writer = open(&options);
    writer.append(b"000\n111\n222\n333\n444\n").expect("room");
    assert_eq!(folder.texts(), ["444\n", "222\n", "333\n", "other"]);
    drop(writer);
    // By one that has not put them aside itself.
    open(&options).append(b"555\n").expect("room");
    assert_eq!(folder.texts(), ["555\n", "333\n", "444\n", "other"]);
}

#[test]
fn a_file_is_put_aside_when_it_is_old() {
    let folder = Folder::new("age");
    let options = FileOptions {
        rotate_every: Some(Duration::from_millis(50)),
        ..folder.options()
    };
    let mut writer = open(&options);
    writer.rotate_in_time().expect("nothing to do");
    writer.append(b"a\n").expect("room");
    writer.rotate_in_time().expect("it is young");
    assert_eq!(folder.texts(), ["a\n"]);
    std::thread::sleep(Duration::from_millis(60));
    writer.rotate_in_time().expect("rotated");
    assert_eq!(folder.texts(), ["", "a\n"]);
    std::thread::sleep(Duration::from_millis(60));
    writer.rotate_in_time().expect("an empty one stays");
    assert_eq!(folder.texts(), ["", "a\n"]);
}

#[test]
fn what_stands_behind_the_last_line_is_cut_off() {
    let folder = Folder::new("torn");
    let options = folder.options();
    let long = format!("{{\"a\":\"{}", "x".repeat(200_000));
    for (before, after) in [
        ("{}\n{\"a\"", "{}\n"),
        ("{\"a\"", ""),
        ("{}\n", "{}\n"),
        ("{}\n\0\0\0", "{}\n"),
        (&long, ""),
        (&format!("{{}}\n{long}"), "{}\n"),
        ("not ours\n", "not ours\n"),
    ] {
        fs::write(&options.path, before).expect("written");
        drop(open(&options));
        assert_eq!(folder.texts(), [after]);
    }
    fs::write(&options.path, "{}\nnot ours").expect("written");
    assert!(error(&options).contains("no object of JSON; allowed"));
    assert_eq!(folder.texts(), ["{}\nnot ours"], "it is left alone");
}

#[test]
fn what_was_not_synced_goes_after_an_error() {
    let folder = Folder::new("forget");
    let mut writer = open(&folder.options());
    writer.append(b"a\n").expect("room");
    writer.sync().expect("synced");
    writer.append(b"b\n").expect("room");
    writer.forget_unsynced();
    assert_eq!(folder.texts(), ["a\n"]);
}

#[test]
fn what_others_do_to_the_file_takes_nothing_that_was_synced() {
    let folder = Folder::new("others");
    let mut writer = open(&folder.options());
    writer.append(b"{1}\n").expect("room");
    let other = || {
        let mut how = OpenOptions::new();
        how.append(true)
            .open(&folder.options().path)
            .expect("there")
    };
    other().write_all(b"{theirs}\n").expect("room");
    writer.append(b"{2}\n").expect("room");
    writer.sync().expect("on the disk");
    writer.append(b"{3}\n").expect("room");
    writer.forget_unsynced();
    assert_eq!(folder.texts(), ["{1}\n{theirs}\n{2}\n"]);
    // Cut by another: no zeros where lines were.
    other().set_len(4).expect("open");
    writer.forget_unsynced();
    assert_eq!(folder.texts(), ["{1}\n"]);
}

#[test]
fn a_file_is_one_writers() {
    let folder = Folder::new("lock");
    let options = folder.options();
    let mut writer = open(&options);
    assert!(error(&options).contains("another analyzer or distributor"));
    writer.append(b"a\n").expect("room");
    writer.rotate().expect("rotated");
    assert!(
        error(&options).contains("another analyzer or distributor"),
        "the new one as well"
    );
    drop(writer);
    drop(open(&options));
}

#[test]
fn a_file_that_was_moved_or_deleted_is_begun_anew() {
    let folder = Folder::new("moved");
    let options = folder.options();
    let mut writer = open(&options);
    let mut write = |line: &[u8]| {
        writer.check_place()?;
        writer.append(line)?;
        writer.sync()
    };
    write(b"a\n").expect("written");
    fs::rename(&options.path, folder.0.join("out.1")).expect("moved");
    write(b"b\n").expect("written");
    assert_eq!(folder.texts(), ["b\n", "a\n"]);
    fs::remove_file(&options.path).expect("deleted");
    write(b"c\n").expect("written");
    assert_eq!(folder.texts(), ["c\n", "a\n"]);
    fs::remove_dir_all(&folder.0).expect("deleted");
    let why = write(b"d\n").expect_err("no folder");
    assert!(why.contains("/out: No such file"), "{why}");
}

#[test]
fn only_regular_files_are_written_to() {
    let folder = Folder::new("kinds");
    let options = folder.options();
    symlink("/dev/null", &options.path).expect("a link");
    assert!(error(&options).contains("Too many levels of symbolic links"));
    fs::remove_file(&options.path).expect("deleted");
    rustix::fs::mknodat(
        CWD,
        &options.path,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a FIFO");
    let why = error(&options);
    assert!(
        why.contains("No such device") || why.contains("no regular file"),
        "{why}"
    );
    fs::remove_file(&options.path).expect("deleted");
    fs::create_dir(&options.path).expect("a folder");
    assert!(error(&options).contains("Is a directory"));
}
