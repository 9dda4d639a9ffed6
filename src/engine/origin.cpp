#include "engine/origin.hpp"

#include <algorithm>

#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr std::size_t kMaxSteps = 16;

auto find_equal(std::vector<Origin::Step>& steps, const Origin::Step& s) {
  return std::find_if(steps.begin(), steps.end(),
                      [&](const Origin::Step& o) { return o.node == s.node && o.where == s.where; });
}

}  // namespace

UOp without_data(const Node* n) {
  std::vector<UOp> src;
  for (Node* s : n->src()) {
    const bool keep = s->op == Op::LAMBDA || s->op == Op::CONST;
    src.push_back(keep ? UOp::share(s) : param(static_cast<std::int64_t>(src.size()), s->dtype, s->shape()));
  }
  return make(n->op, std::span<const UOp>(src), n->arg());
}

Origin merged(std::span<const std::shared_ptr<const Origin>> origins) {
  Origin out;
  for (const auto& o : origins) {
    for (const Origin::Step& s : o->steps)
      if (const auto same = find_equal(out.steps, s); same != out.steps.end())
        same->times = std::max(same->times, s.times);
      else
        out.steps.push_back(s);
    out.earlier = std::max(out.earlier, o->earlier);
  }
  return out;
}

std::shared_ptr<const Origin> origin_of(Node* value,
                                        const std::function<std::shared_ptr<const Notes>(Node*)>& notes_of) {
  auto out = std::make_shared<Origin>();
  std::vector<std::shared_ptr<const Origin>> inherited;
  const auto order =
      toposort(std::span<Node* const>(&value, 1), [](const Node* n) { return storage(n) != nullptr; });
  for (std::size_t i = order.size(); i-- > 0;) {
    Node* n = order[i];
    if (Storage* s = storage(n)) {
      if (s->origin && std::find(inherited.begin(), inherited.end(), s->origin) == inherited.end())
        inherited.push_back(s->origin);
      continue;
    }
    if (!is_loop(n->op)) continue;
    Origin::Step step{without_data(n), location_text(n), labels_of(n), notes_of(n), 1};
    if (const auto same = find_equal(out->steps, step); same != out->steps.end())
      ++same->times;
    else
      out->steps.push_back(std::move(step));
  }
  if (out->steps.empty() && inherited.size() <= 1) return inherited.empty() ? nullptr : inherited.front();
  Origin before = merged(inherited);
  out->earlier = before.earlier;
  for (Origin::Step& s : before.steps)
    if (const auto same = find_equal(out->steps, s); same != out->steps.end())
      same->times += s.times;
    else if (out->steps.size() < kMaxSteps)
      out->steps.push_back(std::move(s));
    else
      out->earlier += s.times;
  return out;
}

}  // namespace tinyphys
