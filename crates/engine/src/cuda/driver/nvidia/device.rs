//! An opened device: its context, the compiled kernels, its memory.
#![expect(unsafe_code, reason = "calls into the CUDA driver")]

use std::{
    ffi::{CString, c_int, c_void},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cudarc::driver::{
    DriverError, result,
    sys::{self, CUfunction_attribute_enum as FunctionAttribute, CUresult},
};

use super::{discover, is_sticky, stream::NvidiaStream, text, unavailable};
use crate::{
    Device, EngineError,
    cuda::{
        DeviceInfo,
        driver::{DeviceOptions, Driver, Stream},
        launch::Kernel,
    },
};

/// All kernels, for compute capability 8.0; the driver compiles them for the card and caches the result.
const PTX: &str = include_str!("../../ptx/kernels.ptx");
/// Waiting threads sleep instead of spinning: the cores have pictures to encode.
const FLAGS: u32 = sys::CUctx_flags_enum::CU_CTX_SCHED_BLOCKING_SYNC as u32;
/// Percent of a multiprocessor's memory that products want as shared memory.
const SHARED_CARVEOUT: i32 = 100;

/// An opened device.
#[derive(Debug)]
pub(crate) struct Nvidia {
    info: DeviceInfo,
    options: DeviceOptions,
    /// It hangs: no call would come back.
    is_lost: AtomicBool,
    module: sys::CUmodule,
    /// As [`Kernel::ALL`].
    functions: Vec<sys::CUfunction>,
    /// Last, because it is released after the module.
    context: Context,
}

/// A device's primary context, retained.
#[derive(Debug)]
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: a context may be made current in any thread, and the driver's functions may be called by
// several threads at a time; all that is kept here are handles.
unsafe impl Send for Nvidia {}
// SAFETY: as above; nothing here changes after `open`.
unsafe impl Sync for Nvidia {}

impl Context {
    fn open(ordinal: u32) -> Result<Self, DriverError> {
        let device = result::device::get(c_int::try_from(ordinal).unwrap_or(c_int::MAX))?;
        // SAFETY: `device` is a handle that the driver has just given. Where the context is in use
        // already the flags stay as they are, which does no harm.
        let _ = unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, FLAGS) };
        // SAFETY: `device` is a handle that the driver has just given; what is retained is released
        // once, when this is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        Ok(Self { device, context })
    }

    fn bind(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { result::ctx::set_current(self.context) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained by `open`, released only here. What it reports changes nothing any more.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Nvidia {
    /// Opens the device of this ordinal and compiles the kernels for it.
    pub fn open(ordinal: u32, options: DeviceOptions) -> Result<Self, EngineError> {
        let devices = discover()?;
        let n_devices = devices.len();
        let Some(info) = devices.into_iter().find(|info| info.ordinal == ordinal) else {
            return Err(unavailable(format!(
                "there is no cuda:{ordinal}: the driver shows {n_devices} device(s), numbered from 0"
            )));
        };
        if let Some(reason) = info.unusable() {
            return Err(unavailable(reason));
        }
        let name = info.name.clone();
        let refused = |what: &str, error: DriverError| {
            unavailable(format!("cuda:{ordinal} ({name}) {what}: {}", text(error)))
        };
        let context = Context::open(ordinal).map_err(|e| refused("cannot be opened", e))?;
        context.bind().map_err(|e| refused("cannot be used", e))?;
        let ptx = CString::new(options.ptx.as_deref().unwrap_or(PTX))
            .map_err(|_| unavailable("the PTX has a zero in it".into()))?;
        // SAFETY: the image is PTX that ends in a zero, as the driver expects it; a context is current.
        let module =
            unsafe { result::module::load_data(ptx.as_ptr().cast::<c_void>()) }.map_err(|e| {
                refused(
                    "does not take the kernels (they need driver 525.60 or later)",
                    e,
                )
            })?;
        let mut opened = Self {
            info,
            options,
            is_lost: AtomicBool::new(false),
            module,
            functions: vec![],
            context,
        };
        for kernel in Kernel::ALL {
            let function = opened
                .function(kernel)
                .map_err(|e| refused("lacks a kernel", e))?;
            let what = "does not give a kernel the shared memory that it needs";
            let wants_all = opened.options.carveout_for_all;
            give_shared_memory(kernel, function, wants_all).map_err(|e| refused(what, e))?;
            opened.functions.push(function);
        }
        Ok(opened)
    }

    /// A kernel of the module, loaded, so that nothing has to be when it is first captured.
    fn function(&self, kernel: Kernel) -> Result<sys::CUfunction, DriverError> {
        let name = CString::new(kernel.entry())
            .map_err(|_| DriverError(CUresult::CUDA_ERROR_INVALID_VALUE))?;
        // SAFETY: the module is loaded as long as `self` lives.
        let function = unsafe { result::module::get_function(self.module, name) }?;
        let registers = FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS;
        // SAFETY: the function has just been found.
        unsafe { result::function::get_function_attribute(function, registers) }?;
        Ok(function)
    }

    /// The compiled kernel.
    pub(super) fn compiled(&self, kernel: Kernel) -> sys::CUfunction {
        self.functions
            .get(kernel.index())
            .copied()
            .unwrap_or(ptr::null_mut())
    }

    /// Makes the device current in this thread, as every call to the driver wants it.
    pub(super) fn bind(&self) -> Result<(), EngineError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(self.options.hung(Device::Cuda(self.info.ordinal)));
        }
        self.context.bind().map_err(|error| self.failed(error))
    }

    /// How it is used.
    pub(super) fn options(&self) -> &DeviceOptions {
        &self.options
    }

    /// It hangs. From now on every call fails at once, and what is on it stays there: giving it back would wait.
    pub(super) fn lose(&self) -> EngineError {
        self.is_lost.store(true, Ordering::Relaxed);
        self.options.hung(Device::Cuda(self.info.ordinal))
    }

    /// What a call's failure means.
    pub(super) fn failed(&self, error: DriverError) -> EngineError {
        self.failed_to_get(0, error)
    }

    /// The same for a call that wanted so many bytes.
    pub(super) fn failed_to_get(&self, needed: u64, error: DriverError) -> EngineError {
        if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let free = result::mem_get_info().map_or(0, |(free, _)| free as u64);
            return EngineError::OutOfMemory { needed, free };
        }
        EngineError::DeviceFault {
            device: Device::Cuda(self.info.ordinal).to_string(),
            reason: text(error),
            sticky: is_sticky(error.0),
        }
    }
}

