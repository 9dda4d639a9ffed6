#include "analysis/degree.hpp"

#include <algorithm>

#include "uop/build.hpp"

namespace tinyphys {
namespace {

std::string where_text(const Node* n) {
  const std::string at = location_text(n);
  return at.empty() ? "" : " at " + at;
}

bool is_widening(const Node* cast) {
  return is_float(cast->dtype) && is_float(cast->src(0)->dtype) &&
         item_size(cast->dtype) >= item_size(cast->src(0)->dtype);
}

Degree constant_degree() { return {}; }
// No polynomial in those variables that occur.
Degree infinite_degree(std::span<const Degree> sources) {
  Degree d;
  for (const Degree& s : sources) {
    if (s.q > 0) d.q = kInfiniteDegree;
    if (s.p > 0) d.p = kInfiniteDegree;
    if (s.joint > 0) d.joint = kInfiniteDegree;
  }
  return d;
}
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

// Degree of one node from its sources'. State reaches n (some source has a degree above 0).
Degree node_degree(const Node* n, std::span<const Degree> s) {
  switch (n->op) {
    case Op::NEG:
    case Op::COPY: return s[0];
    case Op::ADD:
    case Op::SUB: return join(s[0], s[1]);
    case Op::MUL:
    case Op::MATMUL: return product(s[0], s[1]);
    case Op::FMA: return join(product(s[0], s[1]), s[2]);
    case Op::DIV: return s[1].joint == 0 ? s[0] : infinite_degree(s);
    case Op::POWI: return n->arg(0) >= 0 ? times(s[0], n->arg(0)) : infinite_degree(s);
    case Op::WHERE: return s[0].joint == 0 ? join(s[1], s[2]) : infinite_degree(s);
    // To a narrower float is a rounding that was asked for: a step function, not the identity.
    case Op::CAST: return is_widening(n) ? s[0] : infinite_degree(s);
    case Op::RESHAPE:
    case Op::PERMUTE:
    case Op::EXPAND:
    case Op::SLICE:
    case Op::PAD:
    case Op::ROLL:
    case Op::CUMSUM:
    case Op::FFT:
    case Op::RFFT:
    case Op::IRFFT: return s[0];
    case Op::CAT: {
      Degree d;
      for (const Degree& x : s) d = join(d, x);
      return d;
    }
    case Op::GATHER: return s[1].joint == 0 ? s[0] : infinite_degree(s);
    case Op::SCATTER_ADD: return s[1].joint == 0 ? join(s[0], s[2]) : infinite_degree(s);
    case Op::REDUCE: {
      const auto kind = static_cast<Reduction>(n->arg(0));
      if (kind == Reduction::kSum) return s[0];
      const std::int64_t count = n->size() == 0 ? 0 : n->src(0)->size() / n->size();
      if (count == 1) return s[0];
      return kind == Reduction::kProd ? times(s[0], count) : infinite_degree(s);
    }
    default: return infinite_degree(s);
  }
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

std::string located_infix(const Node* n, std::span<const std::string> names) {
  return to_infix(n, 60, names) + where_text(n);
}

NodeMap<Degree> node_degrees(std::span<Node* const> order, std::span<const StateGroup> params) {
  NodeMap<Degree> degrees;
  std::vector<Degree> s;
  for (Node* n : order) {
    Degree d = constant_degree();
    if (n->op == Op::PARAM) {
      const StateGroup g = group_of(n, params);
      if (g != StateGroup::kNone) {
        d = {g == StateGroup::kQ, g == StateGroup::kP, 1};
        // Integers of the state (counters, generators) live in modular arithmetic, not in the reals.
        if (!is_float(n->dtype)) d = infinite_degree(std::span(&d, 1));
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
    degrees.insert(n, d);
  }
  return degrees;
}

DegreeBound bound_degree(const Node* body, std::span<const StateGroup> params, int limit,
                         std::span<const std::string> names) {
  DegreeBound out;
  const auto order = toposort(body->src());
  const NodeMap<Degree> degrees = node_degrees(order, params);
  for (Node* n : order) {
    const Degree& d = degrees.at(n);
    // The lowest node beyond the limit; one without a finite degree says more than one of high degree.
    const bool beyond = d.joint > limit && !out.culprit;
    const bool worse = !d.finite() && out.culprit && degrees.at(out.culprit).finite();
    if (!beyond && !worse) continue;
    out.culprit = n;
    out.reason = culprit_text(n, d, names);
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
    if (is_fft(n->op)) w = fft_work(n);
    if (n->op == Op::REDUCE) w = static_cast<double>(n->src(0)->size());
    work += w;
  }
  return work;
}

}  // namespace tinyphys
