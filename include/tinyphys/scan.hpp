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
// stacked along a new first axis of length n, and scan returns std::pair{carry, stacked outs}. A tuple may be returned
// for a pair or an array of the same parts, and the other way round. Numbers in init are 0-d tensors.
//
// Parameters that are auto are counted: those beyond the carry are for .xs, and one more is the Index, first.
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

#include "tinyphys/count.hpp"
#include "tinyphys/integrator.hpp"
#include "tinyphys/reversible.hpp"
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

[[noreturn]] void wrong_until(std::size_t taken, std::size_t given, Where where);

// A function of structures of tensors as one of the list of all their tensors; a std::vector<Tensor> takes those that
// are left.
using ListFunction = std::function<Tensor(const std::vector<Tensor>&, Where)>;
template <class R, class... A, class F> ListFunction of_list(F f) {
  static_assert(std::is_convertible_v<R, Tensor>, ".until must return a Tensor: a bool scalar");
  return [f = std::move(f)](const std::vector<Tensor>& all, Where where) -> Tensor {
    constexpr bool kTakesRest = (std::is_same_v<std::remove_cvref_t<A>, std::vector<Tensor>> || ...);
    const std::size_t taken = (leaves(std::remove_cvref_t<A>{}).size() + ... + 0);
    if (kTakesRest ? all.size() < taken : all.size() != taken) wrong_until(taken, all.size(), where);
    const Tensor* next = all.data();
    [[maybe_unused]] const auto take = [&]<class S>(const S& like) {
      if constexpr (std::is_same_v<S, std::vector<Tensor>>)
        return std::vector<Tensor>(std::exchange(next, all.data() + all.size()), all.data() + all.size());
      else
        return Structure<S>::rebuild(like, next);
    };
    // Braces evaluate from left to right.
    return std::apply(f, std::tuple<std::remove_cvref_t<A>...>{take(std::remove_cvref_t<A>{})...});
  };
}
template <class F, class R, class C, class... A> ListFunction of_list_member(F f, R (C::*)(A...) const) {
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
    constexpr bool kPlain = requires { &F::operator(); };
    static_assert(kPlain, ".until: a lambda with the types of its parameters written out");
    if constexpr (kPlain) f_ = detail::of_list_member(std::move(f), &F::operator());
  }
  explicit operator bool() const { return static_cast<bool>(f_); }
  Tensor operator()(const std::vector<Tensor>& carry, Where where) const { return f_(carry, where); }

 private:
  detail::ListFunction f_;
};

struct ScanOptions {
  StepInputs xs = {};  // each of shape [n, ...]
  Until until = {};    // the step after which it is true is the last one
  // Loop: take the steps one by one, also where they are affine in the carry and one jump would do.
  Method method = Method::Default;
  // How a gradient gets at the states on the way; Exact changes the loop by rounding, and needs a range.
  Reversible reversible = Reversible::Auto;
  // For Reversible::Exact: the largest absolute value of each tensor of the carry, or one for all. Those of tensors that no
  // step changes, and of integers, are not looked at.
  std::vector<double> range = {};
};

