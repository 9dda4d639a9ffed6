#include "uop/spec.hpp"

#include <algorithm>
#include <vector>

#include "tinyphys/error.hpp"
#include "uop/derive.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Where a node stands.
struct Place {
  const Node* body = nullptr;       // the LAMBDA around it, null outside
  std::vector<const Node*> params;  // of that LAMBDA, by number, as met so far
};

using Stages = unsigned;
constexpr Stages bit(Stage s) { return 1u << static_cast<unsigned>(s); }
constexpr Stages kTensors = bit(Stage::kTensor) | bit(Stage::kProgram);
constexpr Stages kPrograms = bit(Stage::kProgram);
constexpr Stages kKernels = bit(Stage::kKernel);
constexpr Stages kAll = kTensors | kKernels;

struct SpecRule {
  std::string_view text;
  Stages stages;
  bool (*holds)(const Node* n, Place& at);
};

bool is_scalar(const Node* n) { return n->n_dim == 0 && n->dtype != DType::kVoid; }
bool is_scalar(const Node* n, DType d) { return is_scalar(n) && n->dtype == d; }

bool needs_float(Op op) {
  switch (op) {
    case Op::SQRT:
    case Op::EXP:
    case Op::EXPM1:
    case Op::LOG:
    case Op::LOG1P:
    case Op::SIN:
    case Op::COS:
    case Op::TAN:
    case Op::ASIN:
    case Op::ACOS:
    case Op::ATAN:
    case Op::SINH:
    case Op::COSH:
    case Op::TANH:
    case Op::ERF:
    case Op::ATAN2:
    case Op::FMA: return true;
    default: return false;
  }
}
bool needs_number(Op op) {
  switch (op) {
    case Op::NEG:
    case Op::ABS:
    case Op::SIGN:
    case Op::FLOOR:
    case Op::CEIL:
    case Op::POWI:
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::MOD:
    case Op::POW:
    case Op::CUMSUM:
    case Op::MATMUL:
    case Op::SCATTER_ADD: return true;
    default: return false;
  }
}

// Of a node that is complex, or has a complex source.
bool takes_complex(const Node* n) {
  if (takes_complex(n->op)) return true;
  switch (n->op) {
    case Op::BUFFER:
    case Op::SYM:
    case Op::PARAM:
    case Op::POWI:
    case Op::POW:
    case Op::CONJ:
    case Op::COPY:
    case Op::WHERE:
    case Op::CUMSUM:
    case Op::MATMUL:
    case Op::AS_REAL:
    case Op::AS_COMPLEX:
    case Op::GATHER:
    case Op::SCATTER_ADD:
    case Op::SCAN:
    case Op::SCAN_VJP:
    case Op::CHECK:
    case Op::LAMBDA:
    case Op::GET:
    case Op::SINK: return true;
    case Op::CAST: return is_complex(n->dtype);
    case Op::PAD: return n->arg(0) == 0;
    case Op::REDUCE:
      return n->arg(0) == static_cast<std::int64_t>(Reduction::kSum) ||
             n->arg(0) == static_cast<std::int64_t>(Reduction::kProd);
    default: return is_movement(n->op);
  }
}

bool has_several_outputs(Op op) {
  return op == Op::SCAN || op == Op::SCAN_VJP || op == Op::EVOLVE || op == Op::EVOLVE_VJP ||
         op == Op::PROPAGATE || op == Op::PROPAGATE_VJP || op == Op::LOOP;
}
std::size_t count_bodies(Op op) {
  if (op == Op::PROPAGATE) return 2;
  if (op == Op::PROPAGATE_VJP) return 4;
  return op != Op::LOOP && has_several_outputs(op) ? 1 : 0;
}

// The PARAMs that a body uses, by number; null where one is not used.
std::vector<const Node*> params_of(const Node* body) {
  std::vector<const Node*> params(static_cast<std::size_t>(body->arg(0)), nullptr);
  Node* root = const_cast<Node*>(body);
  for (const Node* n : toposort(std::span<Node* const>(&root, 1)))
    if (n->op == Op::PARAM && n->arg(0) >= 0 && n->arg(0) < body->arg(0))
      params[static_cast<std::size_t>(n->arg(0))] = n;
  return params;
}
bool takes(const Node* param, const Node* value) {
  return !param || (param->dtype == value->dtype && same_shape(param, value));
}
// Params from `first` on take these values.
bool take_all(const std::vector<const Node*>& params, std::size_t first, std::span<Node* const> values) {
  if (first + values.size() > params.size()) return false;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!takes(params[first + i], values[i])) return false;
  return true;
}

