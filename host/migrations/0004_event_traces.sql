-- The trace that an event was published in, for the span of its delivery.

alter table plugin_events add column traceparent text not null default '';
