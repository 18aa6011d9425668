//! JSON-RPC error codes of the worker protocol, in their one home.

/// The message is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The message is not a request.
pub const INVALID_REQUEST: i32 = -32600;
/// Nobody serves the method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The params do not fit the method.
pub const INVALID_PARAMS: i32 = -32602;
/// The answering side failed without a code of its own.
pub const INTERNAL: i32 = -32603;
/// The worker is not there to answer, or a host is not there to answer the worker.
pub const WORKER_UNAVAILABLE: i32 = -32000;
/// The plugin manifest does not declare the capability that the call needs.
pub const CAPABILITY_DENIED: i32 = -32001;
/// A handler of the worker failed.
pub const WORKER_ERROR: i32 = -32002;
/// No answer in time.
pub const TIMEOUT: i32 = -32003;
/// The worker leaves this optional method out.
pub const METHOD_NOT_IMPLEMENTED: i32 = -32004;
/// The call asks for a company that its invocation does not cover.
pub const INVOCATION_SCOPE_DENIED: i32 = -32005;
/// A worker for one company was handed the config of a second.
pub const CROSS_TENANT_CONFIG: i32 = -32006;
/// A limit of the plugin's calls is reached. The worker has not seen the call.
pub const LIMIT_EXCEEDED: i32 = -32010;
/// Params or a result are larger than may pass.
pub const PAYLOAD_TOO_LARGE: i32 = -32011;
/// No code fits.
pub const UNKNOWN: i32 = -32099;