bool scan_holds(const Node* n) {
  const ScanView s(n);
  const auto inputs = static_cast<std::size_t>(s.body()->arg(0));
  if (s.has_until && !is_scalar(s.body()->src().back(), DType::kBool)) return false;
  if (s.n_captured < 0 || inputs != 1 + s.n_carry + s.n_xs + static_cast<std::size_t>(s.n_captured))
    return false;
  if (n->op == Op::SCAN && n->n_src != 1 + inputs) return false;
  if (!is_scalar(s.steps(), DType::kInt64)) return false;
  const auto params = params_of(s.body());
  if (params[0] && !is_scalar(params[0], DType::kInt64)) return false;
  for (std::size_t i = 0; i < s.n_xs; ++i) {
    const Node *x = s.xs()[i], *p = params[1 + s.n_carry + i];
    if (x->n_dim == 0 || (is_const(s.steps()) && x->shape()[0] < const_int(s.steps()))) return false;
    if (p && !(p->dtype == x->dtype &&
               std::equal(p->shape().begin(), p->shape().end(), x->shape().begin() + 1, x->shape().end())))
      return false;
  }
  return take_all(params, 1, s.carry()) && take_all(params, 1 + s.n_carry + s.n_xs, s.captured());
}

bool evolve_holds(const Node* n) {
  const EvolveView e(n);
  const Node* energy = e.energy();
  if (energy->n_src == 0) return false;
  for (const Node* term : energy->src())
    if (!is_scalar(term) || !is_float(term->dtype)) return false;
  if (!is_integrator(e.record().integrator)) return false;
  if (!is_scalar(e.dt()) || !is_float(e.dt()->dtype) || !is_scalar(e.steps(), DType::kInt64)) return false;
  if (!is_float(e.q()->dtype) || e.p()->dtype != e.q()->dtype) return false;
  const auto values = static_cast<std::size_t>(energy->arg(0));  // q, p, captured...
  return n->n_src >= 3 + values && take_all(params_of(energy), 0, n->src().subspan(3, values));
}

bool propagate_holds(const Node* n) {
  const PropagateView v(n);
  return v.loop()->op == Op::LAMBDA && v.map()->op == Op::LAMBDA && is_scalar(v.steps(), DType::kInt64) &&
         (!v.has_loop() || v.loop()->n_src == v.n_state) && v.map()->n_src == v.n_state &&
         take_all(params_of(v.map()), 0, n->src().subspan(3));
}

bool propagate_vjp_holds(const Node* n) {
  const PropagateView v(n);
  const auto values = n->src().subspan(v.first);
  if (!is_scalar(v.steps(), DType::kInt64) || v.map()->n_src != v.n_state || v.rows() < 1 ||
      !take_all(params_of(v.map()), 0, values.subspan(1, values.size() - 1 - v.n_state)) ||
      !take_all(params_of(v.loop()), 0, values) || !take_all(params_of(v.finish()), 0, values) ||
      v.finish()->arg(0) != v.loop()->arg(0) + 2 * static_cast<std::int64_t>(v.n_state) ||
      (v.has_loop() && v.finish()->n_src != v.loop()->n_src))
    return false;
  for (std::size_t i = 0; i < v.loop()->n_src; ++i)
    if (!takes(v.loop()->src(i), v.finish()->src(i))) return false;
  return true;
}

