//! Parses the address of a service in etcd.

use percent_encoding::percent_decode_str;

const FORM: &str = "a name in etcd has the form `etcd://host:2379/service`";

/// The error of a text that is no address of a service in etcd. It says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidAddress {
    reason: String,
}

#[derive(Debug)]
pub(crate) struct Address {
    /// `host:port` of each member of the cluster. There is at least one.
    pub(crate) members: Vec<String>,
    /// The user and the password.
    pub(crate) login: Option<(String, String)>,
    pub(crate) service: String,
}

pub(crate) fn parse(text: &str) -> Result<Address, InvalidAddress> {
    let invalid = |reason: &str| InvalidAddress { reason: reason.to_owned() };
    let rest = text.strip_prefix("etcd://").ok_or_else(|| invalid(FORM))?;
    if rest.contains(['?', '#']) {
        return Err(invalid("nothing follows the service: options are methods of `Names`"));
    }
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => {
            let (user, password) = login
                .split_once(':')
                .ok_or_else(|| invalid("a user has a password: `etcd://user:password@host/…`"))?;
            (Some((decoded(user)?, decoded(password)?)), rest)
        }
        None => (None, rest),
    };
    let (members, service) = rest.split_once('/').unwrap_or((rest, ""));
    let service = decoded(service)?;
    if service.is_empty() || service.contains('/') {
        return Err(invalid(
            "the name of the service is missing, or has a `/`: write \
                            `etcd://host:2379/service`",
        ));
    }
    let members: Result<Vec<_>, _> = members.split(',').map(member).collect();
    Ok(Address { members: members?, login, service })
}

/// Returns a member with its port.
fn member(text: &str) -> Result<String, InvalidAddress> {
    let invalid = |reason: String| Err(InvalidAddress { reason });
    let (host, port) = match text.rfind(':').filter(|at| *at > text.rfind(']').unwrap_or(0)) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, "2379"),
    };
    if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
        return invalid(format!("`{text}` is no host with a port: {FORM}"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(format!("{host}:{port}")),
        _ => invalid(format!("`{port}` is no port: {FORM}")),
    }
}

fn decoded(text: &str) -> Result<String, InvalidAddress> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| InvalidAddress { reason: "it contains bytes that are no UTF-8".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let address = parse("etcd://me:p%40ss@a,b:1,[::1],[::1]:2/word%20s").unwrap();
        assert_eq!(address.members, ["a:2379", "b:1", "[::1]:2379", "[::1]:2"]);
        assert_eq!(address.login, Some(("me".to_owned(), "p@ss".to_owned())));
        assert_eq!(address.service, "word s");
    }

    #[test]
    fn error_says_what_to_write() {
        for (text, expected) in [
            ("127.0.0.1:2379", "the form"),
            ("etcd://h", "the service is missing"),
            ("etcd://h/", "the service is missing"),
            ("etcd://h/a/b", "has a `/`"),
            ("etcd:///words", "no host"),
            ("etcd://h,/words", "no host"),
            ("etcd://::1/words", "no host"),
            ("etcd://h:x/words", "`x` is no port"),
            ("etcd://me@h/words", "a user has a password"),
            ("etcd://h/words?ttl=3", "methods of `Names`"),
            ("etcd://h/%ff", "no UTF-8"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
