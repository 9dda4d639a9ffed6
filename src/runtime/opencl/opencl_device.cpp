#include "runtime/opencl/opencl_device.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "render/opencl_c.hpp"
#include "runtime/address.hpp"
#include "runtime/opencl/api.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "support/hash.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

using opencl::api;
using opencl::need;

// Below this, waking a thread of the driver costs more than it saves.
constexpr double kWorthThreadsNs = 20'000;

// A driver may end the process over a binary that is not whole (PoCL 3.1 does): it sees none that lacks its own hash.
std::string sealed(std::string binary) {
  std::string out = hash_bytes(binary).hex();
  return out += binary;
}
std::string_view unsealed(std::string_view bytes, const std::string& device) {
  static const std::size_t length = hash_bytes("").hex().size();
  const std::string_view binary = bytes.substr(std::min(length, bytes.size()));
  if (binary.empty() || bytes.substr(0, length) != hash_bytes(binary).hex())
    throw Error("opencl", "these bytes are no binary for the device " + device, "", 0);
  return binary;
}

// What one asks of the driver, once.
struct Limits {
  std::string name, vendor, version, driver;
  bool is_cpu = false, unified = false, fp64 = false, exact_float32 = false;
  int double_lanes = 1, float_lanes = 1, compute_units = 1, largest_group = 1;
  std::size_t memory = 0, largest_value = 0;
};

template <class T> T ask(cl_device_id d, cl_device_info what) {
  T value{};
  need(api().clGetDeviceInfo(d, what, sizeof value, &value, nullptr), "clGetDeviceInfo", "");
  return value;
}
std::string ask_text(cl_device_id d, cl_device_info what) {
  std::size_t bytes = 0;
  need(api().clGetDeviceInfo(d, what, 0, nullptr, &bytes), "clGetDeviceInfo", "");
  std::string text(bytes, '\0');
  need(api().clGetDeviceInfo(d, what, bytes, text.data(), nullptr), "clGetDeviceInfo", "");
  return text.c_str();
}

