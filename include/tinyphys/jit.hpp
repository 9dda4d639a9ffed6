// A function that is recorded once and then replayed.
//
//   auto step = tp::jit([&](const Tensor& q, const Tensor& p) { ...; return std::tuple{q, p}; });
//   for (long i = 0; i < n; ++i) std::tie(q, p) = step(q, p);
//
// The first call runs f with symbols in the place of its arguments, as the transforms do (transforms.hpp): it may do
// anything with them but read their values. Later calls with arguments of the same shapes and dtypes, on the same devices,
// make the same graph of the new arguments without f. Others are recorded for themselves. Numbers given as arguments are
// 0-d tensors. Results are lazy, and as if f had been called: they can be differentiated, scanned and folded.
//
// What f captures:
// - Tensors are read through its handles, once. A call after such a handle was assigned to, moved or destroyed, or one equal
//   to it, runs f again to see what it reads now. Where that is another value, or f does something else, the call throws:
//   a replay would answer with the old one. What changes belongs into the arguments.
// - Numbers and everything else of C++ are taken as they were when f was recorded, as in JAX: a counter that f raises, a
//   flag that it asks, stay what they were.
//
// Errors (tp::Error, with the line that made the jit): what f throws, which leaves nothing recorded; a captured value that
// is another one, told with both.
#pragma once

#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

#include "tinyphys/structure.hpp"
#include "tinyphys/tensor.hpp"
#include "tinyphys/transforms.hpp"

namespace tinyphys {

namespace detail {

// While one lives, tensors that this thread drops or moves are not the user's; or (false) they are again.
class OwnHandles {
 public:
  explicit OwnHandles(bool own = true);
  ~OwnHandles();
  OwnHandles(const OwnHandles&) = delete;
  OwnHandles& operator=(const OwnHandles&) = delete;

 private:
  bool before_;
};

class Recordings {
 public:
  // What f returned, and a structure like it to put the tensors into.
  struct Recorded {
    std::vector<Tensor> outputs;
    std::shared_ptr<const std::any> like;
  };
  using Record = std::function<Recorded(const std::vector<Tensor>& symbols)>;
  // `kinds`: what tells calls apart beside their tensors: the type of the arguments, the tensors in each.
  struct Kinds {
    std::type_index type;
    std::vector<std::size_t> counts;
    bool operator==(const Kinds&) const = default;
  };

  explicit Recordings(Where where);
  ~Recordings();
  Recordings(const Recordings&) = delete;
  Recordings& operator=(const Recordings&) = delete;

  Recorded call(const Kinds& kinds, const std::vector<Tensor>& args, const Record& record);
  std::int64_t times_recorded() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// How many tensors each part of a structure has: what of std::vectors tells equal lists of tensors apart.
template <class S> void count_parts(const S& s, std::vector<std::size_t>& to) {
  if constexpr (kIsTuple<S> || kIsPair<S>) {
    std::apply([&](const auto&... part) { (count_parts(part, to), ...); }, s);
  } else if constexpr (requires {
                         s.begin();
                         s.size();
                       }) {
    to.push_back(s.size());
    for (const auto& part : s) count_parts(part, to);
  } else {
    to.push_back(leaves(s).size());
  }
}

}  // namespace detail

// A copy shares what was recorded. Calls from several threads take turns.
template <class F> class Jit {
 public:
  Jit(F f, Where where)
      : f_(std::make_shared<const F>(std::move(f))),
        recordings_(std::make_shared<detail::Recordings>(where)) {}

  template <class... X>
  requires std::is_invocable_v<const F&, const decltype(as_structure(std::declval<const X&>()))&...>
  auto operator()(const X&... x) const {
    const detail::OwnHandles own;  // before all of them, to outlive them
    const auto args = std::make_tuple(as_structure(x)...);
    return [&]<class... S>(const std::tuple<S...>& in) {
      using R = detail::Result<F, S...>;
      detail::Recordings::Kinds kinds{typeid(std::tuple<S...>), {}};
      detail::count_parts(in, kinds.counts);
      const auto r = recordings_->call(kinds, leaves(in), [&](const std::vector<Tensor>& symbols) {
        const R result = as_structure(std::apply(*f_, rebuild(in, symbols)));
        std::vector<Tensor> outputs = leaves(result);
        // Without the tensors: they would keep the graph alive.
        R like = rebuild(result, std::vector<Tensor>(outputs.size()));
        return detail::Recordings::Recorded{std::move(outputs),
                                            std::make_shared<const std::any>(std::move(like))};
      });
      return rebuild(std::any_cast<const R&>(*r.like), r.outputs);
    }(args);
  }

  // How often f was run.
  std::int64_t times_recorded() const { return recordings_->times_recorded(); }

 private:
  std::shared_ptr<const F> f_;
  std::shared_ptr<detail::Recordings> recordings_;
};

template <class F> Jit<F> jit(F f, Where where = Where::current()) { return Jit<F>(std::move(f), where); }

}  // namespace tinyphys
