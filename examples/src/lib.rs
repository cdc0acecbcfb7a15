//! What the examples have in common: the functions that `server` serves and `client` calls, and the
//! text that `count_words` cuts up.

mod exit;
mod functions;
pub mod text;

pub use crate::{
    exit::exit,
    functions::{
        DivideError, Visits, add, count_words, crash, divide, echo, server, sleep_ms, spin_ms,
        visits,
    },
};