Limits limits_of(cl_device_id d) {
  Limits l;
  l.name = ask_text(d, CL_DEVICE_NAME);
  l.vendor = ask_text(d, CL_DEVICE_VENDOR);
  l.version = ask_text(d, CL_DEVICE_VERSION);
  l.driver = ask_text(d, CL_DRIVER_VERSION);
  l.is_cpu = (ask<cl_device_type>(d, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
  l.unified = ask<cl_bool>(d, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
  // Only a driver with doubles need know the question.
  cl_device_fp_config doubles = 0;
  if (api().clGetDeviceInfo(d, CL_DEVICE_DOUBLE_FP_CONFIG, sizeof doubles, &doubles, nullptr) == CL_SUCCESS)
    l.fp64 = doubles != 0;
  l.exact_float32 =
      (ask<cl_device_fp_config>(d, CL_DEVICE_SINGLE_FP_CONFIG) & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
  l.double_lanes = static_cast<int>(ask<cl_uint>(d, CL_DEVICE_PREFERRED_VECTOR_WIDTH_DOUBLE));
  l.float_lanes = static_cast<int>(ask<cl_uint>(d, CL_DEVICE_PREFERRED_VECTOR_WIDTH_FLOAT));
  l.compute_units = static_cast<int>(ask<cl_uint>(d, CL_DEVICE_MAX_COMPUTE_UNITS));
  l.largest_group =
      static_cast<int>(std::min<std::size_t>(ask<std::size_t>(d, CL_DEVICE_MAX_WORK_GROUP_SIZE), 4096));
  l.memory = ask<cl_ulong>(d, CL_DEVICE_GLOBAL_MEM_SIZE);
  l.largest_value = ask<cl_ulong>(d, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  return l;
}

// An allocation: the value, with a margin on both sides.
struct Block {
  cl_mem mem = nullptr;
  void* host = nullptr;  // memory of the host that the device works in; null: the driver's own
  std::size_t bytes = 0;
};

class OpenClMemory final : public Memory {
 public:
  OpenClMemory(cl_context context, cl_command_queue queue, std::string device, const Limits& l)
      : context_(context), queue_(queue), device_(std::move(device)), limits_(l) {}

  void* alloc(std::size_t bytes) override {
    const std::size_t all = bytes + 2 * kOpenClMargin;
    if (all > limits_.largest_value)
      throw Error("allocate",
                  "a value of " + std::to_string(bytes) + " bytes is more than the device " + device_ +
                      " holds in one piece, which is " +
                      std::to_string(limits_.largest_value - 2 * kOpenClMargin) +
                      " (CL_DEVICE_MAX_MEM_ALLOC_SIZE)",
                  "", 0);
    auto block = std::make_unique<Block>();
    block->bytes = all;
    cl_mem_flags flags = CL_MEM_READ_WRITE;
    if (limits_.unified) {
      block->host = host_memory().alloc(all);
      if (!block->host) return nullptr;
      flags |= CL_MEM_USE_HOST_PTR;
    }
    cl_int code = CL_SUCCESS;
    block->mem = api().clCreateBuffer(context_, flags, all, block->host, &code);
    if (code == CL_SUCCESS)
      // Kernels that are waiting to run still hold the buffer when its last handle goes.
      code = api().clSetMemObjectDestructorCallback(block->mem, released, block.get());
    if (code != CL_SUCCESS) {
      if (block->mem) api().clReleaseMemObject(block->mem);
      if (block->host) host_memory().free(block->host, all);
      return nullptr;
    }
    return block.release();
  }
  void free(void* address, std::size_t) noexcept override {
    api().clReleaseMemObject(static_cast<Block*>(address)->mem);
  }
  void copy(void* to, std::size_t to_offset, const void* from, std::size_t from_offset,
            std::size_t bytes) override {
    if (bytes == 0) return;
    need(api().clEnqueueCopyBuffer(queue_, static_cast<const Block*>(from)->mem, static_cast<Block*>(to)->mem,
                                   kOpenClMargin + from_offset, kOpenClMargin + to_offset, bytes, 0, nullptr,
                                   nullptr),
         "clEnqueueCopyBuffer", device_);
  }
  void* map(void* address, std::size_t bytes, MapFor access) override {
    auto* block = static_cast<Block*>(address);
    if (bytes == 0) return block;
    if (is_number(bytes, access)) return host_memory().alloc(bytes);
    const cl_map_flags flags = access == MapFor::kRead    ? CL_MAP_READ
                               : access == MapFor::kWrite ? CL_MAP_WRITE_INVALIDATE_REGION
                                                          : CL_MAP_READ | CL_MAP_WRITE;
    cl_int code = CL_SUCCESS;
    void* p = api().clEnqueueMapBuffer(queue_, block->mem, CL_TRUE, flags, kOpenClMargin, bytes, 0, nullptr,
                                       nullptr, &code);
    need(code, "clEnqueueMapBuffer", device_);
    return p;
  }
  void unmap(void* address, void* mapped, std::size_t bytes, MapFor access) noexcept override {
    const cl_mem mem = static_cast<Block*>(address)->mem;
    if (bytes == 0) return;
    if (!is_number(bytes, access)) {
      api().clEnqueueUnmapMemObject(queue_, mem, mapped, 0, nullptr, nullptr);
      return;
    }
    api().clEnqueueFillBuffer(queue_, mem, mapped, bytes, kOpenClMargin, bytes, 0, nullptr, nullptr);
    host_memory().free(mapped, bytes);
  }

 private:
  // A number that is written, as the step of a loop: it goes into the queue by itself, and nobody waits for the kernels before it.
  static bool is_number(std::size_t bytes, MapFor access) {
    return access == MapFor::kWrite && (bytes == 1 || bytes == 4 || bytes == 8);
  }
  static void CL_CALLBACK released(cl_mem, void* user) {
    const std::unique_ptr<Block> block(static_cast<Block*>(user));
    if (block->host) host_memory().free(block->host, block->bytes);
  }
  cl_context context_;
  cl_command_queue queue_;
  std::string device_;
  const Limits& limits_;
};

// A program that is built, with a kernel for each part.
class OpenClCode final : public LoadedCode {
 public:
  struct Part {
    cl_kernel kernel;
    OpenClArguments arguments;
  };
  OpenClCode(cl_program p, const Kernel& k, const std::string& device) : program_(p) {
    for (std::size_t i = 0; i < k.parts.size(); ++i) {
      cl_int code = CL_SUCCESS;
      const cl_kernel f = api().clCreateKernel(p, ("kernel_" + std::to_string(i)).c_str(), &code);
      if (code != CL_SUCCESS) release();
      need(code, "clCreateKernel", device);
      parts.push_back({f, opencl_arguments(k.parts[i].program)});
    }
  }
  ~OpenClCode() override { release(); }

  std::vector<Part> parts;
  std::mutex mutex;  // of the arguments
  cl_program program() const { return program_; }

 private:
  void release() {
    for (const Part& p : parts) api().clReleaseKernel(p.kernel);
    if (program_) api().clReleaseProgram(program_);
    program_ = nullptr;
  }
  cl_program program_;
};

class OpenClDevice final : public Device {
 public:
  OpenClDevice(std::string_view name, const opencl::Found& found, OpenClStyle style)
      : name_(name),
        id_(found.device),
        limits_(limits_of(found.device)),
        full_name_(name_ + " (" + limits_.name + ")") {
    const cl_context_properties of[] = {CL_CONTEXT_PLATFORM,
                                        reinterpret_cast<cl_context_properties>(found.platform), 0};
    cl_int code = CL_SUCCESS;
    context_ = api().clCreateContext(of, 1, &id_, nullptr, nullptr, &code);
    need(code, "clCreateContext", full_name_);
    queue_ = api().clCreateCommandQueue(context_, id_, 0, &code);
    need(code, "clCreateCommandQueue", full_name_);
    memory_ = new OpenClMemory(context_, queue_, full_name_, limits_);

    vectors_ = limits_.is_cpu && style == OpenClStyle::kAsDevice;
    constexpr int kWidest = 64, kItemBytes = 8, kGroup = 64;
    render_.fp64 = limits_.fp64;
    render_.vector_bytes =
        vectors_ ? std::clamp(std::max(8 * limits_.double_lanes, 4 * limits_.float_lanes), 16, kWidest)
                 : kItemBytes;
    render_.work_group = vectors_ ? 1 : std::min(kGroup, limits_.largest_group);
    properties_.target.vector_bytes = render_.vector_bytes;
    properties_.target.render = kOpenClCaps;
    if (!vectors_) properties_.target.max_units = std::int64_t{1} << 20;
    properties_.render = [this](const Kernel& k) { return render_opencl_c(k, render_, full_name_); };
    properties_.work_group = render_.work_group;
    properties_.fp64 = limits_.fp64;
    properties_.compute_units = limits_.compute_units;
    properties_.description = limits_.name + ", " + limits_.vendor + ", " + limits_.version;
    properties_.memory_bytes = static_cast<std::int64_t>(limits_.memory);
    properties_.largest_value = static_cast<std::int64_t>(limits_.largest_value - 2 * kOpenClMargin);
    properties_.unified = limits_.unified;
    options_ = "-cl-std=CL1.2";
    if (limits_.exact_float32) options_ += " -cl-fp32-correctly-rounded-divide-sqrt";
  }

  std::string_view name() const override { return name_; }
  const DeviceProperties& properties() const override { return properties_; }
  Memory& memory() override { return *memory_; }

  // The binary of the program, taken after each kernel was launched once, for nothing: some drivers finish their code only
  // then.
  std::string compile(const Source& s) override {
    if (s.kernel->parts.empty()) return {};
    const std::lock_guard lock(mutex_);
    auto code = build(s);
    for (std::size_t i = 0; i < code->parts.size(); ++i) launch_for_nothing(code->parts[i]);
    need(api().clFinish(queue_), "clFinish", full_name_);
    std::size_t bytes = 0;
    need(api().clGetProgramInfo(code->program(), CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, nullptr),
         "clGetProgramInfo", full_name_);
    std::string binary(bytes, '\0');
    auto* to = reinterpret_cast<unsigned char*>(binary.data());
    need(api().clGetProgramInfo(code->program(), CL_PROGRAM_BINARIES, sizeof to, &to, nullptr),
         "clGetProgramInfo", full_name_);
    built_ = {s.name, sealed(std::move(binary)), std::move(code)};
    return built_.bytes;
  }

  KeyFields cache_key(const Source& s) const override {
    if (s.kernel->parts.empty()) return {};
    return {{"backend", "opencl"},
            {"driver", limits_.vendor + ", " + limits_.version + ", " + limits_.driver},
            {"device", limits_.name},
            {"options", options_}};
  }

  std::shared_ptr<LoadedCode> load(const Source& s, const std::string& whole) override {
    if (s.kernel->parts.empty()) return std::make_shared<LoadedCode>();
    const std::lock_guard lock(mutex_);
    const Built built = std::exchange(built_, {});
    if (built.code && built.name == s.name && built.bytes == whole) return built.code;
    const std::string_view binary = unsealed(whole, full_name_);
    cl_int of_binary = CL_SUCCESS, code = CL_SUCCESS;
    const std::size_t bytes = binary.size();
    const auto* from = reinterpret_cast<const unsigned char*>(binary.data());
    const cl_program p = api().clCreateProgramWithBinary(context_, 1, &id_, &bytes, &from, &of_binary, &code);
    need(code, "clCreateProgramWithBinary", full_name_);
    code = api().clBuildProgram(p, 1, &id_, options_.c_str(), nullptr, nullptr);
    if (code != CL_SUCCESS) api().clReleaseProgram(p);
    need(code, "clBuildProgram of a binary", full_name_);
    return std::make_shared<OpenClCode>(p, *s.kernel, full_name_);
  }

  std::shared_ptr<LoadedCode> compile_and_load(const Source& s) override {
    if (s.kernel->parts.empty()) return std::make_shared<LoadedCode>();
    const std::lock_guard lock(mutex_);
    return build(s);
  }

  void launch(const Executable& e, const LaunchArguments& a) override {
    if (e.kernel().parts.empty()) return;  // nothing to store
    auto& code = static_cast<OpenClCode&>(e.code());
    const Kernel& k = e.kernel();
    const StepRange steps = e.steps(a);
    const double passes = k.is_scan ? static_cast<double>(steps.last - steps.first) : 1;
    const std::lock_guard lock(code.mutex);
    for (std::size_t i = 0; i < k.parts.size(); ++i) {
      const OpenClCode::Part& part = code.parts[i];
      const std::int64_t units = k.parts[i].units;
      // The buffers between the parts come after those of the caller.
      cl_uint n = 0;
      const auto buffer = [&](std::span<const Storage* const> of_caller, std::int64_t number) {
        const auto at = static_cast<std::size_t>(number);
        const Storage& s = at < of_caller.size() ? *of_caller[at] : *a.scratch[at - of_caller.size()];
        argument(part.kernel, n++, static_cast<const Block*>(address_in(*memory_, s))->mem);
      };
      for (const std::int64_t o : part.arguments.outputs) buffer(a.outputs, o);
      for (const std::int64_t p : part.arguments.inputs) buffer(a.inputs, p);
      for (const auto& s : part.arguments.slots)
        slot(part.kernel, n++, s.dtype, a.scalars[static_cast<std::size_t>(s.number)]);
      const bool alone = vectors_ && (units == 1 || k.parts[i].cost_ns * passes < kWorthThreadsNs);
      const std::int64_t each = alone ? units : 1;
      argument(part.kernel, n++, cl_long{each});
      argument(part.kernel, n++, cl_long{units});
      if (part.arguments.steps) {
        argument(part.kernel, n++, cl_long{steps.first});
        argument(part.kernel, n++, cl_long{steps.last});
      }
      enqueue(part.kernel, alone ? 1 : units);
    }
  }

  void finish() override { need(api().clFinish(queue_), "clFinish", full_name_); }

 private:
  struct Built {
    std::string name, bytes;
    std::shared_ptr<OpenClCode> code;
  };

  template <class T> void argument(cl_kernel kernel, cl_uint number, const T& value) const {
    need(api().clSetKernelArg(kernel, number, sizeof value, &value), "clSetKernelArg", full_name_);
  }
  void slot(cl_kernel kernel, cl_uint number, DType d, std::int64_t bits) const {
    switch (d) {
      case DType::kFloat64: return argument(kernel, number, from_bits(bits));
      case DType::kFloat32: return argument(kernel, number, static_cast<float>(from_bits(bits)));
      case DType::kInt64: return argument(kernel, number, cl_long{bits});
      case DType::kInt32: return argument(kernel, number, static_cast<cl_int>(bits));
      default: return argument(kernel, number, cl_int{bits != 0});
    }
  }
  void enqueue(cl_kernel kernel, std::int64_t items) const {
    const auto local = static_cast<std::size_t>(render_.work_group);
    const std::size_t global = (static_cast<std::size_t>(items) + local - 1) / local * local;
    need(api().clEnqueueNDRangeKernel(queue_, kernel, 1, nullptr, &global, &local, 0, nullptr, nullptr),
         "clEnqueueNDRangeKernel", full_name_);
    // What waits takes memory of the driver's.
    constexpr int kMostWaiting = 1000;
    if (waiting_.fetch_add(1, std::memory_order_relaxed) < kMostWaiting) return;
    waiting_.store(0, std::memory_order_relaxed);
    need(api().clFinish(queue_), "clFinish", full_name_);
  }
  // No units: returns before it touches memory.
  void launch_for_nothing(const OpenClCode::Part& part) const {
    cl_uint n = 0;
    for (std::size_t i = part.arguments.outputs.size() + part.arguments.inputs.size(); i > 0; --i)
      argument(part.kernel, n++, static_cast<cl_mem>(nullptr));
    for (const auto& s : part.arguments.slots) slot(part.kernel, n++, s.dtype, 0);
    for (int i = part.arguments.steps ? 4 : 2; i > 0; --i) argument(part.kernel, n++, cl_long{0});
    enqueue(part.kernel, 1);
  }

  std::shared_ptr<OpenClCode> build(const Source& s) const {
    const char* text = s.text.c_str();
    cl_int code = CL_SUCCESS;
    const cl_program p = api().clCreateProgramWithSource(context_, 1, &text, nullptr, &code);
    need(code, "clCreateProgramWithSource", full_name_);
    code = api().clBuildProgram(p, 1, &id_, options_.c_str(), nullptr, nullptr);
    if (code != CL_SUCCESS) {
      std::size_t bytes = 0;
      api().clGetProgramBuildInfo(p, id_, CL_PROGRAM_BUILD_LOG, 0, nullptr, &bytes);
      std::string log(bytes, '\0');
      api().clGetProgramBuildInfo(p, id_, CL_PROGRAM_BUILD_LOG, bytes, log.data(), nullptr);
      api().clReleaseProgram(p);
      throw Error("compile",
                  "the device " + full_name_ + " cannot build a kernel, " + opencl::error_name(code) +
                      "; options: " + options_ + "; source: " + dumped(s) + "; log:\n" + log.c_str(),
                  "", 0);
    }
    return std::make_shared<OpenClCode>(p, *s.kernel, full_name_);
  }

  // Where the source can be read.
  static std::string dumped(const Source& s) {
    std::error_code error;
    std::filesystem::path folder = env::debug_dir();
    if (folder.empty()) folder = std::filesystem::temp_directory_path(error);
    std::filesystem::create_directories(folder, error);
    const std::filesystem::path path = folder / (s.name + ".cl");
    std::ofstream file(path);
    file << s.text;
    return file.flush() ? path.string() : "(not written: " + path.string() + ")";
  }

  std::string name_;
  cl_device_id id_;
  Limits limits_;
  std::string full_name_;  // "cl (pthread-AMD EPYC)"
  cl_context context_ = nullptr;
  cl_command_queue queue_ = nullptr;
  OpenClMemory* memory_ = nullptr;  // leaked on purpose, as the device: static objects may hold values
  OpenClTarget render_;
  DeviceProperties properties_;
  std::string options_;
  bool vectors_ = true;
  std::mutex mutex_;
  mutable std::atomic<int> waiting_{0};  // launched since somebody waited, at most
  Built built_;                          // by the last compile(): its load() comes next, as a rule
};

}  // namespace

std::unique_ptr<Device> open_opencl_device(int number, std::string_view name, OpenClStyle style) {
  static std::string reason;
  static const std::vector<opencl::Found> found = opencl::find_devices(reason);
  if (static_cast<std::size_t>(number) < found.size())
    return std::make_unique<OpenClDevice>(name, found[static_cast<std::size_t>(number)], style);
  if (found.empty()) throw Error("device", reason, "", 0);
  throw Error("device",
              "no device \"" + std::string(name) + "\": OpenCL lists " + std::to_string(found.size()) +
                  ", counted from cl:0 on",
              "", 0);
}

void try_opencl_loader(const char* library) { (void)opencl::load_api(library); }

namespace {

template <int number> Device& opencl_device() {
  static constexpr std::array<std::string_view, 4> kNames{"cl", "cl:1", "cl:2", "cl:3"};
  // Leaked on purpose: its code and values may be held by static objects.
  static Device* d = open_opencl_device(number, kNames[number], OpenClStyle::kAsDevice).release();
  return *d;
}

[[maybe_unused]] const bool added =
    add_device("cl", opencl_device<0>) && add_device("cl:1", opencl_device<1>) &&
    add_device("cl:2", opencl_device<2>) && add_device("cl:3", opencl_device<3>);

}  // namespace
}  // namespace tinyphys
