//! A CUDA driver that answers what the environment says: for refusals that no machine at hand gives.
//!
//! Not a module of the tests: they compile it to `libcuda.so.1`. Functions that it lacks are those that are
//! never called where a device is refused.

use std::{
    env,
    ffi::{c_char, c_int, c_uint, c_void},
};

fn asked(name: &str, otherwise: c_int) -> c_int {
    let value = env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the caller's integer, here and below.
    unsafe { *version = asked("STUB_VERSION", 12080) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> c_int {
    asked("STUB_INIT", 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: as above.
    unsafe { *count = asked("STUB_COUNT", 1) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { *device = ordinal };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, name: c_int, _device: c_int) -> c_int {
    let answer = match name {
        75 => asked("STUB_MAJOR", 9),
        _ => 0,
    };
    // SAFETY: as above.
    unsafe { *value = answer };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) -> c_int {
    let text = c"Stub";
    if length >= 5 {
        // SAFETY: the caller's buffer has `length` bytes, and the text 5.
        unsafe { name.copy_from_nonoverlapping(text.as_ptr(), 5) };
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { *bytes = 1 << 30 };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(_error: c_int, name: *mut *const c_char) -> c_int {
    // SAFETY: the caller's pointer; the text lives for ever.
    unsafe { *name = c"CUDA_ERROR_OF_THE_STUB".as_ptr() };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(_error: c_int, words: *mut *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe { *words = c"it was told to".as_ptr() };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(_context: *mut *mut c_void, _device: c_int) -> c_int {
    asked("STUB_CONTEXT", 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(_context: *mut c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(_module: *mut *mut c_void, _image: *const c_void) -> c_int {
    asked("STUB_MODULE", 0)
}
