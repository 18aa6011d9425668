//! W3C trace context across the hops between hosts, pods and workers, and spans where a
//! collector is named.
//!
//! Without a collector nothing is made: what came in is what goes out. Spans go out over OTLP
//! as gRPC, as the variables of OpenTelemetry's own say: `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` turns them on, `OTEL_TRACES_SAMPLER` and
//! `OTEL_BSP_SCHEDULE_DELAY` and the others hold as well.

use std::{borrow::Cow, env};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags,
        TraceId, TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan},
};

pub use opentelemetry::trace::SpanKind;

use crate::v1::RpcError;

/// Variables that turn spans on.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("preparing the export of traces over OTLP")]
pub struct TracesError(#[from] ExporterBuildError);

/// Makes spans, or passes on what others made.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Exports where the environment names a collector. Has to be called on the runtime that
    /// shall carry the export.
    pub fn from_env(service: &'static str) -> Result<Self, TracesError> {
        let is_named = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
        if !ENDPOINTS.into_iter().any(is_named) {
            return Ok(Self(None));
        }
        let exporter = SpanExporter::builder().with_tonic().build()?;
        let resource = Resource::builder().with_service_name(service).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer(service);
        Ok(Self(Some(Exporting { provider, tracer })))
    }

    /// True when spans are made.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span below `parent`, a `traceparent`; below none when that is empty or invalid.
    /// It ends when it is dropped.
    #[must_use]
    pub fn start(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: &str) -> Span {
        let Some(exporting) = &self.0 else {
            return Span(Inner::Passing(parent.to_owned()));
        };
        let context = match parse(parent) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let span = exporting.tracer.build_with_context(builder, &context);
        Span(Inner::Made(Box::new(span)))
    }

    /// Sends what was not sent yet. Blocks, for at most a few seconds.
    pub fn shut_down(&self) {
        if let Some(exporting) = &self.0
            && let Err(error) = exporting.provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

/// A span, or the place of one.
#[derive(Debug)]
pub struct Span(Inner);

#[derive(Debug)]
enum Inner {
    Made(Box<SdkSpan>),
    Passing(String),
}

impl Span {
    /// The `traceparent` for what is done within this span. Empty for none.
    #[must_use]
    pub fn traceparent(&self) -> String {
        match &self.0 {
            Inner::Made(span) => format(span.span_context()),
            Inner::Passing(parent) => parent.clone(),
        }
    }

    /// Says more of the span.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        if let Inner::Made(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// Notes how what the span is of ended.
    pub fn ended<T>(mut self, outcome: &Result<T, RpcError>) {
        if let (Inner::Made(span), Err(error)) = (&mut self.0, outcome) {
            span.set_attribute(KeyValue::new(
                "rpc.jsonrpc.error_code",
                i64::from(error.code),
            ));
            span.set_status(Status::error(error.message.clone()));
        }
    }
}

/// Reads a `traceparent` of version 00, or what a later version has in common with it.
fn parse(text: &str) -> Option<SpanContext> {
    let is_hex = |part: &str, digits: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == digits && part.bytes().all(is_digit)
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let fits = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let is_known = version == "00" && parts.next().is_none();
    if !fits || version == "ff" || (version == "00" && !is_known) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn format(context: &SpanContext) -> String {
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{trace}-{span}-{:02x}", flags.to_u8())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        assert_eq!(format(&parse(PARENT).unwrap()), PARENT);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(format(&parse(later).unwrap()), PARENT);
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let no_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let upper = PARENT.to_uppercase();
        let long = format!("{PARENT}-more");
        let forbidden = PARENT.replacen("00", "ff", 1);
        for text in ["", "x", no_trace, &upper, &long, &forbidden, &PARENT[..54]] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_collector_what_came_in_goes_out() {
        let span = Traces::default().start("a", SpanKind::Server, PARENT);
        assert_eq!(span.traceparent(), PARENT);
    }

    #[test]
    fn a_span_is_of_the_trace_of_its_parent() {
        let provider = SdkTracerProvider::builder().build();
        let tracer = provider.tracer("test");
        let traces = Traces(Some(Exporting { provider, tracer }));
        let span = traces.start("a", SpanKind::Server, PARENT);
        let child = span.traceparent();
        assert_eq!(child[..36], PARENT[..36]);
        assert_ne!(child, PARENT);
        let root = traces.start("a", SpanKind::Server, "");
        assert!(parse(&root.traceparent()).is_some());
    }
}