constexpr SpecRule kRules[] = {
    {"dtype and shape are the derived ones", kAll,
     [](const Node* n, Place&) {
       if (n->op == Op::BUFFER && n->n_arg == 0) return true;  // a value that has let go of its past
       Derived d;
       derive(n->op, n->src(), n->arg(), d);
       return d.dtype == n->dtype &&
              std::equal(d.shape.begin(), d.shape.end(), n->shape().begin(), n->shape().end());
     }},
    {"a CONST holds a value of its dtype", kAll,
     [](const Node* n, Place&) {
       if (n->op != Op::CONST) return true;
       const std::int64_t v = n->arg(1);
       switch (n->dtype) {
         case DType::kBool: return v == 0 || v == 1;
         case DType::kInt32: return v == static_cast<std::int32_t>(v);
         case DType::kInt64:
         case DType::kFloat64: return true;
         case DType::kFloat32: {
           const double d = from_bits(v);
           return d != d || static_cast<double>(static_cast<float>(d)) == d;
         }
         default: return false;
       }
     }},
    {"NOT, AND, OR are on bool", kAll,
     [](const Node* n, Place&) {
       if (n->op != Op::NOT && n->op != Op::AND && n->op != Op::OR) return true;
       return n->src(0)->dtype == DType::kBool;
     }},
    {"arithmetic is on numbers, not on bool", kAll,
     [](const Node* n, Place&) { return !needs_number(n->op) || n->dtype != DType::kBool; }},
    {"roots, exponentials and the like are on floats", kAll,
     [](const Node* n, Place&) {
       return !needs_float(n->op) || is_float(n->dtype) || (is_complex(n->dtype) && takes_complex(n));
     }},
    {"complex numbers go through what has a meaning for them, and become real by AS_REAL alone", kTensors,
     [](const Node* n, Place&) {
       const bool of_complex =
           std::any_of(n->src().begin(), n->src().end(), [](const Node* s) { return is_complex(s->dtype); });
       return !(of_complex || is_complex(n->dtype)) || takes_complex(n);
     }},
    {"sums and products reduce numbers, not bool", kTensors,
     [](const Node* n, Place&) {
       if (n->op != Op::REDUCE || n->dtype != DType::kBool) return true;
       return n->arg(0) == static_cast<std::int64_t>(Reduction::kMax) ||
              n->arg(0) == static_cast<std::int64_t>(Reduction::kMin);
     }},
    {"an axis is one of the source's", kTensors,
     [](const Node* n, Place&) {
       if (n->op != Op::CAT && n->op != Op::ROLL && n->op != Op::CUMSUM && n->op != Op::GATHER &&
           n->op != Op::SCATTER_ADD)
         return true;
       return n->arg(0) >= 0 && n->arg(0) < static_cast<std::int64_t>(n->src(0)->n_dim);
     }},
    {"ops of kernels are in kernels only", kTensors,
     [](const Node* n, Place&) { return traits(n->op).cls != OpClass::kKernel; }},
    {"no symbol of a trace is left open", kTensors, [](const Node* n, Place&) { return n->op != Op::SYM; }},
    {"a PARAM stands inside a LAMBDA and is numbered below its count", kTensors,
     [](const Node* n, Place& at) {
       return n->op != Op::PARAM || (at.body && n->arg(0) >= 0 && n->arg(0) < at.body->arg(0));
     }},
    {"a PARAM number is one node within its LAMBDA", kTensors,
     [](const Node* n, Place& at) {
       if (n->op != Op::PARAM || !at.body) return true;
       const Node*& known = at.params[static_cast<std::size_t>(n->arg(0))];
       if (!known) known = n;
       return known == n;
     }},
    {"a LAMBDA is closed: no BUFFER inside", kTensors,
     [](const Node* n, Place& at) { return n->op != Op::BUFFER || !at.body; }},
    {"a LAMBDA is used as a body only", kTensors,
     [](const Node* n, Place&) {
       for (std::size_t i = 0; i < n->n_src; ++i)
         if ((n->src(i)->op == Op::LAMBDA) != (i < count_bodies(n->op))) return false;
       return true;
     }},
    {"a node with several outputs is used through GET only", kAll,
     [](const Node* n, Place&) {
       if (n->op == Op::GET) return has_several_outputs(n->src(0)->op);
       return std::none_of(n->src().begin(), n->src().end(),
                           [](const Node* s) { return has_several_outputs(s->op); });
     }},
    {"SCAN: steps is an int64 scalar, and the body takes index, carry, a slice of each xs, captured",
     kTensors,
     [](const Node* n, Place&) { return (n->op != Op::SCAN && n->op != Op::SCAN_VJP) || scan_holds(n); }},
    {"EVOLVE: H(q, p, captured...) is float scalars; dt and steps are scalars; q and p are of one float "
     "dtype",
     kTensors,
     [](const Node* n, Place&) {
       return (n->op != Op::EVOLVE && n->op != Op::EVOLVE_VJP) || evolve_holds(n);
     }},
    {"PROPAGATE: map(state..., captured...) and loop give one value for each of the state, or loop none",
     kTensors, [](const Node* n, Place&) { return n->op != Op::PROPAGATE || propagate_holds(n); }},
    {"PROPAGATE_VJP: map(state..., captured...) gives one value for each of the state, loop and finish the "
     "same ones",
     kTensors, [](const Node* n, Place&) { return n->op != Op::PROPAGATE_VJP || propagate_vjp_holds(n); }},
    {"CHECK: what it checks is a bool scalar, or an int64 scalar with what its kind takes; what it tells of, "
     "a "
     "float64 one",
     kTensors,
     [](const Node* n, Place&) {
       if (n->op != Op::CHECK) return true;
       switch (static_cast<CheckKind>(n->arg(0))) {
         case CheckKind::kIndexInRange: return n->n_arg == 3 && is_scalar(n->src(1), DType::kInt64);
         case CheckKind::kWarpDefined:
           return (n->n_arg == 2 || n->n_arg == 3) && is_scalar(n->src(1), DType::kInt64);
         case CheckKind::kProjected: return n->n_arg == 1 && is_scalar(n->src(1), DType::kInt64);
         case CheckKind::kStaysInRange: return n->n_arg >= 2 && is_scalar(n->src(1), DType::kInt64);
         case CheckKind::kStartMissed:
         case CheckKind::kAdjointGrew: return is_scalar(n->src(1), DType::kFloat64);
         default: return is_scalar(n->src(1), DType::kBool);
       }
     }},

    {"no EVOLVE and no vjp node is left", kPrograms,
     [](const Node* n, Place&) {
       return n->op != Op::EVOLVE && n->op != Op::EVOLVE_VJP && n->op != Op::SCAN_VJP;
     }},
    {"no complex number is left", kPrograms | kKernels,
     [](const Node* n, Place&) { return !is_complex(n->dtype); }},
    {"data comes in by PARAM", kPrograms,
     [](const Node* n, Place& at) { return n->op != Op::BUFFER && (at.body || n->op == Op::LAMBDA); }},

    {"only scalar arithmetic, loops, loads and stores", kKernels,
     [](const Node* n, Place&) {
       return is_elementwise(n->op) || traits(n->op).cls == OpClass::kKernel || n->op == Op::CONST ||
              n->op == Op::PARAM || n->op == Op::GET || n->op == Op::SINK;
     }},
    {"values are scalars", kKernels,
     [](const Node* n, Place&) { return n->n_dim == 0 || n->op == Op::PARAM; }},
    {"an array is read by LOAD only", kKernels,
     [](const Node* n, Place&) {
       for (std::size_t i = 0; i < n->n_src; ++i)
         if (n->src(i)->op == Op::PARAM && n->src(i)->n_dim > 0 && !(n->op == Op::LOAD && i == 0))
           return false;
       return true;
     }},
    {"LOAD: a PARAM, an int64 index, and perhaps a bool gate", kKernels,
     [](const Node* n, Place&) {
       return n->op != Op::LOAD ||
              ((n->n_src == 2 || n->n_src == 3) && n->src(0)->op == Op::PARAM &&
               is_scalar(n->src(1), DType::kInt64) && (n->n_src == 2 || is_scalar(n->src(2), DType::kBool)));
     }},
    {"STORE: an int64 index and a value", kKernels,
     [](const Node* n, Place&) {
       return n->op != Op::STORE || (is_scalar(n->src(0), DType::kInt64) && is_scalar(n->src(1)));
     }},
    {"ACCUMULATE: a value and ranges", kKernels,
     [](const Node* n, Place&) {
       return n->op != Op::ACCUMULATE || (n->n_src >= 1 && is_scalar(n->src(0)) &&
                                          std::all_of(n->src().begin() + 1, n->src().end(),
                                                      [](const Node* r) { return r->op == Op::RANGE; }));
     }},
    {"RANGE: an extent that is not negative", kKernels,
     [](const Node* n, Place&) { return n->op != Op::RANGE || (n->n_arg >= 2 && n->arg(1) >= 0); }},
};