namespace detail {

struct StepResult {
  std::vector<Tensor> carry, outs;
};
using StepFunction = std::function<StepResult(const Tensor& index, const std::vector<Tensor>& carry,
                                              const std::vector<Tensor>& xs)>;
StepResult record_scan(const StepFunction& step, const std::vector<Tensor>& carry, std::int64_t n,
                       const ScanOptions& options, Where where);

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
// Whether the types of f's parameters are written out; those of a lambda with auto are not.
template <class F> constexpr bool has_typed_parameters() {
  return std::is_function_v<std::remove_pointer_t<std::decay_t<F>>> || requires { &F::operator(); };
}
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

// How many rows of .xs a step takes after its other arguments.
constexpr std::size_t kMaxRows = 16;
constexpr std::size_t kRowsAsVector = kMaxRows + 1;  // any number
constexpr std::size_t kNotTaken = kMaxRows + 2;      // it cannot be called with those arguments
[[noreturn]] void wrong_number_of_xs(std::size_t plain_rows, std::size_t rows_with_index, std::size_t given,
                                     Where where);
constexpr bool fits(std::size_t rows, std::size_t given) { return rows == given || rows == kRowsAsVector; }

// Whether f takes these arguments and then k tensors.
template <class F, std::size_t K, class... Args>
constexpr bool takes_rows = []<std::size_t... I>(std::index_sequence<I...>) {
  return std::is_invocable_v<F, Args..., decltype((void)I, std::declval<const Tensor&>())...>;
}
(std::make_index_sequence<K>{});

// The fewest that compile.
template <class F, std::size_t K, class... Args> constexpr std::size_t rows_taken() {
  if constexpr (takes_rows<F, K, Args...>)
    return K;
  else if constexpr (K < kMaxRows)
    return rows_taken<F, K + 1, Args...>();
  else if constexpr (std::is_invocable_v<F, Args..., const std::vector<Tensor>&>)
    return kRowsAsVector;
  else
    return kNotTaken;
}

// How a step F can be called with a carry in the parts C: rows without an Index, and after one.
struct StepForms {
  std::size_t plain = kNotTaken, with_index = kNotTaken;
  bool ambiguous = false;  // only its author can tell
};
template <class F, class... C> constexpr StepForms forms_of_parts() {
  StepForms forms;
  if constexpr (has_typed_parameters<F>()) {
    if constexpr (takes_index<F>())
      forms.with_index = rows_taken<F&, 0, const Index&, const C&...>();
    else
      forms.plain = rows_taken<F&, 0, const C&...>();
  } else if constexpr ((std::is_same_v<C, Tensor> && ...)) {
    forms.plain = rows_taken<F&, 0, const C&...>();
    forms.with_index = rows_taken<F&, 0, const Index&, const C&...>();
  } else if constexpr (std::is_invocable_v<F&, const C&...>) {
    forms.plain = 0;
  } else {
    // To try a body with a State where it wants an Index would not compile.
    forms.ambiguous = true;
  }
  return forms;
}
template <class F, class C> constexpr StepForms step_forms() {
  return []<class... Parts>(const std::tuple<Parts...>*) {
    return forms_of_parts<F, std::remove_cvref_t<Parts>...>();
  }(static_cast<std::remove_cvref_t<decltype(CarryArguments<C>::of(std::declval<const C&>()))>*>(nullptr));
}

template <std::size_t Rows, class F, class... Args>
decltype(auto) call_with_rows(F& f, const std::vector<Tensor>& xs, const Args&... args) {
  if constexpr (Rows == kRowsAsVector)
    return f(args..., xs);
  else
    return [&]<std::size_t... I>(std::index_sequence<I...>)->decltype(auto) { return f(args..., xs[I]...); }
  (std::make_index_sequence<Rows>{});
}
template <bool WithIndex, class F, class C>
decltype(auto) call_step(F& f, const Tensor& index, const C& carry, const std::vector<Tensor>& xs) {
  constexpr StepForms kForms = step_forms<F, C>();
  return std::apply(
      [&](const auto&... c) -> decltype(auto) {
        if constexpr (WithIndex)
          return call_with_rows<kForms.with_index>(f, xs, Index(index), c...);
        else
          return call_with_rows<kForms.plain>(f, xs, c...);
      },
      CarryArguments<C>::of(carry));
}

// Tuples, pairs and arrays of the same parts stand for each other.
template <class T>
concept TupleLike = requires {
  std::tuple_size<T>::value;
};
template <class To, class From> constexpr bool stands_for() {
  if constexpr (std::is_convertible_v<const From&, To>)
    return true;
  else if constexpr (TupleLike<To> && TupleLike<From>) {
    if constexpr (std::tuple_size_v<To> == std::tuple_size_v<From>)
      return []<std::size_t... I>(std::index_sequence<I...>) {
        return (stands_for<std::tuple_element_t<I, To>, std::tuple_element_t<I, From>>() && ...);
      }
    (std::make_index_sequence<std::tuple_size_v<To>>{});
    else return false;
  } else
    return false;
}
template <class To, class From> To taken_as(const From& from) {
  if constexpr (std::is_convertible_v<const From&, To>)
    return from;
  else
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return To{taken_as<std::tuple_element_t<I, To>>(std::get<I>(from))...};
    }
  (std::make_index_sequence<std::tuple_size_v<To>>{});
}

