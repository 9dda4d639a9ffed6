#include "codegen/index.hpp"

#include <algorithm>
#include <limits>

namespace tinyphys {
namespace {

// Bounds saturate here: products of unknown values must not overflow.
constexpr std::int64_t kFar = std::int64_t{1} << 61;

std::int64_t saturate_add(std::int64_t a, std::int64_t b) {
  return std::clamp(a + b, -kFar, kFar);  // both within +-kFar: no overflow
}
std::int64_t saturate_mul(std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return (a < 0) == (b < 0) ? kFar : -kFar;
  return std::clamp(r, -kFar, kFar);
}
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && a < 0); }

}  // namespace

UOp IndexMath::keep(UOp n) {
  kept_.push_back(n);
  return n;
}

int IndexMath::serial(Node* n) {
  if (const int* s = serial_.find(n)) return *s;
  const int s = static_cast<int>(serial_.size());
  kept_.push_back(UOp::share(n));
  serial_.insert(n, s);
  return s;
}

void IndexMath::set_bounds(const UOp& atom, Bounds b) {
  serial(atom.get());
  bounds_.insert(atom.get(), {std::max(b.lo, -kFar), std::min(b.hi, kFar)});
}

UOp IndexMath::number(std::int64_t v) { return constant_int(v); }

UOp IndexMath::range(std::int64_t id, std::int64_t extent) {
  UOp r = make(Op::RANGE, {}, {id, extent});
  if (!bounds_.contains(r.get())) {
    serial(r.get());
    bounds_.insert(r.get(), Bounds{0, std::max<std::int64_t>(extent - 1, 0)});
  }
  return r;
}

Linear IndexMath::linear(Node* n) {
  if (n->op == Op::CONST) return {const_int(n), {}};
  if (const Linear* l = linear_.find(n)) return *l;
  serial(n);
  return {0, {{n, 1}}};
}

Bounds IndexMath::bounds(const Linear& l) {
  Bounds b{l.c, l.c};
  for (auto [atom, k] : l.terms) {
    const Bounds* known = bounds_.find(atom);
    const Bounds a = known ? *known : Bounds{-kFar, kFar};
    const std::int64_t p = saturate_mul(a.lo, k), q = saturate_mul(a.hi, k);
    b.lo = saturate_add(b.lo, std::min(p, q));
    b.hi = saturate_add(b.hi, std::max(p, q));
  }
  return b;
}
Bounds IndexMath::bounds(Node* n) { return bounds(linear(n)); }

// k c (x / c) + k (x % c) = k x
void IndexMath::recombine(Linear& l) {
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < l.terms.size() && !again; ++i) {
      const auto [rem, k] = l.terms[i];
      if (rem->op != Op::MOD || !is_split(rem)) continue;
      const std::int64_t c = const_int(rem->src(1));
      for (std::size_t j = 0; j < l.terms.size(); ++j) {
        const auto [quo, m] = l.terms[j];
        if (quo->op != Op::DIV || quo->src(0) != rem->src(0) || quo->src(1) != rem->src(1) || m != k * c)
          continue;
        const std::int64_t factor = k;
        Linear x = linear(rem->src(0));
        l.terms.erase(l.terms.begin() + static_cast<std::ptrdiff_t>(std::max(i, j)));
        l.terms.erase(l.terms.begin() + static_cast<std::ptrdiff_t>(std::min(i, j)));
        l.c += factor * x.c;
        for (auto [atom, f] : x.terms) {
          auto it = std::find_if(l.terms.begin(), l.terms.end(), [&](auto& t) { return t.first == atom; });
          if (it == l.terms.end())
            l.terms.emplace_back(atom, factor * f);
          else
            it->second += factor * f;
        }
        std::erase_if(l.terms, [](auto& t) { return t.second == 0; });
        again = true;
        break;
      }
    }
  }
}

UOp IndexMath::build(Linear l) {
  recombine(l);
  std::sort(l.terms.begin(), l.terms.end(),
            [&](auto& a, auto& b) { return serial(a.first) < serial(b.first); });
  if (l.terms.empty()) return number(l.c);
  UOp sum;
  for (auto [atom, k] : l.terms) {
    UOp term = UOp::share(atom);
    if (k != 1) term = make(Op::MUL, {term, number(k)});
    sum = sum ? make(Op::ADD, {sum, term}) : term;
  }
  if (l.c != 0) sum = make(Op::ADD, {sum, number(l.c)});
  const bool atom = l.c == 0 && l.terms.size() == 1 && l.terms[0].second == 1;
  if (!atom && !linear_.contains(sum.get())) {
    keep(sum);
    linear_.insert(sum.get(), std::move(l));
  }
  return sum;
}

