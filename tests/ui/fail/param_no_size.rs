use std::ffi::{CStr, OsStr};

use rpc_core::remote;

#[remote]
fn borrowed_os_str(_: &OsStr) {}

#[remote]
fn borrowed_c_str(_: &CStr) {}

#[remote]
fn declared_str(_: str);

#[remote]
fn declared_slice(_: [u8]);

#[remote]
fn declared_slice_of_str(_: &[str]);

#[remote]
fn declared_slice_of_slices(_: &[[u8]]);

fn main() {}
