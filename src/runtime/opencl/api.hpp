// The functions of the ICD loader, taken from it when the first device is asked for: a program that uses no OpenCL loads
// nothing, and a machine without it is no error.
#pragma once

#define CL_TARGET_OPENCL_VERSION 120
#include <string>
#include <string_view>
#include <vector>

#include <CL/cl.h>

namespace tinyphys::opencl {

#define TINYPHYS_OPENCL_FUNCTIONS(X) \
  X(clBuildProgram)                  \
  X(clCreateBuffer)                  \
  X(clCreateCommandQueue)            \
  X(clCreateContext)                 \
  X(clCreateKernel)                  \
  X(clCreateProgramWithBinary)       \
  X(clCreateProgramWithSource)       \
  X(clEnqueueCopyBuffer)             \
  X(clEnqueueFillBuffer)             \
  X(clEnqueueMapBuffer)              \
  X(clEnqueueNDRangeKernel)          \
  X(clEnqueueUnmapMemObject)         \
  X(clFinish)                        \
  X(clGetDeviceIDs)                  \
  X(clGetDeviceInfo)                 \
  X(clGetPlatformIDs)                \
  X(clGetPlatformInfo)               \
  X(clGetProgramBuildInfo)           \
  X(clGetProgramInfo)                \
  X(clReleaseKernel)                 \
  X(clReleaseMemObject)              \
  X(clReleaseProgram)                \
  X(clSetKernelArg)                  \
  X(clSetMemObjectDestructorCallback)

struct Api {
#define TINYPHYS_MEMBER(f) decltype(&::f) f = nullptr;
  TINYPHYS_OPENCL_FUNCTIONS(TINYPHYS_MEMBER)
#undef TINYPHYS_MEMBER
};

// The loader of this name. Throws tp::Error that says what of it is missing.
Api load_api(const char* library);
// The one of this process, "libOpenCL.so.1".
const Api& api();

// A device that a platform of the loader lists.
struct Found {
  cl_platform_id platform;
  cl_device_id device;
};
// All of them, as the loader lists them; empty where there is none: `reason` then says which step found nothing.
std::vector<Found> find_devices(std::string& reason);

// "CL_OUT_OF_RESOURCES (-5)".
std::string error_name(cl_int code);
// Throws tp::Error("opencl", ...) unless the code is CL_SUCCESS.
void need(cl_int code, std::string_view call, std::string_view device);

}  // namespace tinyphys::opencl
