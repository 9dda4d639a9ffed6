#include "tensor/hamiltonian.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <vector>

#include <fmt/format.h>

#include "derive/gradient.hpp"
#include "derive/vmap.hpp"
#include "support/philox.hpp"
#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys::detail {
namespace {

using front::describe;
using front::fail;
using Complex = std::complex<double>;
using Answer = OperatorProof::Answer;

constexpr std::string_view kCall = "Schroedinger";
// Where numbers decide: so many random psi, and how far an element of two results of H may be apart, of its size.
constexpr int kTrials = 3;
constexpr double kTolerance = 1e-13;
// Of Lanczos, and by how much of its width an interval is then made wider on each side.
constexpr int kMostSteps = 64;
constexpr double kAccuracy = 0.01, kMargin = 0.01;

// Parts uniform in [-1, 1).
std::vector<Complex> random_numbers(std::int64_t size, std::int64_t key) {
  constexpr philox::Draw kReal{0, 0, 53}, kImaginary{0, 1, 53};
  std::vector<Complex> out;
  for (std::int64_t i = 0; i < size; ++i) {
    const auto part = [&](philox::Draw d) {
      return std::ldexp(static_cast<double>(philox::draw(philox::number(d), key, i)), -52) - 1.0;
    };
    out.emplace_back(part(kReal), part(kImaginary));
  }
  return out;
}

// Two results of H that are to agree, element by element: a large element, as of a wall, must not hide what is wrong with a
// small one. Its size is the largest of all trials.
struct Rows {
  std::vector<double> size, apart;
  explicit Rows(std::size_t n) : size(n), apart(n) {}

  void note(const std::vector<Complex>& a, const std::vector<Complex>& b) {
    for (std::size_t i = 0; i < size.size(); ++i) {
      size[i] = std::max({size[i], std::abs(a[i]), std::abs(b[i])});
      apart[i] = std::max(apart[i], std::abs(a[i] - b[i]));
    }
  }
  struct Worst {
    double share = 0;
    std::size_t at = 0;
  };
  Worst worst() const {
    Worst out;
    for (std::size_t i = 0; i < size.size(); ++i)
      if (apart[i] > out.share * size[i]) out = {apart[i] / size[i], i};
    return out;
  }
};

class Checker {
 public:
  Checker(const HamiltonianRecord& h, const Where& where)
      : h_(h), where_(where), shape_(h.psi->shape().begin(), h.psi->shape().end()) {}

  // H of random numbers is finite.
  void apply_once() const {
    const UOp z = random(0), hz = at(h_.value, z);
    (void)numbers(hz);
  }
  void check_linear(const std::string& why_open) const {
    const auto none = numbers(at(h_.value, zeros_like(h_.psi)));
    Rows of_i(none.size());
    for (int k = 0; k < kTrials; ++k) {
      const UOp z = random(k);
      std::vector<Complex> hz = numbers(at(h_.value, z));
      for (Complex& x : hz) x *= Complex(0, 1);
      of_i.note(hz, numbers(at(h_.value, complex_of(neg(imag_part(z)), real_part(z)))));
    }
    Rows of_none = of_i;
    of_none.apart.assign(none.size(), 0.0);
    of_none.note(none, std::vector<Complex>(none.size()));
    if (const auto worst = of_none.worst(); worst.share > kTolerance)
      fail(kCall,
           fmt::format("H is not linear in psi: of psi = 0 it makes {} at point {}",
                       front::number_text(std::abs(none[worst.at])), front::point_text(shape_, worst.at)),
           where_);
    if (const auto worst = of_i.worst(); worst.share > kTolerance)
      fail(kCall,
           fmt::format(
               "H is not linear over the complex numbers: H (i psi) and i H psi differ by {:.3g} of "
               "|H psi| at point {} ({}): conj(psi), real(psi), imag(psi) are of psi's parts, not of psi",
               worst.share, front::point_text(shape_, worst.at), why_open),
           where_);
  }
  // The largest difference of an element of H psi and of its adjoint of psi, of that element.
  double check_hermitian(const std::string& why_open) const {
    Rows rows(static_cast<std::size_t>(h_.psi->size()));
    for (int k = 0; k < kTrials; ++k) {
      const UOp z = random(k), weight = conj(z);
      // A cotangent w of v stands for Re(w v): that of psi is the transpose of H times w.
      UOp pulled = vjp(std::span(&h_.value, 1), std::span(&weight, 1), std::span(&h_.psi, 1)).front();
      pulled = pulled ? at(conj(pulled), z) : zeros_like(z);
      rows.note(numbers(at(h_.value, z)), numbers(pulled));
    }
    const auto worst = rows.worst();
    if (worst.share > kTolerance)
      fail(
          kCall,
          fmt::format(
              "H is not Hermitian: H psi and the adjoint of H on psi differ by {:.3g} of |H psi| at point {} "
              "({}); an absorbing potential and a hop without its way back do not keep the norm",
              worst.share, front::point_text(shape_, worst.at), why_open),
          where_);
    return worst.share;
  }

 private:
  UOp random(int key) const { return uop(Tensor::from(random_numbers(h_.psi->size(), key), shape_)); }
  UOp at(const UOp& graph, const UOp& z) const {
    return substitute(graph, [&](Node* n) { return n == h_.psi.get() ? z : UOp(); });
  }
  std::vector<Complex> numbers(const UOp& v) const {
    std::vector<Complex> out = tensor(v).to_vector<Complex>();
    for (std::size_t i = 0; i < out.size(); ++i)
      if (!std::isfinite(out[i].real()) || !std::isfinite(out[i].imag()))
        fail(kCall,
             fmt::format("H psi is {} + {} i at point {}, for a psi of random numbers up to 1",
                         front::number_text(out[i].real()), front::number_text(out[i].imag()),
                         front::point_text(shape_, i)),
             where_);
    return out;
  }

