#include "analysis/degree.hpp"

#include <algorithm>
#include <array>

#include "analysis/prime_field.hpp"

namespace tinyphys {
namespace {

Degree constant_degree() { return {}; }
Degree infinite_degree() { return {kInfiniteDegree, kInfiniteDegree, kInfiniteDegree}; }
Degree clamp(Degree d) {
  for (int* x : {&d.q, &d.p, &d.joint}) *x = std::min(*x, kInfiniteDegree);
  return d;
}
Degree join(const Degree& a, const Degree& b) {
  return {std::max(a.q, b.q), std::max(a.p, b.p), std::max(a.joint, b.joint)};
}
Degree product(const Degree& a, const Degree& b) { return clamp({a.q + b.q, a.p + b.p, a.joint + b.joint}); }
Degree times(const Degree& a, std::int64_t k) {
  const auto scale = [&](int d) {
    return static_cast<int>(std::min<std::int64_t>(
        static_cast<std::int64_t>(d) * std::min<std::int64_t>(k, kInfiniteDegree), kInfiniteDegree));
  };
  return {scale(a.q), scale(a.p), scale(a.joint)};
}

bool is_widening(const Node* cast) {
  return is_float(cast->dtype) && is_float(cast->src(0)->dtype) &&
         item_size(cast->dtype) >= item_size(cast->src(0)->dtype);
}

// Degree of one node from its sources'. State reaches n (some source has a degree above 0).
Degree node_degree(const Node* n, std::span<const Degree> s) {
  switch (n->op) {
    case Op::NEG: return s[0];
    case Op::ADD:
    case Op::SUB: return join(s[0], s[1]);
    case Op::MUL:
    case Op::MATMUL: return product(s[0], s[1]);
    case Op::FMA: return join(product(s[0], s[1]), s[2]);
    case Op::DIV: return s[1].joint == 0 ? s[0] : infinite_degree();
    case Op::POWI: return n->arg(0) >= 0 ? times(s[0], n->arg(0)) : infinite_degree();
    case Op::WHERE: return s[0].joint == 0 ? join(s[1], s[2]) : infinite_degree();
    // To a narrower float is a rounding that was asked for: a step function, not the identity.
    case Op::CAST: return is_widening(n) ? s[0] : infinite_degree();
    case Op::RESHAPE:
    case Op::PERMUTE:
    case Op::EXPAND:
    case Op::SLICE:
    case Op::PAD:
    case Op::ROLL:
    case Op::CUMSUM: return s[0];
    case Op::CAT: {
      Degree d;
      for (const Degree& x : s) d = join(d, x);
      return d;
    }
    case Op::GATHER: return s[1].joint == 0 ? s[0] : infinite_degree();
    case Op::SCATTER_ADD: return s[1].joint == 0 ? join(s[0], s[2]) : infinite_degree();
    case Op::REDUCE: {
      const auto kind = static_cast<Reduction>(n->arg(0));
      if (kind == Reduction::kSum) return s[0];
      const std::int64_t count = n->size() == 0 ? 0 : n->src(0)->size() / n->size();
      if (count == 1) return s[0];
      return kind == Reduction::kProd ? times(s[0], count) : infinite_degree();
    }
    default: return infinite_degree();
  }
}

std::string where_text(const Node* n) {
  const std::string at = location_text(n);
  return at.empty() ? "" : " at " + at;
}

std::string culprit_text(const Node* n, const Degree& d, std::span<const std::string> names) {
  std::string s = to_infix(n, 60, names);
  if (d.finite()) {
    std::string in = d.q > 0 && d.p > 0 ? "the state"
                     : d.q > 0          ? (names.size() > 0 ? names[0] : "q")
                     : names.size() > 1 ? names[1]
                                        : "p";
    s += " has degree " + std::to_string(d.joint) + " in " + in;
  } else {
    s += " is not polynomial in the state";
  }
  return s + where_text(n);
}

StateGroup group_of(const Node* param, std::span<const StateGroup> params) {
  const auto i = static_cast<std::size_t>(param->arg(0));
  return i < params.size() ? params[i] : StateGroup::kNone;
}

}  // namespace

DegreeBound bound_degree(const Node* body, std::span<const StateGroup> params, int limit,
                         std::span<const std::string> names) {
  DegreeBound out;
  NodeMap<Degree> degrees;
  std::vector<Degree> s;
  for (Node* n : toposort(body->src())) {
    Degree d = constant_degree();
    if (n->op == Op::PARAM) {
      const StateGroup g = group_of(n, params);
      if (g != StateGroup::kNone) {
        d = {g == StateGroup::kQ, g == StateGroup::kP, 1};
        // Integers of the state (counters, generators) live in modular arithmetic, not in the reals.
        if (!is_float(n->dtype)) d = infinite_degree();
      }
    } else if (n->op != Op::LAMBDA) {
      s.clear();
      bool depends = false;
      for (Node* x : n->src()) {
        const Degree* below = degrees.find(x);
        s.push_back(below ? *below : constant_degree());
        depends |= s.back().joint > 0;
      }
      if (depends) d = node_degree(n, s);
    }
    if (d.joint > limit && !out.culprit) {
      out.culprit = n;
      out.reason = culprit_text(n, d, names);
    }
    // A node without a finite degree says more than one of high degree.
    if (!d.finite() && out.culprit && degrees.contains(out.culprit) && degrees.at(out.culprit).finite()) {
      out.culprit = n;
      out.reason = culprit_text(n, d, names);
    }
    degrees.insert(n, d);
  }
  for (Node* o : body->src()) {
    out.outputs.push_back(degrees.at(o));
    out.worst = join(out.worst, out.outputs.back());
  }
  if (out.worst.joint <= limit) {
    out.culprit = nullptr;
    out.reason.clear();
  }
  return out;
}

NodeMap<char> state_dependence(const Node* body, std::span<const StateGroup> params) {
  NodeMap<char> depends;
  for (Node* n : toposort(body->src())) {
    char d = n->op == Op::PARAM && group_of(n, params) != StateGroup::kNone;
    if (n->op != Op::LAMBDA)
      for (Node* x : n->src())
        if (const char* below = depends.find(x)) d |= *below;
    depends.insert(n, d);
  }
  return depends;
}

double evaluation_work(const Node* body) {
  double work = 0;
  for (Node* n : toposort(body->src())) {
    double w = static_cast<double>(n->size());
    if (n->op == Op::MATMUL) w *= static_cast<double>(n->src(0)->shape().back());
    if (n->op == Op::REDUCE) w = static_cast<double>(n->src(0)->size());
    work += w;
  }
  return work;
}

namespace {

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

bool is_field_op(const Node* n) {
  switch (n->op) {
    case Op::NEG:
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::POWI:
    case Op::FMA:
    case Op::WHERE:
    case Op::MATMUL:
    case Op::CUMSUM:
    case Op::GATHER:
    case Op::SCATTER_ADD:
    case Op::CONST:
    case Op::IOTA: return true;
    case Op::CAST: return is_widening(n);
    case Op::REDUCE:
      return n->arg(0) == static_cast<std::int64_t>(Reduction::kSum) ||
             n->arg(0) == static_cast<std::int64_t>(Reduction::kProd);
    default: return is_movement(n->op);
  }
}

// Evaluates the body in F_p. The state comes from `state`; a subgraph that does not depend on it and is not made of
// field operations is an unknown: random elements, the same at every evaluation.
class FieldBody {
 public:
  FieldBody(const Node* body, std::span<const StateGroup> params, std::span<const Node* const> constants)
      : body_(body), params_(params), constants_(constants), depends_(state_dependence(body, params)) {
    // Numbers the nodes, so that an unknown is named by structure and a run can be repeated.
    std::int64_t next = 0;
    for (Node* n : toposort(body->src())) {
      number_.insert(n, next++);
      // Integers and bools made only from IOTA and constants are known; others are opaque.
      char known =
          n->op != Op::PARAM && n->op != Op::LAMBDA && !(n->op == Op::CAST && is_float(n->src(0)->dtype));
      for (Node* x : n->src()) known = known && !is_float(x->dtype) && known_.at(x);
      if (is_float(n->dtype)) known = 0;
      known_.insert(n, known);
      if (n->dtype == DType::kBool && !known && !depends_.at(n)) opaque_condition = true;
    }
  }

