// The one rewrite driver: applies a table of rules bottom-up until none fires.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "rewrite/pattern.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What to try at a node: the node to put in its place, or null; `where` is then the line that states the rule.
using RuleFunction = UOp (*)(Node* n, std::source_location& where);

struct RuleTable {
  std::array<RuleFunction, kOpCount> by_op{};          // null: no rule
  std::vector<pattern::RuleInfo> (*list)() = nullptr;  // for people
};

namespace rule_detail {

// Tries the rules of a list at a node of the op kOp; rules for other ops leave no code.
template <Op kOp> struct Applicator {
  Node* node;
  UOp result;
  std::source_location fired;

  template <class L, class R, class P = pattern::Always>
  bool operator()(const L& left, const R& right, const P& predicate = {},
                  std::source_location where = std::source_location::current()) {
    if constexpr (L::may_be(kOp)) {
      result = pattern::try_rule(node, left, right, predicate);
      if (!result) return false;
      fired = where;
      return true;
    } else {
      return false;
    }
  }
};

// Which ops a list has rules of their own for, and whether it has rules for any elementwise op.
struct RootCollector {
  std::array<bool, kOpCount> own{};
  bool elementwise = false;

  template <class L, class R, class P = pattern::Always>
  constexpr bool operator()(const L&, const R&, const P& = {}) {
    if constexpr (std::is_same_v<L, pattern::AnyElementwise>)
      elementwise = true;
    else
      for (std::size_t i = 0; i < own.size(); ++i) own[i] = own[i] || L::may_be(static_cast<Op>(i));
    return false;
  }
};
template <class List>
inline constexpr RootCollector kRoots = [] {
  RootCollector c;
  List{}(c);
  return c;
}();

template <class List, Op kOp> UOp apply_list(Node* n, std::source_location& where) {
  Applicator<kOp> a{n, {}, {}};
  if (List{}(a)) where = a.fired;
  return std::move(a.result);
}

// The code for an op; elementwise ops without rules of their own share one function.
template <class List, Op kOp> constexpr RuleFunction function_for() {
  constexpr Op kOther = Op::SIN;
  if constexpr (kRoots<List>.own[static_cast<std::size_t>(kOp)])
    return &apply_list<List, kOp>;
  else if constexpr (kRoots<List>.elementwise && is_elementwise(kOp))
    return &apply_list < List, kRoots<List>.own[static_cast<std::size_t>(kOther)] ? kOp : kOther > ;
  else
    return nullptr;
}

// The lists in turn.
template <Op kOp, class... Lists> UOp apply_lists(Node* n, std::source_location& where) {
  UOp result;
  for (const RuleFunction f : {function_for<Lists, kOp>()...})
    if (f && (result = f(n, where))) break;
  return result;
}

template <class... Lists> std::vector<pattern::RuleInfo> print_lists() {
  pattern::RulePrinter p;
  (Lists{}(p), ...);
  return p.rules;
}

template <Op kOp, class... Lists> constexpr RuleFunction function_for_lists() {
  if constexpr (sizeof...(Lists) == 1)
    return (function_for<Lists, kOp>(), ...);
  else
    return ((function_for<Lists, kOp>() != nullptr) || ...) ? &apply_lists<kOp, Lists...> : nullptr;
}

}  // namespace rule_detail

// The table of rule lists: types whose call operator is a template over the applicator.
template <class... Lists> constexpr RuleTable make_table() {
  return []<std::size_t... kOps>(std::index_sequence<kOps...>) {
    return RuleTable{{rule_detail::function_for_lists<static_cast<Op>(kOps), Lists...>()...},
                     &rule_detail::print_lists<Lists...>};
  }
  (std::make_index_sequence<static_cast<std::size_t>(kOpCount)>());
}

enum class StopReason : std::uint8_t { kFixpoint, kBudget };
constexpr std::string_view name(StopReason r) { return r == StopReason::kFixpoint ? "fixpoint" : "budget"; }

struct RewriteResult {
  std::vector<UOp> roots;
  std::int64_t fired = 0;  // rules that fired
  StopReason stop = StopReason::kFixpoint;
};

inline constexpr std::int64_t kNoBudget = std::numeric_limits<std::int64_t>::max();

// The roots rewritten to a fixpoint, or until `budget` rules have fired: what was rewritten by then is kept.
// Each node once, shared ones too; no recursion. A LAMBDA is entered only when it is a root itself; a node
// whose value is realized stays as it is. A new node has the location of the node that it replaces.
RewriteResult rewrite(std::span<const UOp> roots, const RuleTable& rules, std::int64_t budget = kNoBudget);

// The same graph with the bodies of its SCAN, EVOLVE, ... rewritten, inner before outer; what is outside of bodies
// only has its bodies exchanged.
RewriteResult rewrite_bodies(std::span<const UOp> roots, const RuleTable& rules,
                             std::int64_t budget = kNoBudget);

}  // namespace tinyphys
