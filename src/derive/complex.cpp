#include "derive/complex.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
// Beyond 2^500, and below 2^-500, squares are taken of numbers scaled by 2^-600, or 2^600.
constexpr double kLarge = 0x1p500, kSmall = 0x1p-500, kDown = 0x1p-600, kUp = 0x1p600;

UOp number(const UOp& like, double v) { return full_like(like, v); }
UOp less(const UOp& a, const UOp& b) { return compare(Op::LT, a, b); }
UOp less(const UOp& a, double v) { return less(a, number(a, v)); }
UOp less(double v, const UOp& a) { return less(number(a, v), a); }
UOp equal(const UOp& a, double v) { return compare(Op::EQ, a, number(a, v)); }
UOp both(const UOp& a, const UOp& b) { return make(Op::AND, {a, b}); }
UOp either(const UOp& a, const UOp& b) { return make(Op::OR, {a, b}); }
UOp magnitude(const UOp& x) { return make(Op::ABS, {x}); }
UOp larger(const UOp& a, const UOp& b) { return make(Op::MAX, {a, b}); }
UOp smaller(const UOp& a, const UOp& b) { return make(Op::MIN, {a, b}); }
// -0 is negative, as the branch cuts have it.
UOp is_negative(const UOp& x) { return either(less(x, 0.0), less(div(number(x, 1), x), 0.0)); }

// A power of two by which numbers of this size are scaled before they are squared. It is no function to differentiate.
UOp scale_of(const UOp& size) {
  const UOp up = where(less(size, kSmall), number(size, kUp), number(size, 1));
  return where(less(kLarge, size), number(size, kDown), up);
}

struct Parts {
  UOp re, im;
};

Parts plus(const Parts& a, const Parts& b) { return {add(a.re, b.re), add(a.im, b.im)}; }
Parts minus(const Parts& a, const Parts& b) { return {sub(a.re, b.re), sub(a.im, b.im)}; }
Parts times(const Parts& a, const Parts& b) {
  return {sub(mul(a.re, b.re), mul(a.im, b.im)), add(mul(a.re, b.im), mul(a.im, b.re))};
}

// Baudin and Smith (2012), "A robust complex division in Scilab", arXiv:1210.4539: Smith's method, with its operands scaled
// away from both ends of the range, and no product that underflows used.
Parts over(const Parts& x, const Parts& y) {
  constexpr double kMax = std::numeric_limits<double>::max(), kMin = std::numeric_limits<double>::min(),
                   kEps = std::numeric_limits<double>::epsilon(), kRaise = 2 / (kEps * kEps);
  const auto size_of = [](const Parts& z) { return larger(magnitude(z.re), magnitude(z.im)); };
  const auto factor = [](const UOp& size) {
    const UOp raised =
        where(compare(Op::LE, size, number(size, 2 * kMin / kEps)), number(size, kRaise), number(size, 1));
    return where(compare(Op::LE, number(size, kMax / 2), size), number(size, 0.5), raised);
  };
  const UOp top = size_of(x), bottom = size_of(y), sx = factor(top), sy = factor(bottom);
  const UOp a = mul(x.re, sx), b = mul(x.im, sx), c = mul(y.re, sy), d = mul(y.im, sy);
  const UOp swap = less(magnitude(c), magnitude(d));
  const UOp p = where(swap, b, a), q = where(swap, a, b), u = where(swap, d, c), v = where(swap, c, d);
  const UOp r = div(v, u), whole = add(u, mul(v, r));
  const auto part = [&](const UOp& s, const UOp& t) {  // (s + t r) / whole
    const UOp tr = mul(t, r);
    const UOp plain = div(add(s, tr), whole), late = add(div(s, whole), mul(div(t, whole), r)),
              flat = div(add(s, mul(v, div(t, u))), whole);
    return where(equal(r, 0), flat, where(equal(tr, 0), late, plain));
  };
  const UOp back = div(sy, sx), zero = equal(bottom, 0);
  const UOp e = mul(part(p, q), back), f = mul(part(q, neg(p)), back);
  return {where(zero, div(x.re, bottom), e), where(zero, div(x.im, bottom), where(swap, neg(f), f))};
}

