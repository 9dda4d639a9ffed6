// The spec of each stage: good graphs pass, and each rule refuses what it is there for, by node and rule.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tensor/access.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/tensor.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

using namespace tinyphys;

namespace {

const Dims kThree{3};
constexpr auto kF64 = DType::kFloat64;
constexpr auto kI64 = DType::kInt64;

// What verify() says; empty when all is well.
std::string complaint(const UOp& root, Stage stage = Stage::kTensor) {
  Node* n = root.get();
  try {
    verify(std::span<Node* const>(&n, 1), stage);
  } catch (const Error& e) {
    CHECK(e.call() == "verify");
    return e.what();
  }
  return {};
}
bool says(const UOp& root, const std::string& part, Stage stage = Stage::kTensor) {
  const std::string text = complaint(root, stage);
  INFO(text);
  INFO(to_text(root));
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

UOp data(DType d = kF64, const Dims& s = kThree) {
  std::int64_t size = 1;
  for (std::int64_t n : s) size *= n;
  return buffer(d, s, StorageRef::allocate(static_cast<std::size_t>(size) * item_size(d)));
}
UOp lambda(const std::vector<UOp>& outputs, std::int64_t count) {
  return make(Op::LAMBDA, std::span<const UOp>(outputs), std::span<const std::int64_t>(&count, 1));
}
UOp tensor_param(std::int64_t i, DType d = kF64, const Dims& s = kThree) { return param(i, d, s); }

// carry += captured, twice
UOp good_scan() {
  const UOp body = lambda({make(Op::ADD, {tensor_param(1), tensor_param(2)})}, 3);
  return get(make(Op::SCAN, {body, constant_int(2), data(), data()}, {1, 0}), 0);
}
UOp energy() {  // sum(p * p)
  return lambda({make(Op::REDUCE, {make(Op::MUL, {tensor_param(1), tensor_param(1)})}, {0, 0})}, 2);
}

}  // namespace

TEST_CASE("good graphs pass") {
  const UOp x = data();
  CHECK(complaint(make(Op::ADD, {x, make(Op::SIN, {x})})).empty());
  CHECK(complaint(good_scan()).empty());
  CHECK(complaint(get(make(Op::EVOLVE, {energy(), constant(0.1), constant_int(5), x, data()}, {0, 0}), 1))
            .empty());
  const UOp program = lambda({make(Op::EXP, {tensor_param(0)})}, 1);
  CHECK(complaint(program).empty());
  CHECK(complaint(program, Stage::kProgram).empty());
  // out[i] = in[i] + sum over k of in[k], with a gated load
  const UOp i = make(Op::RANGE, {}, {0, 3}), k = make(Op::RANGE, {}, {1, 3});
  const UOp in = tensor_param(0);
  const UOp gate = make(Op::LT, {i, constant_int(2)});
  const UOp sum = make(Op::ACCUMULATE, {make(Op::LOAD, {in, k}), k}, {0});
  const UOp store = make(Op::STORE, {i, make(Op::ADD, {make(Op::LOAD, {in, i, gate}), sum})}, {0});
  CHECK(complaint(store, Stage::kKernel).empty());
  CHECK(complaint(make(Op::SINK, {store}), Stage::kKernel).empty());
}

TEST_CASE("an error names stage, node, rule and place") {
  UOp bad;
  const auto here = std::source_location::current();
  {
    LocationScope at(here);
    bad = make(Op::SIN, {make(Op::ADD, {data(kI64), data(kI64)})});
  }
  const std::string text = complaint(make(Op::NEG, {bad}));
  CHECK(text ==
        "[verify] tensor stage: SIN int64[3] (sin(data + data)) breaks: roots, exponentials and the like are "
        "on "
        "floats (test_spec.cpp:" +
            std::to_string(here.line()) + ")");
}

TEST_CASE("dtypes") {
  const UOp truth = data(DType::kBool), i = data(kI64);
  says(make(Op::AND, {i, i}), "NOT, AND, OR are on bool");
  says(make(Op::ADD, {truth, truth}), "not on bool");
  says(make(Op::NEG, {truth}), "not on bool");
  says(make(Op::FMA, {i, i, i}), "on floats");
  says(make(Op::REDUCE, {truth}, {0, 0}), "reduce numbers");
  CHECK(complaint(make(Op::REDUCE, {truth}, {2, 0})).empty());
  says(make(Op::CONST, {}, {static_cast<std::int64_t>(DType::kBool), 2}),
       "a CONST holds a value of its dtype");
  says(make(Op::CONST, {}, {static_cast<std::int64_t>(DType::kFloat32), bits(0.1)}), "a CONST holds");
  says(make(Op::CONST, {}, {static_cast<std::int64_t>(DType::kInt32), std::int64_t{1} << 40}),
       "a CONST holds");
  CHECK(complaint(constant(0.1, DType::kFloat32)).empty());
}

TEST_CASE("bodies are closed") {
  const UOp x = data();
  says(symbol(kF64, kThree), "no symbol of a trace is left open");
  says(tensor_param(0), "a PARAM stands inside a LAMBDA");
  says(lambda({tensor_param(1)}, 1), "numbered below its count");
  says(lambda({make(Op::ADD, {tensor_param(0), x})}, 1), "a LAMBDA is closed");
  says(lambda({make(Op::ADD, {tensor_param(0), symbol(kF64, kThree)})}, 1), "symbol");
  says(lambda({tensor_param(0), tensor_param(0, kI64)}, 1), "a PARAM number is one node");
  says(make(Op::SINK, {lambda({tensor_param(0)}, 1)}), "a LAMBDA is used as a body only");
  // inside the body of a body
  const UOp inner = lambda({make(Op::ADD, {tensor_param(1), x})}, 2);
  const UOp outer = lambda({get(make(Op::SCAN, {inner, constant_int(1), tensor_param(1)}, {1, 0}), 0)}, 2);
  says(get(make(Op::SCAN, {outer, constant_int(1), data()}, {1, 0}), 0), "a LAMBDA is closed");
}

TEST_CASE("SCAN, EVOLVE, GET") {
  const UOp x = data();
  const UOp step = lambda({make(Op::ADD, {tensor_param(1), tensor_param(2)})}, 3);
  const Dims two{2};
  says(get(make(Op::SCAN, {step, constant_int(2), x, data(kF64, two)}, {1, 0}), 0), "SCAN:");
  says(get(make(Op::SCAN, {step, constant_int(2), x, data(), data()}, {1, 0}), 0), "SCAN:");
  says(get(make(Op::SCAN, {step, constant(2.0), x, data()}, {1, 0}), 0), "SCAN:");
  // as xs, data is [steps, 3]
  CHECK(complaint(get(make(Op::SCAN, {step, constant_int(2), x, data(kF64, {2, 3})}, {1, 1}), 0)).empty());
  says(get(make(Op::SCAN, {step, constant_int(5), x, data(kF64, {2, 3})}, {1, 1}), 0), "SCAN:");
  says(make(Op::SINK, {good_scan().src(0)}), "through GET only");

  const UOp h = energy(), dt = constant(0.1), n = constant_int(5);
  const UOp vector_energy = lambda({make(Op::MUL, {tensor_param(1), tensor_param(1)})}, 2);
  says(get(make(Op::EVOLVE, {vector_energy, dt, n, x, x}, {0, 0}), 0), "EVOLVE:");
  says(get(make(Op::EVOLVE, {h, dt, n, x, data(kF64, two)}, {0, 0}), 0), "EVOLVE:");
  says(get(make(Op::EVOLVE, {h, dt, dt, x, x}, {0, 0}), 0), "EVOLVE:");
  says(get(make(Op::EVOLVE, {h, n, n, x, x}, {0, 0}), 0), "EVOLVE:");
}

TEST_CASE("the later stages") {
  const UOp h = energy(), q = tensor_param(0), p = tensor_param(1);
  const UOp evolve = get(make(Op::EVOLVE, {h, constant(0.1), constant_int(5), q, p}, {0, 0}), 0);
  CHECK(complaint(lambda({evolve}, 2)).empty());
  says(lambda({evolve}, 2), "no EVOLVE and no vjp node is left", Stage::kProgram);
  says(make(Op::NEG, {data()}), "data comes in by PARAM", Stage::kProgram);

  const UOp i = make(Op::RANGE, {}, {0, 3}), in = tensor_param(0);
  says(make(Op::NEG, {i}), "ops of kernels are in kernels only");
  says(make(Op::EXP, {make(Op::RESHAPE, {in}, {3, 1})}), "only scalar arithmetic", Stage::kKernel);
  says(make(Op::EXP, {in}), "scalar", Stage::kKernel);
  says(make(Op::LOAD, {in, constant(1.0)}), "LOAD:", Stage::kKernel);
  says(make(Op::LOAD, {i, i}), "LOAD:", Stage::kKernel);
  says(make(Op::STORE, {constant(0.5), i}, {0}), "STORE:", Stage::kKernel);
  says(make(Op::ACCUMULATE, {make(Op::LOAD, {in, i}), constant_int(3)}, {0}), "ACCUMULATE:", Stage::kKernel);
}

TEST_CASE("every rule is listed at its stages") {
  for (const Stage stage : {Stage::kTensor, Stage::kProgram, Stage::kKernel}) {
    const std::string text = spec_text(stage);
    CHECK(text.find("dtype and shape are the derived ones\n") != std::string::npos);
    CHECK((text.find("no EVOLVE") != std::string::npos) == (stage == Stage::kProgram));
    CHECK((text.find("STORE:") != std::string::npos) == (stage == Stage::kKernel));
  }
}

TEST_CASE("spec: a value that has let go of its past is a good leaf") {
  tinyphys::Tensor x = tinyphys::Tensor::from({1.0, 2.0});
  for (int i = 0; i < 3; ++i) x = (x * 0.5 + 1.0).realize();
  const UOp leaf = uop(x);
  REQUIRE(leaf->op == Op::BUFFER);
  REQUIRE(leaf->n_arg == 0);
  CHECK(complaint(leaf) == "");
}
