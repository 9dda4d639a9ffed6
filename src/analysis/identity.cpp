#include "analysis/identity.hpp"

#include <algorithm>
#include <cmath>

#include "analysis/prime_field.hpp"

namespace tinyphys {
namespace {

constexpr int kPrimes = 2;
constexpr int kMaxDegree = 64;

bool is_state(const Node* n, std::span<const StateGroup> params) {
  if (n->op != Op::PARAM) return false;
  const auto i = static_cast<std::size_t>(n->arg(0));
  return i < params.size() && params[i] != StateGroup::kNone;
}

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Element k of a stream of random elements of the current field.
Fp random_element(std::uint64_t seed, std::uint64_t stream, std::int64_t k) {
  const std::uint64_t p = PrimeField::current().prime();
  std::uint64_t x = mix(mix(seed ^ mix(stream)) ^ static_cast<std::uint64_t>(k));
  while ((x >> 1) >= p) x = mix(x);  // uniform on [0, p)
  return {x >> 1};                   // and so is its Montgomery form
}

// How large the rational coefficients of a body's polynomials can be, over the state and the unknowns: an element is
// N / D^r, where D is the product of all divisors, N = 2^low times an integer polynomial, the sum of the absolute
// coefficients of N at most 2^high.
struct Size {
  double low = 0, high = 0;
  double total = 0;     // total degree of N
  double division = 0;  // r
};

// A body made ready for exact evaluation.
class FieldBody {
 public:
  FieldBody(const Node* body, std::span<const StateGroup> params, const Constants& constants)
      : body_(body), params_(params), depends_(state_dependence(body, params)) {
    const auto order = toposort(body->src());
    const NodeMap<char> known = known_nodes(body->src(), params, constants);
    repeated_ = repeated_axes(order);
    // The largest known subgraphs, folded.
    NodeMap<char> wanted;
    std::vector<Node*> roots;
    const auto want = [&](Node* n) {
      if (known.at(n) && wanted.insert(n, 1)) roots.push_back(n);
    };
    std::uint64_t next = 0;
    for (Node* n : order) {
      number_.insert(n, next++);                           // an unknown is named by structure
      if (is_fft(n->op) && depends_.at(n)) opaque = true;  // its cosines are in no prime field
      if (known.at(n)) continue;
      for (Node* s : n->src()) {
        want(s);
        if (depends_.at(n) && !is_float(s->dtype) && !depends_.at(s) && !known.at(s)) opaque = true;
      }
    }
    for (Node* o : body->src()) want(o);
    const auto values = fold(roots, constants);
    for (std::size_t i = 0; i < roots.size(); ++i) folded_.insert(roots[i], values[i]);
    measure(order);
  }

  // A select or a gather by data, or a transform of the state: what it does is not known here.
  bool opaque = false;

  // z(i, k): element k of PARAM i. Unknowns are random elements, the same for one seed.
  std::vector<Fp> operator()(const std::function<Fp(std::int64_t, std::int64_t)>& z,
                             std::uint64_t seed) const {
    const auto outputs = evaluate<Fp>(body_->src(), [&](const Node* n) -> std::optional<Value<Fp>> {
      if (is_state(n, params_)) return filled(n, [&](std::int64_t k) { return z(n->arg(0), k); });
      if (const Value<double>* v = folded_.find(n)) {
        if (!is_float(n->dtype)) {
          Value<Fp> whole{n->dtype, shape_of(n), {}, v->integer};
          return whole;
        }
        return filled(
            n, [&](std::int64_t k) { return Number<Fp>::from_double(v->real[static_cast<std::size_t>(k)]); });
      }
      if (depends_.at(n)) return std::nullopt;
      // Exact, and so the same formula over unknowns; whatever else is free of state is an unknown of its own.
      if (is_float(n->dtype) && (is_movement(n->op) || n->op == Op::NEG)) return std::nullopt;
      // One element where it is the same along an axis.
      const std::uint64_t stream = ~number_.at(n);
      const AxisBits same = repeated_.at(n);
      return filled(n, [&](std::int64_t k) {
        std::int64_t own = 0, stride = 1;
        for (std::size_t a = n->n_dim; a-- > 0; stride *= n->shape()[a]) {
          if (!(same >> a & 1)) own += k % n->shape()[a] * stride;
          k /= n->shape()[a];
        }
        return random_element(seed, stream, own);
      });
    });
    std::vector<Fp> all;
    for (const auto& o : outputs) all.insert(all.end(), o.real.begin(), o.real.end());
    return all;
  }

