#include "derive/batch.hpp"

#include <algorithm>
#include <optional>

#include "uop/graph.hpp"

namespace tinyphys {
namespace {

using Places = SmallVector<std::int64_t, 4>;  // of each batch axis, the axis of the value that it is

class Walk {
 public:
  Walk(std::size_t n_batch, std::size_t first, std::size_t n_state)
      : n_batch_(n_batch),
        first_(static_cast<std::int64_t>(first)),
        n_state_(static_cast<std::int64_t>(n_state)) {}

  BatchProof run(const Node* body) {
    for (Node* n : toposort(body->src())) {
      if (n->op == Op::PARAM && n->arg(0) >= first_ && n->arg(0) < first_ + n_state_) {
        Places own;
        for (std::size_t b = 0; b < n_batch_; ++b) own.push_back(static_cast<std::int64_t>(b));
        places_.insert(n, own);
        continue;
      }
      const bool depends = n->op != Op::LAMBDA && std::any_of(n->src().begin(), n->src().end(),
                                                              [&](Node* s) { return places_.contains(s); });
      if (!depends) continue;
      const std::optional<Places> now = through(n);
      if (!now) return {n, std::move(reason_)};
      places_.insert(n, *now);
    }
    for (Node* out : body->src())
      if (const Places* p = places_.find(out))
        for (std::size_t b = 0; b < n_batch_; ++b)
          if ((*p)[b] != static_cast<std::int64_t>(b))
            return {out, "the axes of the energies are not in the order of those of the members"};
    return {};
  }

 private:
  std::optional<Places> joins(const std::string& how) {
    reason_ = how;
    return {};
  }
  std::optional<Places> joins_along(std::string_view what, std::int64_t axis) {
    return joins(std::string(what) + " along axis " + std::to_string(axis) + ", that of the members");
  }
  static bool has(const Places& p, std::int64_t axis) {
    return std::find(p.begin(), p.end(), axis) != p.end();
  }

  std::optional<Places> through(Node* n) {
    if (is_elementwise(n->op)) return common(n);
    const Places* p = places_.find(n->src(0));
    switch (n->op) {
      case Op::RESHAPE: return through_reshape(n, *p);
      case Op::PERMUTE: {
        Places out = *p;
        for (auto& a : out) a = std::find(n->arg().begin(), n->arg().end(), a) - n->arg().begin();
        return out;
      }
      case Op::EXPAND: return *p;
      case Op::SLICE:
        for (const std::int64_t a : *p) {
          const auto k = static_cast<std::size_t>(3 * a);
          const bool all =
              n->arg(k) == 0 && n->arg(k + 2) == 1 && n->shape()[k / 3] == n->src(0)->shape()[k / 3];
          if (!all) return joins_along("slice", a);
        }
        return *p;
      case Op::PAD:
        for (const std::int64_t a : *p) {
          const auto k = static_cast<std::size_t>(1 + 2 * a);
          if (n->arg(k) != 0 || n->arg(k + 1) != 0) return joins_along("pad", a);
        }
        return *p;
      case Op::ROLL:
        if (has(*p, n->arg(0)) && n->arg(1) != 0) return joins_along("roll", n->arg(0));
        return *p;
      case Op::CUMSUM:
        if (has(*p, n->arg(0))) return joins_along("cumsum", n->arg(0));
        return *p;
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT:
        for (const std::int64_t a : n->arg().subspan(kFirstFftAxis))
          if (has(*p, a)) return joins_along("a transform", a);
        return *p;
      case Op::CAT: {
        const auto all = common(n);
        if (all && has(*all, n->arg(0))) return joins_along("cat", n->arg(0));
        return all;
      }
      case Op::REDUCE: {
        Places out = *p;
        for (const std::int64_t a : n->arg().subspan(1)) {
          if (has(*p, a)) return joins_along("a reduction", a);
          for (std::size_t b = 0; b < out.size(); ++b) out[b] -= (*p)[b] > a;
        }
        return out;
      }
      case Op::MATMUL: return through_matmul(n);
      case Op::GATHER: {
        if (!p || places_.contains(n->src(1))) return joins("an index that depends on the state");
        const std::int64_t axis = n->arg(0), grown = static_cast<std::int64_t>(n->src(1)->shape().size()) - 1;
        if (has(*p, axis)) return joins_along("gather", axis);
        Places out = *p;
        for (auto& a : out) a += a > axis ? grown : 0;
        return out;
      }
      case Op::CHECK:
        if (places_.contains(n->src(1))) return joins("a check of the state");
        return *p;
      default: return joins(std::string(name(n->op)) + " of the state, which is not followed");
    }
  }

  // Of the sources that depend on the state, all of one place.
  std::optional<Places> common(Node* n) {
    const Places* first = nullptr;
    for (Node* s : n->src()) {
      const Places* p = places_.find(s);
      if (!p) continue;
      if (first && *first != *p) return joins("members meet along different axes");
      first = p;
    }
    return *first;
  }

  // A batch axis stays one where as many elements lie before it, and it is as long.
  std::optional<Places> through_reshape(Node* n, const Places& p) {
    const auto from = n->src(0)->shape(), to = n->shape();
    Places out;
    for (const std::int64_t a : p) {
      std::int64_t before = 1, at = 1;
      for (std::int64_t d = 0; d < a; ++d) before *= from[static_cast<std::size_t>(d)];
      std::int64_t found = -1;
      for (std::size_t d = 0; d < to.size() && found < 0; at *= to[d++])
        if (at == before && to[d] == from[static_cast<std::size_t>(a)] &&
            !has(out, static_cast<std::int64_t>(d)))
          found = static_cast<std::int64_t>(d);
      if (found < 0)
        return joins("reshape splits or joins axis " + std::to_string(a) + ", that of the members");
      out.push_back(found);
    }
    return out;
  }

  // [..., m, k] x [..., k, n]: the leading axes pass, m of the first and n of the second do where the other does not depend
  // on the state.
  std::optional<Places> through_matmul(Node* n) {
    const Places *a = places_.find(n->src(0)), *b = places_.find(n->src(1));
    const auto rank = static_cast<std::int64_t>(n->shape().size());
    const auto leading = [&](const Places& p) {
      return std::all_of(p.begin(), p.end(), [&](std::int64_t x) { return x < rank - 2; });
    };
    if (a && b) {
      if (*a != *b || !leading(*a)) return joins("matmul of members with each other");
      return *a;
    }
    if (a && has(*a, rank - 1)) return joins_along("matmul", rank - 1);
    if (b && has(*b, rank - 2)) return joins_along("matmul", rank - 2);
    return a ? *a : *b;
  }

  std::size_t n_batch_;
  std::int64_t first_, n_state_;
  NodeMap<Places> places_;  // of what depends on the state
  std::string reason_;
};

}  // namespace

BatchProof prove_independent(const Node* body, std::size_t n_batch, std::size_t first, std::size_t n_state) {
  return Walk(n_batch, first, n_state).run(body);
}

}  // namespace tinyphys
