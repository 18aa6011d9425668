//! JSON-RPC lines: envelopes are taken apart and put together, contents pass byte for byte.

use bytes::{BufMut, Bytes, BytesMut};
use paperclip_bridge::v1::RpcError;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A line of the worker, parsed.
#[derive(Debug, PartialEq)]
pub enum FromWorker {
    /// An answer to a request of ours. The id is None when it is not one of ours.
    Response {
        /// The id, when it is a number that we may have given.
        id: Option<u64>,
        /// The `result` as JSON, or the error.
        outcome: Result<Bytes, RpcError>,
    },
    /// A request. The id is JSON, to be echoed as it is.
    Request {
        /// Number or string, as written.
        id: Bytes,
        /// The method, its params and the invocation.
        message: Message,
    },
    /// A notification.
    Notification(Message),
}

/// The common part of requests and notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: String,
    /// `params` as JSON; empty without.
    pub params: Bytes,
    /// `paperclipInvocationId`; empty without.
    pub invocation_id: String,
    /// W3C trace context, which the worker does not say: it is that of the invocation.
    pub traceparent: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
    #[serde(
        borrow,
        default,
        rename = "paperclipInvocationId",
        deserialize_with = "present"
    )]
    invocation_id: Option<&'a RawValue>,
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(default)]
    code: Option<f64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// Reads a line in the order of the original host's tests. None when it is not a message.
pub fn parse(line: &Bytes) -> Option<FromWorker> {
    let parsed: Line<'_> = serde_json::from_slice(line).ok()?;
    let share = |raw: &RawValue| line.slice_ref(raw.get().as_bytes());
    if let Some(id) = parsed.id
        && (parsed.result.is_some() || parsed.error.is_some())
    {
        let outcome = match parsed.error {
            Some(error) if error.get() != "null" => Err(rpc_error(error)),
            _ => Ok(parsed.result.map_or(Bytes::from_static(b"null"), share)),
        };
        let id = id.get().parse().ok();
        return Some(FromWorker::Response { id, outcome });
    }
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    let message = Message {
        method: text(parsed.method?)?,
        params: parsed.params.map(share).unwrap_or_default(),
        invocation_id: parsed.invocation_id.and_then(text).unwrap_or_default(),
        traceparent: String::new(),
    };
    match parsed.id {
        Some(id) if id.get() == "null" => None,
        Some(id) => Some(FromWorker::Request {
            id: share(id),
            message,
        }),
        None => Some(FromWorker::Notification(message)),
    }
}

/// Reads an error object.
pub(crate) fn rpc_error(raw: &RawValue) -> RpcError {
    match serde_json::from_str::<ErrorObject<'_>>(raw.get()) {
        Ok(error) => RpcError {
            code: error
                .code
                .map_or(paperclip_protocol::jsonrpc::UNKNOWN, |code| code as i32),
            message: error.message.unwrap_or_default(),
            data_json: error
                .data
                .map(|data| Bytes::copy_from_slice(data.get().as_bytes()))
                .unwrap_or_default(),
        },
        Err(_) => RpcError {
            data_json: Bytes::copy_from_slice(raw.get().as_bytes()),
            ..RpcError::new(
                paperclip_protocol::jsonrpc::UNKNOWN,
                "the worker's error is not an error object",
            )
        },
    }
}

