//! Files of keys, in the form of pyzmq's certificates
//! ([ZPL](https://rfc.zeromq.org/spec/4/)): a public one, and a secret one for its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{KeyError, PublicKey, SecretKey};

/// The longest file that is read. A certificate has a few hundred bytes.
const MAX_LEN: u64 = 64 * 1024;
/// The names of the keys in a certificate.
const PUBLIC: &str = "public-key";
const SECRET: &str = "secret-key";

impl PublicKey {
    /// Reads the key from a file: a certificate of this library or of pyzmq, or a file with nothing
    /// but the key as text.
    ///
    /// # Errors
    /// Returns a [`KeyError`] if the file cannot be read, or has no such key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let (file, _) = open(path)?;
        find(&read(path, file)?, PUBLIC, path)
    }
}

impl SecretKey {
    /// Reads the key from a file: a secret certificate of this library or of pyzmq, or a file with
    /// nothing but the key as text.
    ///
    /// # Errors
    /// Returns a [`KeyError`] if the file cannot be read, or has no such key, or can be read by
    /// others than its owner.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let (file, mode) = open(path)?;
        let key = find(&read(path, file)?, SECRET, path);
        // A file without a secret may be read by all.
        if mode & 0o077 != 0 && !matches!(key, Err(KeyError::Missing { .. } | KeyError::Io { .. }))
        {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        key
    }

    /// Writes two new files, which pyzmq reads as well: the public key into `NAME.key`, and both
    /// keys into `NAME.key_secret`, which only its owner can read. Returns their paths.
    ///
    /// # Errors
    /// Returns a [`KeyError`] if one of the files is there already, or cannot be written.
    pub fn save(&self, name: impl AsRef<Path>) -> Result<(PathBuf, PathBuf), KeyError> {
        let with = |extension: &str| {
            let mut path = name.as_ref().as_os_str().to_owned();
            path.push(extension);
            PathBuf::from(path)
        };
        let (public, secret) = (with(".key"), with(".key_secret"));
        let head = format!("metadata\ncurve\n    {PUBLIC} = \"{}\"\n", self.public());
        let text = Zeroizing::new(z85::encode(self.as_bytes()));
        let both = Zeroizing::new(format!("{head}    {SECRET} = \"{}\"\n", *text));
        create(
            &secret,
            0o600,
            "SECRET key: keep it on this machine, and give it to nobody",
            &both,
        )?;
        create(&public, 0o644, "public key: give it to those who shall know this one", &head)
            .inspect_err(|_| drop(fs::remove_file(&secret)))?;
        Ok((public, secret))
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    move |source| KeyError::Io { path: path.to_owned(), source }
}

/// Opens a file. Returns its permission bits as well, which are those of the file that was opened.
fn open(path: &Path) -> Result<(File, u32), KeyError> {
    let file = File::open(path).map_err(io(path))?;
    let mode = file.metadata().map_err(io(path))?.mode() & 0o7777;
    Ok((file, mode))
}

fn read(path: &Path, file: File) -> Result<Zeroizing<String>, KeyError> {
    // A text that grew would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(4_096));
    file.take(MAX_LEN).read_to_string(&mut text).map_err(io(path))?;
    Ok(text)
}

fn create(path: &Path, mode: u32, comment: &str, text: &str) -> Result<(), KeyError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io(path))?;
    write!(file, "# CURVE {comment}.\n{text}").and_then(|()| file.sync_all()).map_err(io(path))
}

/// Finds a key in the text of a certificate, or in one that has only the key.
fn find<K>(text: &str, what: &'static str, path: &Path) -> Result<K, KeyError>
where
    K: std::str::FromStr<Err = KeyError>,
{
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == what).then(|| value.trim().trim_matches('"').to_owned())
    };
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with("# "));
    let named = lines().find_map(value).map(Zeroizing::new);
    let mut only = lines().filter(|line| !line.is_empty());
    let key = match (named, only.next(), only.next()) {
        (Some(key), ..) => key.parse(),
        (None, Some(key), None) => key.parse(),
        _ => return Err(KeyError::Missing { path: path.to_owned(), what }),
    };
    key.map_err(|source| KeyError::InFile { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of its own, which is removed when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rpc-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, mode: u32, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn saved_keys_are_read_again() {
        let folder = Folder::new("saved-keys");
        let key = SecretKey::generate();
        let (public, secret) = key.save(folder.0.join("alice")).unwrap();
        assert!(public.ends_with("alice.key") && secret.ends_with("alice.key_secret"));
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::from_file(&secret).unwrap().public(), key.public());
        assert_eq!(PublicKey::from_file(&secret).unwrap(), key.public());
        assert_eq!(PublicKey::from_file(&public).unwrap(), key.public());
        let error = SecretKey::from_file(&public).unwrap_err().to_string();
        assert!(error.contains("has no secret-key: public keys are in `NAME.key`"), "{error}");
        let before = fs::read(&secret).unwrap();
        assert!(matches!(key.save(folder.0.join("alice")), Err(KeyError::Io { .. })));
        assert_eq!(fs::read(&secret).unwrap(), before, "nothing is overwritten");
        fs::remove_file(&secret).unwrap();
        assert!(matches!(key.save(folder.0.join("alice")), Err(KeyError::Io { .. })));
        assert!(!secret.exists(), "no half of a pair is left");
    }

    #[test]
    fn files_of_others_are_read() {
        const PYZMQ: &str = "#   ****  Generated on 2026-01-01 by pyzmq  ****\n\
            #   ZeroMQ CURVE **Secret** Certificate\n\nmetadata\ncurve\n    \
            public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\"\n    \
            secret-key = \"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs\"\n";
        let folder = Folder::new("other-keys");
        let public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
        let pyzmq = folder.file("pyzmq", 0o600, PYZMQ);
        assert_eq!(PublicKey::from_file(&pyzmq).unwrap().to_string(), public);
        assert_eq!(SecretKey::from_file(&pyzmq).unwrap().public().to_string(), public);
        let bare = folder.file("bare", 0o644, format!("{public}\n"));
        assert_eq!(PublicKey::from_file(&bare).unwrap().to_string(), public);
    }

    #[test]
    fn wrong_files_are_refused() {
        let folder = Folder::new("wrong-keys");
        for mode in [0o640, 0o604, 0o660, 0o777] {
            let text = format!("secret-key = \"{}\"", "0".repeat(40));
            let path = folder.file("exposed", mode, text);
            let error = SecretKey::from_file(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        let missing = [("empty", ""), ("two", "a\nb\n"), ("other", "metadata\ncurve\n")];
        for (name, text) in missing {
            let path = folder.file(name, 0o600, text);
            let error = SecretKey::from_file(&path).unwrap_err();
            assert!(matches!(error, KeyError::Missing { what: SECRET, .. }), "{error}");
        }
        let short = folder.file("short", 0o600, "    secret-key = \"abc\"");
        assert!(matches!(SecretKey::from_file(short), Err(KeyError::InFile { .. })));
        let large = folder.file("large", 0o600, vec![b'x'; 1 << 20]);
        assert!(matches!(SecretKey::from_file(large), Err(KeyError::InFile { .. })));
        let binary = folder.file("binary", 0o600, [0xff; 100]);
        assert!(matches!(SecretKey::from_file(binary), Err(KeyError::Io { .. })));
        assert!(matches!(PublicKey::from_file(folder.0.join("none")), Err(KeyError::Io { .. })));
    }
}