template <class R, class C> constexpr bool is_carry_and_out() {
  if constexpr (stands_for<C, R>())
    return false;
  else if constexpr (TupleLike<R>) {
    if constexpr (std::tuple_size_v<R> == 2)
      return stands_for<C, std::tuple_element_t<0, R>>();
    else
      return false;
  } else
    return false;
}

template <bool WithIndex, class Step, class C>
auto scan_with(Step& step, const C& start, std::int64_t n, const ScanOptions& options, Where where) {
  const std::vector<Tensor>& xs = options.xs.list();
  using R =
      std::remove_cvref_t<decltype(call_step<WithIndex>(step, std::declval<const Tensor&>(), start, xs))>;
  if constexpr (std::is_void_v<R>) {
    static_assert(!std::is_void_v<R>,
                  "scan: step must return its carry, or {carry, out}; it returns nothing");
    return start;
  } else if constexpr (is_carry_and_out<R, C>()) {
    using Out = decltype(as_structure(std::get<1>(std::declval<const R&>())));
    std::optional<Out> like;
    const auto r = record_scan(
        [&](const Tensor& index, const std::vector<Tensor>& carry, const std::vector<Tensor>& rows) {
          const R next = call_step<WithIndex>(step, index, rebuild(start, carry), rows);
          like.emplace(as_structure(std::get<1>(next)));
          return StepResult{leaves(taken_as<C>(std::get<0>(next))), leaves(*like)};
        },
        leaves(start), n, options, where);
    return std::pair<C, Out>{rebuild(start, r.carry), rebuild(*like, r.outs)};
  } else if constexpr (stands_for<C, R>()) {
    const auto r = record_scan(
        [&](const Tensor& index, const std::vector<Tensor>& carry, const std::vector<Tensor>& rows) {
          return StepResult{
              leaves(taken_as<C>(call_step<WithIndex>(step, index, rebuild(start, carry), rows))), {}};
        },
        leaves(start), n, options, where);
    return rebuild(start, r.carry);
  } else {
    static_assert(stands_for<C, R>(), "scan: step must return its carry, or {carry, out}");
    return start;
  }
}

}  // namespace detail

// n steps from init; see above. n = 0 gives init. With .until fewer: the rows of outs that no step made are 0.
// Throws when n < 0; when step changes the shape or dtype of its carry (the message names which); when the
// number of .xs is not what step takes or the first axis of one is not n; with Reversible::Exact when there is no range, or
// step is no sequence of shears.
template <class Step, class Init>
auto scan(Step step, const Init& init, Count n, const ScanOptions& options = {},
          Where where = Where::current()) {
  using C = decltype(as_structure(init));
  const C start = as_structure(init);
  constexpr detail::StepForms kForms = detail::step_forms<Step, C>();
  constexpr bool kPlain = kForms.plain != detail::kNotTaken,
                 kIndexed = kForms.with_index != detail::kNotTaken;
  static_assert(!kForms.ambiguous,
                "scan: step's parameters are auto and its carry is a structure: write their types, as in "
                "[](Index i, State s, Tensor row)");
  static_assert(kPlain || kIndexed || kForms.ambiguous,
                "scan: step must take ([Index,] carry..., a Tensor for each of .xs); a tuple carry is "
                "separate arguments");
  const std::size_t given = options.xs.list().size();
  if constexpr (!kPlain && !kIndexed) {
    return start;  // what was asserted above is the one message
  } else {
    if (!detail::fits(kForms.plain, given) && !detail::fits(kForms.with_index, given))
      detail::wrong_number_of_xs(kForms.plain, kForms.with_index, given, where);
    if constexpr (kPlain && kIndexed) {
      if (detail::fits(kForms.plain, given))
        return detail::scan_with<false>(step, start, n, options, where);
      else
        return detail::scan_with<true>(step, start, n, options, where);
    } else {
      return detail::scan_with<kIndexed>(step, start, n, options, where);
    }
  }
}

}  // namespace tinyphys
