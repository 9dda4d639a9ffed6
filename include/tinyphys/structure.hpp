// Structures of tensors: what transforms, scan and System take and give beside a single Tensor.
//
// A Tensor; std::tuple, std::pair, std::array and std::vector of structures, nested as you like; State. Your
// own struct becomes one by specialising Structure.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/tensor.hpp"

namespace tinyphys {

// flatten appends the tensors of s in order; rebuild makes a structure like `like` from the tensors at `next`
// and moves it past them.
template <class S> struct Structure;

template <class S>
concept Structured = requires(const S& s, std::vector<Tensor>& to, const Tensor*& next) {
  Structure<S>::flatten(s, to);
  { Structure<S>::rebuild(s, next) } -> std::same_as<S>;
};

template <> struct Structure<Tensor> {
  static void flatten(const Tensor& s, std::vector<Tensor>& to) { to.push_back(s); }
  static Tensor rebuild(const Tensor&, const Tensor*& next) { return *next++; }
};

template <class... S>
requires(Structured<S>&&...) struct Structure<std::tuple<S...>> {
  static void flatten(const std::tuple<S...>& s, std::vector<Tensor>& to) {
    std::apply([&](const S&... part) { (Structure<S>::flatten(part, to), ...); }, s);
  }
  static std::tuple<S...> rebuild(const std::tuple<S...>& like, const Tensor*& next) {
    // Braces evaluate from left to right.
    return std::apply(
        [&](const S&... part) { return std::tuple<S...>{Structure<S>::rebuild(part, next)...}; }, like);
  }
};

template <Structured A, Structured B> struct Structure<std::pair<A, B>> {
  static void flatten(const std::pair<A, B>& s, std::vector<Tensor>& to) {
    Structure<A>::flatten(s.first, to);
    Structure<B>::flatten(s.second, to);
  }
  static std::pair<A, B> rebuild(const std::pair<A, B>& like, const Tensor*& next) {
    return std::pair<A, B>{Structure<A>::rebuild(like.first, next), Structure<B>::rebuild(like.second, next)};
  }
};

template <Structured S> struct Structure<std::vector<S>> {
  static void flatten(const std::vector<S>& s, std::vector<Tensor>& to) {
    for (const S& part : s) Structure<S>::flatten(part, to);
  }
  static std::vector<S> rebuild(const std::vector<S>& like, const Tensor*& next) {
    std::vector<S> out;
    for (const S& part : like) out.push_back(Structure<S>::rebuild(part, next));
    return out;
  }
};

template <Structured S, std::size_t N> struct Structure<std::array<S, N>> {
  static void flatten(const std::array<S, N>& s, std::vector<Tensor>& to) {
    for (const S& part : s) Structure<S>::flatten(part, to);
  }
  static std::array<S, N> rebuild(const std::array<S, N>& like, const Tensor*& next) {
    std::array<S, N> out = like;
    for (S& part : out) part = Structure<S>::rebuild(part, next);
    return out;
  }
};

// The tensors of a structure, in order.
template <Structured S> std::vector<Tensor> leaves(const S& s) {
  std::vector<Tensor> out;
  Structure<S>::flatten(s, out);
  return out;
}

// A structure like `like` of these tensors, exactly as many as it has leaves.
template <Structured S> S rebuild(const S& like, const std::vector<Tensor>& tensors) {
  const Tensor* next = tensors.data();
  return Structure<S>::rebuild(like, next);
}

namespace detail {
template <class T> constexpr bool kIsTuple = false;
template <class... S> constexpr bool kIsTuple<std::tuple<S...>> = true;
template <class T> constexpr bool kIsPair = false;
template <class A, class B> constexpr bool kIsPair<std::pair<A, B>> = true;
}  // namespace detail

// A structure as it is; a number or other operand as a Tensor, also within tuples and pairs.
template <class X> auto as_structure(const X& x) {
  if constexpr (Structured<X>) {
    return x;
  } else if constexpr (std::is_convertible_v<const X&, Arg>) {
    return as_tensor(Arg(x));
  } else if constexpr (detail::kIsTuple<X>) {
    return std::apply(
        []<class... S>(const S&... part) {
          return std::tuple<decltype(as_structure(part))...>{as_structure(part)...};
        },
        x);
  } else if constexpr (detail::kIsPair<X>) {
    return std::pair<decltype(as_structure(x.first)), decltype(as_structure(x.second))>{
        as_structure(x.first), as_structure(x.second)};
  } else {
    static_assert(
        Structured<X>,
        "neither a Tensor, a number nor a structure of tensors (std::tuple, pair, array, vector, State, or a "
        "struct with a Structure of its own); a list of numbers becomes a Tensor by Tensor::from");
    return Tensor();
  }
}

}  // namespace tinyphys
