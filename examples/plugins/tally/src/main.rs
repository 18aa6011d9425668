//! The worker of the tally example: counts, and keeps the counts in the host's state.

mod rpc;

use std::{
    io::{self, BufRead, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use rpc::{Call, Fault, Wire};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecuteTool {
    tool_name: String,
    parameters: Count,
}

#[derive(Deserialize)]
struct Count {
    tally: String,
    #[serde(default = "one")]
    by: u64,
}

fn one() -> u64 {
    1
}

fn main() -> io::Result<()> {
    wait_for_streams()?;
    let mut wire = Wire::new(io::stdin().lock(), io::stdout().lock());
    while let Some(call) = wire.next_call()? {
        let outcome = serve(&mut wire, &call)?;
        wire.answer(call.id, outcome)?;
        if call.method == "shutdown" {
            break;
        }
    }
    Ok(())
}

/// Node sets its standard streams not to block, and whoever takes its place inherits that.
fn wait_for_streams() -> io::Result<()> {
    for stream in [io::stdin().as_fd(), io::stdout().as_fd()] {
        // The type only lends its setter, which works on any descriptor.
        UnixStream::from(stream.try_clone_to_owned()?).set_nonblocking(false)?;
    }
    Ok(())
}

fn serve<R: BufRead, W: Write>(
    wire: &mut Wire<R, W>,
    call: &Call,
) -> io::Result<Result<Value, Fault>> {
    Ok(match call.method.as_str() {
        "initialize" => Ok(json!({ "ok": true, "supportedMethods": ["health"] })),
        "health" => Ok(json!({ "status": "ok" })),
        "shutdown" => Ok(Value::Null),
        "executeTool" => match ExecuteTool::deserialize(&call.params) {
            Ok(ExecuteTool { tool_name, .. }) if tool_name != "count" => {
                Err(Fault::new(format!("no tool {tool_name}")))
            }
            Ok(ExecuteTool { parameters, .. }) => {
                count(wire, &parameters, call.invocation.as_deref())?
            }
            Err(error) => Ok(json!({ "error": format!("parameters: {error}") })),
        },
        method => Err(Fault {
            code: -32601,
            message: format!("no method {method}"),
        }),
    })
}

/// Adds to a tally. No other call is served meanwhile, so none is lost.
fn count<R: BufRead, W: Write>(
    wire: &mut Wire<R, W>,
    count: &Count,
    invocation: Option<&str>,
) -> io::Result<Result<Value, Fault>> {
    let mut at = json!({ "scopeKind": "instance", "stateKey": format!("tally-{}", count.tally) });
    let before = match wire.ask("state.get", at.clone(), invocation)? {
        Ok(value) => value.as_u64().unwrap_or_default(),
        Err(fault) => return Ok(Err(fault)),
    };
    let now = before.saturating_add(count.by);
    at["value"] = now.into();
    Ok(wire.ask("state.set", at, invocation)?.map(|_| {
        json!({
            "content": format!("{}: {now}", count.tally),
            "data": { "tally": count.tally, "count": now },
        })
    }))
}
