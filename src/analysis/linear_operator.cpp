#include "analysis/linear_operator.hpp"

#include <algorithm>
#include <complex>
#include <optional>

#include <fmt/format.h>

#include "analysis/identity.hpp"
#include "derive/complex.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

using Complex = std::complex<double>;
using Answer = OperatorProof::Answer;

constexpr std::size_t kMaxWords = 64, kMaxFactors = 64;
// Operations of an identity test; beyond, numbers decide.
constexpr double kMaxWork = 3e5;

// --- words ----------------------------------------------------------------------------------------------

bool is_real(const Node* n) {  // by structure
  while (is_complex(n->dtype)) {
    if (!is_movement(n->op) && n->op != Op::NEG && n->op != Op::CAST && n->op != Op::CONJ) return false;
    if (n->op == Op::CAT || n->op == Op::PAD) return false;
    n = n->src(0);
  }
  return true;
}

// The conjugate, taken as far down as what moves elements.
UOp conjugate(const UOp& n) {
  if (is_real(n.get())) return n;
  if (n->op == Op::CONJ) return n.src(0);
  if (n->op == Op::NEG || (is_movement(n->op) && n->op != Op::CAT && n->op != Op::PAD)) {
    const UOp below = conjugate(n.src(0));
    Node* const source = below.get();
    return with_sources(n.get(), std::span(&source, 1));
  }
  return conj(n);
}

struct Factor {
  enum class Kind { kTimes, kOver, kTransform, kShift };
  Kind kind = Kind::kTimes;
  UOp number = {};  // of each element
  Dims arg = {};    // sign and axes; axis, shift and extent
  bool is_diagonal() const { return kind == Kind::kTimes || kind == Kind::kOver; }
  friend bool operator==(const Factor& a, const Factor& b) {
    return a.kind == b.kind && a.number == b.number && a.arg == b.arg;
  }
  friend bool operator<(const Factor& a, const Factor& b) {
    return std::pair(a.number.get(), a.kind) < std::pair(b.number.get(), b.kind);
  }
};

// scale * (factors that are the same number everywhere) * factors[0] * factors[1] * ... psi.
struct Word {
  Complex scale = 1.0;
  std::vector<Factor> scalars, factors;
  bool same_operator(const Word& o) const { return scalars == o.scalars && factors == o.factors; }
};

// Neighbouring diagonals commute, and so do numbers with all else.
void sort(Word& w) {
  std::sort(w.scalars.begin(), w.scalars.end());
  for (auto first = w.factors.begin(); first != w.factors.end();) {
    const auto last = std::find_if(first, w.factors.end(), [](const Factor& f) { return !f.is_diagonal(); });
    std::sort(first, last);
    first = last == w.factors.end() ? last : last + 1;
  }
}

Factor adjoint(Factor f) {
  switch (f.kind) {
    case Factor::Kind::kTimes:
    case Factor::Kind::kOver: f.number = conjugate(f.number); break;
    case Factor::Kind::kTransform: f.arg[0] = -f.arg[0]; break;
    case Factor::Kind::kShift: f.arg[1] = f.arg[2] - f.arg[1]; break;
  }
  return f;
}
Word adjoint(const Word& w) {
  Word out{std::conj(w.scale), {}, {}};
  for (const Factor& f : w.scalars) out.scalars.push_back(adjoint(f));
  for (auto f = w.factors.rbegin(); f != w.factors.rend(); ++f) out.factors.push_back(adjoint(*f));
  sort(out);
  return out;
}

// The number that a value of one element, or the same one everywhere, is written as.
std::optional<Complex> number_of(const Node* n) {
  if (n->op == Op::CONST) {
    if (n->dtype == DType::kBool) return std::nullopt;
    return is_float(n->dtype) ? const_double(n) : static_cast<double>(const_int(n));
  }
  if (n->op == Op::CAST && real_dtype(n->dtype) != DType::kFloat64) return std::nullopt;  // it rounds
  if (n->op == Op::RESHAPE || n->op == Op::EXPAND || n->op == Op::CAST) return number_of(n->src(0));
  if (n->op == Op::NEG || n->op == Op::CONJ) {
    const auto below = number_of(n->src(0));
    if (!below) return below;
    return n->op == Op::NEG ? -*below : std::conj(*below);
  }
  if (n->op != Op::AS_COMPLEX) return std::nullopt;
  const Node* pair = n->src(0);
  while (pair->op == Op::EXPAND ||
         (pair->op == Op::RESHAPE && pair->src(0)->shape().size() > 0 && pair->src(0)->shape().back() == 2))
    pair = pair->src(0);
  if (pair->op != Op::CAT || pair->n_src != 2 || pair->shape().back() != 2) return std::nullopt;
  const auto re = number_of(pair->src(0)), im = number_of(pair->src(1));
  if (!re || !im) return std::nullopt;
  return Complex(re->real(), im->real());
}