/// True for bytes that are one JSON value.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// A host-to-worker request or, without id, notification, as a line with its end.
///
/// `params` and `invocation` are JSON or empty.
pub fn call(id: Option<u64>, method: &str, params: &[u8], invocation: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(params.len() + invocation.len() + method.len() + 96);
    line.put_slice(br#"{"jsonrpc":"2.0""#);
    if let Some(id) = id {
        line.put_slice(br#","id":"#);
        put_number(&mut line, id);
    }
    line.put_slice(br#","method":"#);
    put_text(&mut line, method);
    line.put_slice(br#","params":"#);
    put_json(&mut line, if params.is_empty() { b"{}" } else { params });
    if !invocation.is_empty() {
        line.put_slice(br#","paperclipInvocation":"#);
        put_json(&mut line, invocation);
    }
    line.put_slice(b"}\n");
    line.freeze()
}

/// An answer to a request of the worker, as a line with its end. `id` is JSON.
pub fn answer(id: &[u8], outcome: &Result<Bytes, RpcError>) -> Bytes {
    let size = outcome.as_ref().map_or(256, Bytes::len);
    let mut line = BytesMut::with_capacity(size + id.len() + 64);
    line.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    put_json(&mut line, id);
    match outcome {
        Ok(result) => {
            line.put_slice(br#","result":"#);
            put_json(&mut line, if result.is_empty() { b"null" } else { result });
        }
        Err(error) => {
            line.put_slice(br#","error":{"code":"#);
            line.put_slice(error.code.to_string().as_bytes());
            line.put_slice(br#","message":"#);
            put_text(&mut line, &error.message);
            if !error.data_json.is_empty() {
                line.put_slice(br#","data":"#);
                put_json(&mut line, &error.data_json);
            }
            line.put_slice(b"}");
        }
    }
    line.put_slice(b"}\n");
    line.freeze()
}

/// An invocation object with another `traceparent`; every other byte stays.
pub fn with_traceparent(invocation: &Bytes, traceparent: &str) -> Bytes {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        traceparent: Option<&'a RawValue>,
    }
    let Ok(object) = serde_json::from_slice::<Object<'_>>(invocation) else {
        return invocation.clone();
    };
    let (from, to, text) = match object.traceparent {
        Some(old) => {
            let old = invocation.slice_ref(old.get().as_bytes());
            let from = old.as_ptr().addr() - invocation.as_ptr().addr();
            (from, from + old.len(), format!("\"{traceparent}\""))
        }
        None => {
            let Some(end) = invocation.iter().rposition(|byte| *byte == b'}') else {
                return invocation.clone();
            };
            (end, end, format!(",\"traceparent\":\"{traceparent}\""))
        }
    };
    [&invocation[..from], text.as_bytes(), &invocation[to..]]
        .concat()
        .into()
}

fn put_number(line: &mut BytesMut, number: u64) {
    // A u64 has at most 20 digits.
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return line.put_slice(&digits[at..]);
        }
    }
}

fn put_text(line: &mut BytesMut, text: &str) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.as_bytes().iter().all(is_plain) {
        line.put_u8(b'"');
        line.put_slice(text.as_bytes());
        return line.put_u8(b'"');
    }
    let quoted = serde_json::Value::from(text).to_string();
    put_json(line, quoted.as_bytes());
}

/// Writes JSON so that no reader of lines finds an end in it: line breaks between tokens
/// become spaces, U+2028 and U+2029, which can only stand in strings, become escapes.
fn put_json(line: &mut BytesMut, json: &[u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr3(b'\n', b'\r', 0xE2, rest) {
        let (plain, found) = rest.split_at(at);
        line.put_slice(plain);
        let (written, length): (&[u8], usize) = match found {
            [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
            [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
            // The first byte of another character.
            [0xE2, ..] => (&[0xE2], 1),
            _ => (b" ", 1),
        };
        line.put_slice(written);
        rest = &found[length..];
    }
    line.put_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_worker_are_echoed_as_written() {
        for id in [r#""a\u0041""#, "7", "-1.5e3"] {
            let line = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#));
            let Some(FromWorker::Request { id: found, .. }) = parse(&line) else {
                panic!("{id}");
            };
            assert_eq!(found, id.as_bytes());
            let answer = answer(&found, &Ok(Bytes::new()));
            let wanted = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":null}}\n");
            assert_eq!(answer, wanted.as_bytes());
        }
    }

    #[test]
    fn a_message_is_classed_as_the_original_does() {
        let class = |text: &'static str| parse(&Bytes::from_static(text.as_bytes()));
        assert!(matches!(
            class(r#"{"id":1,"result":null,"method":"x"}"#),
            Some(FromWorker::Response {
                id: Some(1),
                outcome: Ok(_)
            })
        ));
        assert!(matches!(
            class(r#"{"method":"x"}"#),
            Some(FromWorker::Notification(_))
        ));
        assert_eq!(class(r#"{"id":null,"method":"x"}"#), None);
        assert_eq!(class(r#"{"id":1}"#), None);
        assert_eq!(class("noise"), None);
        assert_eq!(class("[1]"), None);
    }

    #[test]
    fn params_pass_byte_for_byte() {
        let params = br#"{"b":1.0,"a":  [1e400,"\u00e9"],"b":2}"#;
        let line = call(Some(3), "x", params, b"");
        let text = String::from_utf8(line.to_vec()).unwrap();
        assert!(
            text.contains(std::str::from_utf8(params).unwrap()),
            "{text}"
        );
    }

    #[test]
    fn nothing_in_a_line_ends_it_early() {
        let line = call(
            None,
            "x\u{2028}",
            "{\n\"a\":\"\u{2028}\u{2029}é€\"\r\n}".as_bytes(),
            b"",
        );
        let text = String::from_utf8(line.to_vec()).unwrap();
        assert_eq!(
            text.matches(['\n', '\r', '\u{2028}', '\u{2029}']).count(),
            1
        );
        assert!(text.contains(r#"{ "a":"\u2028\u2029é€"  }"#), "{text}");
    }

    #[test]
    fn only_the_traceparent_of_an_invocation_changes() {
        let with = |text: &'static str| with_traceparent(&Bytes::from_static(text.as_bytes()), "t");
        assert_eq!(
            with(r#"{ "id":"1","traceparent" : "old", "scope":{}}"#),
            r#"{ "id":"1","traceparent" : "t", "scope":{}}"#
        );
        assert_eq!(
            with(r#"{"id":"1","scope":{"companyId":"}"} }"#),
            r#"{"id":"1","scope":{"companyId":"}"} ,"traceparent":"t"}"#
        );
    }

    #[test]
    fn error_data_passes() {
        let line =
            Bytes::from_static(br#"{"id":2,"error":{"code":-32002,"message":"m","data":{"a":1}}}"#);
        let Some(FromWorker::Response {
            outcome: Err(error),
            ..
        }) = parse(&line)
        else {
            panic!();
        };
        assert_eq!(
            (error.code, &error.data_json[..]),
            (-32002, &br#"{"a":1}"#[..])
        );
    }
}
