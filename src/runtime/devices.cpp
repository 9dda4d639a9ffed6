#include "tinyphys/devices.hpp"

#include "runtime/device.hpp"
#include "support/devices.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {

std::vector<DeviceInfo> devices() {
  std::vector<DeviceInfo> out;
  for (int n = 1; !device_name(n).empty(); ++n) {
    DeviceInfo info;
    info.name = device_name(n);
    try {
      const DeviceProperties& p = device(info.name).properties();
      info.description = p.description;
      info.float64 = p.fp64;
      info.shares_host_memory = p.unified;
      info.compute_units = p.compute_units;
      info.work_group = p.work_group;
      info.vector_bytes = p.render ? p.target.vector_bytes : 0;
      info.memory = p.memory_bytes;
      info.max_tensor = p.largest_value;
    } catch (const Error& e) {
      if (info.name.find(':') != std::string::npos) continue;  // one more than there are
      info.available = false;
      info.description = e.message();
    }
    out.push_back(std::move(info));
  }
  return out;
}

void set_default_device(std::string_view name, std::source_location where) {
  const auto fail = [&](const std::string& text) { throw Error("set_default_device", text, where); };
  try {
    if (!device(name).runs()) fail("the device " + std::string(name) + " compiles and runs nothing");
  } catch (const Error& e) {
    fail(e.message());
  }
  env::set_override("TINYPHYS_DEVICE", name);
}

}  // namespace tinyphys
