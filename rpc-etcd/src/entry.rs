//! The value that is stored about a server.

use std::{fs, net::SocketAddr, path::Path, sync::OnceLock};

use serde::{Deserialize, Serialize};

/// The value of a server's key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) endpoints: Vec<String>,
    /// The id of the machine and of the container in which the server runs.
    #[serde(default)]
    pub(crate) host: String,
}

/// The longest value that is read, in bytes.
const MAX_LEN: usize = 64 * 1024;

impl Entry {
    pub(crate) fn read(value: &[u8]) -> Result<Self, String> {
        if value.len() > MAX_LEN {
            return Err(format!(
                "it has {} bytes, of which at most {MAX_LEN} are read",
                value.len()
            ));
        }
        serde_json::from_slice(value).map_err(|error| error.to_string())
    }

    /// Returns the endpoints to which a client on the machine `host` connects.
    pub(crate) fn for_client(&self, host: &str) -> Vec<String> {
        let is_here = !host.is_empty() && self.host == host;
        let local = self.endpoints.iter().find(|endpoint| is_here && is_reachable(endpoint));
        if let Some(local) = local {
            return vec![local.clone()];
        }
        // On another machine, a loopback address is another server, or none.
        let (here, there) = (kernel(host), kernel(&self.host));
        let is_far = here.is_some() && there.is_some() && here != there;
        let tcp = self.endpoints.iter().filter(|endpoint| endpoint.starts_with("tcp://"));
        tcp.filter(|endpoint| !(is_far && is_loopback(endpoint))).cloned().collect()
    }
}

/// Returns the part of a [`host`] that all containers of a machine share.
fn kernel(host: &str) -> Option<&str> {
    host.split_whitespace().next()
}

/// Returns true for an endpoint that reaches only servers on the same machine.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let Some(address) = endpoint.strip_prefix("tcp://") else { return false };
    let is_loopback = |address: SocketAddr| address.ip().is_loopback();
    address.starts_with("localhost:") || address.parse().is_ok_and(is_loopback)
}

/// Returns true for an `ipc://` endpoint whose file this process sees.
fn is_reachable(endpoint: &str) -> bool {
    let path = endpoint.strip_prefix("ipc://").map(Path::new);
    path.is_some_and(|path| path.is_absolute() && path.exists())
}

/// Returns the id of the running kernel and of the file systems that this process sees, which differ
/// between containers. It is empty if the system has none.
pub(crate) fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        match (kernel, fs::read_link("/proc/self/ns/mnt")) {
            (Ok(kernel), Ok(files)) => format!("{} {}", kernel.trim(), files.display()),
            _ => String::new(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_socket_is_preferred_where_it_is_seen() {
        let file = std::env::temp_dir().join(format!("rpc-etcd-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        let (tcp, ipc) = ("tcp://a:1".to_owned(), format!("ipc://{}", file.display()));
        let entry = Entry { endpoints: vec![tcp.clone(), ipc.clone()], host: "here".to_owned() };
        assert_eq!(entry.for_client("here"), [ipc]);
        assert_eq!(entry.for_client("there"), std::slice::from_ref(&tcp));
        fs::remove_file(&file).unwrap();
        assert_eq!(entry.for_client("here"), [tcp]);
        let nameless = Entry { endpoints: entry.endpoints, host: String::new() };
        assert_eq!(nameless.for_client("").len(), 1);
    }

    #[test]
    fn loopback_addresses_are_for_the_same_machine() {
        let loopback = ["tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1"];
        let endpoints = loopback.iter().chain(&["tcp://a:1"]).map(|&text| text.to_owned());
        let entry = Entry { endpoints: endpoints.collect(), host: "here 1".to_owned() };
        assert_eq!(entry.for_client("here 1").len(), 4);
        assert_eq!(entry.for_client("here 2").len(), 4, "containers may share their network");
        assert_eq!(entry.for_client("there 1"), ["tcp://a:1"]);
        assert_eq!(entry.for_client("").len(), 4, "the client does not know where it is");
    }

    #[test]
    fn garbage_is_no_entry() {
        assert!(Entry::read(br#"{"endpoints":["tcp://a:1"]}"#).unwrap().host.is_empty());
        for garbage in [&b""[..], b"\xff", b"{}", b"[]", br#"{"endpoints":"tcp://a:1"}"#] {
            Entry::read(garbage).unwrap_err();
        }
        assert!(Entry::read(&vec![b' '; MAX_LEN + 1]).unwrap_err().contains("at most"));
    }
}
