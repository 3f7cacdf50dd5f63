//! `legacy`: protocols of the Go servers that came before, for clients that were written for them.

use super::section::section;

section! {
    /// `legacy`, as it is written.
    RawLegacy in "legacy";
    cold multi_tenant: bool = false;
    cold monolithic: bool = false;
    cold compositing: bool = false;
    cold check_visual_frames: bool = false;
}

/// `legacy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Legacy {
    /// Serve `lipsync.MultiTenantLipSync`.
    pub multi_tenant: bool,
    /// Serve `monolithic.MonolithicService`.
    pub monolithic: bool,
    /// Serve `compositing.CompositingService`.
    pub compositing: bool,
    /// Compare the pictures that clients send with the server's own.
    pub check_visual_frames: bool,
}

impl RawLegacy {
    pub(super) fn check(&self) -> Legacy {
        Legacy {
            multi_tenant: self.multi_tenant(),
            monolithic: self.monolithic(),
            compositing: self.compositing(),
            check_visual_frames: self.check_visual_frames(),
        }
    }
}
