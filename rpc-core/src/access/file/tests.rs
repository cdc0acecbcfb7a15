use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use super::*;
use crate::keys::SecretKey;

/// A file of its own, which is removed when this is dropped.
struct ListFile(PathBuf);

impl ListFile {
    fn new(name: &str, text: &str) -> Self {
        let list = Self(std::env::temp_dir().join(format!("rpc-{name}-{}", std::process::id())));
        list.write(text);
        list
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
        self.set_mode(0o644);
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn error(&self) -> String {
        Access::from_file(&self.0).unwrap_err().to_string()
    }
}

impl Drop for ListFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn key() -> PublicKey {
    SecretKey::generate().public()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not become true: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn file_is_read_and_followed() {
    let (alice, bob) = (key(), key());
    let limits = "max_in_flight=1 max_bytes_in_flight=2 calls_per_second=3";
    let comments = format!("# all\n#\n\n#{alice} alice *\n#TODO\n");
    let text = format!(
        "{comments}{alice} alice add orders.* # no longer: *\r\n{bob:x}  bob\t* {limits} #\n"
    );
    let file = ListFile::new("followed", &text);
    let access = Access::from_file(&file.0).unwrap();
    assert!(access.permits(&alice, "orders.take") && !access.permits(&alice, "who"));
    assert!(access.permits(&bob, "who") && !access.admits(&key()));
    assert_eq!(access.name(&alice).as_deref(), Some("alice"));
    let limits = KeyLimits::new().max_in_flight(1).max_bytes_in_flight(2).calls_per_second(3);
    assert_eq!(access.read().limits, [(bob, limits)].into());

    let mut changes = access.changes();
    file.write(&format!("{bob} robert who\n* others health\n"));
    eventually("the list is replaced", || !access.permits(&alice, "add"));
    assert!(access.permits(&alice, "health") && access.permits(&bob, "who"));
    assert_eq!(access.name(&bob).as_deref(), Some("robert"));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();

    let shared = Arc::downgrade(&access.0);
    drop(access);
    eventually("the thread has no handle", || shared.upgrade().is_none());
}

#[test]
fn only_a_whole_list_is_applied() {
    let (text, shorter) = (format!("{} a *\n{} b *\n", key(), key()), format!("{} c *\n", key()));
    let file = ListFile::new("polled", &text);
    let (applied, seen) = (text.clone(), text.clone());
    let mut follower = Follower { path: file.0.clone(), applied, seen };
    assert!(follower.poll().unwrap().is_none(), "nothing has changed");
    // Somebody writes the file, or writes it wrongly.
    for text in ["", &text[..10], &text[..50], &shorter] {
        file.write(text);
        assert!(follower.poll().unwrap().is_none(), "it may go on");
    }
    file.set_mode(0o666);
    assert!(matches!(follower.poll(), Err(AccessError::Writable { .. })));
    file.set_mode(0o644);
    assert_eq!(follower.poll().unwrap().unwrap().keys.len(), 1);
    assert!(follower.poll().unwrap().is_none(), "it is applied");
    file.write(&text[..50]);
    assert!(follower.poll().unwrap().is_none());
    assert!(matches!(follower.poll(), Err(AccessError::Line { line: 2, .. })));
    file.write(&shorter);
    assert!(follower.poll().unwrap().is_none() && follower.poll().unwrap().is_none());
}

#[test]
fn wrong_files_are_refused() {
    let (alice, file) = (key(), ListFile::new("wrong-list", ""));
    let path = file.0.display().to_string();
    for (text, reason) in [
        (format!("{alice}\n"), ":1: a key, a name and functions are expected"),
        (format!("# x\n{alice} alice\n"), ":2: it names no function; `*` stands for all"),
        (format!("{alice} a *\n{alice} b *\n"), ":2: the key was there before"),
        ("* a x\n* b y\n".to_owned(), ":2: the key was there before"),
        ("abc alice *\n".to_owned(), ":1: a key has"),
        (format!("{alice} a * max_in_flight=x\n"), ":1: `max_in_flight` needs a number"),
        (format!("{alice} a * calls_per_second=-1\n"), ":1: `calls_per_second` needs a number"),
        (format!("{alice} a * max=1\n"), ":1: there is no limit `max`: it can be max_in_fl"),
        (format!("{alice} a max_in_flight=1\n"), ":1: it names no function"),
        (format!("{alice} max_in_flight=1 add\n"), ":1: a key, a name and functions"),
        (format!("{alice} a add, who\n"), ":1: `add,` is no function"),
        (format!("{alice} a or*ers\n"), ":1: `or*ers` is no function"),
        (format!("{alice} a # add\n"), ":1: it names no function"),
        ("* a x max_in_flight=1\n".to_owned(), ":1: limits are for one key"),
    ] {
        file.write(&text);
        let error = file.error();
        assert!(error.starts_with(&format!("{path}{reason}")), "{error}");
    }
    for mode in [0o664, 0o646] {
        file.write("");
        file.set_mode(mode);
        assert!(file.error().contains("`chmod go-w` it"), "{}", file.error());
    }
    file.write("");
    if geteuid().is_root() {
        std::os::unix::fs::chown(&file.0, Some(12_345), None).unwrap();
        assert!(file.error().contains("belongs to the user 12345"), "{}", file.error());
        std::os::unix::fs::chown(&file.0, Some(ROOT), None).unwrap();
    }
    File::options().write(true).open(&file.0).unwrap().set_len(100_000_000).unwrap();
    assert!(file.error().contains("has more than 1048576 bytes"), "{}", file.error());
    let no_file = Access::from_file(std::env::temp_dir()).unwrap_err();
    assert!(matches!(no_file, AccessError::NoFile { .. }));
    let nothing = Access::from_file("/nonexistent/list").unwrap_err();
    assert!(matches!(nothing, AccessError::Io { .. }));
}
