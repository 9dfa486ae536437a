//! Nothing unwinds (`panic = "abort"`), and there are no backtraces. What std has to show one, a reader of debug information that
//! no image here has, is more than half of the code of a small component, and goes when the optimiser sees that no frame ever
//! comes.

const URC_END_OF_STACK: i32 = 5;

/// Calls nobody. It is inlined, so that what would be called is not kept.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: usize, _: usize) -> i32 {
    URC_END_OF_STACK
}

/// No image is described.
#[unsafe(no_mangle)]
extern "C" fn dl_iterate_phdr(_: usize, _: usize) -> i32 {
    0
}

macro_rules! never {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! { crate::start::die(concat!("rt: ", stringify!($name), " was called\n")) }
    )* };
}

never! { _Unwind_Resume _Unwind_RaiseException _Unwind_DeleteException _Unwind_GetLanguageSpecificData
_Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_GetDataRelBase _Unwind_SetGR _Unwind_SetIP _Unwind_GetIP
_Unwind_GetIPInfo _Unwind_GetCFA _Unwind_FindEnclosingFunction __tls_get_addr }
