// Derivatives and batching of functions of tensors.
//
// A transform calls your function once, with symbols in the place of its arguments: it may do anything with
// them but read their values. It may take and return structures of tensors (structure.hpp) and capture what
// it likes; captured tensors are constants. All results are lazy, and can be transformed again.
//
// Derivatives are exact, not differences. Conventions: abs' = sign (0 at 0); max and min give equal parts to
// ties; sqrt' at 0 is inf; comparisons, floor, ceil, sign and conversions to integers have derivative 0.
// Through where() no NaN comes from the branch not taken, unless that branch itself divides 0 by 0 on the way
// back, as in JAX.
//
// Complex arguments, by JAX's convention: with z = x + i y the gradient of a real loss L is dL/dx - i dL/dy, so that for f
// complex differentiable the gradient of Re f is f', and steepest descent goes along -conj(gradient). A cotangent w of a
// complex value stands for Re(w v); vjp of such an f gives w f'. The gradient by a real argument is real.
//
// Errors (tp::Error, with the line that applied the transform): a function that should return a scalar of
// float dtype and does not (a complex loss among them), derivatives with respect to integers, tangents whose shape or dtype is not that
// of their argument.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/structure.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

// d loss / d wrt[i], on a graph that is already built. loss: scalar, float. Zero where loss does not depend
// on wrt[i]. Values are known by what they are, not by name: two equal expressions are one value, and both get its
// whole gradient. Throws for constants like zeros({3}), which are one value wherever they are written; grad(f)(q, p)
// has no such limits: it tells its arguments apart by position.
std::vector<Tensor> gradient(const Tensor& loss, const std::vector<Tensor>& wrt,
                             Where where = Where::current());

namespace detail {

using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;
struct ValueAndGradients {
  Tensor value;
  std::vector<Tensor> gradients;
};
struct Linearized {
  std::vector<Tensor> values, derivatives;
};

ValueAndGradients value_and_gradients(std::string_view call, const Function& f, const std::vector<Tensor>& x,
                                      Where where);
Linearized jvp(const Function& f, const std::vector<Tensor>& x, const std::vector<Tensor>& tangents,
               Where where);
Linearized vjp(const Function& f, const std::vector<Tensor>& x, const std::vector<Tensor>& cotangents,
               Where where);
std::vector<Tensor> vmap(const Function& f, const std::vector<Tensor>& x, Where where);
Tensor hessian(const Function& f, const Tensor& x, Where where);

template <class F, class... X> struct ResultOf {
  static_assert(std::is_invocable_v<const F&, const X&...>,
                "the function cannot be called with tensors in place of these arguments");
  using type = Tensor;
};
template <class F, class... X>
requires std::is_invocable_v<const F&, const X&...>
struct ResultOf<F, X...> {
  using type = decltype(as_structure(std::declval<std::invoke_result_t<const F&, const X&...>>()));
};
template <class F, class... X> using Result = typename ResultOf<F, X...>::type;

// A call of f with structures, seen as a function of lists; keeps what f returned.
template <class F, class... X> class Packed {
 public:
  using R = Result<F, X...>;
  Packed(const F& f, const std::tuple<X...>& x) : f_(f), x_(x) {}
  Function function() {
    return [this](const std::vector<Tensor>& in) {
      if constexpr (std::is_invocable_v<const F&, const X&...>)  // else that is the one message
        result_.emplace(as_structure(std::apply(f_, rebuild(x_, in))));
      return leaves(*result_);
    };
  }
  R like_result(const std::vector<Tensor>& tensors) const { return rebuild(*result_, tensors); }

 private:
  const F& f_;
  const std::tuple<X...>& x_;
  std::optional<R> result_;
};

template <class... X> auto one_or_tuple(std::tuple<X...> t) {
  if constexpr (sizeof...(X) == 1)
    return std::get<0>(std::move(t));
  else
    return t;
}

template <class F, std::size_t N>
concept TakesTensors = []<std::size_t... I>(std::index_sequence<I...>) {
  return std::is_invocable_v<const F&, decltype((void)I, std::declval<const Tensor&>())...>;
}
(std::make_index_sequence<N>{});

template <class F>
concept TakesVector = std::is_invocable_v < const F&,
        const std::vector<Tensor>
& > ;
template <class T>
concept TensorVector = std::same_as<T, std::vector<Tensor>>;
// Nothing is asked of F for braces that can be its arguments: to ask compiles the body of a lambda with auto.
template <class F, std::size_t N>
concept TakesBraces = TakesTensors<F, N> || TakesVector<F>;

template <class F, std::size_t N> auto call_with(const F& f, const std::array<Tensor, N>& x) {
  return std::apply([&](const auto&... part) { return f(part...); }, x);
}

// f of N tensors as a function of one array.
template <std::size_t N, class F> auto of_array(const F& f) {
  return [&f](const std::array<Tensor, N>& x) { return call_with(f, x); };
}
template <std::size_t N> std::array<Tensor, N> array_of(const Tensor (&x)[N]) {
  std::array<Tensor, N> a;
  for (std::size_t i = 0; i < N; ++i) a[i] = x[i];
  return a;
}

template <class F, class X>
auto jvp_of(const F& f, const X& x, const std::vector<Tensor>& tangents, Where where) {
  const std::tuple<X> args{x};
  Packed<F, X> packed(f, args);
  const Linearized r = jvp(packed.function(), leaves(args), tangents, where);
  return std::pair{packed.like_result(r.values), packed.like_result(r.derivatives)};
}
template <class F, class X>
auto vjp_of(const F& f, const X& x, const std::vector<Tensor>& cotangents, Where where) {
  const std::tuple<X> args{x};
  Packed<F, X> packed(f, args);
  const Linearized r = vjp(packed.function(), leaves(args), cotangents, where);
  return std::pair{packed.like_result(r.values), r.derivatives};
}

}  // namespace detail