UOp IndexMath::add(const UOp& a, const UOp& b) {
  Linear l = linear(a.get());
  const Linear m = linear(b.get());
  l.c += m.c;
  for (auto [atom, k] : m.terms) {
    auto it = std::find_if(l.terms.begin(), l.terms.end(), [&](auto& t) { return t.first == atom; });
    if (it == l.terms.end())
      l.terms.emplace_back(atom, k);
    else
      it->second += k;
  }
  std::erase_if(l.terms, [](auto& t) { return t.second == 0; });
  return build(std::move(l));
}

UOp IndexMath::mul(const UOp& a, std::int64_t c) {
  if (c == 0) return number(0);
  Linear l = linear(a.get());
  l.c *= c;
  for (auto& t : l.terms) t.second *= c;
  return build(std::move(l));
}

Linear IndexMath::take_multiples(Linear& l, std::int64_t c) {
  Linear quotient;
  quotient.c = floor_div(l.c, c);
  l.c -= quotient.c * c;
  for (auto [atom, k] : l.terms)
    if (k % c == 0) quotient.terms.emplace_back(atom, k / c);
  std::erase_if(l.terms, [&](auto& t) { return t.second % c == 0; });
  return quotient;
}

// floor((c A + B) / c) = A + floor(B / c)
UOp IndexMath::div(const UOp& a, std::int64_t c) {
  if (c == 1) return a;
  Linear rest = linear(a.get());
  const UOp whole = build(take_multiples(rest, c));
  const Bounds b = bounds(rest);
  const std::int64_t lowest = floor_div(b.lo, c);
  if (lowest == floor_div(b.hi, c)) return add(whole, lowest);
  rest.c -= lowest * c;  // non-negative from here on
  const UOp x = build(rest);
  UOp q;
  if (x->op == Op::DIV && is_split(x.get())) {  // (y / m) / c = y / (m c)
    q = div(x.src(0), const_int(x->src(1)) * c);
  } else {
    q = make(Op::DIV, {x, number(c)});
    if (!bounds_.contains(q.get())) {
      serial(q.get());
      splits_.insert(q.get(), 1);
      bounds_.insert(q.get(), Bounds{floor_div(bounds(x.get()).lo, c), floor_div(bounds(x.get()).hi, c)});
    }
  }
  return add(add(whole, q), lowest);
}

UOp IndexMath::mod(const UOp& a, std::int64_t c) {
  if (c == 1) return number(0);
  Linear rest = linear(a.get());
  take_multiples(rest, c);
  const Bounds b = bounds(rest);
  const std::int64_t lowest = floor_div(b.lo, c);
  rest.c -= lowest * c;
  const UOp x = build(rest);
  if (lowest == floor_div(b.hi, c)) return x;
  if (x->op == Op::MOD && is_split(x.get()) && const_int(x->src(1)) % c == 0) return mod(x.src(0), c);
  UOp r = make(Op::MOD, {x, number(c)});
  if (!bounds_.contains(r.get())) {
    serial(r.get());
    splits_.insert(r.get(), 1);
    bounds_.insert(r.get(), Bounds{0, c - 1});
  }
  return r;
}

UOp IndexMath::clamp(const UOp& a, std::int64_t n) {
  const Bounds b = bounds(a.get());
  if (n <= 0 || b.hi < 0) return number(0);
  if (b.lo >= n) return number(n - 1);
  UOp r = a;
  if (b.lo < 0) r = make(Op::MAX, {r, number(0)});
  if (b.hi >= n) r = make(Op::MIN, {r, number(n - 1)});
  if (!(r == a) && !bounds_.contains(r.get())) {
    serial(r.get());
    bounds_.insert(r.get(), Bounds{std::max<std::int64_t>(b.lo, 0), std::min(b.hi, n - 1)});
  }
  return r;
}

UOp IndexMath::less(const UOp& a, const UOp& b) {
  const Bounds d = bounds(add(a, mul(b, -1)).get());
  if (d.hi < 0) return constant_bool(true);
  if (d.lo >= 0) return constant_bool(false);
  return make(Op::LT, {a, b});
}
UOp IndexMath::less(const UOp& a, std::int64_t c) { return less(a, number(c)); }

UOp IndexMath::both(const UOp& a, const UOp& b) {
  if (!a || (is_const(a.get()) && const_int(a.get()))) return b;
  if (!b || (is_const(b.get()) && const_int(b.get()))) return a;
  if (is_const(a.get())) return a;
  if (is_const(b.get())) return b;
  return a == b ? a : make(Op::AND, {a, b});
}

UOp IndexMath::where(const UOp& condition, const UOp& a, const UOp& b) {
  if (is_const(condition.get())) return const_int(condition.get()) ? a : b;
  if (a == b) return a;
  UOp r = make(Op::WHERE, {condition, a, b});
  if (r->dtype == DType::kInt64 && !bounds_.contains(r.get())) {
    const Bounds x = bounds(a.get()), y = bounds(b.get());
    serial(r.get());
    bounds_.insert(r.get(), Bounds{std::min(x.lo, y.lo), std::max(x.hi, y.hi)});
  }
  return r;
}

}  // namespace tinyphys