UOp absolute(const UOp& re, const UOp& im) {
  const UOp a = magnitude(re), b = magnitude(im), size = larger(a, b), scale = scale_of(size);
  const UOp x = mul(a, scale), y = mul(b, scale), squares = add(mul(x, x), mul(y, y));
  const UOp zero = equal(size, 0);  // sqrt has no derivative there: it is kept away
  const UOp root = div(unary(Op::SQRT, where(zero, number(size, 1), squares)), scale);
  const UOp infinite = either(equal(a, kInf), equal(b, kInf));
  return where(zero, size, where(infinite, number(root, kInf), root));
}

// exp(re): by halves where it alone overflows and its product with a sine may not.
Parts exponential(const Parts& z) {
  constexpr double kOverflow = 709;
  const UOp large = less(kOverflow, z.re), one = number(z.re, 1);
  const UOp root = unary(Op::EXP, where(large, scaled(z.re, 0.5), z.re)), again = where(large, root, one);
  const UOp im = mul(mul(root, unary(Op::SIN, z.im)), again);
  return {mul(mul(root, unary(Op::COS, z.im)), again), where(equal(z.im, 0), z.im, im)};
}

// log|z| near the unit circle by log1p, elsewhere by half the logarithm of scaled squares.
UOp log_absolute(const Parts& z) {
  const UOp a = magnitude(z.re), b = magnitude(z.im), m = larger(a, b), n = smaller(a, b);
  const UOp scale = scale_of(m), x = mul(a, scale), y = mul(b, scale), squares = add(mul(x, x), mul(y, y));
  const UOp near = both(less(0.5, squares), less(squares, 3.0));
  const UOp one = number(m, 1), beyond = add(mul(sub(m, one), add(m, one)), mul(n, n));
  const UOp by_log1p = scaled(unary(Op::LOG1P, where(near, beyond, zeros_like(m))), 0.5);
  const UOp by_log = sub(scaled(unary(Op::LOG, squares), 0.5), unary(Op::LOG, scale));
  return where(near, by_log1p, by_log);
}
Parts logarithm(const Parts& z) { return {log_absolute(z), make(Op::ATAN2, {z.im, z.re})}; }

Parts square_root(const Parts& z) {
  const UOp im = z.im, a = magnitude(z.re), b = magnitude(im), size = larger(a, b);
  // An even power, so that its root is one too.
  const UOp scale = scale_of(size), x = mul(a, scale), y = mul(b, scale);
  const UOp zero = equal(size, 0), one = number(size, 1);
  const UOp length = unary(Op::SQRT, where(zero, one, add(mul(x, x), mul(y, y))));
  const UOp t = div(unary(Op::SQRT, scaled(add(x, length), 0.5)), unary(Op::SQRT, scale));
  const UOp other = div(b, scaled(t, 2)), left = less(z.re, 0.0), below = is_negative(im);
  const auto with_sign = [&](const UOp& v) { return where(below, neg(v), v); };
  const UOp vertical = equal(b, kInf);
  const UOp u = where(left, other, t), v = where(left, t, other);
  return {where(zero, zeros_like(u), where(vertical, b, u)), where(either(zero, vertical), im, with_sign(v))};
}

// A sine or cosine times a hyperbolic function that may be infinite where the first is 0.
UOp finite_times(const UOp& wave, const UOp& growth) {
  const UOp one = number(growth, 1), within = smaller(larger(growth, neg(one)), one);
  return mul(wave, where(equal(wave, 0), within, growth));
}

Parts sine(const Parts& z) {
  return {finite_times(unary(Op::SIN, z.re), unary(Op::COSH, z.im)),
          mul(unary(Op::COS, z.re), unary(Op::SINH, z.im))};
}
Parts cosine(const Parts& z) {
  return {mul(unary(Op::COS, z.re), unary(Op::COSH, z.im)),
          neg(finite_times(unary(Op::SIN, z.re), unary(Op::SINH, z.im)))};
}
Parts hyperbolic_sine(const Parts& z) {
  return {mul(unary(Op::COS, z.im), unary(Op::SINH, z.re)),
          finite_times(unary(Op::SIN, z.im), unary(Op::COSH, z.re))};
}
Parts hyperbolic_cosine(const Parts& z) {
  return {mul(unary(Op::COS, z.im), unary(Op::COSH, z.re)),
          finite_times(unary(Op::SIN, z.im), unary(Op::SINH, z.re))};
}

