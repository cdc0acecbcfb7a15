use std::path::Path;

use rpc_core::remote;

#[remote]
fn size(path: &Path, other: &std::ffi::OsStr) -> u64 {
    let _ = other;
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn main() {}
