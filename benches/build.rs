//! Generates the gRPC client and server with the code generator that tonic's users use.
//!
//! The service is described in Rust, so that the build needs no `protoc`. The messages are defined
//! in `src/contestants/tonic.rs`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let builder = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::contestants::tonic::{input}"))
            .output_type(format!("crate::contestants::tonic::{output}"))
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .package("bench")
        .name("Work")
        .method(builder("echo", "Echo", "Data", "Data").build())
        .method(builder("count_words", "CountWords", "Text", "Counts").build())
        .method(builder("items", "Items", "Size", "Data").server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}
