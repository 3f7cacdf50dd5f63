//! What the edges of the server count.

use std::{sync::Arc, time::SystemTime};

use lipsync_serving::telemetry::Book;

use super::{grpc::GrpcFigures, traffic::Traffic};
use crate::{
    config::{CallLines, Hot, Live},
    traces::Tracer,
};

/// What the edges count, and the book of what is behind them.
#[derive(Debug)]
pub struct EdgeFigures {
    /// What calls, sessions and frames count.
    pub book: Arc<Book>,
    settings: Live<Hot>,
    /// Bytes and connections of the gRPC port.
    pub grpc_port: Arc<Traffic>,
    /// Bytes and connections of the operations port.
    pub operations_port: Arc<Traffic>,
    /// Calls by method and code.
    pub(crate) grpc: GrpcFigures,
    /// When the server started.
    pub(crate) started_at: SystemTime,
    /// Who traces calls, if anybody does.
    pub(crate) tracer: Option<Tracer>,
}

impl EdgeFigures {
    /// Nothing counted yet.
    #[must_use]
    pub(crate) fn new(book: Arc<Book>, settings: Live<Hot>, tracer: Option<Tracer>) -> Self {
        Self {
            book,
            settings,
            grpc_port: Arc::default(),
            operations_port: Arc::default(),
            grpc: GrpcFigures::default(),
            started_at: SystemTime::now(),
            tracer,
        }
    }

    /// Which finished calls and sessions get a line in the log.
    pub(crate) fn lines(&self) -> CallLines {
        self.settings.get().call_lines
    }
}
