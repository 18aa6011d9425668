//! Errors of the worker protocol as gRPC statuses, both ways.
//!
//! A status carries, as `google.rpc.Status` details: an `ErrorInfo` with a reason of
//! [`TABLE`] and the JSON-RPC code, a `RetryInfo` where a later call may succeed, and the
//! whole error as a `paperclip.plugin.v1.RpcError`, with its data byte for byte.

use std::collections::HashMap;

use bytes::Bytes;
use paperclip_protocol::jsonrpc;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::v1::RpcError;

/// Domain of the `ErrorInfo`.
pub const DOMAIN: &str = "plugins.paperclip.ing";
/// Key of the JSON-RPC code in the `ErrorInfo`'s metadata.
pub const CODE_KEY: &str = "jsonrpcCode";
/// Full name of the message that holds the whole error.
const RPC_ERROR: &str = "paperclip.plugin.v1.RpcError";
/// The time that a client is to wait before it calls a plugin again that was not there.
const RETRY_SECONDS: i64 = 1;

/// A JSON-RPC code and its code in gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The code of the worker protocol.
    pub jsonrpc: i32,
    /// The code of the status.
    pub grpc: Code,
    /// Reason in the `ErrorInfo`.
    pub reason: &'static str,
}

const fn row(jsonrpc: i32, grpc: Code, reason: &'static str) -> Mapping {
    Mapping {
        jsonrpc,
        grpc,
        reason,
    }
}

/// Every code of the worker protocol. Where two share a gRPC code, a bare status of that
/// code means the first. Printed in `docs/grpc.md`.
pub const TABLE: [Mapping; 15] = [
    row(
        jsonrpc::INVALID_PARAMS,
        Code::InvalidArgument,
        "INVALID_PARAMS",
    ),
    row(
        jsonrpc::INVALID_REQUEST,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    ),
    row(jsonrpc::PARSE_ERROR, Code::InvalidArgument, "PARSE_ERROR"),
    row(
        jsonrpc::METHOD_NOT_IMPLEMENTED,
        Code::Unimplemented,
        "METHOD_NOT_IMPLEMENTED",
    ),
    row(
        jsonrpc::METHOD_NOT_FOUND,
        Code::Unimplemented,
        "METHOD_NOT_FOUND",
    ),
    row(
        jsonrpc::WORKER_UNAVAILABLE,
        Code::Unavailable,
        "WORKER_UNAVAILABLE",
    ),
    row(
        jsonrpc::CAPABILITY_DENIED,
        Code::PermissionDenied,
        "CAPABILITY_DENIED",
    ),
    row(
        jsonrpc::INVOCATION_SCOPE_DENIED,
        Code::PermissionDenied,
        "INVOCATION_SCOPE_DENIED",
    ),
    row(
        jsonrpc::CROSS_TENANT_CONFIG,
        Code::FailedPrecondition,
        "CROSS_TENANT_CONFIG",
    ),
    row(jsonrpc::TIMEOUT, Code::DeadlineExceeded, "TIMEOUT"),
    row(
        jsonrpc::LIMIT_EXCEEDED,
        Code::ResourceExhausted,
        "LIMIT_EXCEEDED",
    ),
    row(
        jsonrpc::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted,
        "PAYLOAD_TOO_LARGE",
    ),
    row(jsonrpc::WORKER_ERROR, Code::Unknown, "WORKER_ERROR"),
    row(jsonrpc::INTERNAL, Code::Internal, "INTERNAL"),
    row(jsonrpc::UNKNOWN, Code::Unknown, "UNKNOWN"),
];

/// The status of an error.
#[must_use]
pub fn to_status(error: RpcError) -> Status {
    let unknown = Mapping {
        jsonrpc: error.code,
        grpc: Code::Unknown,
        reason: "UNKNOWN",
    };
    let known = TABLE.iter().find(|row| row.jsonrpc == error.code);
    let Mapping { grpc, reason, .. } = *known.unwrap_or(&unknown);
    let info = pb::ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: HashMap::from([(CODE_KEY.to_owned(), error.code.to_string())]),
    };
    let may_pass_later = grpc == Code::Unavailable || error.code == jsonrpc::LIMIT_EXCEEDED;
    let retry = may_pass_later.then_some(pb::RetryInfo {
        retry_delay: Some(prost_types::Duration {
            seconds: RETRY_SECONDS,
            nanos: 0,
        }),
    });
    let mut details = vec![packed("google.rpc.ErrorInfo", &info)];
    details.extend(retry.map(|retry| packed("google.rpc.RetryInfo", &retry)));
    details.push(packed(RPC_ERROR, &error));
    let message = error.message;
    let all = pb::Status {
        code: grpc.into(),
        message: message.clone(),
        details,
    };
    Status::with_details(grpc, message, Bytes::from(all.encode_to_vec()))
}

/// The error of a status: the one in its details, else the one its code stands for.
#[must_use]
pub fn from_status(status: &Status) -> RpcError {
    let details = pb::Status::decode(status.details()).unwrap_or_default();
    let whole = details
        .details
        .iter()
        .filter(|any| any.type_url.rsplit('/').next() == Some(RPC_ERROR))
        .find_map(|any| RpcError::decode(&*any.value).ok());
    whole.unwrap_or_else(|| {
        let known = TABLE.iter().find(|row| row.grpc == status.code());
        let code = known.map_or(jsonrpc::UNKNOWN, |row| row.jsonrpc);
        RpcError::new(code, status.message())
    })
}

fn packed(name: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    #[test]
    fn every_code_comes_back_with_its_data() {
        for row in TABLE {
            let error = RpcError {
                code: row.jsonrpc,
                message: "no".into(),
                data_json: Bytes::from_static(b"{\"a\": 1}"),
            };
            let status = to_status(error.clone());
            assert_eq!(status.code(), row.grpc);
            assert_eq!(from_status(&status), error);
        }
    }

    #[test]
    fn a_bare_status_means_the_first_code_of_its_kind() {
        assert_eq!(
            from_status(&Status::new(Code::Unimplemented, "no")).code,
            jsonrpc::METHOD_NOT_IMPLEMENTED
        );
        assert_eq!(
            from_status(&Status::new(Code::Aborted, "no")).code,
            jsonrpc::UNKNOWN
        );
    }

    #[test]
    fn standard_details_are_what_clients_of_other_makers_read() {
        let status = to_status(RpcError::new(jsonrpc::WORKER_UNAVAILABLE, "gone"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("WORKER_UNAVAILABLE", DOMAIN)
        );
        assert_eq!(info.metadata[CODE_KEY], "-32000");
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        let denied = to_status(RpcError::new(jsonrpc::CAPABILITY_DENIED, "no"));
        assert!(denied.get_error_details().retry_info().is_none());
    }

    #[test]
    fn a_code_of_the_workers_own_is_unknown_and_kept() {
        let status = to_status(RpcError::new(42, "odd"));
        assert_eq!(
            (status.code(), from_status(&status).code),
            (Code::Unknown, 42)
        );
    }

    #[test]
    fn the_page_lists_the_table() {
        let page = include_str!("../../../docs/grpc.md");
        for row in TABLE {
            let line = format!("| {} | `{}` | {:?} |", row.jsonrpc, row.reason, row.grpc);
            assert!(page.contains(&line), "{line}");
        }
    }
}
