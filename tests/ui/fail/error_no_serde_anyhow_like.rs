use rpc_core::remote;

/// As `anyhow::Error`: it can be shown, and does not travel.
#[derive(Debug)]
pub struct AnyError(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for AnyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

pub type Result<T, E = AnyError> = std::result::Result<T, E>;

#[remote]
pub fn read() -> Result<String> {
    Ok(String::new())
}

fn main() {}
