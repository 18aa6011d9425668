//! JSON-RPC 2.0 over standard streams, one message a line, both ways.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A call of the host.
#[derive(Debug)]
pub struct Call {
    /// What to answer to. Absent in a notification.
    pub id: Option<Value>,
    /// What is called.
    pub method: String,
    /// With what.
    pub params: Value,
    /// Names the call in what we ask the host because of it.
    pub invocation: Option<String>,
}

/// An error as it travels.
#[derive(Debug, Deserialize, Serialize)]
pub struct Fault {
    /// A code of JSON-RPC or of Paperclip.
    pub code: i32,
    /// A sentence.
    pub message: String,
}

impl Fault {
    /// The worker's own error.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: -32002,
            message: message.into(),
        }
    }
}

/// The two streams. One call is served at a time; others wait in line.
pub struct Wire<R, W> {
    input: R,
    output: W,
    calls: VecDeque<Call>,
    next_id: u64,
}

impl<R: BufRead, W: Write> Wire<R, W> {
    /// Speaks over these streams.
    pub fn new(input: R, output: W) -> Self {
        Self {
            input,
            output,
            calls: VecDeque::new(),
            next_id: 1,
        }
    }

    /// The next call, or none when the host has gone.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn next_call(&mut self) -> io::Result<Option<Call>> {
        loop {
            if let Some(call) = self.calls.pop_front() {
                return Ok(Some(call));
            }
            match self.read()? {
                None => return Ok(None),
                Some(message) => self.calls.extend(call_of(message)),
            }
        }
    }

    /// Answers a call. A notification has no answer.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn answer(&mut self, id: Option<Value>, outcome: Result<Value, Fault>) -> io::Result<()> {
        match (id, outcome) {
            (None, _) => Ok(()),
            (Some(id), Ok(result)) => self.write(json!({ "id": id, "result": result })),
            (Some(id), Err(fault)) => self.write(json!({ "id": id, "error": fault })),
        }
    }

    /// Asks the host, because of this invocation, and waits for its answer.
    ///
    /// # Errors
    /// When a stream fails or ends; what the host refuses is the inner error.
    pub fn ask(
        &mut self,
        method: &str,
        params: Value,
        invocation: Option<&str>,
    ) -> io::Result<Result<Value, Fault>> {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(invocation) = invocation {
            message["paperclipInvocationId"] = invocation.into();
        }
        self.write(message)?;
        loop {
            let Some(mut message) = self.read()? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let is_ours = message.get("method").is_none() && message["id"] == id;
            if !is_ours {
                self.calls.extend(call_of(message));
            } else if let Some(error) = message.get_mut("error") {
                let fault = serde_json::from_value(error.take());
                return Ok(Err(fault.unwrap_or_else(|_| {
                    Fault::new("the host refused, and did not say why")
                })));
            } else {
                return Ok(Ok(message["result"].take()));
            }
        }
    }

    /// The next line that is a message. What is none is passed over: after a change of the
    /// process at the other end, the first line may be half of one.
    fn read(&mut self) -> io::Result<Option<Value>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.input.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if let Ok(message @ Value::Object(_)) = serde_json::from_slice(&line) {
                return Ok(Some(message));
            }
        }
    }

    fn write(&mut self, mut message: Value) -> io::Result<()> {
        message["jsonrpc"] = "2.0".into();
        writeln!(self.output, "{message}")?;
        self.output.flush()
    }
}

fn call_of(mut message: Value) -> Option<Call> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Call {
        method: text(message.get("method")?)?,
        invocation: message.pointer("/paperclipInvocation/id").and_then(text),
        id: message.get_mut("id").map(Value::take),
        params: message
            .get_mut("params")
            .map(Value::take)
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(input: &str) -> Wire<&[u8], Vec<u8>> {
        Wire::new(input.as_bytes(), Vec::new())
    }

    #[test]
    fn a_call_that_comes_while_we_ask_is_served_afterwards() {
        let mut wire = wire(concat!(
            "{\"id\":9,\"method\":\"health\",\"paperclipInvocation\":{\"id\":\"i\"}}\n",
            "{\"id\":1,\"result\":5}\n",
        ));
        let answer = wire.ask("state.get", json!({}), Some("x")).unwrap();
        assert_eq!(answer.unwrap(), 5);
        let call = wire.next_call().unwrap().unwrap();
        assert_eq!(
            (call.method.as_str(), call.invocation.as_deref()),
            ("health", Some("i"))
        );
        let sent = String::from_utf8(wire.output).unwrap();
        assert!(
            sent.ends_with('\n') && sent.contains("\"paperclipInvocationId\":\"x\""),
            "{sent}"
        );
    }

    #[test]
    fn half_a_line_is_passed_over() {
        let mut wire = wire("esult\":1}\n\n{\"id\":2,\"method\":\"health\"}\n");
        assert_eq!(wire.next_call().unwrap().unwrap().id, Some(json!(2)));
        assert!(wire.next_call().unwrap().is_none());
    }

    #[test]
    fn what_the_host_refuses_is_an_error_with_its_code() {
        let mut wire = wire("{\"id\":1,\"error\":{\"code\":-32001,\"message\":\"no\"}}\n");
        let refused = wire.ask("state.get", json!({}), None).unwrap().unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (-32001, "no"));
    }
}