// H as a sum of words: of complex nodes, and of arrays of pairs that stand for them.
class Words {
 public:
  Words(const UOp& psi, const UOp& value) {
    const auto order = toposort(value);
    repeated_ = repeated_axes(order);
    for (Node* n : order) {
      bool depends = n == psi.get();
      for (Node* s : n->src()) depends = depends || words_.contains(s);
      if (!depends) continue;
      auto words = n == psi.get() ? std::optional(std::vector<Word>(1)) : of(n);
      if (!words || words->size() > kMaxWords) return;
      for (const Word& w : *words)
        if (w.factors.size() + w.scalars.size() > kMaxFactors) return;
      words_.insert(n, std::move(*words));
    }
    const auto* sum = words_.find(value.get());
    if (!sum) return;
    found_ = true;
    // Each operator once.
    for (Word w : *sum) {
      sort(w);
      const auto same =
          std::find_if(sum_.begin(), sum_.end(), [&](const Word& o) { return o.same_operator(w); });
      if (same == sum_.end())
        sum_.push_back(std::move(w));
      else
        same->scale += w.scale;
    }
    std::erase_if(sum_, [](const Word& w) { return w.scale == 0.0; });
  }

  bool found() const { return found_; }
  std::size_t count() const { return sum_.size(); }
  bool hermitian() const {
    return std::all_of(sum_.begin(), sum_.end(), [&](const Word& w) {
      const Word a = adjoint(w);
      return std::any_of(sum_.begin(), sum_.end(),
                         [&](const Word& o) { return o.same_operator(a) && o.scale == a.scale; });
    });
  }

 private:
  using Sum = std::optional<std::vector<Word>>;

  static bool in_pairs(const Node* n) { return !is_complex(n->dtype); }

  // The sum with one factor more, from the left.
  static Sum with(std::vector<Word> words, const Factor& f, bool scalar = false) {
    for (Word& w : words)
      if (scalar)
        w.scalars.push_back(f);
      else
        w.factors.insert(w.factors.begin(), f);
    return words;
  }

  Sum times(const Node* n, const std::vector<Word>& words, Node* by, bool over) {
    const AxisBits same = repeated_.at(by);
    bool everywhere = true;
    const auto shape = by->shape();
    if (shape.size() > 63) return {};
    if (in_pairs(n) && !(same >> (shape.size() - 1) & 1)) return {};  // the parts by different numbers
    for (std::size_t a = 0; a < shape.size(); ++a) everywhere = everywhere && (same >> a & 1);
    if (everywhere)
      if (const auto number = number_of(by)) {
        if (over && *number == 0.0) return {};
        std::vector<Word> out = words;
        for (Word& w : out) w.scale = over ? w.scale / *number : w.scale * *number;
        return out;
      }
    return with(words,
                {over ? Factor::Kind::kOver : Factor::Kind::kTimes, conjugate(conjugate(UOp::share(by))), {}},
                everywhere);
  }

  Sum of(Node* n) {
    const auto source = [&](std::size_t i) { return words_.find(n->src(i)); };
    switch (n->op) {
      case Op::AS_REAL:
      case Op::AS_COMPLEX:
      case Op::COPY: return *source(0);
      case Op::CAST: return n->dtype == n->src(0)->dtype ? Sum(*source(0)) : Sum();
      case Op::NEG: {
        Sum out = *source(0);
        for (Word& w : *out) w.scale = -w.scale;
        return out;
      }
      case Op::ADD:
      case Op::SUB: {
        if (!source(0) || !source(1)) return {};
        Sum out = *source(0);
        for (Word w : *source(1)) {
          if (n->op == Op::SUB) w.scale = -w.scale;
          out->push_back(std::move(w));
        }
        return out;
      }
      case Op::MUL:
        if (source(0) && source(1)) return {};
        return source(0) ? times(n, *source(0), n->src(1), false) : times(n, *source(1), n->src(0), false);
      case Op::DIV: return source(1) ? Sum() : times(n, *source(0), n->src(1), true);
      case Op::FFT:
        return with(*source(0), {Factor::Kind::kTransform, {}, Dims(n->arg().begin(), n->arg().end())});
      case Op::ROLL: {
        const auto axis = static_cast<std::size_t>(n->arg(0));
        if (in_pairs(n) && axis + 1 == n->n_dim) return {};
        const std::int64_t extent = n->shape()[axis], shift = n->arg(1);
        if (shift == 0) return *source(0);
        return with(*source(0), {Factor::Kind::kShift, {}, Dims{n->arg(0), shift, extent}});
      }
      default: return {};
    }
  }

  NodeMap<AxisBits> repeated_;
  NodeMap<std::vector<Word>> words_;
  std::vector<Word> sum_;
  bool found_ = false;
};

// --- identities -----------------------------------------------------------------------------------------

// H as a closed body over pairs of real numbers.
struct RealBody {
  UOp lambda;
  std::vector<StateGroup> params;
  Constants constants;
};

