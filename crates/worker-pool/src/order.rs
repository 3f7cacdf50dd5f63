//! In which order waiting jobs are run.

pub(crate) mod lanes;
pub(crate) mod policy;
pub(crate) mod waiting;