// Kahan (1987), "Branch cuts for complex elementary functions", CTANH.
Parts hyperbolic_tangent(const Parts& z) {
  constexpr double kFar = 20;  // beyond, 1 - |tanh| is below 1e-17
  const UOp far = less(kFar, magnitude(z.re)), one = number(z.re, 1);
  const UOp near_re = where(far, zeros_like(z.re), z.re), t = unary(Op::TAN, z.im);
  const UOp beta = add(one, mul(t, t)), s = unary(Op::SINH, near_re),
            rho = unary(Op::SQRT, add(one, mul(s, s)));
  const UOp under = add(one, mul(beta, mul(s, s)));
  const UOp decay = unary(Op::EXP, scaled(magnitude(z.re), -2));
  const UOp tail = scaled(mul(mul(unary(Op::SIN, z.im), unary(Op::COS, z.im)), decay), 4);
  return {where(far, unary(Op::SIGN, z.re), div(mul(mul(beta, rho), s), under)),
          where(far, tail, div(t, under))};
}
Parts tangent(const Parts& z) {  // tan(z) = -i tanh(i z)
  const Parts h = hyperbolic_tangent({z.im, z.re});
  return {h.im, h.re};
}

Parts whole_power(Parts z, std::int64_t k) {
  const bool below = k < 0;
  Parts result;
  for (std::int64_t e = below ? -k : k; e > 0; e >>= 1) {
    if (e & 1) result = result.re ? times(result, z) : z;
    if (e > 1) z = times(z, z);
  }
  const UOp one = number(z.re, 1);
  if (k == 0) return {one, zeros_like(one)};
  return below ? over({one, zeros_like(one)}, result) : result;
}

// exp(e log(z)); at z = 0 its limit where there is one.
Parts power(const Parts& z, const Parts& e) {
  const UOp zero = both(equal(z.re, 0), equal(z.im, 0));
  const UOp none = both(equal(e.re, 0), equal(e.im, 0));
  const UOp one = number(z.re, 1), nothing = zeros_like(one);
  const Parts safe{where(zero, one, z.re), z.im};
  const Parts all = exponential(times(e, logarithm(safe)));
  const UOp at_zero = where(less(0.0, e.re), nothing, number(one, std::numeric_limits<double>::quiet_NaN()));
  return {where(none, one, where(zero, at_zero, all.re)), where(none, nothing, where(zero, at_zero, all.im))};
}

// One op of Op(z) -> Parts that is computed in float64 for complex64 too.
template <class F> Parts in_double(DType d, const F& f, const Parts& a, const Parts& b = {}) {
  if (d == DType::kFloat64) return f(a, b);
  const auto wide = [](const UOp& x) { return x ? cast(x, DType::kFloat64) : x; };
  const Parts r = f(Parts{wide(a.re), wide(a.im)}, Parts{wide(b.re), wide(b.im)});
  return {cast(r.re, d), cast(r.im, d)};
}

// A complex value that is lowered: by its parts, by the array of both, or by either made when it is asked for.
class Lowered {
 public:
  Lowered() = default;
  explicit Lowered(UOp whole) : whole_(std::move(whole)), is_array_(true) {}
  explicit Lowered(Parts parts) : parts_(std::move(parts)) {}

  // It comes as an array: what moves elements moves that.
  bool is_array() const { return is_array_; }
  const UOp& whole() {
    if (!whole_)
      whole_ = stack(std::array{parts_.re, parts_.im}, static_cast<std::int64_t>(parts_.re->n_dim));
    return whole_;
  }
  const Parts& parts() {
    if (!parts_.re) {
      const auto last = static_cast<std::int64_t>(whole_->n_dim) - 1;
      parts_ = {index_axis(whole_, last, 0), index_axis(whole_, last, 1)};
    }
    return parts_;
  }

 private:
  Parts parts_;
  UOp whole_;
  bool is_array_ = false;
};

class Lowering {
 public:
  // `program`: a closed body, whose PARAMs become real. Else only what depends on a symbol is lowered, and plain numbers.
  explicit Lowering(bool program) : program_(program) {}

