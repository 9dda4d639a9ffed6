// Loops as one value: scan records n steps as a single node, whatever n is, and derivatives of it are such
// nodes too.
//
//   auto [q1, p1] = scan([](Tensor q, Tensor p) { ...; return std::tuple{q, p}; }, std::tuple{q0, p0}, n);
//   Tensor x1     = scan([](Index i, Tensor x) { return x + 0.1 * i; }, x0, n);
//   auto [x1, ys] = scan([](Tensor x, Tensor a) { ...; return std::pair{x, y}; }, x0, n, {.xs = {as}});
//   Tensor x1     = scan(step, x0, n, {.until = [](Tensor x) { return x > 1.0; }});   // n is the bound
//
// step takes
//   Index                 first, when it declares one: the number of the step, an int64 scalar
//   the carry             a tuple or pair as separate arguments, any other structure (structure.hpp) as one
//   one Tensor for each of .xs, which is row i of it in step i (or one std::vector<Tensor> for all)
// and returns the next carry, or {carry, out} as a std::pair or std::tuple of two: out, a structure, is
// stacked along a new first axis of length n, and scan returns std::pair{carry, stacked outs}.
//
// step runs once, with symbols: it may do anything with its arguments but read their values. What it captures
// is part of the loop, scans and gradients within it too.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/structure.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

// The number of the step, int64[], from 0. Used like any Tensor.
class Index : public Tensor {
 public:
  explicit Index(Tensor t) : Tensor(std::move(t)) {}
};

// Per-step inputs: a tensor, a list, or any structure of tensors.
class StepInputs {
 public:
  StepInputs() = default;
  StepInputs(std::initializer_list<Tensor> list) : list_(list) {}
  template <Structured S> StepInputs(const S& s) : list_(leaves(s)) {}
  const std::vector<Tensor>& list() const { return list_; }

 private:
  std::vector<Tensor> list_;
};

namespace detail {

// A function of structures of tensors as one of the list of all their tensors.
template <class R, class... A, class F> std::function<Tensor(const std::vector<Tensor>&)> of_list(F f) {
  static_assert(std::is_convertible_v<R, Tensor>, ".until must return a Tensor: a bool scalar");
  return [f = std::move(f)](const std::vector<Tensor>& all) -> Tensor {
    const Tensor* next = all.data();
    [[maybe_unused]] const auto take = [&]<class S>(const S& like) {
      if constexpr (std::is_same_v<S, std::vector<Tensor>>)
        return all;
      else
        return Structure<S>::rebuild(like, next);
    };
    // Braces evaluate from left to right.
    return std::apply(f, std::tuple<std::remove_cvref_t<A>...>{take(std::remove_cvref_t<A>{})...});
  };
}
template <class F, class R, class C, class... A> auto of_list_member(F f, R (C::*)(A...) const) {
  return of_list<R, A...>(std::move(f));
}

}  // namespace detail

// When a loop ends before its n steps: a function of the carry that a step leaves, a bool scalar. Its parameters are
// those of step without Index and xs, with their types written out (Tensor, State, ...).
class Until {
 public:
  Until() = default;
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, Until>) Until(F f) {
    static_assert(
        requires { &F::operator(); }, ".until: a lambda with the types of its parameters written out");
    f_ = detail::of_list_member(std::move(f), &F::operator());
  }
  explicit operator bool() const { return static_cast<bool>(f_); }
  Tensor operator()(const std::vector<Tensor>& carry) const { return f_(carry); }

 private:
  std::function<Tensor(const std::vector<Tensor>&)> f_;
};

struct ScanOptions {
  StepInputs xs = {};  // each of shape [n, ...]
  Until until = {};    // the step after which it is true is the last one
};

