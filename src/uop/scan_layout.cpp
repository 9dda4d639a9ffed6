#include "uop/scan_layout.hpp"

#include <charconv>

namespace tinyphys {

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
