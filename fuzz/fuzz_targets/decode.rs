//! The fuzz target for the code that decodes what a peer sent. libFuzzer drives it:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run decode -- -max_len=4096
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rpc_core::__fuzz::decode(bytes));
