//! Streams: what a worker tells on a channel, as server-sent events.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;

use super::{access, error::ApiError};
use crate::{
    auth::{Access, Caller},
    company::COMPANY_ID,
    host::Host,
    streams::{ChannelId, Message, Reader},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenQuery {
    company_id: Option<String>,
}

/// `GET …/bridge/stream/{channel}`
pub async fn listen(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, channel)): Path<(String, String)>,
    Query(query): Query<ListenQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Call, &id).await?;
    let company = access::named_company(&host, query.company_id)?.ok_or_else(|| {
        ApiError::bad_request(format!(
            "query \"companyId\" is missing, wanted {COMPANY_ID}"
        ))
    })?;
    let reader = plugin
        .streams()
        .listen(ChannelId {
            company,
            name: channel,
        })
        .map_err(|full| ApiError::Refused(StatusCode::SERVICE_UNAVAILABLE, full.to_string()))?;
    let stops = host.draining.clone().cancelled_owned();
    let events = stream::once(async { Event::default().comment("ok") })
        .chain(events(reader))
        .map(Ok)
        .take_until(stops);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn events(reader: Reader) -> impl Stream<Item = Event> {
    stream::unfold(reader, async |mut reader| {
        let message = reader.next().await?;
        Some((event(&message), reader))
    })
}

fn event(message: &Message) -> Event {
    match message {
        Message::Open => Event::default().event("open").data("{}"),
        Message::Data(json) => Event::default().data(json),
        Message::Close => Event::default().event("close").data("{}"),
    }
}