namespace detail {

struct StepResult {
  std::vector<Tensor> carry, outs;
};
using StepFunction = std::function<StepResult(const Tensor& index, const std::vector<Tensor>& carry,
                                              const std::vector<Tensor>& xs)>;
StepResult scan(const StepFunction& step, const std::vector<Tensor>& carry, std::int64_t n,
                const std::vector<Tensor>& xs, const Until& until, Where where);
[[noreturn]] void wrong_number_of_xs(std::size_t taken, std::size_t given, Where where);

template <class T> struct FirstParameter { using type = void; };
template <class R, class C, class A, class... More> struct FirstParameter<R (C::*)(A, More...)> {
  using type = std::remove_cvref_t<A>;
};
template <class R, class C, class A, class... More> struct FirstParameter<R (C::*)(A, More...) const> {
  using type = std::remove_cvref_t<A>;
};
template <class R, class A, class... More> struct FirstParameter<R (*)(A, More...)> {
  using type = std::remove_cvref_t<A>;
};
template <class F> constexpr bool takes_index() {
  if constexpr (requires { &F::operator(); })
    return std::is_same_v<typename FirstParameter<decltype(&F::operator())>::type, Index>;
  else
    return std::is_same_v<typename FirstParameter<std::decay_t<F>>::type, Index>;
}

// The carry as arguments: a tuple or a pair is taken apart.
template <class C> struct CarryArguments {
  static std::tuple<const C&> of(const C& c) { return {c}; }
};
template <class... S> struct CarryArguments<std::tuple<S...>> {
  static const std::tuple<S...>& of(const std::tuple<S...>& c) { return c; }
};
template <class A, class B> struct CarryArguments<std::pair<A, B>> {
  static std::tuple<const A&, const B&> of(const std::pair<A, B>& c) { return {c.first, c.second}; }
};

constexpr std::size_t kMaxStepInputs = 16;
constexpr std::size_t kStepInputsAsVector = kMaxStepInputs + 1;

// Whether f takes these arguments and then k tensors.
template <class F, std::size_t K, class... Args>
constexpr bool takes_rows = []<std::size_t... I>(std::index_sequence<I...>) {
  return std::is_invocable_v<F, Args..., decltype((void)I, std::declval<const Tensor&>())...>;
}
(std::make_index_sequence<K>{});

// How many tensors f takes after these arguments: the fewest that compile.
template <class F, std::size_t K, class... Args> constexpr std::size_t rows_taken() {
  if constexpr (takes_rows<F, K, Args...>)
    return K;
  else if constexpr (K < kMaxStepInputs)
    return rows_taken<F, K + 1, Args...>();
  else if constexpr (std::is_invocable_v<F, Args..., const std::vector<Tensor>&>)
    return kStepInputsAsVector;
  else
    return kStepInputsAsVector + 1;
}

template <class F, class... Args>
decltype(auto) call_step(F& f, const std::vector<Tensor>& xs, const Args&... args) {
  constexpr std::size_t kRows = rows_taken<F&, 0, const Args&...>();
  static_assert(kRows <= kStepInputsAsVector,
                "scan: step must take ([Index,] carry..., a Tensor for each of .xs); a tuple carry is "
                "separate arguments");
  if constexpr (kRows == kStepInputsAsVector)
    return f(args..., xs);
  else
    return [&]<std::size_t... I>(std::index_sequence<I...>)->decltype(auto) { return f(args..., xs[I]...); }
  (std::make_index_sequence<kRows>{});
}

template <class F, class C>
decltype(auto) call_step_with(F& f, const Tensor& index, const C& carry, const std::vector<Tensor>& xs) {
  return std::apply(
      [&](const auto&... c) -> decltype(auto) {
        if constexpr (takes_index<F>())
          return call_step(f, xs, Index(index), c...);
        else
          return call_step(f, xs, c...);
      },
      CarryArguments<C>::of(carry));
}
// The number of xs that step takes; kStepInputsAsVector: any.
template <class F, class... C> constexpr std::size_t rows_after(const std::tuple<C...>*) {
  if constexpr (takes_index<F>())
    return rows_taken<F&, 0, const Index&, const std::remove_cvref_t<C>&...>();
  else
    return rows_taken<F&, 0, const std::remove_cvref_t<C>&...>();
}

template <class R, class C>
concept CarryAndOut = (!std::is_convertible_v<R, C>)&&requires(const R& r) {
  requires std::tuple_size_v<R>
  == 2;
  { std::get<0>(r) } -> std::convertible_to<C>;
  {std::get<1>(r)};
};

}  // namespace detail

// n steps from init; see above. n = 0 gives init. With .until fewer: the rows of outs that no step made are 0.
// Throws when n < 0; when step changes the shape or dtype of its carry (the message names which); when the
// number of .xs is not what step takes or the first axis of one is not n.
template <class Step, class Init>
auto scan(Step step, const Init& init, std::int64_t n, const ScanOptions& options = {},
          Where where = Where::current()) {
  using C = decltype(as_structure(init));
  const C start = as_structure(init);
  using Arguments = std::remove_cvref_t<decltype(detail::CarryArguments<C>::of(start))>;
  constexpr std::size_t kRows = detail::rows_after<Step>(static_cast<const Arguments*>(nullptr));
  const std::vector<Tensor>& xs = options.xs.list();
  if (kRows < detail::kStepInputsAsVector && xs.size() != kRows)
    detail::wrong_number_of_xs(kRows, xs.size(), where);
  using R =
      std::remove_cvref_t<decltype(detail::call_step_with(step, std::declval<const Tensor&>(), start, xs))>;
  if constexpr (detail::CarryAndOut<R, C>) {
    using Out = decltype(as_structure(std::get<1>(std::declval<const R&>())));
    std::optional<Out> like;
    const auto r = detail::scan(
        [&](const Tensor& index, const std::vector<Tensor>& carry, const std::vector<Tensor>& rows) {
          const R next = detail::call_step_with(step, index, rebuild(start, carry), rows);
          const C next_carry = std::get<0>(next);
          like.emplace(as_structure(std::get<1>(next)));
          return detail::StepResult{leaves(next_carry), leaves(*like)};
        },
        leaves(start), n, xs, options.until, where);
    return std::pair<C, Out>{rebuild(start, r.carry), rebuild(*like, r.outs)};
  } else {
    static_assert(std::is_convertible_v<R, C>, "scan: step must return its carry, or {carry, out}");
    const auto r = detail::scan(
        [&](const Tensor& index, const std::vector<Tensor>& carry, const std::vector<Tensor>& rows) {
          const C next = detail::call_step_with(step, index, rebuild(start, carry), rows);
          return detail::StepResult{leaves(next), {}};
        },
        leaves(start), n, xs, options.until, where);
    return rebuild(start, r.carry);
  }
}

}  // namespace tinyphys
