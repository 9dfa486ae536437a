//! The interfaces of services: what core, drivers and servers offer, and clients ask for. One file a service; its
//! reference page in docs/sessions is made from it. [`Parent`] is what each component starts with.
//!
//! Nothing here does anything: who serves implements the trait, who asks has the client that the macro makes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
mod record;
pub mod children;
pub mod dataspace;
pub mod device;
pub mod journal;
mod packets;
pub mod parent;
pub mod pd;
pub mod report;
pub mod rm;
mod rom;
mod rtc;
pub mod stream;
mod timer;
pub mod trace;
pub mod vm;

pub use children::{Children, ChildrenClient, ChildrenServer};
pub use dataspace::{Dataspace, DataspaceClient, DataspaceServer};
pub use device::{IoMem, IoMemClient, IoMemServer, IoPort, IoPortClient, IoPortServer, Irq, IrqClient, IrqServer};
pub use journal::{Journal, JournalClient, JournalServer};
pub use packets::Packets;
pub use parent::{Parent, ParentClient, ParentServer};
pub use pd::{Pd, PdClient, PdServer};
pub use report::{Report, ReportClient, ReportServer};
pub use rm::{Rm, RmClient, RmServer};
pub use rom::{Rom, RomClient, RomServer};
pub use rtc::{Date, Rtc, RtcClient, RtcError, RtcServer};
pub use stream::{Log, LogClient, LogServer, Terminal, TerminalClient, TerminalServer};
pub use timer::{Timer, TimerClient, TimerServer};
pub use trace::{Trace, TraceClient, TraceServer};
pub use vm::{Vm, VmClient, VmServer};