  // z(i, k): element k of PARAM i.
  std::vector<Fp> operator()(const std::function<Fp(std::int64_t, std::int64_t)>& z,
                             std::uint64_t seed) const {
    const auto outputs = evaluate<Fp>(body_->src(), [&](const Node* n) -> std::optional<Value<Fp>> {
      const bool state = n->op == Op::PARAM && group_of(n, params_) != StateGroup::kNone;
      if (!state) {
        if (n->op == Op::PARAM) {
          if (const Node* c = constant_of(n); c && is_float(n->dtype))
            return filled(n, [&](std::int64_t) { return Number<Fp>::from_double(const_double(c)); });
        } else if (depends_.at(n) || known_.at(n) || (is_float(n->dtype) && is_field_op(n))) {
          return std::nullopt;
        }
      }
      const auto id = static_cast<std::uint64_t>(number_.at(n));
      if (state) return filled(n, [&](std::int64_t k) { return z(n->arg(0), k); });
      return filled(n, [&](std::int64_t k) {
        return Fp{Fp::reduce(mix(seed ^ mix(id * 0x100000001ull + static_cast<std::uint64_t>(k))))};
      });
    });
    std::vector<Fp> all;
    for (const auto& o : outputs) all.insert(all.end(), o.real.begin(), o.real.end());
    return all;
  }