  std::vector<UOp> run(std::span<const UOp> values) {
    std::vector<Node*> roots;
    for (const UOp& v : values) roots.push_back(v.get());
    const auto stays = [&](const Node* n) {
      const bool data = (n->flags & (Node::kHasBuffer | Node::kHasParam)) && !(n->flags & Node::kHasSym);
      return !(n->flags & Node::kHasComplex) || (!program_ && data);
    };
    for (Node* n : toposort(roots, stays)) {
      if (stays(n) || n->op == Op::LAMBDA) continue;
      LocationScope at(n->location.load(std::memory_order_relaxed));
      if (is_complex(n->dtype))
        complex_.insert(n, complex_node(n));
      else
        real_.insert(n, real_node(n));
    }
    std::vector<UOp> out;
    for (Node* r : roots) out.push_back(plain(r));
    return out;
  }

  // A loop over the arrays of what it is given.
  UOp loop(Node* n) { return real_node(n); }

 private:
  // A source as real ops see it.
  UOp plain(Node* n) {
    if (is_complex(n->dtype)) return pair(n).whole();
    const UOp* now = real_.find(n);
    return now ? *now : UOp::share(n);
  }
  Lowered& pair(Node* n) {
    if (!complex_.contains(n)) complex_.insert(n, from_array(as_real(UOp::share(n))));
    return *complex_.find(n);
  }
  Parts parts(Node* n) { return pair(n).parts(); }  // a copy: the map moves what it holds

  UOp over_plain(Node* n) {
    std::vector<UOp> src;
    for (Node* s : n->src())
      src.push_back(s->op == Op::LAMBDA ? lower_complex_program(UOp::share(s)) : plain(s));
    UOp now = make(n->op, std::span<const UOp>(src), n->arg());
    if (Labels labels = labels_of(n); labels.any()) set_labels(now.get(), std::move(labels));
    return now;
  }

  UOp real_node(Node* n) {
    if (n->op == Op::AS_REAL) return pair(n->src(0)).whole();
    if (n->op == Op::SCAN_VJP) return scan_vjp(n);
    if ((n->op == Op::EQ || n->op == Op::NE) && is_complex(n->src(0)->dtype)) {
      const Parts a = parts(n->src(0)), b = parts(n->src(1));
      return make(n->op == Op::EQ ? Op::AND : Op::OR,
                  {compare(n->op, a.re, b.re), compare(n->op, a.im, b.im)});
    }
    return over_plain(n);
  }

  // Cotangents of complex values are dL/dre - i dL/dim, those of arrays are (dL/dre, dL/dim).
  UOp scan_vjp(Node* n) {
    const std::size_t first = n->n_src - ScanView(n).cotangents().size();
    std::vector<UOp> src;
    for (std::size_t i = 0; i < n->n_src; ++i) {
      Node* s = n->src(i);
      if (s->op == Op::LAMBDA)
        src.push_back(lower_complex_program(UOp::share(s)));
      else
        src.push_back(i >= first && is_complex(s->dtype) ? conjugate(pair(s)).whole() : plain(s));
    }
    return make(n->op, std::span<const UOp>(src), n->arg());
  }

  static Lowered conjugate(Lowered& z) {
    const Parts& p = z.parts();
    return Lowered(Parts{p.re, neg(p.im)});
  }

  // The same op on each part.
  template <class F> Lowered each_part(Node* n, const F& f) {
    const auto of = [&](const auto& get) {
      std::vector<UOp> src;
      for (Node* s : n->src()) src.push_back(is_complex(s->dtype) ? get(parts(s)) : plain(s));
      return f(std::span<const UOp>(src));
    };
    return Lowered(Parts{of([](const Parts& p) { return p.re; }), of([](const Parts& p) { return p.im; })});
  }
  // The same op on arrays where all complex sources are some, else on each part.
  Lowered elements(Node* n, std::span<const std::int64_t> array_arg) {
    bool arrays = true;
    for (Node* s : n->src()) arrays = arrays && (!is_complex(s->dtype) || pair(s).is_array());
    if (!arrays) return each_part(n, [&](std::span<const UOp> src) { return make(n->op, src, n->arg()); });
    std::vector<UOp> src;
    for (Node* s : n->src()) src.push_back(plain(s));
    return Lowered(make(n->op, std::span<const UOp>(src), array_arg));
  }

