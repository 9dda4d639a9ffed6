// What runs kernels. A device has a memory (alloc, free, copy, map), compiles text to bytes, loads them, and launches; its
// properties say what the code generator may do. Lowering and rendering are shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cache/key.hpp"
#include "codegen/kernel.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Steps [first, last) of a scan kernel; last < 0: all of them, [0, steps of the SCAN). Stacked outputs and xs
// are indexed by the step itself; the carry goes from the inputs of this launch to its outputs, so that a
// long scan can be run in pieces.
struct StepRange {
  std::int64_t first = 0, last = -1;
};

struct LaunchArguments {
  std::span<const Storage* const> outputs;  // one per output of the LAMBDA
  std::span<const Storage* const> inputs;   // one per PARAM; null for scalar slots
  std::span<const std::int64_t> scalars;    // one per PARAM: bits of a double (floats), else the value
  std::span<const Storage* const> scratch;  // one per Kernel::scratch, of so many bytes
  StepRange steps{};
};

// A kernel as a device compiles it.
struct Source {
  std::string name;  // "k_" and a hash of the text: equal text, equal name
  std::string text;  // no pointers, no scalars
  std::shared_ptr<const Kernel> kernel;
};

// What a device has loaded; unloaded when the last holder drops it.
class LoadedCode {
 public:
  virtual ~LoadedCode() = default;
};

// A kernel ready to run.
class Executable {
 public:
  Executable(Source source, UOp lambda, std::shared_ptr<LoadedCode> code, double seconds);
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  const std::string& name() const { return source_.name; }
  const std::string& text() const { return source_.text; }
  // Loops run one after another: 1, or more where a long reduction is done in blocks.
  int n_parts() const { return static_cast<int>(kernel().parts.size()); }
  double compile_seconds() const { return seconds_; }
  // One thread, one launch (one step of a scan kernel): an estimate.
  double cost_ns() const { return kernel().cost_ns(); }
  bool is_scan() const { return kernel().is_scan; }
  const Kernel& kernel() const { return *source_.kernel; }
  const UOp& lambda() const { return lambda_; }
  LoadedCode& code() const { return *code_; }
  // The steps that a launch means; resolves last < 0.
  StepRange steps(const LaunchArguments& a) const;

 private:
  Source source_;
  UOp lambda_;
  std::shared_ptr<LoadedCode> code_;
  double seconds_;
};

struct DeviceProperties {
  Target target{};  // of the code generator: vector width, what its text can say
  std::function<std::string(const Kernel& kernel)> render{};  // null: LAMBDAs run as they are
  int work_group = 1;                                         // threads that share fast memory
  bool fp64 = true;
  int compute_units = 1;
  // For tp::devices(); 0: no other bound than the memory of the host.
  std::string description{};
  std::int64_t memory_bytes = 0, largest_value = 0;
  bool unified = true;  // works in the memory of the host
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  virtual const DeviceProperties& properties() const = 0;
  virtual Memory& memory() { return host_memory(); }
  // False: it only compiles.
  virtual bool runs() const { return true; }

  // Text to bytes that are the same in every process on this machine.
  virtual std::string compile(const Source& source) = 0;
  // All that these bytes depend on beside the text: backend, compiler and driver with their versions, the device and the
  // features of the CPU, options. Empty: the bytes are not worth keeping on disk.
  virtual KeyFields cache_key(const Source&) const { return {}; }
  // Throws tp::Error for bytes that it cannot use; those of a cache are then thrown away and made anew.
  virtual std::shared_ptr<LoadedCode> load(const Source& source, const std::string& bytes) = 0;
  // compile() and load() where nobody keeps the bytes.
  virtual std::shared_ptr<LoadedCode> compile_and_load(const Source& source) {
    return load(source, compile(source));
  }
  // What compile() gave, for the eye; "" where the device cannot take it apart.
  virtual std::string disassemble(const std::string&) const { return {}; }
  // The text as its compiler has it after its own passes; "" where it tells none.
  virtual std::string optimized(const Source&) const { return {}; }
  // Returns when the outputs are there, or will be for whoever asks this device or its memory next.
  virtual void launch(const Executable& e, const LaunchArguments& a) = 0;
  // Returns when everything that was launched is done.
  virtual void finish() {}
};

// LAMBDA to text. Throws tp::Error("compile", ...) for what no kernel can hold.
Source source_of(const Device& device, const UOp& lambda);
// From LAMBDA to code; equal text is compiled once as long as somebody holds its code.
std::shared_ptr<Executable> compile(Device& device, const UOp& lambda);
// The same, made once as long as somebody holds it: the kernels of a long chain are one.
std::shared_ptr<Executable> executable(Device& device, const UOp& lambda);

// The value where `memory` has it; a copy that lives as long as the value when it is elsewhere. Under the ComputeLock.
StorageRef in_memory(const StorageRef& value, Memory& memory);
// Both of one memory.
void copy_bytes(const Storage& to, std::size_t to_offset, const Storage& from, std::size_t from_offset,
                std::size_t bytes);

// By one of the names in support/devices.hpp; throws tp::Error for another one, and for one that this machine or build does
// not have.
Device& device(std::string_view name);
// Before main(), by a static object of the device's file. Returns true.
bool add_device(std::string_view name, Device& (*get)());

// Kernels compiled to machine code in this process, on all devices; what was found ready does not count.
std::int64_t kernels_compiled();

}  // namespace tinyphys