  const HamiltonianRecord& h_;
  const Where& where_;
  Shape shape_;
};

}  // namespace

UOp HamiltonianRecord::at(const UOp& z) const {
  const auto shape = z->shape();
  if (shape.size() == psi->shape().size())
    return substitute(value, [&](Node* n) { return n == psi.get() ? z : UOp(); });
  Dims rows(psi->shape().begin(), psi->shape().end());
  rows.insert(rows.begin(), z->size() / std::max<std::int64_t>(psi->size(), 1));
  const UOp stacked = reshape(z, rows);
  UOp all = vmap(std::span(&value, 1), std::span(&psi, 1), std::span(&stacked, 1)).front();
  if (!all) all = repeat_axis(value, 0, rows[0]);
  return reshape(all, shape);
}

LanczosBounds HamiltonianRecord::spectrum(const Where& where) const {
  if (traced)
    fail("evolve",
         "H depends on an argument of a function that is being traced: it has no numbers to find its "
         "spectrum by; "
         "give .spectrum",
         where);
  const std::lock_guard lock(mutex_);
  if (bounds_) return *bounds_;
  const Shape shape(psi->shape().begin(), psi->shape().end());
  LanczosBounds found = lanczos_bounds(
      [&](const std::vector<Complex>& v) {
        return tensor(at(uop(Tensor::from(v, shape)))).to_vector<Complex>();
      },
      random_numbers(psi->size(), kTrials), kMostSteps, kAccuracy);
  if (!std::isfinite(found.low) || !std::isfinite(found.high))
    fail("evolve", "H psi is not finite in the search for its spectrum; give .spectrum", where);
  const double width = found.high - found.low, size = std::max(std::fabs(found.low), std::fabs(found.high));
  const double more = std::max(kMargin * width, size > 0 ? 1e-6 * size : 1.0);
  found.low -= more;
  found.high += more;
  bounds_ = found;
  return found;
}

std::shared_ptr<const HamiltonianRecord> record_hamiltonian(const std::function<Tensor(const Tensor&)>& h,
                                                            const Shape& shape, const Where& where) {
  if (!h) fail(kCall, "H is an empty function", where);
  if (shape.empty()) fail(kCall, "psi has no axes", where);
  front::check_shape(shape, kCall, where);
  for (const std::int64_t n : shape)
    if (n < 1) fail(kCall, "psi of shape " + shape_text(shape) + " has no elements", where);
  auto out = std::make_shared<HamiltonianRecord>();
  out->psi = symbol(DType::kComplex128, shape);
  out->value = front::value(h(tensor(out->psi)), kCall, where);
  const Node* v = out->value.get();
  if (!is_complex(v->dtype))
    fail(kCall,
         "H psi is " + describe(v) + ", it must be " + describe(out->psi.get()) +
             " as psi is: real(psi), abs(psi) and what else is real is not linear in psi",
         where);
  if (v->dtype != DType::kComplex128 || !same_shape(v, out->psi.get()))
    fail(kCall, "H psi is " + describe(v) + ", it must be " + describe(out->psi.get()) + " as psi is", where);

  out->traced = front::is_traced(substitute(out->value, [&](Node* n) {
                                   return n == out->psi.get() ? zeros_like(out->psi) : UOp();
                                 }).get());
  const OperatorProof proof = engine().prove_operator(out->psi, out->value);
  if (proof.linear == Answer::kRefuted) fail(kCall, "H is not linear in psi: " + proof.linear_how, where);
  const bool by_numbers = proof.linear == Answer::kOpen || proof.hermitian == Answer::kOpen;
  if (out->traced) {
    if (by_numbers)
      fail(kCall,
           "H depends on an argument of a function that is being traced, and only its numbers could show "
           "that it "
           "is " +
               (proof.linear == Answer::kOpen ? "linear: " + proof.linear_how
                                              : "Hermitian: " + proof.hermitian_how),
           where);
  }
  LocationScope scope(where);
  const Checker check(*out, where);
  if (!out->traced) check.apply_once();
  const std::string at_most = fmt::format("for {} random psi, where {:g} is taken", kTrials, kTolerance);
  if (proof.linear == Answer::kOpen) {
    check.check_linear(proof.linear_how);
    out->shown.push_back(
        {Finding::kFound,
         "H is linear by numbers, which is no proof: H 0 = 0 and H (i psi) = i H psi " + at_most});
  } else {
    out->shown.push_back({Finding::kProved, "H is linear: " + proof.linear_how});
  }
  if (proof.hermitian == Answer::kOpen) {
    const double apart = check.check_hermitian(proof.hermitian_how);
    out->shown.push_back(
        {Finding::kFound,
         fmt::format("H is Hermitian by numbers, which is no proof: |H psi - adjoint(H) psi| <= "
                     "{:.1e} |H psi| in each element {}",
                     apart, at_most),
         "",
         {{"not_hermitian", apart}}});
  } else {
    out->shown.push_back({Finding::kProved, "H is Hermitian: " + proof.hermitian_how});
  }
  return out;
}

}  // namespace tinyphys::detail