  Lowered movement(Node* n) {
    Dims arg(n->arg().begin(), n->arg().end());
    switch (n->op) {
      case Op::RESHAPE:
      case Op::EXPAND: arg.push_back(2); break;
      case Op::PERMUTE: arg.push_back(static_cast<std::int64_t>(n->n_dim)); break;
      case Op::SLICE: arg.insert(arg.end(), {0, 2, 1}); break;
      case Op::PAD: arg.insert(arg.end(), {0, 0}); break;
      default: break;
    }
    return elements(n, arg);
  }

  // By halves, as the derivative of a product does it: log2(n) roundings.
  Lowered product(Node* n) {
    const Node* x = n->src(0);
    Dims axes, shape;
    std::int64_t count = 1;
    for (std::size_t i = 0, k = 1; i < x->n_dim; ++i) {
      const bool reduced = k < n->n_arg && n->arg(k) == static_cast<std::int64_t>(i);
      if (reduced) {
        count *= x->shape()[i];
        ++k;
      } else {
        axes.push_back(static_cast<std::int64_t>(i));
        shape.push_back(x->shape()[i]);
      }
    }
    for (const std::int64_t a : n->arg().subspan(1)) axes.push_back(a);
    Dims rows = shape;
    rows.push_back(count);
    const auto last = static_cast<std::int64_t>(shape.size());
    const auto row = [&](const UOp& v) { return reshape(permute(v, axes), rows); };
    Parts p{row(parts(n->src(0)).re), row(parts(n->src(0)).im)};
    const auto cut = [&](const Parts& z, std::int64_t from, std::int64_t to) {
      return Parts{slice_axis(z.re, last, from, to), slice_axis(z.im, last, from, to)};
    };
    for (std::int64_t left = count; left > 1; left = (left + 1) / 2) {
      const std::int64_t half = left / 2;
      Parts next = times(cut(p, 0, half), cut(p, half, 2 * half));
      if (left % 2) {
        const Parts rest = cut(p, left - 1, left);
        next.re = cat(std::array{next.re, rest.re}, last);
        next.im = cat(std::array{next.im, rest.im}, last);
      }
      p = next;
    }
    return Lowered(Parts{reshape(p.re, shape), reshape(p.im, shape)});
  }

  Lowered matrix_product(Node* n) {
    const Parts a = parts(n->src(0)), b = parts(n->src(1));
    return Lowered(
        Parts{sub(matmul(a.re, b.re), matmul(a.im, b.im)), add(matmul(a.re, b.im), matmul(a.im, b.re))});
  }

  // The array that two parts were stacked to has them already; and so has one whose pairs are multiplied by a number each, as a
  // real operand does it.
  static Lowered from_array(const UOp& x) {
    const auto last = static_cast<std::int64_t>(x->n_dim) - 1;
    const auto shape = x->shape().first(x->n_dim - 1u);
    const auto stacked = [&](const Node* n) {
      return n->op == Op::CAT && n->n_src == 2 && n->arg(0) == last;
    };
    const auto part = [&](Node* n) { return reshape(UOp::share(n), shape); };
    if (stacked(x.get())) return Lowered(Parts{part(x->src(0)), part(x->src(1))});
    const Node* factor = x->op == Op::MUL || x->op == Op::DIV ? x->src(1) : nullptr;
    if (!factor || factor->op != Op::EXPAND || factor->src(0)->shape().back() != 1 || !stacked(x->src(0)))
      return Lowered(x);
    const UOp narrow = UOp::share(factor->src(0));
    const UOp by = broadcast_to(reshape(narrow, narrow->shape().first(narrow->n_dim - 1u)), shape);
    const Node* pairs = x->src(0);
    return Lowered(Parts{make(x->op, {part(pairs->src(0)), by}), make(x->op, {part(pairs->src(1)), by})});
  }

