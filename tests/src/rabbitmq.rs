//! Private RabbitMQ brokers, each with a folder and free ports of its own. They need Debian's
//! package `rabbitmq-server`, whose own server may run or not: it is left alone.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::{
    PATIENCE,
    guarded::{Guarded, HOST, free_port},
    unique,
};

/// A broker. It is killed when this value is dropped, and also when the test process ends.
#[derive(Debug)]
pub struct RabbitMq {
    folder: PathBuf,
    scripts: PathBuf,
    port: u16,
    epmd_port: u16,
    /// `None` while the broker is down.
    broker: Option<Guarded>,
    /// The name server of Erlang, which stays when the broker is restarted.
    _epmd: Guarded,
}

impl RabbitMq {
    /// Starts a broker with these further lines in its configuration file, and waits until it
    /// accepts connections. That takes some seconds.
    ///
    /// # Panics
    /// Panics if RabbitMQ is not installed, or does not start.
    #[must_use]
    pub fn start(configuration: &str) -> Self {
        let folder = std::env::temp_dir().join(unique());
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let configuration =
            format!("log.file.level = info\ndisk_free_limit.absolute = 50MB\n{configuration}");
        fs::write(folder.join("rabbitmq.conf"), configuration).expect("the folder is writable");
        fs::write(folder.join("enabled_plugins"), "[].").expect("the folder is writable");
        let epmd_port = free_port(Ipv4Addr::LOCALHOST);
        let epmd = Guarded::start(
            &["epmd", "-port", &epmd_port.to_string(), "-address", "127.0.0.1"],
            // It is the last to end.
            &[("FOLDER", folder.display().to_string())],
            &folder.join("epmd.log"),
        );
        let (scripts, port) = (scripts(), free_port(HOST));
        let mut broker = Self { folder, scripts, port, epmd_port, broker: None, _epmd: epmd };
        broker.restart();
        broker
    }

    /// Starts the broker again on the same port, with what it has stored, and waits until it
    /// accepts connections.
    ///
    /// # Panics
    /// Panics if it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let program = self.scripts.join("rabbitmq-server");
        let log = self.folder.join("broker.log");
        let program = program.to_str().expect("the path is UTF-8");
        self.broker = Some(Guarded::start(&[program], &self.environment(), &log));
        let begin = Instant::now();
        while !self.is_ready() {
            assert!(
                begin.elapsed() < PATIENCE,
                "the broker does not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the broker with SIGKILL.
    pub fn kill(&mut self) {
        self.broker = None;
    }

    /// Returns the endpoint of a queue that no other test uses.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("amqp://guest:guest@{}/%2f?queue={}", self.address(), unique())
    }

    /// Returns the address on which the broker listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (HOST, self.port).into()
    }

    /// Returns a port of the broker's address that is free.
    #[must_use]
    pub fn other_port() -> u16 {
        free_port(HOST)
    }

    /// Runs `rabbitmqctl`, and returns what it prints.
    ///
    /// # Panics
    /// Panics if the command fails.
    #[must_use]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new(self.scripts.join("rabbitmqctl"))
            .args(arguments)
            .envs(self.environment())
            .env_remove("RUNNING_UNDER_SYSTEMD")
            .output()
            .expect("RabbitMQ is installed");
        let text = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&stderr));
        text
    }

    /// Returns true if the broker answers a wrong greeting with the right one.
    fn is_ready(&self) -> bool {
        let greet = || {
            let mut stream = TcpStream::connect(self.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"HELLO...")?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).map(|()| answer)
        };
        greet().is_ok_and(|answer| &answer == b"AMQP")
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![
            ("HOME", path("")),
            ("ERL_EPMD_PORT", self.epmd_port.to_string()),
            ("ERL_CRASH_DUMP_BYTES", "0".to_owned()),
            // The name is unique on this machine, by the port.
            ("RABBITMQ_NODENAME", format!("rpc{}@localhost", self.port)),
            ("RABBITMQ_NODE_IP_ADDRESS", HOST.to_string()),
            ("RABBITMQ_NODE_PORT", self.port.to_string()),
            ("RABBITMQ_DIST_PORT", free_port(Ipv4Addr::LOCALHOST).to_string()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_PID_FILE", path("pid")),
            // Threads of Erlang that wait must not keep the cores of the test busy.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none \
                 +sbwtdio none"
                    .to_owned(),
            ),
        ]
    }
}

/// Returns the folder of RabbitMQ's own scripts. Those in the path change the user first.
fn scripts() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/rabbitmq/lib")
        .expect("rabbitmq-server is installed, as Debian's package");
    let mut found: Vec<_> = versions
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("rabbitmq_server-"))
        .map(|entry| entry.path().join("sbin"))
        .collect();
    found.sort();
    found.pop().expect("rabbitmq-server is installed, as Debian's package")
}
