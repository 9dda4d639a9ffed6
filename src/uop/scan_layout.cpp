#include "uop/scan_layout.hpp"

#include <algorithm>
#include <charconv>

namespace tinyphys {

std::vector<std::int64_t> EvolveRecord::level_steps() const {
  std::vector<std::int64_t> steps;
  for (const std::int64_t n : levels)
    if (n > 0) steps.push_back(n);
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  return steps;
}

Dims EvolveRecord::encode() const {
  Dims arg{static_cast<std::int64_t>(integrator),
           static_cast<std::int64_t>(method),
           timed,
           verdict,
           bits(tolerance),
           save_every,
           static_cast<std::int64_t>(reversible),
           static_cast<std::int64_t>(levels.size())};
  arg.insert(arg.end(), levels.begin(), levels.end());
  arg.push_back(static_cast<std::int64_t>(conserve.size()));
  arg.insert(arg.end(), conserve.begin(), conserve.end());
  arg.push_back(batch_axes);
  arg.push_back(dt_in_energy);
  arg.push_back(bits(range_q));
  arg.push_back(bits(range_p));
  arg.push_back(linear_part);
  arg.push_back(static_cast<std::int64_t>(flows.size()));
  arg.insert(arg.end(), flows.begin(), flows.end());
  arg.push_back(static_cast<std::int64_t>(impulse));
  while (arg.size() > 2 && arg.back() == 0) arg.pop_back();
  return arg;
}

EvolveRecord EvolveRecord::decode(std::span<const std::int64_t> arg) {
  std::size_t next = 0;
  const auto take = [&] { return next < arg.size() ? arg[next++] : 0; };
  EvolveRecord r;
  r.integrator = static_cast<Integrator>(take());
  r.method = static_cast<Method>(take());
  r.timed = take() != 0;
  r.verdict = take();
  r.tolerance = from_bits(take());
  r.save_every = take();
  r.reversible = static_cast<Reversible>(take());
  for (auto* list : {&r.levels, &r.conserve}) {
    list->resize(static_cast<std::size_t>(take()));
    for (std::int64_t& x : *list) x = take();
  }
  r.batch_axes = take();
  r.dt_in_energy = take() != 0;
  r.range_q = from_bits(take());
  r.range_p = from_bits(take());
  r.linear_part = take() != 0;
  r.flows.resize(static_cast<std::size_t>(take()));
  for (std::int64_t& x : r.flows) x = take();
  r.impulse = static_cast<Impulse>(take());
  return r;
}

std::string EvolveRecord::tolerance_text() const {
  if (tolerance == 0) return {};
  char text[40];
  const auto form = tolerance < 1e-3 ? std::chars_format::scientific : std::chars_format::fixed;
  std::string s(text, std::to_chars(text, text + sizeof text, tolerance, form).ptr);
  if (const std::size_t at = s.find("e-0"); at != std::string::npos) s.erase(at + 2, 1);
  return " tol " + s;
}

}  // namespace tinyphys
