//! State that outlives a sidecar: kept by the shim, for the sidecar that comes next.

use bytes::Bytes;
use paperclip_shim::protocol::MAX_PACKET;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::multiplexer::Remembered;

/// State for the next sidecar, as the shim keeps it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    initialize_result: Box<RawValue>,
    next_id: u64,
    subscriptions: Vec<Box<RawValue>>,
    #[serde(default)]
    config_revision: u64,
}

impl Memory {
    pub(super) fn encode(result: &Bytes, remembered: &Remembered) -> Option<Vec<u8>> {
        let raw = |json: &Bytes| serde_json::from_slice::<Box<RawValue>>(json).ok();
        let memory = Self {
            initialize_result: raw(result)?,
            next_id: remembered.next_id,
            subscriptions: remembered.subscriptions.iter().filter_map(raw).collect(),
            config_revision: remembered.config_revision,
        };
        let encoded = serde_json::to_vec(&memory).ok()?;
        // What does not fit is not remembered; a successor then starts the worker anew.
        (encoded.len() < MAX_PACKET - 64).then_some(encoded)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<(Bytes, Remembered)> {
        let memory: Self = serde_json::from_slice(bytes).ok()?;
        let json = |raw: Box<RawValue>| Bytes::from(String::from(Box::<str>::from(raw)));
        let remembered = Remembered {
            next_id: memory.next_id,
            subscriptions: memory.subscriptions.into_iter().map(json).collect(),
            config_revision: memory.config_revision,
        };
        Some((json(memory.initialize_result), remembered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back() {
        let remembered = Remembered {
            next_id: 12,
            config_revision: 3,
            subscriptions: vec![Bytes::from_static(br#"{"eventPattern":"a.*"}"#)],
        };
        let result = Bytes::from_static(br#"{"ok":true}"#);
        let encoded = Memory::encode(&result, &remembered).unwrap();
        assert_eq!(Memory::decode(&encoded), Some((result, remembered)));
    }
}
