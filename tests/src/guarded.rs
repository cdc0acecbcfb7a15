//! Servers of other projects that end with the test that has started them.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The address of private servers. Outgoing connections of this machine do not come from it, so that
/// none of them can take the port of a server that is restarted.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Runs a command in a session of its own, until stdin ends, and then removes its files: when the
/// test process ends in whatever way, nothing of the server stays.
const GUARD: &str = r#"setsid "$@" </dev/null >>"$LOG" 2>&1 &
read -r _; kill -9 -$!; wait; [ -z "$FOLDER" ] || rm -rf "$FOLDER""#;

/// A process that is killed when this value is dropped, and also when the test process ends.
#[derive(Debug)]
pub(crate) struct Guarded(Child);

impl Guarded {
    /// Starts a command. Its folder `FOLDER`, if it has that variable, is removed when it ends.
    pub(crate) fn start(command: &[&str], environment: &[(&str, String)], log: &Path) -> Self {
        let child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .args(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("LOG", log)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Self(child)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // `wait` closes stdin first.
        let _ = self.0.wait();
    }
}

/// Returns a port of `host` that is free.
pub(crate) fn free_port(host: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}
