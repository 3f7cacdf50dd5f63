// All kernels of the engine, one module.

#include "device.cuh"
#include "args.cuh"

#include "product.cu"
#include "depthwise.cu"
#include "convolve.cu"
#include "block.cu"
#include "pixels.cu"
#include "rare.cu"
