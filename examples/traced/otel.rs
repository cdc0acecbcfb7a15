//! The hooks that carry a trace of OpenTelemetry, and an exporter that writes spans to a file.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use opentelemetry::{propagation::TextMapPropagator, trace::TracerProvider as _};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use rpc_core::{ClientHook, Refusal, ServedCall, ServerHook, StartingCall};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The header of the W3C that has the trace and the span of the caller.
const TRACE_PARENT: &str = "traceparent";

/// Hooks that make the spans of a call, on both sides, part of one trace.
pub(crate) struct Otel(TraceContextPropagator);

impl Otel {
    pub(crate) fn new() -> Self {
        Self(TraceContextPropagator::new())
    }
}

impl ClientHook for Otel {
    fn before(&self, call: &mut StartingCall<'_>) {
        let mut headers = HashMap::new();
        self.0.inject_context(&call.span().context(), &mut headers);
        if let Some(parent) = headers.get(TRACE_PARENT) {
            call.set_trace_parent(parent);
        }
    }
}

impl ServerHook for Otel {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        if let Some(parent) = call.context().trace_parent() {
            let headers = HashMap::from([(TRACE_PARENT.to_owned(), parent.to_owned())]);
            // It fails if no subscriber wants the span.
            let _ = call.span().set_parent(self.0.extract(&headers));
        }
        Ok(())
    }
}

/// Makes spans of OpenTelemetry from those of `tracing`, and writes them to a file.
pub(crate) fn begin(process: String, file: File) -> SdkTracerProvider {
    let exporter = Lines { process, file: Mutex::new(file) };
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traced"));
    tracing_subscriber::registry().with(layer).init();
    provider
}

/// Writes each span as a line: trace, span, parent, process, name and method.
#[derive(Debug)]
struct Lines {
    process: String,
    file: Mutex<File>,
}

impl SpanExporter for Lines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let trace = span.span_context.trace_id();
            let (id, parent) = (span.span_context.span_id(), span.parent_span_id);
            let method = span.attributes.iter().find(|pair| pair.key.as_str() == "rpc.method");
            let method = method.map_or("-".into(), |pair| pair.value.as_str());
            let line = format!("{trace} {id} {parent} {} {} {method}\n", self.process, span.name);
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            // One write: other processes append to the same file.
            let written = file.write_all(line.as_bytes());
            written.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
        }
        Ok(())
    }
}
