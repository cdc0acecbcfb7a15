//! The keys of [CURVE](https://rfc.zeromq.org/spec/26/), the encryption of ZeroMQ, and their text
//! forms.

mod file;

use std::{env, error::Error as _, fmt, io, path::PathBuf, str::FromStr};

use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// The number of bytes of a key.
const LEN: usize = 32;
/// The length of a key in Z85, the text form of ZeroMQ.
const Z85_LEN: usize = 40;

/// The public key of a client or a server, by which others know it.
///
/// Its text form is [Z85](https://rfc.zeromq.org/spec/32/), 40 characters, as in all programs that
/// use ZeroMQ. It may contain characters that a shell interprets, so that it belongs into single
/// quotes. The 64 hexadecimal digits of the key are read as well, and written by `{:x}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; LEN]);

impl PublicKey {
    /// Returns the key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&z85::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::LowerHex for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

/// The secret key of a client or a server, which proves who it is.
///
/// Its memory is overwritten when it is dropped. It has no text form but what
/// [`save`](Self::save) writes, and its `Debug` form does not contain it. Two secret keys cannot be
/// compared: compare their [public keys](Self::public).
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

impl SecretKey {
    /// Makes a new key from the random numbers of the operating system.
    ///
    /// # Panics
    /// Panics if the operating system has no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self(StaticSecret::random())
    }

    /// Returns the public key that belongs to this one.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Reads the key from the environment variable `name`, as text.
    ///
    /// # Errors
    /// Returns a [`KeyError`] if there is no such variable, or if it is no key.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let text = env::var(name).map(Zeroizing::new);
        text.map_err(|_| KeyError::Env { name: name.to_owned() })?.parse()
    }

    pub(crate) fn as_bytes(&self) -> &[u8; LEN] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(StaticSecret::from(*bytes)))
    }
}

/// Reads a key in one of its text forms.
fn decode(text: &str) -> Result<Zeroizing<[u8; LEN]>, KeyError> {
    let text = text.trim();
    let mut key = Zeroizing::new([0; LEN]);
    match text.len() {
        Z85_LEN => {
            let bytes = z85::decode(text).map(Zeroizing::new).map_err(|_| KeyError::Malformed)?;
            key.copy_from_slice(&bytes);
        }
        64 => {
            for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
                    return Err(KeyError::Malformed);
                };
                *byte = u8::try_from(high << 4 | low).map_err(|_| KeyError::Malformed)?;
            }
        }
        length => return Err(KeyError::Length { length }),
    }
    Ok(key)
}

/// The error of a key that cannot be read or written. It never contains the key. `{:?}` shows the
/// same text as `{}` and the cause, so that `main` can return it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not as long as a key.
    #[error(
        "a key has 40 characters (Z85) or 64 hexadecimal digits, and this text has {length} \
         characters. A shell needs it in single quotes, and a file has it without quotes"
    )]
    Length {
        /// The length of the text, in bytes.
        length: usize,
    },
    /// The text is as long as a key, and is none.
    #[error("this is no key: it has a character or a group of characters that no key has")]
    Malformed,
    /// There is no such environment variable, or it is no text.
    #[error("there is no environment variable `{name}` with a key in it")]
    Env {
        /// The name of the variable.
        name: String,
    },
    /// The file contains no key of this kind.
    #[error("{} has no {what}: public keys are in `NAME.key`, secret ones in `NAME.key_secret`", path.display())]
    Missing {
        /// The path of the file.
        path: PathBuf,
        /// The kind of key.
        what: &'static str,
    },
    /// Others than its owner can read the file of a secret key.
    #[error(
        "{0} has a secret key, and others than its owner can read it (mode {mode:04o}): \
         `chmod 600 {0}`, and make a new key if somebody may have read it. pyzmq writes its files \
         so",
        path.display()
    )]
    Exposed {
        /// The path of the file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("cannot use the key file {}", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file has a key that cannot be read.
    #[error("{} has a malformed key", path.display())]
    InFile {
        /// The path of the file.
        path: PathBuf,
        /// The error of the key.
        source: Box<KeyError>,
    },
}

impl fmt::Debug for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.source().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example keys of the documentation of libzmq (`zmq_curve`).
    const PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

    #[test]
    fn keys_have_the_text_forms_of_zeromq() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.public().to_string(), PUBLIC);
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert_eq!(public, secret.public());
        let hex = format!("{public:x}");
        assert_eq!(hex.len(), 64);
        for text in [hex.clone(), hex.to_uppercase(), format!(" {PUBLIC}\n")] {
            assert_eq!(text.parse::<PublicKey>().unwrap(), public, "{text}");
        }
        assert_ne!(SecretKey::generate().public(), SecretKey::generate().public());
    }

    #[test]
    fn malformed_keys_are_refused() {
        let long = "x".repeat(1_000);
        for text in ["", "x", &PUBLIC[1..], &long, &"0".repeat(63), "Yne@"] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert!(matches!(error, KeyError::Length { .. }), "{text}: {error}");
        }
        // A character outside the alphabet, a group beyond 32 bits, two bytes in one character.
        let changed = |from: &str| format!("{from}{}", &PUBLIC[from.len()..]);
        for text in [changed("\""), changed("#####"), changed("é"), "g".repeat(64)] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert!(matches!(error, KeyError::Malformed), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_in_no_text() {
        let secret: SecretKey = SECRET.parse().unwrap();
        let text = format!("{secret:?}");
        assert_eq!(text, format!("SecretKey of {PUBLIC}"));
        let almost = SECRET.replace('D', "\"");
        let text = format!("{:?}", almost.parse::<SecretKey>().unwrap_err());
        assert!(!text.contains("IlAW"), "{text}");
    }
}