/// Lets blocks of a kernel of the module have what they are started with.
fn give_shared_memory(
    kernel: Kernel,
    function: sys::CUfunction,
    wants_all: bool,
) -> Result<(), DriverError> {
    if let Kernel::Block(tile) = kernel {
        let most = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let n_bytes = c_int::try_from(tile.max_shared_bytes()).unwrap_or(c_int::MAX);
        // SAFETY: the function is one of a module that is loaded.
        unsafe { result::function::set_function_attribute(function, most, n_bytes) }?;
    }
    if wants_all || matches!(kernel, Kernel::Gemm(_) | Kernel::Conv(_) | Kernel::Block(_)) {
        let carveout = FunctionAttribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
        // SAFETY: the function is one of a module that is loaded; the attribute is a hint.
        unsafe { result::function::set_function_attribute(function, carveout, SHARED_CARVEOUT) }?;
    }
    Ok(())
}

impl Driver for Nvidia {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> Result<(u64, u64), EngineError> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(|error| self.failed(error))?;
        Ok((free as u64, total as u64))
    }

    fn allocate(&self, n_bytes: usize) -> Result<u64, EngineError> {
        self.bind()?;
        // SAFETY: the memory is only ever written and read by kernels and copies, never as a value.
        unsafe { result::malloc_sync(n_bytes) }
            .map_err(|error| self.failed_to_get(n_bytes as u64, error))
    }

    fn free(&self, address: u64) {
        if self.bind().is_ok() {
            // SAFETY: the address is that of an `Allocation`, which frees it once. The driver waits for
            // whatever still runs.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn write(&self, bytes: &[u8], to: u64) -> Result<(), EngineError> {
        self.bind()?;
        // SAFETY: the bytes are read before the call returns; the driver checks the address.
        unsafe { result::memcpy_htod_sync(to, bytes) }.map_err(|error| self.failed(error))?;
        // From ordinary memory the call returns before the last piece has arrived.
        // SAFETY: the null stream, in which that copy was made, always exists.
        unsafe { result::stream::synchronize(result::stream::null()) }
            .map_err(|error| self.failed(error))
    }

    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.bind()?;
        // SAFETY: the call returns when the bytes are written; the driver checks the address.
        unsafe { result::memcpy_dtoh_sync(bytes, from) }.map_err(|error| self.failed(error))
    }

    fn stream(self: Arc<Self>) -> Result<Box<dyn Stream>, EngineError> {
        Ok(Box::new(NvidiaStream::new(self)?))
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        if self.bind().is_ok() {
            // SAFETY: loaded by `open`; streams and graphs keep the device alive, so none is left that
            // could run a kernel of it.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}
