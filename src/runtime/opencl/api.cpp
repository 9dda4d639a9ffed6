#include "runtime/opencl/api.hpp"

#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "tinyphys/error.hpp"

namespace tinyphys::opencl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLoader = "libOpenCL.so.1";

bool writable(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  return access(folder.c_str(), W_OK | X_OK) == 0;
}

// PoCL keeps compiled kernels in a folder, and lists no device at all where it cannot make that: without a home, or with one
// that is not to be written to. It then gets a folder of this user's alone: what is in it is run.
void give_pocl_a_folder() {
  const auto value = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text ? text : "");
  };
  if (!value("POCL_CACHE_DIR").empty() || value("POCL_KERNEL_CACHE") == "0") return;
  const std::string xdg = value("XDG_CACHE_HOME"), home = value("HOME");
  if (!xdg.empty() ? writable(fs::path(xdg) / "pocl")
                   : !home.empty() && writable(fs::path(home) / ".cache" / "pocl"))
    return;
  std::error_code error;
  fs::path temporary = fs::temp_directory_path(error);
  if (error) temporary = "/tmp";
  std::string folder = temporary / ("tinyphys-pocl-" + std::to_string(getuid()));
  mkdir(folder.c_str(), S_IRWXU);
  struct stat status {};
  const bool ours = lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
                    status.st_uid == getuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  if (!ours) {
    folder = temporary / "tinyphys-pocl-XXXXXX";
    if (!mkdtemp(folder.data())) return;
  }
  setenv("POCL_CACHE_DIR", folder.c_str(), 0);
}

}  // namespace

Api load_api(const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw Error("device",
                std::string("no OpenCL: its loader ") + library + " is not there (" + dlerror() +
                    "); Debian has it in ocl-icd-libopencl1",
                "", 0);
  Api a;
#define TINYPHYS_LOAD(f)                                     \
  a.f = reinterpret_cast<decltype(&::f)>(dlsym(handle, #f)); \
  if (!a.f) throw Error("device", std::string("no OpenCL 1.2: ") + library + " has no " #f, "", 0);
  TINYPHYS_OPENCL_FUNCTIONS(TINYPHYS_LOAD)
#undef TINYPHYS_LOAD
  return a;
}

const Api& api() {
  static const Api a = load_api(kLoader);
  return a;
}

std::vector<Found> find_devices(std::string& reason) {
  give_pocl_a_folder();
  std::vector<Found> found;
  const char* vendors = std::getenv("OCL_ICD_VENDORS");
  const std::string where = std::string("; drivers are listed in ") +
                            (vendors ? std::string(vendors) + " (OCL_ICD_VENDORS)" : "/etc/OpenCL/vendors") +
                            ", the one for CPUs is Debian's pocl-opencl-icd";
  try {
    const Api& cl = api();
    cl_uint n = 0;
    cl_int code = cl.clGetPlatformIDs(0, nullptr, &n);
    if (code != CL_SUCCESS || n == 0) {
      reason = "no OpenCL device: " + std::string(kLoader) + " finds no driver (clGetPlatformIDs: " +
               (code == CL_SUCCESS ? "no platform" : error_name(code)) + ")" + where;
      return found;
    }
    std::vector<cl_platform_id> platforms(n);
    need(cl.clGetPlatformIDs(n, platforms.data(), nullptr), "clGetPlatformIDs", "");
    std::string tried;
    for (cl_platform_id p : platforms) {
      std::size_t bytes = 0;
      cl.clGetPlatformInfo(p, CL_PLATFORM_NAME, 0, nullptr, &bytes);
      std::string name(bytes, '\0');
      cl.clGetPlatformInfo(p, CL_PLATFORM_NAME, bytes, name.data(), nullptr);
      name = name.c_str();
      code = cl.clGetDeviceIDs(p, CL_DEVICE_TYPE_ALL, 0, nullptr, &n);
      tried += (tried.empty() ? "" : ", ") + name +
               " (clGetDeviceIDs: " + (code == CL_SUCCESS ? "no device" : error_name(code)) + ")";
      if (code != CL_SUCCESS || n == 0) continue;
      std::vector<cl_device_id> devices(n);
      need(cl.clGetDeviceIDs(p, CL_DEVICE_TYPE_ALL, n, devices.data(), nullptr), "clGetDeviceIDs", "");
      for (cl_device_id d : devices) found.push_back({p, d});
    }
    if (found.empty()) {
      reason = "no OpenCL device: no driver has one: " + tried;
      if (const char* folder = std::getenv("POCL_CACHE_DIR"))
        reason += "; PoCL has none where it cannot write to its folder, " + std::string(folder) +
                  " (POCL_CACHE_DIR)";
    }
  } catch (const Error& e) {
    reason = e.message();
  }
  return found;
}

std::string error_name(cl_int code) {
  struct Named {
    cl_int code;
    const char* name;
  };
  static constexpr Named kNames[] = {
      {CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND"},
      {CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE"},
      {CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE"},
      {CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
      {CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES"},
      {CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY"},
      {CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE"},
      {CL_INVALID_VALUE, "CL_INVALID_VALUE"},
      {CL_INVALID_DEVICE, "CL_INVALID_DEVICE"},
      {CL_INVALID_BINARY, "CL_INVALID_BINARY"},
      {CL_INVALID_BUILD_OPTIONS, "CL_INVALID_BUILD_OPTIONS"},
      {CL_INVALID_PROGRAM_EXECUTABLE, "CL_INVALID_PROGRAM_EXECUTABLE"},
      {CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME"},
      {CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS"},
      {CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE"},
      {CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE"},
      {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
  };
  for (const Named& n : kNames)
    if (n.code == code) return std::string(n.name) + " (" + std::to_string(code) + ")";
  return "error " + std::to_string(code);
}

void need(cl_int code, std::string_view call, std::string_view device) {
  if (code == CL_SUCCESS) return;
  std::string text = std::string(call) + ": " + error_name(code);
  if (!device.empty()) text += " on the device " + std::string(device);
  throw Error("opencl", text, "", 0);
}

}  // namespace tinyphys::opencl