  Lowered complex_node(Node* n) {
    const DType d = real_dtype(n->dtype);
    Node* x = n->n_src > 0 ? n->src(0) : nullptr;
    const auto of = [&](Parts (*f)(const Parts&)) {
      return Lowered(in_double(
          d, [&](const Parts& a, const Parts&) { return f(a); }, parts(x)));
    };
    if (is_movement(n->op)) return movement(n);
    switch (n->op) {
      case Op::PARAM: return Lowered(real_param(n));
      case Op::SYM:
      case Op::BUFFER: return Lowered(as_real(UOp::share(n)));
      case Op::AS_COMPLEX: return from_array(plain(x));
      case Op::CAST:
        if (!is_complex(x->dtype)) return Lowered(Parts{cast(plain(x), d), full(d, x->shape(), 0)});
        return Lowered(Parts{cast(parts(x).re, d), cast(parts(x).im, d)});
      case Op::CONJ: return conjugate(pair(x));
      case Op::NEG: return Lowered(Parts{neg(parts(x).re), neg(parts(x).im)});
      case Op::ADD: return Lowered(plus(parts(x), parts(n->src(1))));
      case Op::SUB: return Lowered(minus(parts(x), parts(n->src(1))));
      case Op::MUL: return Lowered(times(parts(x), parts(n->src(1))));
      case Op::DIV: return Lowered(in_double(d, over, parts(x), parts(n->src(1))));
      case Op::POW: return Lowered(in_double(d, power, parts(x), parts(n->src(1))));
      case Op::POWI: {
        const std::int64_t k = n->arg(0);
        return Lowered(in_double(
            d, [k](const Parts& a, const Parts&) { return whole_power(a, k); }, parts(x)));
      }
      case Op::SQRT: return of(square_root);
      case Op::EXP: return of(exponential);
      case Op::LOG: return of(logarithm);
      case Op::SIN: return of(sine);
      case Op::COS: return of(cosine);
      case Op::TAN: return of(tangent);
      case Op::SINH: return of(hyperbolic_sine);
      case Op::COSH: return of(hyperbolic_cosine);
      case Op::TANH: return of(hyperbolic_tangent);
      case Op::WHERE: return each_part(n, [](std::span<const UOp> s) { return where(s[0], s[1], s[2]); });
      case Op::REDUCE:
        if (static_cast<Reduction>(n->arg(0)) == Reduction::kProd) return product(n);
        return elements(n, n->arg());
      case Op::MATMUL: return matrix_product(n);
      case Op::CUMSUM:
      case Op::GATHER:
      case Op::SCATTER_ADD: return elements(n, n->arg());
      case Op::GET: {
        const UOp whole = make(Op::GET, {plain(x)}, n->arg());
        Lowered out(whole);
        return x->op == Op::SCAN_VJP ? conjugate(out) : out;
      }
      case Op::COPY:
      case Op::CHECK: {
        std::vector<UOp> src;
        for (Node* s : n->src()) src.push_back(plain(s));
        return Lowered(make(n->op, std::span<const UOp>(src), n->arg()));
      }
      default:
        throw Error("complex", std::string(name(n->op)) + " is not defined for complex numbers", "", 0);
    }
  }

  static UOp real_param(const Node* n) {
    Dims shape = shape_of(n);
    shape.push_back(2);
    return param(n->arg(0), real_dtype(n->dtype), shape);
  }

  bool program_;
  NodeMap<UOp> real_;
  NodeMap<Lowered> complex_;
};

bool is_lowered(std::span<const UOp> values) {
  for (const UOp& v : values)
    if (v->flags & Node::kHasComplex) return false;
  return true;
}

}  // namespace

UOp complex_abs(const UOp& re, const UOp& im) {
  const DType d = re->dtype;
  return cast(absolute(cast(re, DType::kFloat64), cast(im, DType::kFloat64)), d);
}

std::vector<UOp> lower_complex(std::span<const UOp> values) {
  if (is_lowered(values)) return {values.begin(), values.end()};
  return Lowering(false).run(values);
}
UOp lower_complex(const UOp& value) { return lower_complex(std::span(&value, 1)).front(); }

UOp lower_complex_loop(const UOp& loop) {
  return loop->flags & Node::kHasComplex ? Lowering(false).loop(loop.get()) : loop;
}

UOp lower_complex_program(const UOp& lambda) {
  if (!(lambda->flags & Node::kHasComplex)) return lambda;
  return with_outputs(lambda.get(), Lowering(true).run(outputs_of(lambda.get())));
}

}  // namespace tinyphys
