use rpc_core::remote;

#[remote(inline, nam = "f", timeout = "2")]
async unsafe fn f<T>(_: &mut T, #[state] _: String) -> &'static str {
    ""
}

fn main() {}