  bool opaque_condition = false;  // a select on data: which branch runs is not known here

 private:
  const Node* constant_of(const Node* param) const {
    const auto i = static_cast<std::size_t>(param->arg(0));
    return i < constants_.size() ? constants_[i] : nullptr;
  }
  template <class F> static Value<Fp> filled(const Node* n, F&& f) {
    Value<Fp> v;
    v.dtype = n->dtype;
    v.shape = shape_of(n);
    const std::int64_t size = n->size();
    for (std::int64_t k = 0; k < size; ++k) {
      if (is_float(n->dtype))
        v.real.push_back(f(k));
      else
        v.integer.push_back(static_cast<std::int64_t>(f(k).v & 1));
    }
    return v;
  }

  const Node* body_;
  std::span<const StateGroup> params_;
  std::span<const Node* const> constants_;
  NodeMap<char> depends_;
  NodeMap<std::int64_t> number_;
  NodeMap<char> known_;
};

constexpr std::uint64_t kSeed = 0x7469'6e79'7068'7973ull;
constexpr int kLines = 3;

Fp random_element(std::uint64_t line, std::uint64_t which, std::int64_t param, std::int64_t k) {
  return {Fp::reduce(
      mix(mix(kSeed + line * 4 + which) ^
          mix(static_cast<std::uint64_t>(param) * 0x10000000001ull + static_cast<std::uint64_t>(k))))};
}

}  // namespace

IdentityTest test_degree(const Node* body, std::span<const StateGroup> params, const DegreeBound& bound,
                         int degree, std::span<const Node* const> captured_constants) {
  constexpr int kMaxDegree = 64;
  IdentityTest out;
  const int top = std::max(bound.worst.joint, degree + 1);
  if (top > kMaxDegree) {
    out.reason = "degree bound " + std::to_string(bound.worst.joint) + " is beyond the identity test (" +
                 std::to_string(kMaxDegree) + ")";
    return out;
  }
  const FieldBody f(body, params, captured_constants);
  const bool decisive = bound.worst.joint > degree;
  out.needed_values = decisive;
  if (decisive && f.opaque_condition) {
    out.reason = bound.reason + "; a select on data keeps the identity test from deciding";
    return out;
  }
  try {
    for (int line = 0; line < kLines; ++line) {
      const auto l = static_cast<std::uint64_t>(line);
      // top + 1 points fix a polynomial of degree <= top in t; its (degree + 1)-th differences vanish exactly when
      // the coefficients above `degree` do.
      std::vector<std::vector<Fp>> values;
      for (int t = 0; t <= top; ++t)
        values.push_back(f(
            [&](std::int64_t i, std::int64_t k) {
              return random_element(l, 0, i, k) +
                     Fp{static_cast<std::uint64_t>(t)} * random_element(l, 1, i, k);
            },
            mix(kSeed + l)));
      for (int order = 0; order <= degree; ++order) {
        for (std::size_t t = 0; t + 1 < values.size(); ++t)
          for (std::size_t k = 0; k < values[t].size(); ++k) values[t][k] = values[t + 1][k] - values[t][k];
        values.pop_back();
      }
      for (const auto& row : values)
        if (std::any_of(row.begin(), row.end(), [](Fp x) { return x.v != 0; })) {
          out.reason = bound.reason.empty() ? "the identity test fails" : bound.reason;
          return out;
        }
      ++out.lines;
    }
  } catch (const NotInField& e) {
    out.reason =
        (bound.reason.empty() ? std::string("the identity test cannot be made: ") : bound.reason + "; ") +
        e.what();
    out.lines = 0;
    return out;
  }
  out.holds = true;
  out.error_probability = 1;
  for (int line = 0; line < kLines; ++line)
    out.error_probability *= static_cast<double>(top) / static_cast<double>(Fp::kPrime);
  return out;
}

Separability test_separable(const Node* body, std::span<const StateGroup> params,
                            std::span<const Node* const> captured_constants,
                            std::span<const std::string> names) {
  // Which of q, p reach a node, and whether anything but sums has joined them.
  enum : char { kQ = 1, kP = 2, kJoined = 4 };
  Separability out;
  NodeMap<char> reach;
  for (Node* n : toposort(body->src())) {
    char r = 0;
    if (n->op == Op::PARAM) {
      const StateGroup g = group_of(n, params);
      r = g == StateGroup::kQ ? kQ : g == StateGroup::kP ? kP : 0;
    } else if (n->op != Op::LAMBDA) {
      int dependent = 0;
      for (Node* x : n->src())
        if (const char* below = reach.find(x); below && *below) {
          r |= *below;
          ++dependent;
        }
      const bool both = (r & kQ) && (r & kP);
      // Linear in its one dependent source, or a sum: keeps T(p) + V(q) apart.
      const bool additive =
          n->op == Op::ADD || n->op == Op::SUB || n->op == Op::NEG || is_movement(n->op) ||
          n->op == Op::CUMSUM || (n->op == Op::CAST && is_float(n->dtype)) ||
          (n->op == Op::REDUCE && n->arg(0) == static_cast<std::int64_t>(Reduction::kSum)) ||
          ((n->op == Op::MUL || n->op == Op::MATMUL) && dependent <= 1) ||
          (n->op == Op::DIV && !reach.at(n->src(1))) || (n->op == Op::WHERE && !reach.at(n->src(0))) ||
          (n->op == Op::GATHER && !reach.at(n->src(1))) || (n->op == Op::POWI && n->arg(0) == 1);
      if (both && !additive) {
        if (!(r & kJoined) && !out.culprit) out.culprit = n;
        r |= kJoined;
      }
    }
    reach.insert(n, r);
  }
  bool joined = false;
  for (Node* o : body->src()) joined |= (reach.at(o) & kJoined) != 0;
  if (!joined) {
    out.separable = true;
    out.culprit = nullptr;
    return out;
  }
  out.reason = to_infix(out.culprit, 60, names) + where_text(out.culprit);
  const DegreeBound bound = bound_degree(body, params, 2, names);
  if (!bound.worst.finite()) return out;
  const FieldBody f(body, params, captured_constants);
  if (f.opaque_condition) return out;
  try {
    for (int line = 0; line < kLines; ++line) {
      const auto l = static_cast<std::uint64_t>(line);
      auto at = [&](bool with_q, bool with_p) {
        return f(
            [&](std::int64_t i, std::int64_t k) {
              const bool is_q = params[static_cast<std::size_t>(i)] == StateGroup::kQ;
              return (is_q ? with_q : with_p) ? random_element(l, 2, i, k) : Fp{0};
            },
            mix(kSeed + l));
      };
      const auto both = at(true, true), q = at(true, false), p = at(false, true), none = at(false, false);
      for (std::size_t k = 0; k < both.size(); ++k)
        if ((both[k] - q[k] - p[k] + none[k]).v != 0) return out;
    }
  } catch (const NotInField&) {
    return out;
  }
  out.separable = true;
  out.needed_values = true;
  out.culprit = nullptr;
  out.reason.clear();
  return out;
}

}  // namespace tinyphys
