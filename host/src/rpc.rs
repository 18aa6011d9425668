//! JSON-RPC faults: the codes of Paperclip's plugin protocol and the error that carries one.

use std::fmt;

use bytes::Bytes;

use paperclip_bridge::v1::RpcError;
pub use paperclip_protocol::jsonrpc::{
    CAPABILITY_DENIED, INTERNAL, INVOCATION_SCOPE_DENIED as SCOPE_DENIED, LIMIT_EXCEEDED,
    METHOD_NOT_FOUND, METHOD_NOT_IMPLEMENTED, PAYLOAD_TOO_LARGE, TIMEOUT, WORKER_ERROR,
    WORKER_UNAVAILABLE,
};

/// A JSON-RPC error object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// One of the codes above, or a code of the plugin's own.
    pub code: i32,
    /// A sentence for people.
    pub message: String,
    /// `data` as JSON. Empty without it.
    pub data: Bytes,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message, self.code)
    }
}

impl Fault {
    /// A fault without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: Bytes::new(),
        }
    }

    /// The host could not do what was asked.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, message)
    }

    /// No worker answers.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(WORKER_UNAVAILABLE, message)
    }
}

impl From<RpcError> for Fault {
    fn from(error: RpcError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            data: error.data_json,
        }
    }
}

impl From<Fault> for RpcError {
    fn from(fault: Fault) -> Self {
        Self {
            code: fault.code,
            message: fault.message,
            data_json: fault.data,
        }
    }
}

/// Puts JSON on one line: a worker reads one message a line, and a body that was
/// written over several lines means the same without its line breaks. Inside
/// strings JSON has no raw line breaks, so only white space is touched.
pub fn one_line(json: Bytes) -> Bytes {
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !json.iter().any(breaks) {
        return json;
    }
    json.iter()
        .map(|byte| if breaks(byte) { b' ' } else { *byte })
        .collect::<Vec<u8>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_over_several_lines_is_put_on_one() {
        let text = Bytes::from_static(b"{\r\n  \"a\": \"x\\ny\"\n}");
        assert_eq!(one_line(text), &b"{    \"a\": \"x\\ny\" }"[..]);
    }
}