  // That a non-zero polynomial, made of at most 2^extra_bits values of the body, vanishes for all primes and points; its degree
  // may be so many times that of the body.
  double error_probability(double extra_bits, double times_degree = 1) const {
    const double bits = size_.high - size_.low + size_.division * divisor_bits_ + extra_bits;
    const double unlucky_prime = std::max(bits, 1.0) / kPrimeBits / kPrimesDrawnFrom;
    const double unlucky_point = times_degree * size_.total / std::exp2(kPrimeBits);
    return std::pow(std::min(unlucky_prime + unlucky_point, 1.0), kPrimes);
  }

  double degree() const { return size_.total; }

 private:
  template <class F> static Value<Fp> filled(const Node* n, F&& f) {
    Value<Fp> v{n->dtype, shape_of(n), {}, {}};
    const std::int64_t size = n->size();
    if (!is_float(n->dtype)) {  // opaque: never looked at
      v.integer.resize(static_cast<std::size_t>(size));
      return v;
    }
    for (std::int64_t k = 0; k < size; ++k) v.real.push_back(f(k));
    return v;
  }

  // Exponents of the lowest set bit and of the size of a value's elements.
  static Size size_of_value(const Value<double>& v) {
    Size s;
    bool first = true;
    for (double x : v.real) {
      if (x == 0 || !std::isfinite(x)) continue;
      int e;
      auto m = static_cast<std::int64_t>(std::ldexp(std::frexp(std::fabs(x), &e), 53));
      const double high = e;
      double low = e - 53;
      for (; m % 2 == 0; m /= 2) ++low;
      s.low = first ? low : std::min(s.low, low);
      s.high = first ? high : std::max(s.high, high);
      first = false;
    }
    return s;
  }

  Size sum(Size a, Size b) const {
    const double r = std::max(a.division, b.division);
    const auto raise = [&](Size& x) {
      x.high += (r - x.division) * divisor_bits_;
      x.total += (r - x.division) * unknown_divisors_;
    };
    raise(a);
    raise(b);
    return {std::min(a.low, b.low), std::max(a.high, b.high) + 1, std::max(a.total, b.total), r};
  }
  static Size product(const Size& a, const Size& b) {
    return {a.low + b.low, a.high + b.high, a.total + b.total, a.division + b.division};
  }
  static Size power(const Size& a, double k) { return {a.low * k, a.high * k, a.total * k, a.division * k}; }
  static Size times(Size a, double count) {  // a sum of so many
    a.high += std::log2(std::max(count, 1.0));
    return a;
  }

  void measure(const std::vector<Node*>& order) {
    NodeMap<char> divisors;
    for (Node* n : order) {
      if (n->op != Op::DIV || !depends_.at(n) || depends_.at(n->src(1))) continue;
      const Node* d = n->src(1);
      while (d->op == Op::EXPAND || d->op == Op::RESHAPE) d = d->src(0);
      if (!divisors.insert(d, 1)) continue;
      // Odd parts below 2^53 each; unknowns add to the degree.
      if (folded_.contains(n->src(1)))
        divisor_bits_ += 53.0 * static_cast<double>(d->size());
      else
        unknown_divisors_ += static_cast<double>(d->size());
    }
    NodeMap<Size> sizes;
    for (Node* n : order) sizes.insert(n, node_size(n, sizes));
    for (Node* o : body_->src()) size_ = sum(size_, sizes.at(o));
  }

