//! The log of a test program, which its tests can read.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::Level;

use crate::soon;

/// The lines that were written so far, in the order of their time.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Begins to record at `level`, unless that has begun already. The subscriber is that of the
    /// whole program, because servers and clients write in threads of their own. So every test looks
    /// for its own functions only.
    #[must_use]
    pub fn begin(level: Level) -> Self {
        static LOG: Mutex<Option<Log>> = Mutex::new(None);
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        let log = log.get_or_insert_with(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
            subscriber.with_max_level(level).with_ansi(false).init();
            log
        });
        log.clone()
    }

    /// Returns the lines that contain `with`.
    #[must_use]
    pub fn lines(&self, with: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }

    /// Waits for a line that contains `with`, and returns it.
    ///
    /// # Panics
    /// Panics if there is none within [`PATIENCE`](crate::PATIENCE).
    pub async fn line(&self, with: &str) -> String {
        let found = async {
            loop {
                if let Some(line) = self.lines(with).into_iter().next() {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(with, found).await
    }
}
