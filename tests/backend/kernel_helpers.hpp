// Builds small kernels, runs them on a device, compares with the interpreter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/device.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys::testing {

inline UOp lambda(const std::vector<UOp>& outputs, std::int64_t n_params) {
  return make(Op::LAMBDA, outputs, std::vector<std::int64_t>{n_params});
}
inline UOp tensor(std::int64_t i, Dims shape, DType d = DType::kFloat64) { return param(i, d, shape); }
inline UOp scalar(std::int64_t i, DType d = DType::kFloat64) { return param(i, d, Dims{}, true); }
inline UOp op(Op o, std::initializer_list<UOp> src, std::initializer_list<std::int64_t> arg = {}) {
  return make(o, src, arg);
}

// Raw bytes of one argument or result.
struct Bytes {
  DType dtype = DType::kFloat64;
  Dims shape;
  std::vector<unsigned char> data;

  Bytes() = default;
  Bytes(DType d, Dims s)
      : dtype(d), shape(std::move(s)), data(static_cast<std::size_t>(size()) * item_size(d)) {}
  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t d : shape) n *= d;
    return n;
  }
  template <class T> T* as() { return reinterpret_cast<T*>(data.data()); }
  double real(std::int64_t i) const {
    double v = 0;
    float f = 0;
    if (dtype == DType::kFloat64) std::memcpy(&v, data.data() + i * 8, 8);
    if (dtype == DType::kFloat32) {
      std::memcpy(&f, data.data() + i * 4, 4);
      v = f;
    }
    return v;
  }
  void set(std::int64_t i, double v) {
    switch (dtype) {
      case DType::kFloat64: as<double>()[i] = v; break;
      case DType::kFloat32: as<float>()[i] = static_cast<float>(v); break;
      case DType::kInt64: as<std::int64_t>()[i] = static_cast<std::int64_t>(v); break;
      case DType::kInt32: as<std::int32_t>()[i] = static_cast<std::int32_t>(v); break;
      default: as<unsigned char>()[i] = v != 0; break;
    }
  }
};

inline Bytes values(DType d, Dims shape, const std::vector<double>& v) {
  Bytes b(d, std::move(shape));
  for (std::int64_t i = 0; i < b.size(); ++i) b.set(i, v[static_cast<std::size_t>(i) % v.size()]);
  return b;
}
inline Bytes doubles(Dims shape, const std::vector<double>& v) {
  return values(DType::kFloat64, std::move(shape), v);
}

inline Bytes random_values(std::mt19937_64& rng, DType d, Dims shape, double lo = -2, double hi = 2) {
  Bytes b(d, std::move(shape));
  for (std::int64_t i = 0; i < b.size(); ++i)
    b.set(i, lo + (hi - lo) * std::generate_canonical<double, 53>(rng));
  return b;
}

// The device that these tests are about: TINYPHYS_DEVICE.
inline Device& tested_device() { return device(env::device()); }

inline StorageRef in_device(Device& d, const Bytes& b) {
  StorageRef s = StorageRef::allocate(b.data.size(), d.memory());
  std::copy(b.data.begin(), b.data.end(), HostWrite(*s).as<unsigned char>());
  return s;
}

// Arguments: one entry per PARAM. A scalar slot is a Bytes of shape [].
inline std::vector<Bytes> launch(Device& d, const Executable& e, std::vector<Bytes> args,
                                 StepRange steps = {}) {
  const UOp& kernel = e.lambda();
  std::vector<StorageRef> held;
  const auto hold = [&](const Bytes& b) {
    held.push_back(in_device(d, b));
    return static_cast<const Storage*>(held.back().get());
  };
  std::vector<const Storage*> inputs, outputs, scratch;
  std::vector<std::int64_t> scalars;
  std::vector<bool> slot(args.size(), false);
  for (Node* n : toposort(std::span<Node* const>(kernel->src())))
    if (n->op == Op::PARAM && n->arg(2) == 1) slot[static_cast<std::size_t>(n->arg(0))] = true;
  for (std::size_t i = 0; i < args.size(); ++i) {
    inputs.push_back(slot[i] ? nullptr : hold(args[i]));
    std::int64_t s = 0;
    if (slot[i]) {
      if (is_float(args[i].dtype))
        s = bits(args[i].real(0));
      else if (args[i].dtype == DType::kInt64)
        s = args[i].as<std::int64_t>()[0];
      else if (args[i].dtype == DType::kInt32)
        s = args[i].as<std::int32_t>()[0];
      else
        s = args[i].data[0];
    }
    scalars.push_back(s);
  }
  std::vector<Bytes> results;
  for (Node* o : kernel->src()) results.emplace_back(o->dtype, shape_of(o));
  for (Bytes& r : results) {
    std::fill(r.data.begin(), r.data.end(), static_cast<unsigned char>(0xA5));  // what is not written shows
    outputs.push_back(hold(r));
  }
  for (std::int64_t bytes : e.kernel().scratch) {
    held.push_back(StorageRef::allocate(static_cast<std::size_t>(bytes), d.memory()));
    scratch.push_back(held.back().get());
  }
  d.launch(e, {outputs, inputs, scalars, scratch, steps});
  for (std::size_t o = 0; o < results.size(); ++o)
    std::copy_n(HostRead(*outputs[o]).as<unsigned char>(), results[o].data.size(), results[o].data.begin());
  return results;
}
inline std::vector<Bytes> run(Device& d, const UOp& kernel, std::vector<Bytes> args, StepRange steps = {}) {
  return launch(d, *compile(d, kernel), std::move(args), steps);
}

// Relative to the larger of |expected| and `scale`; NaN equals NaN; tolerance 0: equal values.
inline void compare(const std::vector<Bytes>& got, const std::vector<Bytes>& expected, double tolerance,
                    double scale = 0) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t o = 0; o < got.size(); ++o) {
    CAPTURE(o);
    REQUIRE(got[o].shape == expected[o].shape);
    if (!is_float(got[o].dtype)) {
      CHECK(got[o].data == expected[o].data);
      continue;
    }
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < got[o].size(); ++i) {
      const double a = got[o].real(i), b = expected[o].real(i);
      const bool same = (std::isnan(a) && std::isnan(b)) || a == b ||
                        std::fabs(a - b) <= tolerance * std::max(std::fabs(b), scale);
      if (!same && wrong++ < 3) {
        CAPTURE(i);
        CHECK(a == b);
      }
    }
    CHECK(wrong == 0);
  }
}

// A driver of OpenCL compiles for a fifth of a second where LLVM takes 3 ms: of the many like kernels of one test case some are
// checked there, of each loop around check_kernel other ones.
inline bool left_out() {
  if (!tested_device().name().starts_with("cl") || env::long_tests()) return false;
  static const void* test_case = nullptr;
  static int number = 0;
  const void* now = doctest::getContextOptions()->currentTest;
  number = std::exchange(test_case, now) == now ? number + 1 : 0;
  return number >= 5 && number % 17 != 0;
}

// Against interp.
inline void check_kernel(const UOp& kernel, const std::vector<Bytes>& args, double tolerance = 0,
                         double scale = 0) {
  if (left_out()) return;
  compare(run(tested_device(), kernel, args), run(device("interp"), kernel, args), tolerance, scale);
}

}  // namespace tinyphys::testing