  Size node_size(const Node* n, const NodeMap<Size>& sizes) const {
    if (is_state(n, params_)) return {0, 1, 1, 0};  // z0 + t v
    if (const Value<double>* v = folded_.find(n)) return size_of_value(*v);
    const bool exact = is_movement(n->op) || n->op == Op::NEG;
    if (!depends_.at(n) && !exact) return {0, 0, 1, 0};  // an unknown
    const auto src = [&](std::size_t i) { return sizes.at(n->src(i)); };
    const auto ratio = [&](std::size_t i) {
      return static_cast<double>(n->src(i)->size()) /
             static_cast<double>(std::max<std::int64_t>(n->size(), 1));
    };
    switch (n->op) {
      case Op::ADD:
      case Op::SUB: return sum(src(0), src(1));
      case Op::MUL: return product(src(0), src(1));
      case Op::FMA: return sum(product(src(0), src(1)), src(2));
      case Op::MATMUL: return times(product(src(0), src(1)), static_cast<double>(n->src(0)->shape().back()));
      case Op::DIV: {
        Size s = src(0);
        const Size d = src(1);  // m 2^e, low <= e and e <= high
        s.low -= std::max(d.high, d.low);
        s.high += divisor_bits_ - d.low;
        s.total += unknown_divisors_;
        s.division += 1;
        return s;
      }
      case Op::POWI: return power(src(0), static_cast<double>(std::max<std::int64_t>(n->arg(0), 0)));
      case Op::WHERE: return sum(src(1), src(2));
      case Op::CUMSUM:
        return times(src(0), static_cast<double>(n->shape()[static_cast<std::size_t>(n->arg(0))]));
      case Op::SCATTER_ADD: return sum(src(0), times(src(2), static_cast<double>(n->src(2)->size())));
      case Op::REDUCE:
        return n->arg(0) == static_cast<std::int64_t>(Reduction::kProd) ? power(src(0), ratio(0))
                                                                        : times(src(0), ratio(0));
      case Op::CAT: {
        Size s = src(0);
        for (std::size_t i = 1; i < n->n_src; ++i) s = sum(s, src(i));
        return s;
      }
      case Op::PAD: {
        Value<double> fill{n->dtype, {}, {from_bits(n->arg(0))}, {}};
        return sum(src(0), size_of_value(fill));
      }
      default: return n->n_src > 0 ? src(0) : Size{};
    }
  }

