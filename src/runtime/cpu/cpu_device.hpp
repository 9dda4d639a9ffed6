// The CPU: LLVM machine code, our thread pool.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/cpu/jit.hpp"

namespace tinyphys {

class CpuDevice : public Device {
 public:
  // `offset`: what the bits of an address in `memory` differ by from those of a pointer.
  CpuDevice(std::string_view name, Memory& memory, std::uintptr_t offset)
      : name_(name), memory_(memory), offset_(offset) {}

  std::string_view name() const override { return name_; }
  Memory& memory() override { return memory_; }
  const DeviceProperties& properties() const override;
  std::string compile(const Source& source) override;
  KeyFields cache_key(const Source& source) const override;
  std::shared_ptr<LoadedCode> load(const Source& source, const std::string& bytes) override;
  std::string optimized(const Source& source) const override;
  std::string disassemble(const std::string& bytes) const override;
  void launch(const Executable& e, const LaunchArguments& a) override;

 private:
  std::string symbol(const Source& s) const;
  void* pointer(const Storage& s) const;
  std::string_view name_;
  Memory& memory_;
  std::uintptr_t offset_;
};

}  // namespace tinyphys