[[noreturn]] void refuse(const Node* n, Stage stage, std::string_view rule, const std::string& more = "") {
  std::string node = std::string(name(n->op));
  if (n->dtype != DType::kVoid) node += " " + std::string(name(n->dtype)) + shape_text(n->shape());
  const auto places = locations(n);
  throw Error("verify",
              std::string(name(stage)) + " stage: " + node + " (" + to_infix(n) +
                  ") breaks: " + std::string(rule) + (more.empty() ? "" : ": " + more),
              places.empty() ? nullptr : places.front().file.c_str(),
              places.empty() ? 0 : places.front().line);
}

void check(const Node* n, Stage stage, Place& at) {
  for (const SpecRule& rule : kRules) {
    if (!(rule.stages & bit(stage))) continue;
    bool holds = false;
    try {
      holds = rule.holds(n, at);
    } catch (const Error& e) {
      refuse(n, stage, rule.text, e.message());
    }
    if (!holds) refuse(n, stage, rule.text);
  }
}

}  // namespace

void verify(std::span<Node* const> roots, Stage stage) {
  std::vector<Node*> outside, bodies;
  NodeMap<char> seen;
  for (Node* r : roots) {
    if (r->op != Op::LAMBDA)
      outside.push_back(r);
    else if (seen.insert(r, 1))
      bodies.push_back(r);
  }
  auto check_graph = [&](std::span<Node* const> graph, Place at) {
    if (at.body) at.params.resize(static_cast<std::size_t>(std::max<std::int64_t>(at.body->arg(0), 0)));
    for (Node* n : toposort(graph)) {
      if (n == at.body) continue;
      if (n->op != Op::LAMBDA)
        check(n, stage, at);
      else if (seen.insert(n, 1))
        bodies.push_back(n);
    }
    for (Node* n : graph)
      if (n->op == Op::LAMBDA) check(n, stage, at);
  };
  check_graph(outside, {});
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    Node* body = bodies[i];
    check_graph(std::span<Node* const>(&body, 1), {body, {}});
  }
}

std::string spec_text(Stage stage) {
  std::string text;
  for (const SpecRule& rule : kRules)
    if (rule.stages & bit(stage)) text += std::string(rule.text) + "\n";
  return text;
}

}  // namespace tinyphys