  const Node* body_;
  std::span<const StateGroup> params_;
  NodeMap<char> depends_;
  NodeMap<std::uint64_t> number_;
  NodeMap<AxisBits> repeated_;
  NodeMap<Value<double>> folded_;
  double divisor_bits_ = 0, unknown_divisors_ = 0;
  Size size_;
};

std::string with_reason(const std::string& bound, const std::string& more) {
  return bound.empty() ? "the identity test cannot be made: " + more : bound + "; " + more;
}

bool has_numbers(const Constants& constants) {
  return std::any_of(constants.begin(), constants.end(), [](const auto& c) { return c.has_value(); });
}

// Are all coefficients of t^k, degree < k <= top, zero on the lines?
bool has_degree(const FieldBody& f, int top, int degree) {
  std::mt19937_64& random = proof_random();
  for (int i = 0; i < kPrimes; ++i) {
    const PrimeField field(random_prime(random));
    const FieldScope scope(field);
    const std::uint64_t start = random(), slope = random(), unknowns = random();
    // top + 1 points fix a polynomial of degree <= top in t; its (degree + 1)-th differences vanish exactly when the
    // coefficients above `degree` do.
    std::vector<std::vector<Fp>> values;
    for (int t = 0; t <= top; ++t)
      values.push_back(f(
          [&](std::int64_t param, std::int64_t k) {
            const auto stream = static_cast<std::uint64_t>(param);
            return random_element(start, stream, k) + Fp::from_integer(t) * random_element(slope, stream, k);
          },
          unknowns));
    for (int order = 0; order <= degree; ++order) {
      for (std::size_t t = 0; t + 1 < values.size(); ++t)
        for (std::size_t k = 0; k < values[t].size(); ++k) values[t][k] = values[t + 1][k] - values[t][k];
      values.pop_back();
    }
    for (const auto& row : values)
      if (std::any_of(row.begin(), row.end(), [](Fp x) { return x.v != 0; })) return false;
  }
  return true;
}

// H(q,p) - H(q,0) - H(0,p) + H(0,0) = 0?
bool splits(const FieldBody& f, std::span<const StateGroup> params) {
  std::mt19937_64& random = proof_random();
  for (int i = 0; i < kPrimes; ++i) {
    const PrimeField field(random_prime(random));
    const FieldScope scope(field);
    const std::uint64_t point = random(), unknowns = random();
    const auto at = [&](bool with_q, bool with_p) {
      return f(
          [&](std::int64_t param, std::int64_t k) {
            const bool is_q = params[static_cast<std::size_t>(param)] == StateGroup::kQ;
            return (is_q ? with_q : with_p) ? random_element(point, static_cast<std::uint64_t>(param), k)
                                            : Fp{0};
          },
          unknowns);
    };
    const auto both = at(true, true), q = at(true, false), p = at(false, true), none = at(false, false);
    for (std::size_t k = 0; k < both.size(); ++k)
      if ((both[k] - q[k] - p[k] + none[k]).v != 0) return false;
  }
  return true;
}

}  // namespace

IdentityTest test_degree(const Node* body, std::span<const StateGroup> params, const DegreeBound& bound,
                         int degree, const Constants& constants) {
  IdentityTest out;
  const int top = std::max(bound.worst.joint, degree + 1);
  if (top > kMaxDegree) {
    out.reason = "degree bound " + std::to_string(bound.worst.joint) + " is beyond the identity test (" +
                 std::to_string(kMaxDegree) + ")";
    return out;
  }
  const bool decisive = bound.worst.joint > degree;
  const auto run = [&](const FieldBody& f) {
    if (f.opaque) {
      out.holds = !decisive;
      if (decisive)
        out.reason =
            with_reason(bound.reason,
                        "a select or gather by data, or a transform, keeps the identity test from deciding");
      return;
    }
    try {
      out.holds = has_degree(f, top, degree);
      if (out.holds) {
        out.primes = kPrimes;
        out.error_probability = f.error_probability(0);
        out.reason.clear();
      } else {
        out.reason = bound.reason.empty() ? "the identity test fails" : bound.reason;
      }
    } catch (const NotInField& e) {
      out.reason = with_reason(bound.reason, e.what());
    }
  };
  run(FieldBody(body, params, {}));
  out.values_decide = decisive && !out.holds;
  if (!out.values_decide || !has_numbers(constants)) return out;
  run(FieldBody(body, params, constants));
  out.needed_values = out.holds;
  return out;
}

Separability test_separable(const Node* body, std::span<const StateGroup> params, const Constants& constants,
                            std::span<const std::string> names) {
  // Which of q, p reach a node, and whether anything but sums has joined them.
  enum : char { kQ = 1, kP = 2, kJoined = 4 };
  Separability out;
  NodeMap<char> reach;
  for (Node* n : toposort(body->src())) {
    char r = 0;
    if (is_state(n, params)) {
      r = params[static_cast<std::size_t>(n->arg(0))] == StateGroup::kQ ? kQ : kP;
    } else if (n->op != Op::LAMBDA && n->op != Op::PARAM) {
      int dependent = 0;
      for (Node* x : n->src())
        if (const char* below = reach.find(x); below && *below) {
          r |= *below;
          ++dependent;
        }
      const bool both = (r & kQ) && (r & kP);
      // Linear in its one dependent source, or a sum: keeps T(p) + V(q) apart. A cast to a narrower float rounds, but its
      // derivative is 1: the forces stay apart.
      const bool additive =
          n->op == Op::ADD || n->op == Op::SUB || n->op == Op::NEG || is_movement(n->op) ||
          n->op == Op::CUMSUM || is_fft(n->op) || (n->op == Op::CAST && is_float(n->dtype)) ||
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
  out.reason = located_infix(out.culprit, names);
  const DegreeBound bound = bound_degree(body, params, 2, names);
  if (!bound.worst.finite()) return out;
  const auto run = [&](const FieldBody& f) {
    if (f.opaque) return;
    try {
      out.separable = splits(f, params);
    } catch (const NotInField&) {
      return;
    }
    if (!out.separable) return;
    out.error_probability = f.error_probability(2);
    out.culprit = nullptr;
    out.reason.clear();
  };
  run(FieldBody(body, params, {}));
  out.values_decide = !out.separable;
  if (!out.values_decide || !has_numbers(constants)) return out;
  run(FieldBody(body, params, constants));
  out.needed_values = out.separable;
  return out;
}

namespace {

// f(z') = f(z)? Element numbers are those of the outputs, one after the other.
bool keeps_values(const FieldBody& f, std::span<const StateGroup> params, std::span<const std::int64_t> shape,
                  const StateChange& change, std::size_t& culprit) {
  std::int64_t of_member = 1;
  for (std::size_t a = change.n_batch; a < shape.size(); ++a) of_member *= shape[a];
  const std::int64_t d = change.in_line ? 1 : shape.back();
  std::mt19937_64& random = proof_random();
  for (int i = 0; i < kPrimes; ++i) {
    const PrimeField field(random_prime(random));
    const FieldScope scope(field);
    const std::uint64_t point = random(), by = random(), unknowns = random();
    const auto before = [&](std::int64_t param, std::int64_t k) {
      return random_element(point, static_cast<std::uint64_t>(param), k);
    };
    const auto after = [&](std::int64_t param, std::int64_t k) -> Fp {
      const bool is_q = params[static_cast<std::size_t>(param)] == StateGroup::kQ;
      const Fp x = before(param, k), t = random_element(by, 0, k / of_member);
      const std::int64_t c = k % d;
      switch (change.kind) {
        case StateChange::Kind::kShift: return is_q && c == change.first ? x + t : x;
        case StateChange::Kind::kMirror: return is_q ? -x : x;
        case StateChange::Kind::kRotate: break;
      }
      if (c != change.first && c != change.second) return x;
      const Fp one = Fp::one(), below = one + t * t, cos = Number<Fp>::divide(one - t * t, below),
               sin = Number<Fp>::divide(t + t, below);
      return c == change.first ? cos * x - sin * before(param, k - change.first + change.second)
                               : sin * before(param, k - change.second + change.first) + cos * x;
    };
    const std::vector<Fp> fixed = f(before, unknowns), moved = f(after, unknowns);
    for (std::size_t k = 0; k < fixed.size(); ++k)
      if (!(fixed[k] == moved[k])) {
        culprit = k;
        return false;
      }
  }
  return true;
}

}  // namespace

InvarianceTest test_invariance(const Node* body, std::span<const StateGroup> params,
                               const Constants& constants, std::span<const std::int64_t> shape,
                               const StateChange& change) {
  InvarianceTest out;
  const auto run = [&](const FieldBody& f) {
    if (f.opaque) {
      out.reason = "a select or gather by data, or a transform, keeps the identity test from deciding";
      return;
    }
    try {
      std::size_t at = 0;
      out.holds = keeps_values(f, params, shape, change, at);
      // Which output the element belongs to.
      for (out.culprit = 0; out.culprit + 1 < body->n_src; ++out.culprit) {
        const auto size = static_cast<std::size_t>(body->src(out.culprit)->size());
        if (at < size) break;
        at -= size;
      }
      // Of a turn each z is a quotient of quadratic polynomials in t with one divisor.
      const bool turns = change.kind == StateChange::Kind::kRotate;
      out.error_probability = f.error_probability(1 + (turns ? 2 * f.degree() : 0), turns ? 3 : 1);
      out.reason.clear();
    } catch (const NotInField& e) {
      out.reason = e.what();
    }
  };
  run(FieldBody(body, params, {}));
  if (out.holds || !has_numbers(constants)) return out;
  run(FieldBody(body, params, constants));
  out.needed_values = out.holds;
  return out;
}

ShiftTest test_shifts(const Node* body, std::span<const StateGroup> params,
                      std::span<const std::int64_t> shape) {
  ShiftTest out;
  out.invariant.assign(shape.size(), 0);
  const FieldBody f(body, params, {});
  if (f.opaque) {
    out.reason = "a select or gather by data";
    return out;
  }
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  std::vector<char> invariant(shape.size(), 1);
  std::mt19937_64& random = proof_random();
  try {
    for (int i = 0; i < kPrimes && std::find(invariant.begin(), invariant.end(), 1) != invariant.end(); ++i) {
      const PrimeField field(random_prime(random));
      const FieldScope scope(field);
      const std::uint64_t point = random(), unknowns = random();
      const auto state = [&](std::int64_t param, std::int64_t k) {
        return random_element(point, static_cast<std::uint64_t>(param), k);
      };
      const std::vector<Fp> fixed = f(state, unknowns);
      std::int64_t inner = n;
      for (std::size_t a = 0; a < shape.size(); ++a) {
        const std::int64_t extent = shape[a];
        inner /= extent;
        if (extent == 1) invariant[a] = 0;
        if (!invariant[a]) continue;
        // The site before k along the axis.
        const auto before = [&](std::int64_t k) {
          return k / inner % extent == 0 ? k + (extent - 1) * inner : k - inner;
        };
        const auto shifted =
            f([&](std::int64_t param, std::int64_t k) { return state(param, before(k)); }, unknowns);
        for (std::size_t k = 0; k < shifted.size() && invariant[a]; ++k) {
          const auto base = static_cast<std::int64_t>(k) / n * n;
          const std::int64_t from = base + before(static_cast<std::int64_t>(k) - base);
          if ((shifted[k] - fixed[static_cast<std::size_t>(from)]).v != 0) invariant[a] = 0;
        }
      }
    }
  } catch (const NotInField& e) {
    out.reason = e.what();
    return out;
  }
  out.invariant = std::move(invariant);
  out.error_probability = f.error_probability(1);
  return out;
}

OperatorTest test_operator(const Node* body, std::span<const StateGroup> params, const Constants& constants) {
  OperatorTest out;
  const auto n = static_cast<std::size_t>(body->src(0)->size());
  const auto run = [&](const FieldBody& f) {
    out.decided = out.homogeneous = out.complex_linear = out.hermitian = false;
    if (f.opaque) {
      out.reason = "a select or gather by data, or a transform, keeps the identity test from deciding";
      return;
    }
    try {
      bool homogeneous = true, turns = true, symmetric = true;
      std::mt19937_64& random = proof_random();
      for (int i = 0; i < kPrimes; ++i) {
        const PrimeField field(random_prime(random));
        const FieldScope scope(field);
        const std::uint64_t first = random(), second = random(), unknowns = random();
        const auto at = [](std::uint64_t seed) {
          return [seed](std::int64_t, std::int64_t k) { return random_element(seed, 0, k); };
        };
        const auto turned = [](std::int64_t k, const auto& z) {  // i z
          return k % 2 == 0 ? -z(k + 1) : z(k - 1);
        };
        const auto nothing = f([](std::int64_t, std::int64_t) { return Fp{0}; }, unknowns);
        const auto ay = f(at(first), unknowns), az = f(at(second), unknowns);
        const auto of_turned = f(
            [&](std::int64_t, std::int64_t k) {
              return turned(k, [&](std::int64_t j) { return random_element(first, 0, j); });
            },
            unknowns);
        Fp left{0}, right{0};
        for (std::size_t k = 0; k < n; ++k) {
          const auto j = static_cast<std::int64_t>(k);
          homogeneous = homogeneous && nothing[k].v == 0;
          turns = turns &&
                  of_turned[k] == turned(j, [&](std::int64_t m) { return ay[static_cast<std::size_t>(m)]; });
          left = left + random_element(first, 0, j) * az[k];
          right = right + random_element(second, 0, j) * ay[k];
        }
        symmetric = symmetric && left == right;
      }
      out.decided = true;
      out.homogeneous = homogeneous;
      out.complex_linear = turns;
      out.hermitian = symmetric;
      out.error_probability = f.error_probability(std::log2(static_cast<double>(n)) + 2, 2);
      out.reason.clear();
    } catch (const NotInField& e) {
      out.reason = e.what();
    }
  };
  run(FieldBody(body, params, {}));
  if (!out.decided || (out.homogeneous && out.complex_linear && out.hermitian) || !has_numbers(constants))
    return out;
  run(FieldBody(body, params, constants));
  out.needed_values = true;
  return out;
}

}  // namespace tinyphys