RealBody real_body(const UOp& psi, UOp value) {
  // z / w = z (1 / w): the quotient of the runtime compares the sizes of both.
  NodeMap<char> depends;
  for (Node* n : toposort(value)) {
    char d = n == psi.get();
    for (Node* s : n->src())
      if (const char* below = depends.find(s)) d |= *below;
    depends.insert(n, d);
  }
  value = rebuild(value, {.after = [&](Node* n, const UOp& now) {
                    if (n->op != Op::DIV || !is_complex(n->dtype) || !depends.at(n) || depends.at(n->src(1)))
                      return UOp();
                    return make(Op::MUL, {now.src(0), make(Op::DIV, {full_like(now, 1.0), now.src(1)})});
                  }});
  // All data are params, so that what is made of them, as a conjugate, keeps its formula.
  std::vector<UOp> params{psi}, captured;
  for (Node* n : toposort(value))
    if (n != psi.get() && (n->op == Op::BUFFER || n->op == Op::SYM)) params.push_back(UOp::share(n));
  const UOp closed = close_lambda(std::span(&value, 1), params, captured);
  RealBody out;
  out.lambda = lower_complex_program(closed);
  const auto count = static_cast<std::size_t>(closed->arg(0));
  out.params.assign(count, StateGroup::kNone);
  out.params[0] = StateGroup::kQ;
  out.constants.resize(count);
  for (std::size_t i = 0; i < captured.size(); ++i)
    if (is_const(captured[i].get()) && is_float(captured[i]->dtype))
      out.constants[params.size() + i] = Value<double>{
          captured[i]->dtype, shape_of(captured[i].get()), {const_double(captured[i].get())}, {}};
  return out;
}

// What in H keeps it from being linear, as it was written: the first node of the complex graph that is neither.
std::string first_beyond(const UOp& psi, const UOp& value) {
  const std::string names[] = {"psi"};
  const UOp at =
      substitute(value, [&](Node* n) { return n == psi.get() ? param(0, psi->dtype, psi->shape()) : UOp(); });
  NodeMap<char> depends;
  for (Node* n : toposort(at)) {
    char d = n->op == Op::PARAM;
    int so_many = 0;
    for (Node* s : n->src())
      if (const char* below = depends.find(s); below && *below) {
        d = 1;
        ++so_many;
      }
    depends.insert(n, d);
    if (!d || n->op == Op::PARAM) continue;
    const bool product = so_many > 1 && (n->op == Op::MUL || n->op == Op::MATMUL);
    const bool power = n->op == Op::POWI && n->arg(0) != 1;
    const bool over = n->op == Op::DIV && depends.find(n->src(1)) && *depends.find(n->src(1));
    const bool other = n->op != Op::NEG && n->op != Op::POWI && traits(n->op).cls == OpClass::kUnary &&
                       n->op != Op::CONJ && n->op != Op::CAST && n->op != Op::COPY;
    const bool loop = is_loop(n->op);
    if (product || power || over || other || loop) return located_infix(n, names);
  }
  return {};
}

}  // namespace

OperatorProof prove_operator(const UOp& psi, const UOp& value) {
  OperatorProof out;
  if (const Words words(psi, value); words.found()) {
    out.linear = Answer::kProven;
    out.linear_how = fmt::format("a sum of {} product{} of diagonals, transforms and shifts", words.count(),
                                 words.count() == 1 ? "" : "s");
    if (words.hermitian()) {
      out.hermitian = Answer::kProven;
      out.hermitian_how = "the adjoint of each is one of them";
      return out;
    }
  }
  const RealBody body = real_body(psi, value);
  const std::string names[] = {"psi"};
  const Node* lambda = body.lambda.get();
  const DegreeBound bound = bound_degree(lambda, body.params, 1, names);
  const double work = evaluation_work(lambda);
  if (bound.worst.joint > 1) {
    IdentityTest degree;
    if (bound.worst.finite() && work <= kMaxWork)
      degree = test_degree(lambda, body.params, bound, 1, body.constants);
    if (!degree.holds) {
      const std::string first = first_beyond(psi, value);
      out.linear = Answer::kRefuted;
      out.linear_how = first.empty() ? bound.reason : first;
      return out;
    }
  }
  if (work > kMaxWork) {
    if (out.linear == Answer::kOpen) out.linear_how = "H is too large for an identity test";
    out.hermitian_how = "H is too large for an identity test";
    return out;
  }
  const OperatorTest test = test_operator(lambda, body.params, body.constants);
  const std::string by = fmt::format("in F_p, 2 random primes, error < {:.0e}", test.error_probability);
  if (out.linear == Answer::kOpen) {
    if (test.decided && test.homogeneous && test.complex_linear) {
      out.linear = Answer::kProven;
      out.linear_how = "of degree 1 in psi, H 0 = 0 and H (i psi) = i H psi " + by;
    } else {
      out.linear_how = !test.decided       ? test.reason
                       : !test.homogeneous ? "H 0 is not 0"
                                           : "H (i psi) is not i H psi";
    }
  }
  if (test.decided && test.hermitian && out.linear == Answer::kProven) {
    out.hermitian = Answer::kProven;
    out.hermitian_how = "<f|H g> = <H f|g> " + by;
  } else {
    out.hermitian_how = test.decided ? "<f|H g> is not <H f|g> for all numbers in H" : test.reason;
  }
  return out;
}

}  // namespace tinyphys