// grad(f)(x): the gradient of the scalar f(x), a structure like x. grad(f)(x, y, ...): a tuple of such.
template <class F> auto grad(F f, Where where = Where::current()) {
  return [f = std::move(f), where](const auto&... x) {
    const auto args = std::make_tuple(as_structure(x)...);
    return [&]<class... X>(const std::tuple<X...>& in) {
      detail::Packed<F, X...> packed(f, in);
      const auto r = detail::value_and_gradients("grad", packed.function(), leaves(in), where);
      return detail::one_or_tuple(rebuild(in, r.gradients));
    }(args);
  };
}

// value_and_grad(f)(x...): std::pair of f(x...) and what grad(f)(x...) gives.
template <class F> auto value_and_grad(F f, Where where = Where::current()) {
  return [f = std::move(f), where](const auto&... x) {
    const auto args = std::make_tuple(as_structure(x)...);
    return [&]<class... X>(const std::tuple<X...>& in) {
      detail::Packed<F, X...> packed(f, in);
      const auto r = detail::value_and_gradients("value_and_grad", packed.function(), leaves(in), where);
      return std::pair{r.value, detail::one_or_tuple(rebuild(in, r.gradients))};
    }(args);
  };
}

// jvp(f, {x, y}, {v, w}): f(x, y) and its derivative along (v, w), as a std::pair of what f returns. f may also take
// one std::vector<Tensor>.
template <class F, std::size_t N>
requires detail::TakesBraces<F, N>
auto jvp(F f, const Tensor (&x)[N], const Tensor (&tangents)[N], Where where = Where::current()) {
  if constexpr (detail::TakesTensors<F, N>)
    return detail::jvp_of(detail::of_array<N>(f), detail::array_of(x), {tangents, tangents + N}, where);
  else
    return detail::jvp_of(f, std::vector<Tensor>(x, x + N), {tangents, tangents + N}, where);
}
template <class F, detail::TensorVector V>
auto jvp(F f, const V& x, const V& tangents, Where where = Where::current()) {
  static_assert(detail::TakesVector<F>,
                "jvp: f must take one std::vector<Tensor>, or write jvp(f, {x, y}, {v, w})");
  return detail::jvp_of(f, x, tangents, where);
}

// vjp(f, {x, y}, {w...}): f(x, y) and the gradients of sum_k <w[k], output k>, the real part of it, one per argument. One w for
// each tensor that f returns, in its shape.
template <class F, std::size_t N>
requires detail::TakesBraces<F, N>
auto vjp(F f, const Tensor (&x)[N], const std::vector<Tensor>& cotangents, Where where = Where::current()) {
  if constexpr (detail::TakesTensors<F, N>)
    return detail::vjp_of(detail::of_array<N>(f), detail::array_of(x), cotangents, where);
  else
    return detail::vjp_of(f, std::vector<Tensor>(x, x + N), cotangents, where);
}
template <class F, detail::TensorVector V>
auto vjp(F f, const V& x, const std::vector<Tensor>& cotangents, Where where = Where::current()) {
  static_assert(detail::TakesVector<F>,
                "vjp: f must take one std::vector<Tensor>, or write vjp(f, {x, y}, {w})");
  return detail::vjp_of(f, x, cotangents, where);
}

// vmap(f)(x, ...): f of x[0], x[1], ... (all arguments along their first axis, of one length), the results
// stacked along a new first axis. Throws when the lengths differ or an argument is a scalar.
template <class F> auto vmap(F f, Where where = Where::current()) {
  return [f = std::move(f), where](const auto&... x) {
    const auto args = std::make_tuple(as_structure(x)...);
    return [&]<class... X>(const std::tuple<X...>& in) {
      detail::Packed<F, X...> packed(f, in);
      const auto r = detail::vmap(packed.function(), leaves(in), where);
      return packed.like_result(r);
    }(args);
  };
}

// hessian(f)(x): second derivatives of the scalar f(x), shape x.shape + x.shape. By forward mode over reverse
// mode, one direction for each element of x, all at once.
template <class F> auto hessian(F f, Where where = Where::current()) {
  return [f = std::move(f), where](const Arg& x) {
    const auto args = std::make_tuple(as_tensor(x));
    detail::Packed<F, Tensor> packed(f, args);
    return detail::hessian(packed.function(), std::get<0>(args), where);
  };
}

}  // namespace tinyphys
