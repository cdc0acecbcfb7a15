//! What is told of a call that runs: its span, and its hooks.

use std::{sync::Arc, time::Instant};

use tracing::{Span, field::Empty, level_filters::LevelFilter};

use crate::{
    context::Context,
    handler::{HandlerResult, Invocation},
    protocol::error::WireError,
    server::hooks::{CallEnd, Hooks, ServedCall},
};

/// The facts about a call that the hooks of its server are told, besides its context.
#[derive(Debug)]
pub(crate) struct Facts {
    hooks: Arc<Hooks>,
    arrived: Instant,
    size: usize,
    is_notification: bool,
}

impl Facts {
    /// Takes the facts about a call that has `arrived` at that time. `None` if there are no hooks.
    pub(super) fn new(
        hooks: Option<&Arc<Hooks>>,
        invocation: &Invocation,
        arrived: Instant,
    ) -> Option<Box<Self>> {
        let hooks = Arc::clone(hooks?);
        let (size, is_notification) = (invocation.body.len(), invocation.id.is_none());
        Some(Box::new(Self { hooks, arrived, size, is_notification }))
    }

    /// Makes the call as hooks see it, whose function has begun at that time.
    fn call<'a>(&self, context: &'a Context, span: &'a Span, began: Instant) -> ServedCall<'a> {
        let Self { size, is_notification, arrived, .. } = *self;
        let waited = began.saturating_duration_since(arrived);
        ServedCall { context, size, is_notification, waited, span }
    }
}

/// A call that has begun, and that somebody watches.
#[derive(Debug)]
pub(super) struct WatchedCall {
    span: Span,
    hooked: Option<HookedCall>,
}

/// A call that has begun, with the hooks that are told of its end.
#[derive(Debug)]
struct HookedCall {
    facts: Box<Facts>,
    began: Instant,
    /// The number of hooks that have let the call pass.
    passed: usize,
}

impl WatchedCall {
    /// Begins to watch a call. Returns `None` if nobody wants to, which takes fewer instructions
    /// than a span that is switched off.
    ///
    /// # Errors
    /// Returns the error of the caller if a hook refuses the call.
    #[inline]
    pub(super) fn begin(
        context: &Context,
        facts: Option<Box<Facts>>,
    ) -> Result<Option<Box<Self>>, WireError> {
        let wants_spans = LevelFilter::current() >= LevelFilter::INFO;
        if facts.is_none() && !wants_spans {
            return Ok(None);
        }
        Self::begin_watched(context, facts, wants_spans).map(Some)
    }

    fn begin_watched(
        context: &Context,
        facts: Option<Box<Facts>>,
        wants_spans: bool,
    ) -> Result<Box<Self>, WireError> {
        let span = if wants_spans { span(context) } else { Span::none() };
        let hooked = facts.map(|facts| HookedCall { facts, began: Instant::now(), passed: 0 });
        let mut watched = Box::new(Self { span, hooked });
        let Some(HookedCall { facts, began, passed }) = &mut watched.hooked else {
            return Ok(watched);
        };
        let call = facts.call(context, &watched.span, *began);
        match facts.hooks.before(&call, passed) {
            Ok(()) => Ok(watched),
            Err(refused) => {
                let result: HandlerResult = Err(refused);
                watched.end(context, &result);
                result.map(|_| watched)
            }
        }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends a call with its outcome.
    pub(super) fn end(&self, context: &Context, result: &HandlerResult) {
        if let Err(error) = result {
            self.span.record("error.type", error.code.as_str());
            self.span.record("otel.status_code", "ERROR");
        }
        if let Some(HookedCall { facts, began, passed }) = &self.hooked {
            let end = CallEnd { result, took: began.elapsed() };
            facts.hooks.after(&facts.call(context, &self.span, *began), &end, *passed);
        }
    }
}

/// Makes the span of a call, in which the logs of the function nest. The names are those of the
/// [conventions of OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/).
fn span(context: &Context) -> Span {
    tracing::info_span!(
        "rpc.server",
        "otel.kind" = "server",
        "otel.status_code" = Empty,
        "rpc.system" = "rpc-core",
        "rpc.method" = context.function(),
        "error.type" = Empty,
    )
}
