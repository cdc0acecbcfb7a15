//! The functions of the server.

use std::{fmt::Write as _, path::PathBuf, thread, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use rpc_core::{Incoming, remote};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, BufReader},
};

/// The folder whose files can be followed.
#[derive(Debug)]
pub(crate) struct Logs(pub(crate) PathBuf);

/// Returns the lines of a file, those that are there and those that will be added.
///
/// The stream has no end. It is dropped when the caller drops its own.
#[remote]
pub(crate) async fn tail(
    #[state] logs: &Logs,
    name: &str,
) -> Result<impl Stream<Item = Result<String, String>> + Send + use<>, String> {
    // A name, and not a path out of the folder.
    if name.contains(['/', '\\']) {
        return Err(format!("`{name}` is not the name of a file"));
    }
    let file = File::open(logs.0.join(name)).await.map_err(|error| error.to_string())?;
    Ok(stream::try_unfold((BufReader::new(file), String::new()), next_line))
}

type Reader = (BufReader<File>, String);

/// Waits for the next whole line.
async fn next_line((mut file, mut line): Reader) -> Result<Option<(String, Reader)>, String> {
    while !line.ends_with('\n') {
        if file.read_line(&mut line).await.map_err(|error| error.to_string())? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let whole = line.trim_end().to_owned();
    line.clear();
    Ok(Some((whole, (file, line))))
}

/// Returns the SHA-256 of the bytes that come.
///
/// Hashing takes time, so that the function is sync: it runs on a worker.
#[remote]
pub(crate) fn hash(chunks: Incoming<Bytes>) -> Result<String, String> {
    let mut hash = Sha256::new();
    for chunk in chunks.wait() {
        hash.update(chunk.map_err(|error| error.to_string())?);
    }
    Ok(hex(&hash.finalize()))
}

/// Formats bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

/// The progress of some work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) percent: u8,
    pub(crate) what: String,
}

/// Works for a second, and tells how far it has come.
///
/// Between two items, a worker does other things if the caller has taken none.
#[remote]
pub(crate) fn work(steps: u8) -> impl Iterator<Item = Step> + Send {
    (1..=steps).map(move |step| {
        thread::sleep(Duration::from_millis(10));
        let percent = u8::try_from(u32::from(step) * 100 / u32::from(steps)).unwrap_or(100);
        Step { percent, what: format!("step {step} of {steps}") }
    })
}
