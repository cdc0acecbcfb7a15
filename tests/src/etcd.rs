//! Private etcd clusters, each with a folder and free ports of its own. They need Debian's package
//! `etcd-server`, whose own server may run or not: it is left alone.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    PATIENCE,
    guarded::{Guarded, HOST, free_port},
    unique,
};

/// A cluster. Its members are killed when this value is dropped, and also when the test process
/// ends.
#[derive(Debug)]
pub struct Etcd {
    folder: PathBuf,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    client_port: u16,
    peer_port: u16,
    /// `None` while it is down.
    process: Option<Guarded>,
}

impl Etcd {
    /// Starts a cluster, and waits until it has a leader.
    ///
    /// # Panics
    /// Panics if etcd is not installed, or does not start.
    #[must_use]
    pub fn start(members: usize) -> Self {
        let folder = std::env::temp_dir().join(unique());
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let member =
            |_| Member { client_port: free_port(HOST), peer_port: free_port(HOST), process: None };
        let mut cluster = Self { folder, members: (0..members).map(member).collect() };
        for index in 0..members {
            cluster.spawn(index);
        }
        cluster.await_ready();
        cluster
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    /// Starts a member again that was killed, with what it has stored, and waits until it answers.
    ///
    /// # Panics
    /// Panics if it does not start.
    pub fn restart(&mut self, index: usize) {
        self.spawn(index);
        self.await_ready();
    }

    /// Stops a member from running, as if its machine were frozen, or lets it run on.
    ///
    /// # Panics
    /// Panics if there is no such process.
    pub fn freeze(&self, index: usize, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pattern = format!("^etcd .*{}", self.data(index).display());
        let done = Command::new("pkill").args([signal, "-f", &pattern]).status();
        assert!(done.expect("procps is installed").success(), "{pattern}");
    }

    /// Returns the addresses of all members for an endpoint: `host:port,host:port`.
    #[must_use]
    pub fn addresses(&self) -> String {
        let addresses = (0..self.members.len()).map(|index| self.address(index).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Returns the address of a member.
    #[must_use]
    pub fn address(&self, index: usize) -> SocketAddr {
        (HOST, self.members[index].client_port).into()
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.join(format!("member{index}"))
    }

    fn spawn(&mut self, index: usize) {
        let peer = |member: &Member| format!("http://{HOST}:{}", member.peer_port);
        let cluster = self.members.iter().enumerate();
        let cluster = cluster.map(|(index, member)| format!("member{index}={}", peer(member)));
        let cluster = cluster.collect::<Vec<_>>().join(",");
        let (name, data) = (format!("member{index}"), self.data(index).display().to_string());
        let (client, peer) =
            (format!("http://{}", self.address(index)), peer(&self.members[index]));
        let command = [
            ["etcd", "--name", &name],
            ["--data-dir", &data, "--initial-cluster"],
            [&cluster, "--listen-client-urls", &client],
            ["--advertise-client-urls", &client, "--listen-peer-urls"],
            [&peer, "--initial-advertise-peer-urls", &peer],
        ];
        let log = self.folder.join(format!("member{index}.log"));
        self.members[index].process = Some(Guarded::start(command.as_flattened(), &[], &log));
    }

    /// Waits until every member that runs answers, which it does while the cluster has a leader.
    fn await_ready(&self) {
        let begin = Instant::now();
        for index in 0..self.members.len() {
            while self.members[index].process.is_some() && !self.is_ready(index) {
                let log = self.folder.join(format!("member{index}.log"));
                assert!(
                    begin.elapsed() < PATIENCE,
                    "etcd does not start: {}",
                    fs::read_to_string(log).unwrap_or_default()
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn is_ready(&self, index: usize) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(self.address(index))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        ask().is_ok_and(|answer: String| answer.contains(r#""health":"true""#))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            // The guard kills it also while it is frozen.
            self.members[index].process = None;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
