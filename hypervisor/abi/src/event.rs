//! Selectors of events, relative to the event base of an execution context (8.6).

/// Host events that the architecture defines: 32 exceptions. [`crate::Hip::sel_hst_arch`].
pub const HST_ARCH: u64 = 32;
/// Host events that the microhypervisor adds: startup and recall.
pub const HST_NOVA: u64 = 2;
/// Guest events that the architecture defines (VM-exit reasons). [`crate::Hip::sel_gst_arch`].
pub const GST_ARCH: u64 = 0x60;
/// Guest events that the microhypervisor adds: startup and recall.
pub const GST_NOVA: u64 = 2;

/// Startup of a host EC.
pub const HST_STARTUP: u64 = HST_ARCH;
/// Recall of a host EC.
pub const HST_RECALL: u64 = HST_ARCH + 1;
/// Startup of a guest EC.
pub const GST_STARTUP: u64 = GST_ARCH;
/// Recall of a guest EC.
pub const GST_RECALL: u64 = GST_ARCH + 1;
