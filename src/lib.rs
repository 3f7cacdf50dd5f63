//! The wire of lipsync-server.
//!
//! The types and services of `proto/lipsync/v1/lipsync.proto`, compiled by `build.rs`, their
//! descriptor set, a thin typed [`client`], live [`session`]s, readers for common sound formats
//! ([`wav`], [`g711`], [`container`]), a writer of films ([`avi`]), and what programs share ([`plain_path`],
//! [`causes`]). It deliberately knows nothing of engines, models or pixels: a client program needs this crate alone. Start with [`client::Client`].
#![forbid(unsafe_code)]

pub mod avi;
pub mod call_error;
pub mod causes;
pub mod client;
pub mod container;
pub mod cuts;
pub mod g711;
pub mod plain_path;
pub mod session;
pub mod wav;

/// Version 1 of the contract, as generated. Its documentation is that of the proto file.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    tonic::include_proto!("lipsync.v1");
}

/// The Open Inference Protocol, version 2, as generated. Its documentation is that of the proto file.
pub mod inference {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    tonic::include_proto!("inference");

    /// The encoded `FileDescriptorSet` of the protocol, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
}

/// The OpenTelemetry protocol's service for traces, version 1.11.0, as generated: how a server tells a collector what it
/// did. Its documentation is that of the proto files.
pub mod otlp {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        clippy::missing_errors_doc,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod common {
        pub mod v1 {
            tonic::include_proto!("opentelemetry.proto.common.v1");
        }
    }
    pub mod resource {
        pub mod v1 {
            tonic::include_proto!("opentelemetry.proto.resource.v1");
        }
    }
    pub mod trace {
        pub mod v1 {
            tonic::include_proto!("opentelemetry.proto.trace.v1");
        }
    }
    pub mod collector {
        pub mod trace {
            pub mod v1 {
                tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
            }
        }
    }
}

/// Protocols of the Go servers that came before, as generated. Their documentation is that of the proto files.
pub mod legacy {
    /// Of `go-multitenant-server`. Its lists of floats are pieces of bytes here, f32 LE: that is what a packed list is
    /// on the wire, and one piece is the usual.
    pub mod multi_tenant {
        #![expect(
            missing_docs,
            clippy::too_many_lines,
            clippy::missing_errors_doc,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        tonic::include_proto!("lipsync");

        /// The encoded `FileDescriptorSet` of the protocol, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/lipsync.bin"));
    }

    /// Of `go-monolithic-server`.
    pub mod monolithic {
        #![expect(
            missing_docs,
            clippy::too_many_lines,
            clippy::missing_errors_doc,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        tonic::include_proto!("monolithic");

        /// The encoded `FileDescriptorSet` of the protocol, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/monolithic.bin"));
    }

    /// Of `go-compositing-server`.
    pub mod compositing {
        #![expect(
            missing_docs,
            clippy::too_many_lines,
            clippy::missing_errors_doc,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        tonic::include_proto!("compositing");

        /// The encoded `FileDescriptorSet` of the protocol, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/compositing.bin"));
    }
}

/// The encoded `FileDescriptorSet` of the contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lipsync.v1.bin"));

/// A message size that fits every answer the default server gives, in bytes; tonic's own default of
/// 4 MiB does not fit 64 full JPEG frames.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 50 * 1024 * 1024;
