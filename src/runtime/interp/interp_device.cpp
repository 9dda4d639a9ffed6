// The evaluator as a device: slow, obvious, the oracle for all others.
#include <optional>

#include "runtime/device.hpp"
#include "tinyphys/error.hpp"
#include "uop/evaluate.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

Value<double> read(DType d, Dims shape, const void* data) {
  Value<double> v;
  v.dtype = d;
  v.shape = std::move(shape);
  std::int64_t size = 1;
  for (std::int64_t n : v.shape) size *= n;
  for (std::int64_t i = 0; i < size; ++i) switch (d) {
      case DType::kFloat64: v.real.push_back(static_cast<const double*>(data)[i]); break;
      case DType::kFloat32: v.real.push_back(static_cast<const float*>(data)[i]); break;
      case DType::kInt64: v.integer.push_back(static_cast<const std::int64_t*>(data)[i]); break;
      case DType::kInt32: v.integer.push_back(static_cast<const std::int32_t*>(data)[i]); break;
      default: v.integer.push_back(static_cast<const unsigned char*>(data)[i] != 0); break;
    }
  return v;
}

void write(const Value<double>& v, std::size_t from, std::size_t count, void* data, std::size_t at) {
  for (std::size_t i = 0; i < count; ++i) switch (v.dtype) {
      case DType::kFloat64: static_cast<double*>(data)[at + i] = v.real[from + i]; break;
      case DType::kFloat32: static_cast<float*>(data)[at + i] = static_cast<float>(v.real[from + i]); break;
      case DType::kInt64: static_cast<std::int64_t*>(data)[at + i] = v.integer[from + i]; break;
      case DType::kInt32:
        static_cast<std::int32_t*>(data)[at + i] = static_cast<std::int32_t>(v.integer[from + i]);
        break;
      default:
        static_cast<unsigned char*>(data)[at + i] = static_cast<unsigned char>(v.integer[from + i] != 0);
        break;
    }
}

Value<double> step_value(std::int64_t step) {
  Value<double> v;
  v.dtype = DType::kInt64;
  v.integer = {step};
  return v;
}

class InterpDevice final : public Device {
 public:
  std::string_view name() const override { return "interp"; }
  const DeviceProperties& properties() const override { return properties_; }
  std::string compile(const Source&) override { return {}; }
  std::shared_ptr<LoadedCode> load(const Source&, const std::string&) override { return nullptr; }

  // Arguments may lie in any memory.
  void launch(const Executable& e, const LaunchArguments& a) override {
    const Leaf<double> leaf = [&](const Node* n) -> std::optional<Value<double>> {
      if (n->op != Op::PARAM) return std::nullopt;
      const auto i = static_cast<std::size_t>(n->arg(0));
      if (n->arg(2) == 0) return read(n->dtype, shape_of(n), HostRead(*a.inputs[i]).data());
      Value<double> v;
      v.dtype = n->dtype;
      if (!is_float(n->dtype))
        v.integer = {a.scalars[i]};
      else
        v.real = {Number<double>::round_to(n->dtype, from_bits(a.scalars[i]))};
      return v;
    };
    if (e.is_scan()) return run_scan(e, a, leaf);
    const auto values = evaluate<double>(e.lambda()->src(), leaf);
    for (std::size_t o = 0; o < values.size(); ++o)
      write(values[o], 0, values[o].size(), HostWrite(*a.outputs[o]).data(), 0);
  }

 private:
  // Its own loop over the body: it may run a part of the steps.
  static void run_scan(const Executable& e, const LaunchArguments& a, const Leaf<double>& leaf) {
    const ScanView scan(e.lambda()->src(0)->src(0));
    const StepRange steps = e.steps(a);
    const auto sources = evaluate<double>(scan.node->src().subspan(2), leaf);
    std::vector<Value<double>> inputs{Value<double>()};
    inputs.insert(inputs.end(), sources.begin(), sources.end());
    std::vector<HostWrite> outputs;  // of other steps there are other rows
    for (const Storage* s : a.outputs) outputs.emplace_back(*s, MapFor::kUpdate);
    auto output = [&](std::size_t number) -> void* {
      for (std::size_t o = 0; o < e.lambda()->n_src; ++o)
        if (e.lambda()->src(o)->arg(0) == static_cast<std::int64_t>(number)) return outputs[o].data();
      return nullptr;
    };
    GraphEvaluator<double> body(scan.body()->src());
    for (std::int64_t step = steps.first; step < steps.last; ++step) {
      inputs[0] = step_value(step);
      for (std::size_t x = 0; x < scan.n_xs; ++x) {
        const std::size_t at = 1 + scan.n_carry + x;
        const Value<double>& all = sources[at - 1];
        Value<double>& row = inputs[at];
        row = {};
        row.dtype = all.dtype;
        row.shape.assign(all.shape.begin() + 1, all.shape.end());
        const auto size = static_cast<std::ptrdiff_t>(all.size()) / std::max<std::ptrdiff_t>(all.shape[0], 1);
        if (is_float(all.dtype))
          row.real.assign(all.real.begin() + step * size, all.real.begin() + (step + 1) * size);
        else
          row.integer.assign(all.integer.begin() + step * size, all.integer.begin() + (step + 1) * size);
      }
      const auto results = body.run([&](const Node* p) -> std::optional<Value<double>> {
        if (p->op == Op::PARAM) return inputs[static_cast<std::size_t>(p->arg(0))];
        return std::nullopt;
      });
      const bool ends = scan.has_until && results.back()->integer[0] != 0;
      for (std::size_t c = 0; c < scan.n_carry; ++c) inputs[1 + c] = *results[c];
      if (ends) break;  // such a scan stacks nothing here
      for (std::size_t o = scan.n_carry; o < results.size(); ++o)
        if (void* to = output(o))
          write(*results[o], 0, results[o]->size(), to, static_cast<std::size_t>(step) * results[o]->size());
    }
    for (std::size_t c = 0; c < scan.n_carry; ++c)
      if (void* to = output(c)) write(inputs[1 + c], 0, inputs[1 + c].size(), to, 0);
  }

  DeviceProperties properties_{.description = "evaluates a graph node by node: slow, the reference"};
};

[[maybe_unused]] const bool added = add_device("interp", []() -> Device& {
  // Leaked on purpose: it is used by whatever outlives main.
  static Device* d = new InterpDevice;
  return *d;
});

}  // namespace
}  // namespace tinyphys
